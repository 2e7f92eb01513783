"""Overrides of a configuration, which is nested plain data."""

from collections.abc import Mapping
from typing import Any

Configuration = dict[str, Any]


def overridden(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> Configuration:
    """Return a copy of `base` with `overrides`: mappings are merged, all other values are replaced.

    Dots in an outer key name nested keys; in inner keys they are plain dots, as in patterns of layers. An override with
    another `class_path` drops the `init_args` of the former class.
    """
    result = dict(base)
    for key, value in overrides.items():
        first, *rest = str(key).split(".")
        for name in reversed(rest):
            value = {name: value}
        result = _merged(result, {first: value})
    return result


def _merged(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> Configuration:
    result = dict(base)
    if overrides.get("class_path", base.get("class_path")) != base.get("class_path"):
        result.pop("init_args", None)
    for name, value in overrides.items():
        before = result.get(name)
        is_mapping = isinstance(value, Mapping)
        result[name] = _merged(before if isinstance(before, Mapping) else {}, value) if is_mapping else value
    return result
