"""YAML files, read as plain data that JSON can hold."""

import math
import re
from collections import Counter
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

from proxconnect._support.paths import require_regular
from proxconnect._support.text import with_article

_DEEPEST = 100
"""The deepest nesting of mappings and lists, dots of names included."""
_MOST_REPEATED = 100_000
"""The values that aliases may add to one for each character of the file."""


class GridError(ValueError):
    """The error for a wrong grid file, or a request that does not fit it or its ledger; its message says why."""


def read(path: Path) -> dict[str, Any]:
    """Return the mapping in the YAML file `path`, of text, finite numbers, booleans, null, lists and mappings.

    GridError if the file cannot be read or holds anything else, a key twice, or too much nesting or too many aliases.
    """
    try:
        require_regular(path)
        text = path.read_text(encoding="utf-8")
        content = yaml.load(text, _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise GridError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    except RecursionError:
        raise GridError(f"{path} is nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise GridError(f"{path}{line} is no YAML that can be read: {error.problem}") from error
    except yaml.YAMLError as error:  # characters that YAML does not have
        raise GridError(f"{path} is no YAML that can be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise GridError(f"{path} must hold a mapping, as `base: recipe.yaml`, not {type(content).__name__}")
    for number, (value, where) in enumerate(_within(content, str(path), _DEEPEST)):
        if isinstance(value, dict):
            for key in value:
                if isinstance(key, bool) or not isinstance(key, str | int | float):
                    raise GridError(f"{where}: the key {key!r} is no text: put it in quotes")
        elif isinstance(value, float) and not math.isfinite(value):
            raise GridError(f"{where}: {value} is no finite number")
        elif not isinstance(value, str | int | float | list | None):
            raise GridError(
                f"{where}: {value!r} is {with_article(type(value).__name__)}: put it in quotes to have text"
            )
        if number > _MOST_REPEATED + len(text):
            raise GridError(f"{path} repeats too much by its aliases: write out what it needs")
    return content


def holds_itself(text: str) -> bool:
    """Return True if an alias in YAML lies in the mapping or list that it stands for; yaml.YAMLError for no YAML."""
    anchors: list[str | None] = []
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            anchors.append(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            anchors.pop()
        elif isinstance(event, yaml.AliasEvent) and event.anchor in anchors:
            return True
    return False


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """A safe loader that refuses a key given twice and reads 1e-3 as a number, as YAML 1.2 does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise yaml.constructor.ConstructorError(None, None, "it is called a mapping and is none", node.start_mark)
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        times = Counter(key for key in keys if isinstance(key, Hashable))
        twice = [key for key, count in times.items() if count > 1]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]!r} is there twice", node.start_mark)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Construct the value of `node`; turn the error of a tag that does not fit its text into one of YAML."""
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                None, None, f"it has a value that is no {kind}: put it in quotes to have text", node.start_mark
            ) from error


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _within(value: Any, where: str, deepest: int) -> Iterator[tuple[Any, str]]:
    """Yield a value and all values in it, each with its place; GridError if they are nested deeper than `deepest`."""
    yield value, where
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        left = deepest - 1 - str(key).count(".")
        if left < 0:
            raise GridError(f"{where[:200]} is nested too deeply, or holds itself")
        yield from _within(part, f"{where}: {key}" if isinstance(value, dict) else where, left)
