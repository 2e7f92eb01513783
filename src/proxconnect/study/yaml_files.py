"""YAML files, read as plain data that JSON can hold too."""

import math
import re
from pathlib import Path
from typing import Any

import yaml

from proxconnect.study.names import GridError


def read(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds: text, numbers, booleans, null, lists, mappings with names.

    GridError where it is not there, is no such file, or names a key twice, which plain YAML readers let pass.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise GridError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise GridError(f"{path}{line} is no YAML that can be read: {error.problem}") from error
    except yaml.YAMLError as error:  # characters that YAML has not
        raise GridError(f"{path} is no YAML that can be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise GridError(f"{path} must hold a mapping, as `base: recipe.yaml`, not {type(content).__name__}")
    _require_plain(content, str(path))
    return content


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """The safe loader that refuses a key given twice and reads 1e-3 as a number, as YAML 1.2 does."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for i, key in enumerate(keys) if key in keys[:i]]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]!r} is there twice", node.start_mark)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _require_plain(value: Any, where: str) -> None:
    """GridError for what JSON has not, such as dates and NaN, and for keys that are no text, as YAML's `on` is."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(key, bool) or not isinstance(key, str | int | float):
                raise GridError(f"{where}: the key {key!r} is no text: put it in quotes")
            _require_plain(inner, f"{where}: {key}")
    elif isinstance(value, list):
        for inner in value:
            _require_plain(inner, where)
    elif isinstance(value, float) and not math.isfinite(value):
        raise GridError(f"{where}: {value} is no finite number")
    elif not isinstance(value, str | int | float | None):
        raise GridError(f"{where}: {value!r} is a {type(value).__name__}: put it in quotes to have text")
