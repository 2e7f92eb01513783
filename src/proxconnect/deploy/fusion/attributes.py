"""The attributes of modules, which a forward may set and a graph would not."""

from collections.abc import Iterable
from operator import is_
from typing import Any

from torch import nn

_OF_FX = "_tensor_constant"
"""The prefix of names that `torch.fx` gives to tensors which a forward makes."""


class Attributes:
    """The attributes of modules as they are now, with the contents of their lists and dictionaries."""

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._before = {module: {k: (v, _items(v)) for k, v in vars(module).items()} for module in modules}

    def put_back(self) -> dict[nn.Module, str]:
        """Undo changes; return for each changed module the name of a changed attribute."""
        return {module: name for module in self._before if (name := self._put_back(module))}

    def _put_back(self, module: nn.Module) -> str:
        before, now = self._before[module], vars(module)
        changed = [name for name in now if name not in before and not name.startswith(_OF_FX)]
        for name in changed:
            del now[name]
        for name, (value, items) in before.items():
            if now.get(name) is value and _are_same(_items(value), items):
                continue
            changed.append(name)
            now[name] = value
            if items is not None:
                value.clear()
                value.update(items) if isinstance(value, dict) else value.extend(items)
        return changed[0] if changed else ""


def _items(value: Any) -> list[Any] | dict[Any, Any] | None:
    return value.copy() if type(value) in (list, dict) else None


def _are_same(one: Any, other: Any) -> bool:
    if one is None or len(one) != len(other):
        return one is other
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(one[key] is other[key] for key in one)
    return all(map(is_, one, other))
