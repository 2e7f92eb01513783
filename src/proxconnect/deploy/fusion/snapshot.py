"""Copy the Python values that a forward may set, and undo the changes of a trace."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from operator import is_
from typing import Any, NamedTuple

from torch import nn

from proxconnect.deploy.fusion.reach import Reach

_ABSENT = object()


class Difference(NamedTuple):
    """A value that differs from that in a snapshot: where it is held, how messages call it, and how to restore it."""

    holder: tuple[int, str]
    """Its entry in `Reach.holders`."""
    module: nn.Module | None
    label: str
    restore: Callable[[], None]


class Snapshot:
    """A shallow copy of the values of a `Reach`, to restore them after a trace."""

    def __init__(self, reach: Reach) -> None:
        named: list[Any] = [(space, names, None, "the global ") for space, names in reach.globals.values()]
        named += [(held, None, module, f"{label}.") for held, module, label in reach.owners]
        self._dictionaries = [(held, held.copy(), *rest) for held, *rest in named]
        containers = {id(held): (held, (id(held), ""), module, label) for held, module, label in reach.containers}
        for attributes, module, label in reach.owners:  # `_buffers` and the like, whether code names them or not
            for name, value in attributes.items():
                if isinstance(value, list | dict | set) and id(value) not in containers:
                    containers[id(value)] = value, (id(attributes), ""), module, f"{label}.{name}"
        self._containers = [(held, _copied(held), *rest) for held, *rest in containers.values()]
        self._attributes = [(held, place, getattr(*place[:2], _ABSENT)) for held, place in reach.attributes.items()]
        self._caches = [(cached, cached.cache_info().currsize) for cached in reach.caches]

    def put_back(self, ignored: str, reached: Callable[[], Reach]) -> dict[nn.Module | None, str]:
        """Restore what the code that ran can have changed, but no attributes whose names begin with `ignored`.

        `reached` returns the present reach of that code. Other values were changed by other threads, or when garbage
        was collected, and stay as they are. Return the name of one restored value for each module that holds one, and
        for None of one that no module holds.
        """
        changed: dict[nn.Module | None, str] = {}
        restored: set[tuple[tuple[int, str], str]] = set()
        while differences := [d for d in self._differences(ignored) if (d.holder, d.label) not in restored]:
            holders = reached().holders()  # which restored values may extend
            if not (differences := [d for d in differences if d.holder in holders]):
                break
            for holder, module, label, restore in differences:
                restore()
                restored.add((holder, label))
                if label:
                    changed.setdefault(module, label)
        return changed

    def _differences(self, ignored: str) -> Iterator[Difference]:
        for held, before, names, module, prefix in self._dictionaries:
            watched = {n for n in (*held, *before) if not n.startswith(ignored)} if names is None else names
            for name in sorted(n for n in watched if held.get(n, _ABSENT) is not before.get(n, _ABSENT)):
                holder = id(held), "" if names is None else name
                yield Difference(holder, module, prefix + name, partial(_restore, held, before, name))
        for container, before, holder, module, label in self._containers:
            if len(container) != len(before) or not _are_same(container, before):
                yield Difference(holder, module, label, partial(_refill, container, before))
        for holder, (owner, name, label), value in self._attributes:
            if getattr(owner, name, _ABSENT) is not value:
                restore = partial(delattr, owner, name) if value is _ABSENT else partial(setattr, owner, name, value)
                yield Difference(holder, None, label, restore)
        for cached, size in self._caches:
            if cached.cache_info().currsize > size:  # what was added may hold proxies
                yield Difference((id(cached), ""), None, "", cached.cache_clear)


def _restore(now: dict[str, Any], before: dict[str, Any], name: str) -> None:
    if name in before:
        now[name] = before[name]
    else:
        del now[name]


def _copied(container: Any) -> Any:
    """Return a copy; that of a dictionary is a plain one with what it holds, whatever a subclass makes of that."""
    return dict(dict.items(container)) if isinstance(container, dict) else container.copy()


def _refill(container: Any, content: Any) -> None:
    """Give a container what a copy of it holds."""
    if isinstance(container, dict):
        base: Any = OrderedDict if isinstance(container, OrderedDict) else dict
        base.clear(container)
        for key, value in content.items():
            base.__setitem__(container, key, value)
        return
    container.clear()
    container.extend(content) if hasattr(container, "extend") else container.update(content)


def _are_same(one: Any, other: Any) -> bool:
    """Return True if two containers of one kind and length hold the same objects."""
    if isinstance(one, dict):
        return all(dict.get(other, key, _ABSENT) is value for key, value in _copied(one).items())
    return all(map(is_, one, other)) if not isinstance(one, set) else one == other
