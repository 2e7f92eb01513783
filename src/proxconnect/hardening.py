"""From soft weights to the hard ones that ship: their state dict, and batch-norm statistics that fit them."""

import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from proxconnect.arguments import require_module
from proxconnect.layers import BinaryLayer
from proxconnect.modes import hard

_PARTS = ("weight_quantizer", "input_quantizer", "input_shift")
"""What a binary layer has beside its latent and its bias."""


def hard_state_dict(model: nn.Module) -> "OrderedDict[str, Tensor]":
    """The state dict of the plain float network with weights ±α: it loads with `strict=True` into that architecture.

    The float network then gives the answers of `hard(model)` where inputs are float. Modules under several names appear
    under each, and version metadata is kept. The weights of binary layers are new tensors, all others the model's own.
    Warns where inputs of layers are binary too, which the float network would not know of. ValueError without a binary
    layer.
    """
    require_module(model, "hard_state_dict(model)")
    state = model.state_dict()
    metadata = OrderedDict(state._metadata)  # type: ignore[attr-defined]  # torch keeps versions there
    hardened: OrderedDict[str, Tensor] = OrderedDict()
    layers = {name: m for name, m in model.named_modules(remove_duplicate=False) if isinstance(m, BinaryLayer)}
    if not layers:
        raise ValueError("the model has no binary layer (a packed one has none): call this before pc.pack(model)")
    prefixes = {name: f"{name}." if name else "" for name in layers}
    latents = {prefix + "latent": name for name, prefix in prefixes.items()}
    parts = tuple(f"{p}{part}." for p in prefixes.values() for part in _PARTS)
    for key, tensor in state.items():
        if key in latents:
            name = latents[key]
            hardened[layers[name].float_key(name)] = layers[name].binary_weight
        elif not key.startswith(parts):
            hardened[key] = tensor
    for key in parts:
        metadata.pop(key.removesuffix("."), None)
    if any(layer.input_quantizer is not None for layer in layers.values()):
        warnings.warn(
            "this model quantises activations too, which a float network does not: with these weights alone it will "
            "answer differently. proxconnect.pack keeps both",
            stacklevel=2,
        )
    hardened._metadata = metadata  # type: ignore[attr-defined]  # as above
    return hardened


def reestimate_batchnorm(
    model: nn.Module, batches: Iterable[Any], device: torch.device | int | None = None
) -> nn.Module:
    """Estimate the batch-norm statistics of `model` anew with its hard weights, in place, and return it.

    A net trained with soft weights carries statistics of the soft net. `batches` yields inputs, or tuples and lists
    that begin with one, as `torch.optim.swa_utils.update_bn` takes them, moved to `device` first if it is given.
    Frozen batch norms are estimated too. On any exception, an empty `batches` included, the statistics and the mode are
    what they were.
    """
    with _restored_on_error(model), hard(model):
        update_bn(_at_least_one(batches), model, device)
    return model


def _at_least_one(batches: Iterable[Any]) -> Iterator[Any]:
    empty = True
    for batch in batches:
        empty = False
        yield batch
    if empty:
        raise ValueError("batches is empty: batch-norm statistics cannot be estimated without data")


@contextmanager
def _restored_on_error(model: nn.Module) -> Iterator[None]:
    """Give back batch-norm statistics and momentum where an exception leaves `update_bn`, and each module's mode."""
    modes = [(module, module.training) for module in model.modules()]
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    before = [({k: b.clone() for k, b in norm.named_buffers()}, norm.momentum) for norm in norms]
    try:
        yield
    except BaseException:
        for norm, (buffers, momentum) in zip(norms, before, strict=True):
            norm.momentum = momentum
            for name, buffer in norm.named_buffers():
                buffer.copy_(buffers[name])
        raise
    finally:
        for module, mode in modes:
            module.training = mode
