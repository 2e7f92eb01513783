"""Links from pages to files of the repository that are not in docs/: to the page that shows the file, or to none."""

import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

SHOWN = {
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "recipes/README.md": "recipes.md",
    "studies/fashion-mnist/tables.md": "study-tables.md",
}
"""The page that shows a file."""

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(((?:\.\./)+)([^)#]*)(#[^)]*)?\)")


def rewrite(app: Sphinx, page: str, source: list[str]) -> None:
    """Point links out of docs/ at pages; what no page shows is named by its path."""
    depth = page.count("/")

    def replaced(link: re.Match[str]) -> str:
        text, up, path, anchor = link.groups()
        if up.count("../") != depth + 1:
            return link.group()
        if path in SHOWN:
            return f"[{text}]({'../' * depth}{SHOWN[path]}{anchor or ''})"
        if not (Path(app.srcdir).parent / path).exists():
            raise ValueError(f"{page}: there is no {path}")
        return text if text.strip("`") == path else f"{text} (`{path}`)"

    source[0] = LINK.sub(replaced, source[0])


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx."""
    app.connect("source-read", rewrite)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
