"""Layers with the names that a subclass of their float layer adds: methods and attributes that a network uses."""

from functools import cache
from typing import Any, TypeVar

from torch import nn

from proxconnect.layers.products import Product

Form = TypeVar("Form", bound=nn.Module)


def with_added_names(form: type[Form], kind: type[nn.Module]) -> type[Form]:
    """Return `form`, or a subclass of it with the names that `kind`, the class of the replaced layer, has in addition.

    Names that `form` has, such as `forward`, stay those of `form`; names that begin with "__" are not added. If `kind`
    is a class that this function made, the names are those that it was made for; another `Product` adds none.
    """
    classes: Any = form, vars(kind).get(_MADE_FROM, (form, kind))[1]
    made: type[Form] = form if issubclass(classes[1], Product) else _made(*classes)
    return made


def form_of(cls: type[Form]) -> type[Form]:
    """Return the form from which `with_added_names` made `cls`, or `cls` itself if it did not."""
    form: type[Form] = vars(cls).get(_MADE_FROM, (cls,))[0]
    return form


_MADE_FROM = "made_from_form_and_kind"


@cache
def _made(form: Any, kind: Any) -> Any:
    """Return `form`, or the subclass of it with the names that `kind` has in addition."""
    names = {name: value for cls in reversed(kind.__mro__) for name, value in vars(cls).items()}
    added = {name: value for name, value in names.items() if not (name.startswith("__") or hasattr(form, name))}
    members = {_MADE_FROM: (form, kind), "__reduce_ex__": _reduce_ex, "__module__": form.__module__}
    return type(form.__name__, (form,), added | members) if added else form


def _reduce_ex(layer: nn.Module, protocol: Any) -> tuple[Any, ...]:
    """Copy and pickle a layer: its class is made again from the two that can be imported."""
    return _blank, vars(type(layer))[_MADE_FROM], layer.__getstate__()


def _blank(form: Any, kind: Any) -> Any:
    cls = _made(form, kind)
    return cls.__new__(cls)
