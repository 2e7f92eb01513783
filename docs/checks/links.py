"""Does each link of the site, and of pages that are read in the repository, lead somewhere within it?

Links to other sites are checked by `make docs-links`.
"""

import re
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from checks.pages import FENCED, ROOT, pages


class Anchors(HTMLParser):
    """Collects where a page links to, and which of its places can be linked to."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[tuple[int, str]] = []
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag's links and its id."""
        for name, value in attrs:
            if name == "id" or (name == "name" and tag == "a"):
                self.places.add(value or "")
            elif name in ("href", "src") and value:
                self.links.append((self.getpos()[0], value))


def read(page: Path) -> Anchors:
    """The links and places of a page."""
    anchors = Anchors()
    anchors.feed(page.read_text(encoding="utf-8"))
    return anchors


def faults(site: Path) -> list[str]:
    """The links that lead nowhere, and files that a page loads from elsewhere."""
    pages = {page.resolve(): read(page) for page in sorted(site.rglob("*.html"))}
    found: dict[str, list[str]] = defaultdict(list)
    for page, anchors in pages.items():
        for line, link in anchors.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            where = f"{page.relative_to(site.resolve())}:{line}"
            if not target.exists():
                found[f"{link}: there is no such file"].append(where)
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].places | {"top"}:
                found[f"{link}: there is no such place on the page"].append(where)
    return [f"{places[0]}: {fault}" for fault, places in found.items()]


LINK = re.compile(r"\[[^\]]*\]\((?![a-z]+:)([^)#\s]*)(?:#([^)\s]*))?\)")

PROSE = re.compile(r"`[^`\n]*`")
"""Code between words, in which brackets are no links."""


def slugs(text: str) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub and as Sphinx make them."""
    heads = [head.strip().lower() for head in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]
    of_github = {re.sub(r"[^\w\- ]", "", head).replace(" ", "-") for head in heads}
    return of_github | {re.sub(r"[^a-z0-9]+", "-", head).strip("-") for head in heads}


def in_repository(root: Path = ROOT) -> list[str]:
    """Return the links in Markdown, as it stands in the repository, that lead to no file or to no heading."""
    found = []
    for page in pages(root):
        text = page.read_text(encoding="utf-8")
        for path, anchor in LINK.findall(PROSE.sub("", FENCED.sub("", text))):
            target = (page.parent / unquote(path)).resolve() if path else page
            if not target.exists():
                found.append(f"{page.relative_to(root)}: {path}: there is no such file")
            elif anchor and target.suffix == ".md" and unquote(anchor) not in slugs(target.read_text()):
                found.append(f"{page.relative_to(root)}: {path}#{anchor}: there is no such heading")
    return found
