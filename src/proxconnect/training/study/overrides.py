"""Settings laid over a configuration, which is nested plain data."""

from collections.abc import Mapping
from typing import Any

Configuration = dict[str, Any]


def overridden(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> Configuration:
    """A copy of `base` with `overrides` laid over it: mappings are merged, all else is replaced whole.

    Dots in an outer key name what lies within; in inner keys they are dots, as in patterns of layers. Where an override
    names another `class_path`, the `init_args` of the former class go with it.
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
