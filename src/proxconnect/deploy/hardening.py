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

from proxconnect._support.arguments import require_module
from proxconnect.deploy.finite import STATISTICS, is_finite, require_finite
from proxconnect.deploy.packed.compact import CompactLayer
from proxconnect.layers import BinaryLayer
from proxconnect.layers.modes import hard


class BinaryInputsWarning(UserWarning):
    """A float network is given the weights of one whose layers multiply by the signs of their inputs."""


def hard_state_dict(model: nn.Module) -> "OrderedDict[str, Tensor]":
    """The state dict of the plain float network with weights ±α: it loads with `strict=True` into that architecture.

    `model` is binary or packed. The float network then gives the answers of `hard(model)`, or up to the order of a
    float sum those of the packed model, where inputs are float. 8-bit layers of a packed model become their weights
    scale · levels, in the layer's dtype, and no input is rounded any more. Modules under several names appear under
    each, and version metadata is kept. The weights of binary and packed layers are new tensors, all others the model's
    own. Warns, by `BinaryInputsWarning`, where inputs of layers are binary too, which the float network would not know
    of. ValueError without a binary or packed layer, and for latents, biases, shifts and batch norms of a binary model
    that are NaN or infinite.

    A float network that ties the weight of a binary layer to one that stays float, as a head to an embedding, has room
    for one of the two alone: untie them in it before it loads.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
        >>> binary = pc.binarize(copy.deepcopy(model), "bnn++")
        >>> model.load_state_dict(pc.hard_state_dict(binary))
        <All keys matched successfully>
        >>> model[1].weight[0].abs().unique().numel()  # α of the first output
        1
    """
    require_module(model, "hard_state_dict(model)")
    layers = {n: m for n, m in model.named_modules(remove_duplicate=False) if isinstance(m, BinaryLayer | CompactLayer)}
    if not layers:
        raise ValueError("the model has no binary layer and no packed one: call pc.binarize(model) and train it first")
    require_finite(model)
    weights = {layer: _hard_weight(layer) for layer in set(layers.values())}
    own = {f"{name}.{part}" if name else part: name for name, layer in layers.items() for part in layer.own_state}
    state = model.state_dict()
    metadata = OrderedDict(state._metadata)  # type: ignore[attr-defined]  # torch keeps versions there
    hardened: OrderedDict[str, Tensor] = OrderedDict()
    for key, tensor in state.items():
        name = own.get(key, own.get(key.rpartition(".")[0]))  # a tensor of the layer itself, or of a child
        if name is None:
            hardened[key] = tensor
        else:
            hardened[layers[name].float_key(name)] = weights[layers[name]]
    for key in own:
        metadata.pop(key, None)
    if any(layer.has_binary_input for layer in layers.values()):
        warnings.warn(
            "this model quantises activations too, which a float network does not: with these weights alone it will "
            "answer differently. A packed file keeps both",
            BinaryInputsWarning,
            stacklevel=2,
        )
    hardened._metadata = metadata  # type: ignore[attr-defined]  # as above
    return hardened


def _hard_weight(layer: BinaryLayer | CompactLayer) -> Tensor:
    return layer.binary_weight if isinstance(layer, BinaryLayer) else layer.weight


def reestimate_batchnorm(
    model: nn.Module, batches: Iterable[Any], device: torch.device | int | None = None
) -> nn.Module:
    """Estimate the batch-norm statistics of `model` anew with its hard weights, in place, and return it.

    A net trained with soft weights carries statistics of the soft net. `batches` yields inputs, or tuples and lists
    that begin with one, as `torch.optim.swa_utils.update_bn` takes them, moved to `device` first if it is given.
    Frozen batch norms are estimated too. On any exception, an empty `batches` included, the statistics and the mode are
    what they were. ValueError where an estimate is NaN or infinite, TypeError for `batches` that are one tensor.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
        >>> batches = [torch.randn(64, 4) for _ in range(3)]
        >>> pc.reestimate_batchnorm(pc.binarize(model, "bnn++"), batches)[2].num_batches_tracked
        tensor(3)
    """
    require_module(model, "reestimate_batchnorm(model, batches)")
    if isinstance(batches, Tensor) or not isinstance(batches, Iterable):
        raise TypeError(f"batches takes an iterable of inputs, as a loader or [images]; got {type(batches).__name__}")
    with _restored_on_error(model), hard(model):
        update_bn(_at_least_one(batches), model, device)
        _require_finite_estimates(model)
    return model


def _require_finite_estimates(model: nn.Module) -> None:
    for name, norm in model.named_modules():
        if isinstance(norm, _BatchNorm):
            for key in STATISTICS:
                estimate = getattr(norm, key)
                if estimate is not None and not is_finite(estimate):
                    raise ValueError(
                        f"{name}.{key} became NaN or infinite: look for such numbers in the batches and in the "
                        "latents, where pc.Meters(model) counts them"
                    )


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
