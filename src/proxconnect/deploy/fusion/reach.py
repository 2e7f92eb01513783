"""Find the Python values that forwards may read or set."""

import sys
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from functools import _lru_cache_wrapper, cache, cached_property, partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn

_CONTAINERS = (list, tuple, dict, set, frozenset, deque)
_CODE = (ModuleType, FunctionType, type)
"""The types of values that nobody changes between two calls."""

_FOREIGN = {"torch", "numpy", "builtins", "proxconnect", *sys.stdlib_module_names}

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
        self._classes: dict[type, None] = {}
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

    def holders(self) -> set[tuple[int, str]]:
        """Return the ids of the objects that hold the values, with a name if the code reaches only that one there."""
        wholes = [*(held for held, _, _ in (*self.owners, *self.containers)), *self.caches]
        names = {(key, name) for key, (_, names) in self.globals.items() for name in names}
        return {*names, *self.attributes, *((id(whole), "") for whole in wholes)}

    def _resolve(self) -> None:
        """Visit the attributes whose names occur in the code, until that finds no more names, objects and classes.

        Each round looks for new names in all that is known, and for all names in what is new.
        """
        asked: set[str] = set()
        begun = 0, 0, 0
        while True:
            names, holders = {*self.names}, ([*self._libraries], [*self.owners], [*self._classes])
            new, ends = names - asked, (len(holders[0]), len(holders[1]), len(holders[2]))
            if not new and ends == begun:
                return
            for at, library in enumerate(holders[0]):
                self._read_globals(vars(library), new if at < begun[0] else names)
            for at, (attributes, module, label) in enumerate(holders[1]):
                for name in _among(attributes, new if at < begun[1] else names):
                    self._visit(attributes[name], module, f"{label}.{name}")
            for at, cls in enumerate(holders[2]):
                found = _among(vars(cls), new) if at < begun[2] else _among(vars(cls), names | _operators(cls))
                for name in found:
                    self._visit_of_class(cls, name)
            asked, begun = names, ends

    def _visit_of_class(self, cls: type, name: str) -> None:
        value, label = vars(cls)[name], f"{cls.__name__}.{name}"
        self._visit(value, None, label)
        if not hasattr(type(value), "__get__") and not name.startswith("__"):
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
        self._classes |= {base: None for base in cls.__mro__ if _is_followed(base.__module__)}

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


def _among(attributes: Mapping[str, Any], names: Container[str]) -> list[str]:
    return [name for name in attributes if name in names]


def _operators(cls: type) -> set[str]:
    """Return the names of the operators of a class of objects other than modules, which may run without their name."""
    if issubclass(cls, nn.Module):
        return set()
    named = {name: value for name, value in vars(cls).items() if name.startswith("__") and name != "__init__"}
    return {name for name, value in named.items() if isinstance(value, FunctionType) or _parts(value)}


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
