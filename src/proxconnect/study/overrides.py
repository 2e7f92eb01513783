"""Settings laid over a configuration, which is nested plain data; dots in a key name what lies within."""

from collections.abc import Mapping
from typing import Any

Configuration = dict[str, Any]


def overridden(base: Mapping[str, Any], overrides: Mapping[str, Any]) -> Configuration:
    """A copy of `base` with `overrides`, nested, dotted or both, laid over it; lists are replaced whole.

    Where an override names another `class_path`, the `init_args` of the former class go with it.
    """
    result = dict(base)
    for key, value in overrides.items():
        name, _, rest = str(key).partition(".")
        inner = {rest: value} if rest else value
        if isinstance(inner, Mapping):
            before = result.get(name)
            result[name] = overridden(_kept(before, inner) if isinstance(before, Mapping) else {}, inner)
        else:
            result[name] = inner
    return result


def _kept(before: Mapping[str, Any], overrides: Mapping[str, Any]) -> Mapping[str, Any]:
    """What of `before` still has a meaning under `overrides`."""
    if overrides.get("class_path", before.get("class_path")) == before.get("class_path"):
        return before
    return {name: value for name, value in before.items() if name != "init_args"}
