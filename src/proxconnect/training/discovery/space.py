"""The spaces of a search: parameters, and changes of a configuration with `$NAME` in their places."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from proxconnect.training.study.grid import require_known, require_mapping
from proxconnect.training.study.rows import Configuration
from proxconnect.training.study.yaml_files import GridError

Value = str | float
Values = dict[str, Value]
"""A value for each parameter of a space."""

_NAME = re.compile(r"\$(\w+)")


@dataclass(frozen=True)
class Choice:
    """A parameter that takes one of `choices`, which have no order."""

    choices: tuple[Value, ...]

    def holds(self, value: object) -> bool:
        """Return True if `value` is one of the choices."""
        return value in self.choices


@dataclass(frozen=True)
class Range:
    """A parameter that takes numbers from `low` to `high`, of three digits; `log` gives each factor equal weight."""

    low: float
    high: float
    log: bool = False

    def holds(self, value: object) -> bool:
        """Return True if `value` is a number of the range."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def rounded(self, value: float) -> float:
        """Return `value` with three digits, and inside the range."""
        return min(max(float(f"{value:.3g}"), self.low), self.high)


Parameter = Choice | Range


@dataclass(frozen=True)
class Space:
    """A set of candidates: a value for each parameter, and what the values change in a configuration.

    `overrides` are changes as of a label of a grid, in which `$NAME` stands for the value of a parameter. `first` are
    values that are tried before any others.
    """

    name: str
    parameters: Mapping[str, Parameter]
    overrides: Mapping[str, Any]
    first: Sequence[Values] = ()

    def require(self, values: Mapping[str, Any], where: str) -> Values:
        """Return `values` as a dict; GridError, naming `where`, unless they are one of each parameter, in its range."""
        for name in values:
            require_known(str(name), self.parameters, f"parameter in {where}")
        for name, parameter in self.parameters.items():
            if name not in values or not parameter.holds(values[name]):
                raise GridError(f"{where}: {name} needs a value of {shown(parameter)}; got {values.get(name)!r}")
        return dict(values)

    def changes(self, values: Values) -> Configuration:
        """Return the changes of the configuration for `values`."""
        filled: Configuration = _filled(self.overrides, values)
        return filled


def shown(parameter: Parameter) -> str:
    """Return the parameter in words, as "[clip, tanh]" or "0 to 3"."""
    if isinstance(parameter, Choice):
        return f"[{', '.join(map(str, parameter.choices))}]"
    return f"{parameter.low:g} to {parameter.high:g}"


def read_space(name: str, content: Mapping[str, Any], common: Mapping[str, Any]) -> Space:
    """Return the space `name` of a search file from its keys parameters, set and first, after those of `common`.

    GridError if a key is unknown, a parameter is wrong, or `$NAME` and the parameters do not match.
    """
    where = f"spaces: {name}"
    for key in content:
        require_known(str(key), ("parameters", "set", "first"), f"key of {where}")
    given, overrides = (
        {
            **require_mapping(common.get(key, {}), f"common: {key}"),
            **require_mapping(content.get(key, {}), f"{where}: {key}"),
        }
        for key in ("parameters", "set")
    )
    parameters = {str(key): _parameter(value, f"{where}: {key}") for key, value in given.items()}
    used = {found for text in _texts(overrides) for found in _NAME.findall(text)}
    for found in used:
        require_known(found, parameters, f"parameter in {where}: set")
    unused = [key for key in parameters if key not in used]
    if unused:
        raise GridError(f"{where}: nothing in `set` has ${unused[0]}: use it, or leave the parameter out")
    space = Space(name, parameters, overrides)
    first = content.get("first", [])
    if not isinstance(first, list):
        raise GridError(f"{where}: first: {first!r} is no list of values, as [{{gap: 0.5}}]")
    return replace(
        space, first=[space.require(require_mapping(v, f"{where}: first"), f"{where}: first") for v in first]
    )


def _parameter(content: Any, where: str) -> Parameter:
    if isinstance(content, list):
        plain = all(isinstance(choice, str | int | float) for choice in content)
        if not plain or len(content) != len(set(map(str, content))) or len(content) < 2:
            raise GridError(f"{where}: {content!r} is no list of two choices or more, different texts or numbers")
        return Choice(tuple(content))
    if not isinstance(content, Mapping) or not {"from", "to"} <= set(content) <= {"from", "to", "log"}:
        raise GridError(f"{where}: {content!r} is no parameter: give a list of choices, or a range, as "
                        "{from: 0.1, to: 30, log: true}")  # fmt: skip
    low, high, log = content["from"], content["to"], content.get("log", False)
    are_numbers = all(
        isinstance(end, int | float) and not isinstance(end, bool) and abs(end) < 1e300 for end in (low, high)
    )
    if not are_numbers or not isinstance(log, bool) or not low < high or (log and low <= 0):
        raise GridError(f"{where}: {dict(content)} is no range: `from` is less than `to`, and above 0 if log is true")
    return Range(float(low), float(high), log)


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [text for part in value.values() for text in _texts(part)]
    if isinstance(value, list):
        return [text for part in value for text in _texts(part)]
    return [value] if isinstance(value, str) else []


def _filled(value: Any, values: Values) -> Any:
    """Return `value` with each `$NAME` replaced; a text that is nothing else becomes the value itself."""
    if isinstance(value, Mapping):
        return {key: _filled(part, values) for key, part in value.items()}
    if isinstance(value, list):
        return [_filled(part, values) for part in value]
    if not isinstance(value, str):
        return value
    whole = _NAME.fullmatch(value)
    if whole:
        return values[whole[1]]
    return _NAME.sub(lambda found: _short(values[found[1]]), value)


def _short(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
