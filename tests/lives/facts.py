"""All that may be known of a model, its optimizer and the generator, as one flat table: what no rule changes stays."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from proxconnect.quantizer import Quantizer

Facts = dict[tuple[Any, ...], Any]

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_state_dict_hooks", "_load_state_dict_pre_hooks")


def facts(model: nn.Module, optimizer: Optimizer | None = None) -> Facts:
    """Values, gradients, modes, switches, hooks, attributes and classes of `model`; the optimizer's state; the RNG."""
    found: Facts = {("generator",): torch.get_rng_state()}
    for name, tensor in model.state_dict().items():
        found["value", name] = tensor.clone()
    for name, parameter in model.named_parameters():
        found["parameter", name] = id(parameter)
        found["gradient", name] = None if parameter.grad is None else parameter.grad.clone()
        found["requires_grad", name] = parameter.requires_grad
    for name, module in model.named_modules():
        found["mode", name] = module.training
        found["class", name] = type(module)
        found["hooks", name] = tuple(len(getattr(module, hooks)) for hooks in _HOOKS)
        changing = ("override", "float_sample")
        found["attributes", name] = sorted(k for k, v in vars(module).items() if v is not None and k not in changing)
        if isinstance(module, Quantizer):
            found["override", name] = module.override
            found["trains_latent", name] = module.trains_latent
            found["scheduled", name] = module.scheduled
    return found if optimizer is None else found | optimizer_facts(optimizer)


def optimizer_facts(optimizer: Optimizer) -> Facts:
    """The settings of each group, the count of the schedule among them, and the state of each parameter."""
    state = optimizer.state_dict()
    settings = {("group", i, k): v for i, group in enumerate(state["param_groups"]) for k, v in group.items()}
    kept = {("state", i, k): _own(v) for i, entries in state["state"].items() for k, v in entries.items()}
    return settings | kept


def _own(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def differences(expected: Facts, found: Facts) -> list[str]:
    """What is not as expected, in words."""
    return [
        f"{' '.join(map(str, key))}: {_shown(expected.get(key, 'nothing'))} became {_shown(found.get(key, 'nothing'))}"
        for key in sorted(expected.keys() | found.keys(), key=str)
        if not (key in expected and key in found and same(expected[key], found[key]))
    ]


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, tensors in shape, dtype and every entry."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    return type(one) is type(other) and bool(one == other)


def _shown(value: Any) -> str:
    return f"{value.dtype} {value.flatten()[:4].tolist()}" if isinstance(value, Tensor) else repr(value)


def of(kinds: Iterable[str], table: Facts) -> Facts:
    """The facts of some kinds."""
    return {key: value for key, value in table.items() if key[0] in kinds}


def memory(model: nn.Module) -> set[int]:
    """Where the numbers of a model lie."""
    tensors = [*model.parameters(), *model.buffers()]
    tensors += [p.grad for p in model.parameters() if p.grad is not None]
    return {tensor.untyped_storage().data_ptr() for tensor in tensors if tensor.numel()}
