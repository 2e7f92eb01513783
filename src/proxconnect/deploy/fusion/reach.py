"""Find the Python values that forwards may read or set: to see changes of them, and to undo those of a trace."""

import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Container, Iterable, Iterator
from functools import _lru_cache_wrapper, cache, cached_property, partial
from operator import is_
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn

_CONTAINERS = (list, tuple, dict, set, frozenset, deque)
_CODE = (ModuleType, FunctionType, type)
"""The types of values that nobody changes between two calls."""

_FOREIGN = {"torch", "numpy", "builtins", "proxconnect", *sys.stdlib_module_names}
_ABSENT = object()

Place = tuple[Any, Any]
"""A dictionary and a key of it, or an object and the name of an attribute."""


class Reach:
    """The values that the code of modules can reach by name: attributes, globals, closures, and what they hold.

    `through` are those of `modules` whose code runs, and `forward` is the forward of the first one. If `ran` is given,
    only code in it is followed. Code of torch, numpy, the standard library and this package, except its networks, never
    is. `unseen` names a value whose changes cannot be seen, or is "".
    """

    def __init__(
        self, modules: Iterable[nn.Module], through: Iterable[nn.Module], forward: Callable[..., Any],
        ran: Container[CodeType] | None = None,
    ) -> None:  # fmt: skip
        self._ran = ran
        self.names: set[str] = set()  # of attributes and globals in the code
        self.owners: list[tuple[dict[str, Any], nn.Module | None, str]] = []
        """The attributes of modules and other objects, with the module that holds them, and how messages call them."""
        self.globals: dict[int, tuple[dict[str, Any], set[str]]] = {}
        """The namespaces with the names of globals in the code, by id."""
        self.attributes: dict[tuple[int, str], tuple[Any, str, str]] = {}
        """The attributes of classes and the cells of closures, and how messages call them."""
        self.containers: list[tuple[Any, nn.Module | None, str]] = []
        """The lists, dictionaries, sets and deques, as `owners`."""
        self.caches: list[Any] = []  # functions behind `functools.cache`
        self.tensors: list[Tensor] = []
        self.unseen = ""
        self._classes: list[type] = []
        self._libraries: list[ModuleType] = []
        self._seen: dict[int, Any] = {}
        followed = {*through}
        self._visit(forward, None, "forward")
        for module in modules:
            self.owners.append((vars(module), module, "self"))
            if module in followed:
                self._add_classes(type(module))
                self._visit(vars(module).get("forward", getattr(type(module), "forward", None)), None, "forward")
        self._resolve()

    def entries(self) -> Iterator[Place]:
        """Yield the dictionaries and keys from which the code may read values, without globals that are code."""
        for namespace, names in self.globals.values():
            yield from ((namespace, n) for n in names if n in namespace and not isinstance(namespace[n], _CODE))
        for attributes, _, _ in self.owners:
            yield from ((attributes, name) for name in attributes if name in self.names and name != "training")

    def _resolve(self) -> None:
        """Visit the attributes whose names occur in the code, until that finds no more names and values."""
        before = -1
        while before != (before := len(self.names) + len(self._seen)):
            for library in [*self._libraries]:
                self._read_globals(vars(library), self.names)
            for attributes, module, label in [*self.owners]:
                for name in [name for name in attributes if name in self.names]:
                    self._visit(attributes[name], module, f"{label}.{name}")
            for cls in [*self._classes]:
                is_object = not issubclass(cls, nn.Module)  # whose operators may run
                for name, value in [*vars(cls).items()]:
                    is_operator = is_object and name.startswith("__") and name != "__init__"
                    if name in self.names or (is_operator and (isinstance(value, FunctionType) or _parts(value))):
                        self._visit(value, None, label := f"{cls.__name__}.{name}")
                        if not hasattr(value, "__get__") and not name.startswith("__"):
                            self.attributes[id(cls), name] = cls, name, label

    def _visit(self, value: Any, module: nn.Module | None, label: str) -> None:
        """Add a value and what it holds; `module` holds the value, and messages call it `label`."""
        if id(value) in self._seen:
            return
        self._seen[id(value)] = value
        if isinstance(value, Tensor):
            self.tensors.append(value)
        elif isinstance(value, FunctionType):
            self._read(value)
        elif isinstance(value, _CONTAINERS):
            if not isinstance(value, tuple | frozenset):
                self.containers.append((value, module, label))
            for item in [*(dict.values(value) if isinstance(value, dict) else value)]:
                self._visit(item, module, label)
        elif isinstance(value, type):
            self._add_classes(value)
        elif isinstance(value, ModuleType):
            self._libraries += [value] if _is_followed(value.__name__) else []
        elif parts := _parts(value):
            self.caches += [value] if isinstance(value, _lru_cache_wrapper) else []
            for part in parts:
                self._visit(part, module, label)
        elif not isinstance(value, nn.Module):
            self._visit_object(value, module, label)

    def _visit_object(self, value: Any, module: nn.Module | None, label: str) -> None:
        cls = type(value)
        is_followed, is_data = _is_followed(cls.__module__), cls.__hash__ is None
        if hasattr(value, "__dict__") and (is_followed or is_data):
            self.owners.append((vars(value), module, label))
            self._add_classes(cls)
            self.names |= set() if is_followed else vars(value).keys()  # its code, which is not read, may read all
        elif is_data:
            self.unseen = self.unseen or f"{label}, a {cls.__name__}"

    def _add_classes(self, cls: type) -> None:
        self._classes += [base for base in cls.__mro__ if base not in self._classes and _is_followed(base.__module__)]

    def _read(self, function: FunctionType) -> None:
        """Add the names in a function's code, and what its globals, closure and defaults hold."""
        self._visit(getattr(function, "__wrapped__", None), None, "")
        has_run = self._ran is None or function.__code__ in self._ran
        if not has_run or not _is_followed(function.__module__ or ""):
            return
        names, constants = _names_in(function.__code__)
        self.names |= names | constants
        self._read_globals(function.__globals__, names)
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            value, label = getattr(cell, "cell_contents", None), f"{name} of {function.__qualname__}"
            if not isinstance(value, (*_CODE, nn.Module)):
                self.attributes[id(cell), name] = cell, "cell_contents", label
            self._visit(value, None, label)
        for value in (function.__defaults__, function.__kwdefaults__):
            self._visit(value, None, f"a default of {function.__qualname__}")

    def _read_globals(self, namespace: dict[str, Any], names: Iterable[str]) -> None:
        self.globals.setdefault(id(namespace), (namespace, set()))[1].update(names)
        for name in [name for name in names if name in namespace]:
            self._visit(namespace[name], None, f"the global {name}")


