"""A notebook of each tutorial, as it was run in this build, with a link to it below the title of the page."""

import shutil
from pathlib import Path
from typing import Any

from docutils.nodes import document
from sphinx.application import Sphinx
from sphinx.util.typing import ExtensionMetadata

LINK = '<p><a class="notebook" href="{name}" download>Download this page as a notebook</a></p>'


def offer(app: Sphinx, page: str, _template: str, context: dict[str, Any], _tree: document | None) -> str | None:
    """Copy the notebook that myst-nb wrote when it read the page beside the page, and link to it."""
    made = app.env.mystnb_config.output_folder  # type: ignore[attr-defined]  # myst-nb adds it, Sphinx declares it not
    notebook = Path(made, f"{page}.ipynb")
    if "body" not in context or not notebook.exists():
        return None
    copy = app.outdir / f"{page}.ipynb"
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(notebook, copy)
    context["body"] = context["body"].replace("</h1>", f"</h1>\n{LINK.format(name=copy.name)}", 1)
    return None


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx."""
    app.connect("html-page-context", offer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
