"""Links from pages to files of the repository that are no page: to the page that shows the file, or to none."""

import posixpath
import re
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util.matching import Matcher
from sphinx.util.typing import ExtensionMetadata

SHOWN = {
    "SECURITY.md": "security.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "recipes/README.md": "recipes.md",
    "studies/fashion-mnist/tables.md": "study-tables.md",
}
"""The page that shows a file."""

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#:\s]+)(#[^)\s]*)?\)")


def rewritten(app: Sphinx, text: str, folder: str, page: str) -> str:
    """Return Markdown of a file in `folder` as `page` shows it: what no page shows is named by its path."""
    is_left_out = Matcher(app.config.exclude_patterns)

    def replaced(link: re.Match[str]) -> str:
        words, path, anchor = link.groups()
        target = posixpath.normpath(posixpath.join(folder, path))
        if target in SHOWN:
            return f"[{words}]({posixpath.relpath(SHOWN[target], posixpath.dirname(page) or '.')}{anchor or ''})"
        if target.startswith("docs/") and not is_left_out(target.removeprefix("docs/")):
            return link.group()
        if not (Path(app.srcdir).parent / target).exists():
            raise ValueError(f"{page}: there is no {target}")
        return words if words.strip("`") == target else f"{words} (`{target}`)"

    return LINK.sub(replaced, text)


def rewrite_page(app: Sphinx, page: str, source: list[str]) -> None:
    """Rewrite the links of a page."""
    source[0] = rewritten(app, source[0], posixpath.join("docs", posixpath.dirname(page)), page)


def rewrite_included(app: Sphinx, path: Path, _page: str, source: list[str]) -> None:
    """Rewrite the links of a file that a page includes."""
    folder = posixpath.dirname(posixpath.normpath(posixpath.join("docs", path.as_posix())))
    source[0] = rewritten(app, source[0], folder, app.env.current_document.docname)


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx."""
    app.connect("source-read", rewrite_page)
    app.connect("include-read", rewrite_included)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
