"""Objects of the user's own code, which a command line names as MODULE:NAME."""

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from proxconnect._support.termination import TerminatedError

_PACKAGE = Path(__file__).parents[1]
_NOT_THEIRS = tuple(f"{folder}{os.sep}" for folder in (_PACKAGE, *torch.__path__, *importlib.__path__))


class LoadError(ValueError):
    """The error for an object MODULE:NAME that cannot be loaded, whose code raises, or that is of the wrong kind."""


@contextmanager
def importable_folder() -> Iterator[None]:
    """Put the current folder first in `sys.path` within the context, as `python -m` does, and restore it at the end."""
    before = list(sys.path)
    sys.path.insert(0, os.getcwd())
    try:
        yield
    finally:
        sys.path[:] = before


def load(path: str) -> Any:
    """Import MODULE and return its object NAME, also dotted, for a `path` MODULE:NAME; LoadError if that fails."""
    module_name, _, attributes = path.partition(":")
    is_dotted = all(part.isidentifier() for part in (*module_name.split("."), *attributes.split(".")))
    if not is_dotted or module_name.endswith(".py"):
        raise LoadError(
            f"{path!r} is no MODULE:NAME, as in my_module:my_pair, which names what `import my_module` finds"
        )
    with guarded(f"importing {module_name!r}"):
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise
            raise LoadError(_not_found(error.name)) from None
    found: Any = module
    for name in attributes.split("."):
        with guarded(f"reading {name!r} of {path!r}"):
            if not hasattr(found, name):
                where = f" ({_file_of(module)})" if found is module else ""
                near = get_close_matches(name, [n for n in dir(found) if not n.startswith("__")], cutoff=0.5)
                is_module = isinstance(found, ModuleType)
                title = f"module {found.__name__!r}" if is_module else f"{path!r}: {type(found).__name__}"
                raise LoadError(f"{title}{where} has no {name!r}{_did_you_mean(near)}")
            found = getattr(found, name)
    return found


@contextmanager
def guarded(what: str) -> Iterator[None]:
    """Turn an exception in the user's code, but not Ctrl-C or SIGTERM, into a LoadError that begins with `what`."""
    try:
        yield
    except (KeyboardInterrupt, TerminatedError, LoadError):
        raise
    except BaseException as error:
        place = line_of(error)
        if place is None:
            raise
        raise LoadError(f"{what} raised {type(error).__name__}: {error} ({place})") from error


def line_of(error: BaseException) -> str | None:
    """Return "FILE:LINE" of a SyntaxError, or of the last frame outside proxconnect, torch and importlib, or None."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((*_NOT_THEIRS, "<frozen importlib")):
            return f"{frame.filename}:{frame.lineno}"
    return None


def file_of(path: str) -> str:
    """Return the source file (or folder, or "built in") of the imported MODULE, for a `path` MODULE:NAME."""
    return _file_of(sys.modules[path.partition(":")[0]])


def _not_found(name: str) -> str:
    """Describe a missing module: its name, the searched folders, and files with similar names."""
    parent, _, own = name.rpartition(".")
    places = list(getattr(sys.modules.get(parent), "__path__", [])) if parent else [p or os.getcwd() for p in sys.path]
    if parent and not places:
        return f"no module {name!r}: {parent!r} ({_file_of(sys.modules[parent])}) is no package"
    beside = [file.stem for file in Path(places[0]).glob("*.py")] if places else []
    near = _did_you_mean(get_close_matches(own, beside, cutoff=0.5))
    return f"no module {name!r} in {', '.join(filter(os.path.exists, places))}{near}"


def _did_you_mean(names: list[str]) -> str:
    return f": did you mean {' or '.join(map(repr, names))}?" if names else ""


def _file_of(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or ", ".join(getattr(module, "__path__", [])) or "built in"