class Snapshot:
    """A shallow copy of the values of a `Reach`, to restore them after a trace."""

    def __init__(self, reach: Reach) -> None:
        spaces = [(space, {n: space[n] for n in names if n in space}, names) for space, names in reach.globals.values()]
        self._globals = spaces
        self._owners = [(held, held.copy(), module, label) for held, module, label in reach.owners]
        containers = {id(container): (container, module, label) for container, module, label in reach.containers}
        for attributes, module, label in reach.owners:  # `_buffers` and the like, whether code names them or not
            for name, value in attributes.items():
                if isinstance(value, list | dict | set) and id(value) not in containers:
                    containers[id(value)] = value, module, f"{label}.{name}"
        self._containers = [(held, _copied(held), module, label) for held, module, label in containers.values()]
        self._attributes = [(*place, getattr(*place[:2], _ABSENT)) for place in reach.attributes.values()]
        self._caches = [(cached, cached.cache_info().currsize) for cached in reach.caches]

    def put_back(self, ignored: str) -> dict[nn.Module | None, str]:
        """Restore the values, but no attributes whose names begin with `ignored`; return what had changed.

        That is the name of one changed value for each module that holds one, and for None of one that no module holds.
        """
        changed: dict[nn.Module | None, str] = {}
        for namespace, before, names in self._globals:
            if name := _restored(namespace, before, names):
                changed.setdefault(None, f"the global {name}")
        for attributes, held, module, label in self._owners:
            if name := _restored(attributes, held, {n for n in {**attributes, **held} if not n.startswith(ignored)}):
                changed.setdefault(module, f"{label}.{name}")
        for container, before, module, label in self._containers:
            if len(container) != len(before) or not _are_same(container, before):
                changed.setdefault(module, label)
                _refill(container, before)
        for owner, name, label, value in self._attributes:
            if getattr(owner, name, _ABSENT) is not value:
                changed.setdefault(None, label)
                setattr(owner, name, value) if value is not _ABSENT else delattr(owner, name)
        for cached, size in self._caches:
            if cached.cache_info().currsize > size:  # what was added may hold proxies
                cached.cache_clear()
        return changed


def _restored(now: dict[str, Any], before: dict[str, Any], names: Iterable[str]) -> str:
    """Restore the values of a dictionary under these names; return the name of one that had changed, or ""."""
    changed = [name for name in names if now.get(name, _ABSENT) is not before.get(name, _ABSENT)]
    for name in changed:
        if name in before:
            now[name] = before[name]
        else:
            del now[name]
    return min(changed, default="")


def _copied(container: Any) -> Any:
    """Return a copy; that of a dictionary is a plain one with what it holds, whatever a subclass makes of that."""
    if isinstance(container, dict):
        return {key: dict.__getitem__(container, key) for key in dict.keys(container)}
    return container.copy()


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


def _parts(value: Any) -> tuple[Any, ...]:
    """Return the functions and arguments in a method, property, partial or cached function; () for other values."""
    if isinstance(value, MethodType):
        return value.__func__, value.__self__
    if isinstance(value, partial):
        return value.func, value.args, value.keywords
    if isinstance(value, property):
        return (value.fget,)
    if isinstance(value, cached_property):
        return (value.func,)
    return (value.__wrapped__,) if isinstance(value, _lru_cache_wrapper | staticmethod | classmethod) else ()


@cache
def _is_followed(module: str) -> bool:
    """Return True for the name of a Python module whose code is read, as the user's is, and our networks'."""
    return module.partition(".")[0] not in _FOREIGN or module.startswith("proxconnect.training.models")


@cache
def _names_in(code: CodeType) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names in code, with that of inner functions, and its constants that may be names of attributes."""
    names, constants = {*code.co_names}, {c for c in code.co_consts if isinstance(c, str) and c.isidentifier()}
    for inner in (c for c in code.co_consts if isinstance(c, CodeType)):
        names |= _names_in(inner)[0]
        constants |= _names_in(inner)[1]
    return frozenset(names), frozenset(constants)
