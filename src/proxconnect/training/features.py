"""The outputs of named modules of a network, by hooks."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn

from proxconnect.deploy.shippable import unwrapped


class Features:
    """The outputs of the modules `names` of `model` in its latest forward pass, until `take` or `remove` is called.

    An output is a tensor, or a tuple, list or mapping whose first entry is one, as transformers' ModelOutput. Names are
    those of the inner model if `torch.compile` or DistributedDataParallel wraps it; `role` names the model in errors.
    ValueError for an unknown name.
    """

    def __init__(self, model: nn.Module, names: Sequence[str], role: str) -> None:
        model = unwrapped(model)
        modules = dict(model.named_modules())
        for name in names:
            if name not in modules:
                raise ValueError(f"features: the {role} has no module {name!r}{_near(name, list(modules))}")
        self._role = role
        self._taps = {name: _Tap() for name in names}
        self._handles = [model.register_forward_pre_hook(_Begin(list(self._taps.values())))] if names else []
        self._handles += [modules[name].register_forward_hook(tap) for name, tap in self._taps.items()]

    def take(self) -> dict[str, Tensor]:
        """Return the outputs by name, and forget them.

        RuntimeError unless each module ran once; TypeError if an output is no tensor.
        """
        seen = {name: list(tap.seen) for name, tap in self._taps.items()}
        for name, tap in self._taps.items():
            tap.seen.clear()
            if not seen[name]:
                raise RuntimeError(
                    f"module {name!r} of the {self._role} has not run since the last loss: run the {self._role} before "
                    "each loss. Make the Distillation before the first call of a compiled model, and call remove() "
                    "only at the end"
                )
            if len(seen[name]) > 1:
                raise RuntimeError(f"module {name!r} of the {self._role} ran {len(seen[name])} times in one forward "
                                   "pass, so its feature is ambiguous: name a module that runs once")  # fmt: skip
            if not isinstance(seen[name][0], Tensor):
                raise TypeError(f"module {name!r} of the {self._role} returns no tensor but a "
                                f"{type(seen[name][0]).__name__}: name a module inside or after it")  # fmt: skip
        return {name: outputs[0] for name, outputs in seen.items()}

    def remove(self) -> None:
        """Remove the hooks from the model."""
        for handle in self._handles:
            handle.remove()
        for tap in self._taps.values():
            tap.seen.clear()


class _Tap:
    """A forward hook that keeps outputs. Copies and pickles are empty, since activations cannot be copied."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Mapping):
            output = next(iter(output.values()), None)
        elif isinstance(output, tuple | list):
            output = output[0] if output else None
        self.seen.append(output)

    def __getstate__(self) -> dict[str, Any]:
        return {"seen": []}


class _Begin:
    """A hook before a forward pass of the whole model that forgets the outputs of the pass before."""

    def __init__(self, taps: list[_Tap]) -> None:
        self.taps = taps

    def __call__(self, module: nn.Module, args: Any) -> None:
        for tap in self.taps:
            tap.seen.clear()


def _near(name: str, known: list[str]) -> str:
    ends = [other for other in known if other.endswith(f".{name}")]
    near = ends[:3] or get_close_matches(name, known, n=3, cutoff=0.5)
    return f": near names are {', '.join(map(repr, near))}" if near else ": see model.named_modules()"
