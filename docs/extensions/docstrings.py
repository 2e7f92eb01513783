"""Docstrings as Sphinx reads them: |x| is an absolute value, and each object stands under its shortest public name."""

import importlib
import sys
from typing import Any

from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config
from sphinx.ext.napoleon.docstring import GoogleDocstring
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.typing import ExtensionMetadata

from checks.public_names import shortest_names


def read_sections(app: Sphinx, what: Any, name: str, value: object, options: Any, lines: list[str]) -> None:
    """Read Args, Returns and Raises by napoleon, which in an attribute would take what precedes a colon for a type."""
    if what not in {"attribute", "data", "property"}:
        config: Any = Config()  # napoleon's own, of values that Sphinx's has only where napoleon is an extension
        lines[:] = GoogleDocstring(lines, config, app, what, name, value, options).lines()


def keep_bars(_app: Sphinx, _what: str, _name: str, _object: object, _options: Any, lines: list[str]) -> None:
    """Escape bars, which reStructuredText takes for the ends of a substitution."""
    lines[:] = [line.replace("|", r"\|") for line in lines]


def read_below_assignments(_app: Sphinx, what: str, name: str, value: object, _options: Any, lines: list[str]) -> None:
    """Take the string below the assignment of a value, wherever in the package it is; Sphinx gives that of its type."""
    if what != "data":
        return
    own, lines[:] = name.rpartition(".")[2], []
    for module_name, module in sys.modules.copy().items():
        if module_name.startswith("proxconnect.") and vars(module).get(own) is value:
            analyzer = ModuleAnalyzer.for_module(module_name)
            analyzer.analyze()
            lines[:] = lines or analyzer.attr_docs.get(("", own), [])


def skip_where_named_shorter(
    app: Sphinx, _what: str, name: str, _object: object, _skip: bool, _options: Any
) -> bool | None:
    """Leave an object to the page of the package that gives it the shortest name."""
    module = importlib.import_module(app.env.current_document.autodoc_module)
    member = getattr(module, name, None)
    shortest = shortest_names().get(id(member))
    return True if shortest and shortest != f"{module.__name__}.{name}" else None


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", read_below_assignments, priority=400)
    app.connect("autodoc-process-docstring", read_sections, priority=450)
    app.connect("autodoc-process-docstring", keep_bars)
    app.connect("autodoc-skip-member", skip_where_named_shorter)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
