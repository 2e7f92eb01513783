"""Hard weights without packing: their state dict, and batch-norm statistics that fit them."""

import warnings
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from proxconnect._support.arguments import require_module
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.deploy.readiness import warn_unless_ready
from proxconnect.deploy.shippable import STATISTICS, is_finite, require_finite
from proxconnect.layers import BinaryLayer
from proxconnect.layers.modes import hard


class BinaryInputsWarning(UserWarning):
    """The warning that a float network takes weights ±α, but not the binary inputs with which they were trained."""


def hard_state_dict(model: nn.Module) -> "OrderedDict[str, Tensor]":
    """Return the state dict of the plain float network with weights ±α, which loads with `strict=True`.

    If no layer has binary inputs, the float network computes what `model` computes with hard weights. For a packed
    model this holds up to the order of a float sum and the rounding of inputs to 8 bits, which float layers lack. 8-bit
    layers become float layers with the weights scale · levels. A module with several names has entries under each.
    Version metadata is kept.

    Binary layers that are tied, such as a head and an embedding, have one tensor under both names. If the float network
    ties a binary weight to a float one, untie them there first.

    Args:
        model: a binary or packed model.

    Returns:
        new tensors for the weights of binary and packed layers, and the model's own tensors for the rest.

    Raises:
        ValueError: if the model has no binary or packed layer, or a NaN or infinity in a binary layer, a shift or a
            batch norm. Float and packed layers are not checked.
        TypeError: if `model` is no module.

    Warns:
        UserWarning: as `pack` does.
        BinaryInputsWarning: if layers have binary inputs.

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
    warn_unless_ready(model, stacklevel=2)
    weights = _hard_weights(set(layers.values()))
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


def _hard_weights(layers: set[Any]) -> dict[nn.Module, Tensor]:
    """Return the hard weights of binary and packed layers; layers that are tied share theirs."""
    made: dict[tuple[int, int], Tensor] = {}
    weights = {}
    for layer in layers:
        is_binary = isinstance(layer, BinaryLayer)
        held = layer._parameters.get("latent", layer) if is_binary else layer._held()
        source = id(held), id(layer.weight_quantizer if is_binary else layer.scale)
        if source not in made:
            made[source] = layer.binary_weight if is_binary else layer.weight
        weights[layer] = made[source]
    return weights


def reestimate_batchnorm(
    model: nn.Module, batches: Iterable[Any], device: torch.device | int | None = None
) -> nn.Module:
    """Estimate the batch-norm statistics of `model` again with its hard weights, in place.

    Call it after you train with soft weights: the statistics are then those of the soft network. Frozen batch norms are
    estimated too. Training and evaluation modes are restored, and after an exception the old statistics too.

    `num_batches_tracked` of each norm is then 0 until training goes on, also in checkpoints: by it `pack` knows that
    the statistics are those of hard weights, which it cannot know after `update_bn` of torch.

    Args:
        model: a binary model.
        batches: inputs, or tuples and lists that begin with one, as for `torch.optim.swa_utils.update_bn`. Take
            those of training, with its augmentation: the weights know its statistics.
        device: the device to move them to, or None to leave them where they are.

    Returns:
        `model`.

    Raises:
        ValueError: for empty `batches` if the model has batch norms, and for an estimate that is NaN or infinite.
        TypeError: if `model` is no module, or `batches` is one tensor or no iterable.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
        >>> batches = [torch.randn(64, 4) for _ in range(3)]
        >>> norm = pc.reestimate_batchnorm(pc.binarize(model, "bnn++"), batches)[2]
        >>> norm.running_mean.shape, norm.num_batches_tracked
        (torch.Size([8]), tensor(0))
    """
    require_module(model, "reestimate_batchnorm(model, batches)")
    if isinstance(batches, Tensor) or not isinstance(batches, Iterable):
        raise TypeError(f"batches takes an iterable of inputs, as a loader or [images]; got {type(batches).__name__}")
    with _restored_on_error(model) as norms, hard(model):
        rest = iter(batches)
        first = list(islice(rest, 1))
        if norms and not first:
            raise ValueError("batches is empty: batch-norm statistics cannot be estimated without data")
        update_bn(chain(first, rest), model, device)
        for name, norm in norms.items():
            for key in STATISTICS:
                estimate = getattr(norm, key)
                if estimate is not None and not is_finite(estimate):
                    raise ValueError(
                        f"{name}.{key} became NaN or infinite: look for such numbers in the batches and in the "
                        "latents, where pc.Meters(model) counts them"
                    )
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked.zero_()
    return model


@contextmanager
def _restored_on_error(model: nn.Module) -> Iterator[dict[str, _BatchNorm]]:
    """Yield the batch norms; restore their statistics and momentum on an exception, and all modes in any case."""
    modes = [(module, module.training) for module in model.modules()]
    norms = {name: module for name, module in model.named_modules() if isinstance(module, _BatchNorm)}
    before = [({k: b.clone() for k, b in norm.named_buffers()}, norm.momentum) for norm in norms.values()]
    try:
        yield norms
    except BaseException:
        for norm, (buffers, momentum) in zip(norms.values(), before, strict=True):
            norm.momentum = momentum
            for name, buffer in norm.named_buffers():
                buffer.copy_(buffers[name])
        raise
    finally:
        for module, mode in modes:
            module.training = mode
