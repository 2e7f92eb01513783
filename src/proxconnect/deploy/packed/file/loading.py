"""Read a packed file into a float architecture, after every check."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils import swap_tensors

from proxconnect._support.arguments import require_module
from proxconnect._support.text import some
from proxconnect.deploy.packed.file import tensor_file
from proxconnect.deploy.packed.file.architecture import PASS, persistent, require_float, skeleton_of
from proxconnect.deploy.packed.file.metadata import Metadata
from proxconnect.deploy.packed.half_vectors import is_vector, note_vectors
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.deploy.packed.layers.one_bit import Inputs, PackedLayer, set_inputs, warn_unless_built
from proxconnect.deploy.shippable import require_finite


class PackedFileError(ValueError):
    """A file that is no packed model, or none of this architecture; the message names the file and the fault."""


def load_layers(path: str | os.PathLike[str], float_model: nn.Module, *, inputs: Inputs = "exact") -> nn.Module:
    """Load a packed model whose layers run one after another; see `proxconnect.load`, which also fuses them."""
    require_module(float_model, "load(path, float_model)")
    warn_unless_built()
    try:
        require_float(float_model)
        with tensor_file.open_checked(Path(path)) as file:
            metadata = Metadata.of(file.metadata() or {})
            skeleton = skeleton_of(float_model, metadata)
            _fill(skeleton, file, metadata)
    except ValueError as fault:
        raise PackedFileError(f"cannot load {os.fspath(path)}: {fault}") from fault
    set_inputs(skeleton, inputs)
    note_vectors(skeleton, metadata.vectors)
    return skeleton.cpu().eval().requires_grad_(False)


def _fill(skeleton: nn.Module, file: Any, metadata: Metadata) -> None:
    """Give the skeleton the tensors of the file, after a check of all names, shapes and dtypes."""
    modules = dict(skeleton.named_modules(remove_duplicate=False))
    expected = dict(persistent(modules))
    _require_same_names(expected, set(file.keys()), metadata.aliases)
    source = {name: metadata.aliases.get(name, name) for name in expected}
    places: dict[int, str] = {}
    for name, tensor in expected.items():
        if places.setdefault(id(tensor), source[name]) != source[name]:
            raise ValueError(f"{places[id(tensor)]!r} and {name!r} are one tensor in the model, but two in the file: "
                             f"{PASS}")  # fmt: skip
        held, shape = file.get_slice(source[name]), tuple(tensor.shape)
        inside = (held.get_dtype(), tuple(held.get_shape()))
        outside = (tensor_file.CODES.get(tensor.dtype, str(tensor.dtype)), shape)
        may_be_half = metadata.vectors == "float16" and is_vector(tensor)
        if inside != outside and not (may_be_half and inside == ("F16", shape)):
            raise ValueError(f"tensor {name!r} is {inside[0]} of shape {inside[1]} in the file, but must be "
                             f"{outside[0]} of shape {shape} for this model: {PASS}")  # fmt: skip
    loaded = {name: tensor_file.tensor_of(file, name) for name in file.keys()}  # noqa: SIM118
    blanks = {id(tensor): (tensor, source[name]) for name, tensor in expected.items()}
    recurrent = [module for module in modules.values() if isinstance(module, nn.RNNBase)]
    for module in recurrent:
        module._flat_weight_refs = []  # weak references prevent a swap
    for blank, stored in blanks.values():
        values = loaded[stored].to(blank.dtype)
        # Swapping the contents reaches every holder of a tied tensor; detach() lets aliases share their memory.
        is_parameter = isinstance(blank, nn.Parameter)
        swap_tensors(blank, nn.Parameter(values, requires_grad=False) if is_parameter else values.detach())
    for module in recurrent:
        module._init_flat_weights()
    for name, module in modules.items():
        if isinstance(module, CompactLayer) and (fault := module.fault()):
            raise ValueError(f"layer {name!r} is damaged: {fault}")
    require_finite(skeleton, PackedLayer, "no packing makes that, so pack the trained model again")
    for module in modules.values():
        if isinstance(module, CompactLayer):
            module.prepack()


def _require_same_names(expected: Iterable[str], stored: set[str], aliases: Mapping[str, str]) -> None:
    for name, target in aliases.items():
        if name in stored or target not in stored:
            raise ValueError(f"its alias {name!r} of {target!r} is not one name for a stored tensor: it is damaged")
    held, wanted = stored | set(aliases), set(expected)
    lacking, extra = (some([repr(name) for name in sorted(names)]) for names in (wanted - held, held - wanted))
    faults = [f"it lacks {lacking}"] if lacking else []
    faults += [f"it has {extra}, which the model lacks"] if extra else []
    if faults:
        raise ValueError(f"{', and '.join(faults)}: {PASS}")
