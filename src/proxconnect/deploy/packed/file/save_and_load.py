"""Write a packed file, and read one into a float architecture after every check."""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils import swap_tensors

from proxconnect._support.arguments import require_module
from proxconnect._support.atomic import replacing
from proxconnect._support.paths import file_name, require_target
from proxconnect._support.text import some
from proxconnect.deploy.packed.file import tensor_file
from proxconnect.deploy.packed.file.architecture import PASS, display_name, persistent, require_float, skeleton_of
from proxconnect.deploy.packed.file.metadata import KEY, Metadata
from proxconnect.deploy.packed.half_vectors import NOTE, as_half, is_vector, vectors_of
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.deploy.packed.layers.one_bit import Inputs, PackedLayer, set_inputs, warn_unless_built
from proxconnect.deploy.shippable import require_finite, require_unwrapped, wrapped_part
from proxconnect.layers import BinaryLayer


def save(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a packed model to a safetensors file. If that fails, an existing file is unchanged.

    The file holds every parameter and every persistent buffer, tied ones once. docs/file-format.md describes it.

    Args:
        model: a packed model, returned by `pack` or `load`.
        path: the file, such as "model.safetensors".

    Raises:
        ValueError: if the model is not packed, is wrapped, keeps state that is no tensor, or is on the meta device.
        TypeError: if an argument has another type, or a tensor a dtype that no file can hold.
        OSError: if `path` cannot be written.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
        >>> packed = pc.pack(pc.binarize(model, "bnn++"))
        >>> pc.save(packed, "model.safetensors")
    """
    require_module(model, "save(model, path)")
    target = require_target(path)
    require_unwrapped(model, "pc.save({}, path)")
    modules = dict(model.named_modules(remove_duplicate=False))
    specs = {name: module.spec for name, module in modules.items() if isinstance(module, CompactLayer)}
    binary = [repr(name) for name, module in modules.items() if isinstance(module, BinaryLayer)]
    if binary:
        raise ValueError(f"the model is not packed (binary are {some(binary)}): call pc.save(pc.pack(model), path)")
    if all(spec.weight_bits > 1 for spec in specs.values()):
        raise ValueError("the model has no packed layer: binarize and train it, then pc.save(pc.pack(model), path)")
    stored, aliases = _stored_once(modules)
    vectors = vectors_of(model)
    if vectors == "float16":
        stored = {name: tensor if (half := as_half(tensor)) is None else half for name, tensor in stored.items()}
    with replacing(target) as temporary:
        metadata = Metadata(specs, aliases, vectors)
        tensor_file.write(temporary, stored, {tensor_file.CHECKSUM: tensor_file.BLANK, KEY: metadata.to_json()})


def _stored_once(modules: Mapping[str, nn.Module]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors to store, in main memory, and the stored name behind each alias."""
    for name, module in modules.items():
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            raise ValueError(
                f"{display_name(name)} keeps extra state, which a file of tensors cannot hold: remove it before packing"
            )
    first: dict[int, str] = {}
    stored, aliases = {}, {}
    for name, tensor in persistent(modules):
        if first.setdefault(id(tensor), name) == name:
            stored[name] = tensor_file.storable(name, tensor)
        else:
            aliases[name] = first[id(tensor)]
    return stored, aliases


class PackedFileError(ValueError):
    """The error of `load` for a damaged file, or one that does not fit the model, and for a model that is not float.

    It is a ValueError. The command `proxconnect summary` raises it for a damaged file, too.
    """


def load_layers(path: str | os.PathLike[str], float_model: nn.Module, *, inputs: Inputs = "exact") -> nn.Module:
    """Load a packed model as `proxconnect.load` does, but without fused graphs: its layers run one after another."""
    require_module(float_model, "load(path, float_model)")
    name = file_name(path)
    warn_unless_built()
    try:
        require_float(float_model)
        with tensor_file.open_checked(Path(name)) as file:
            metadata = Metadata.of(file.metadata() or {})
            skeleton = skeleton_of(float_model, metadata)
            _fill(skeleton, file, metadata)
    except ValueError as fault:
        advice = wrapped_part(float_model)
        raise PackedFileError(f"cannot load {name}: {fault}{'; ' if advice else ''}{advice}") from fault
    set_inputs(skeleton, inputs)
    setattr(skeleton, NOTE, metadata.vectors)
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
    loaded = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    for name, tensor in loaded.items():
        if sys.platform == "win32" or tensor.data_ptr() % tensor.itemsize:  # Windows replaces no mapped file
            loaded[name] = tensor.clone()
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
