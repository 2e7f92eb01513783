"""The pip command that installs proxconnect again from where it came, with an extra."""

import json
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

_NAME = "proxconnect"


def pip_install(extra: str = "", options: str = "") -> str:
    """Return the pip command, with `options`, that installs proxconnect and its `extra` from where it was installed.

    pip records that place in `direct_url.json` (PEP 610): a folder, a repository or an archive. Without a record, or if
    the folder is gone, the command takes the name proxconnect from the package index.
    """
    return " ".join(filter(None, ["pip install", options, _requirement(f"[{extra}]" if extra else "")]))


def _requirement(extra: str) -> str:
    """Return the end of the command: a requirement or a path with `extra`, quoted for a shell."""
    origin = _origin()
    url = origin.get("url", "")
    if repository := origin.get("vcs_info"):
        revision = repository.get("requested_revision")
        at = f"@{revision}" if revision else ""
        return shlex.quote(f"{_NAME}{extra} @ {repository['vcs']}+{url}{at}")
    if url.startswith("file:"):
        path = url2pathname(urlsplit(url).path)
        if Path(path).exists():
            editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
            return editable + shlex.quote(f"{path}{extra}")
        url = ""
    return shlex.quote(f"{_NAME}{extra} @ {url}" if url else f"{_NAME}{extra}")


def _origin() -> dict[str, Any]:
    """Return the record of where pip got proxconnect; an empty one if it came from an index, or not by pip."""
    try:
        text = distribution(_NAME).read_text("direct_url.json")
    except PackageNotFoundError:
        return {}
    record: dict[str, Any] = json.loads(text) if text else {}
    return record
