"""The gallery: pages, cards and pictures of the pairs, written into docs/gallery/pairs/ before the pages are read.

All of it comes from the catalogue, the theory and the ledger of the study, so that a new pair has its page.
"""

from collections.abc import Collection
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

from extensions.gallery.names import page_of
from extensions.gallery.pages import cards, page
from extensions.gallery.pictures import draw
from proxconnect.inspection.plots import interactive_catalogue
from proxconnect.pairs import PAIRS

FOLDER = Path("gallery", "pairs")


def write(folder: Path, saved: Collection[str] = ()) -> None:
    """Write what has changed, and delete what is of no pair. `saved` is that of `draw`."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {folder / f"{page_of(name)}.md": page(name) for name in PAIRS}
    texts[folder / "cards.md"] = cards()
    for path, text in texts.items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in set(folder.iterdir()) - {*texts, *draw(folder, saved)}:
        path.unlink()


def write_pages(app: Sphinx) -> None:
    """What Sphinx is to read."""
    write(app.srcdir / FOLDER, app.config.gallery_saved)


def write_interactive_page(app: Sphinx, error: Exception | None) -> None:
    """The page that stands by itself, beside those of Sphinx."""
    if error is None and app.builder.name == "html":
        interactive_catalogue(app.outdir / "gallery" / "all-pairs.html")


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx."""
    app.add_config_value("gallery_saved", [], "", list, "the pairs whose pictures are more than blank; all by default")
    app.connect("builder-inited", write_pages)
    app.connect("build-finished", write_interactive_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
