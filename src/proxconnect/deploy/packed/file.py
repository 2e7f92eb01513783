"""The packed file: one safetensors file that holds the whole packed network, but for its architecture."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils import swap_tensors

from proxconnect._support.arguments import require_module
from proxconnect._support.atomic import replacing
from proxconnect.deploy.finite import require_finite
from proxconnect.deploy.packed import checksum, container
from proxconnect.deploy.packed.architecture import called, persistent, require_float, skeleton_of
from proxconnect.deploy.packed.compact import CompactLayer
from proxconnect.deploy.packed.halves import as_half, is_vector, note_vectors, vectors_of
from proxconnect.deploy.packed.kernels import Inputs, let_inputs_be, warn_unless_built
from proxconnect.deploy.packed.layers import PackedLayer
from proxconnect.deploy.packed.metadata import KEY, Metadata
from proxconnect.deploy.packed.panels import PanelLayer
from proxconnect.deploy.packed.wrappers import require_unwrapped
from proxconnect.layers import BinaryLayer


class PackedFileError(ValueError):
    """A file that is no packed model, or not one of this architecture; the message names the file and the fault."""


def save(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a packed model to a safetensors file, whole or not at all; the layout is in docs/file-format.md.

    The file holds every parameter and every persistent buffer; tensors under two names are stored once. ValueError for
    a model that is not packed, that is wrapped or that keeps state which is no tensor, TypeError for a dtype that no
    file can hold, OSError where `path` cannot be written.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
        >>> packed = pc.pack(pc.binarize(model, "bnn++"))
        >>> pc.save(packed, "model.safetensors")
    """
    require_module(model, "save(model, path)")
    require_unwrapped(model, "pc.save({}, path)")
    modules = dict(model.named_modules(remove_duplicate=False))
    specs = {name: module.spec for name, module in modules.items() if isinstance(module, CompactLayer)}
    unpacked = [name for name, module in modules.items() if isinstance(module, BinaryLayer)]
    if unpacked:
        raise ValueError(f"the model is not packed (binary are {_some(unpacked)}): call pc.save(pc.pack(model), path)")
    if all(spec.weight_bits > 1 for spec in specs.values()):
        raise ValueError("the model has no packed layer: binarize and train it, then pc.save(pc.pack(model), path)")
    stored, aliases = _stored_once(modules)
    vectors = vectors_of(model)
    if vectors == "float16":
        stored = {name: tensor if (half := as_half(tensor)) is None else half for name, tensor in stored.items()}
    with replacing(path) as temporary:
        metadata = Metadata(specs, aliases, vectors)
        container.write(temporary, stored, {checksum.KEY: checksum.BLANK, KEY: metadata.to_json()})
        checksum.seal(temporary)


def load(path: str | os.PathLike[str], float_model: nn.Module, *, inputs: Inputs = "exact") -> nn.Module:
    """The packed model that `save` wrote, whose layers run one after another; `proxconnect.load` says the rest."""
    require_module(float_model, "load(path, float_model)")
    warn_unless_built()
    try:
        require_float(float_model)
        with container.open_checked(Path(path)) as file:
            metadata = Metadata.of(file.metadata() or {})
            skeleton = skeleton_of(float_model, metadata)
            _fill(skeleton, file, metadata)
    except ValueError as fault:
        raise PackedFileError(f"cannot load {os.fspath(path)}: {fault}") from fault
    let_inputs_be(skeleton, inputs)
    note_vectors(skeleton, metadata.vectors)
    return skeleton.cpu().eval().requires_grad_(False)


def _stored_once(modules: Mapping[str, nn.Module]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors to store, in main memory, and the names that equal one of theirs."""
    for name, module in modules.items():
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            raise ValueError(
                f"{called(name)} keeps extra state, which a file of tensors cannot hold: remove it before packing"
            )
    first: dict[int, str] = {}
    stored, aliases = {}, {}
    for name, tensor in persistent(modules):
        if first.setdefault(id(tensor), name) == name:
            stored[name] = container.storable(name, tensor)
        else:
            aliases[name] = first[id(tensor)]
    return stored, aliases


def _fill(skeleton: nn.Module, file: Any, metadata: Metadata) -> None:
    """Give the skeleton the tensors of the file, after all their names, shapes and dtypes were checked."""
    modules = dict(skeleton.named_modules(remove_duplicate=False))
    expected = dict(persistent(modules))
    _require_same_names(expected, set(file.keys()), metadata.aliases)
    source = {name: metadata.aliases.get(name, name) for name in expected}
    places: dict[int, str] = {}
    for name, tensor in expected.items():
        if places.setdefault(id(tensor), source[name]) != source[name]:
            raise ValueError(f"{places[id(tensor)]!r} and {name!r} are one tensor in the model, but two in the file: "
                             "pass the architecture that was packed")  # fmt: skip
        _require_same_tensor(name, tensor, file.get_slice(source[name]), may_be_half=metadata.vectors == "float16")
    loaded = {name: container.tensor_of(file, name) for name in file.keys()}  # noqa: SIM118
    blanks = {id(tensor): (tensor, source[name]) for name, tensor in expected.items()}
    with _without_weak_references(modules.values()):
        for blank, stored in blanks.values():
            values = loaded[stored].to(blank.dtype)
            # Swapping the contents reaches every holder of a tied tensor; detach() lets aliases share their memory.
            is_parameter = isinstance(blank, nn.Parameter)
            full = nn.Parameter(values, requires_grad=False) if is_parameter else values.detach()
            swap_tensors(blank, full)
    for name, module in modules.items():
        if isinstance(module, CompactLayer) and (fault := module.fault()):
            raise ValueError(f"layer {name!r} is damaged: {fault}")
    require_finite(skeleton, PackedLayer, "no packing makes that, so pack the trained model again")
    for module in modules.values():
        if isinstance(module, PanelLayer):
            module.make_panels()


@contextmanager
def _without_weak_references(modules: Iterable[nn.Module]) -> Iterator[None]:
    """While this lasts, recurrent modules of torch's keep none to their weights, which can be swapped only so."""
    recurrent = [module for module in modules if isinstance(module, nn.RNNBase)]
    for module in recurrent:
        module._flat_weight_refs = []
    yield
    for module in recurrent:
        module._init_flat_weights()


def _require_same_names(expected: Iterable[str], stored: set[str], aliases: Mapping[str, str]) -> None:
    for name, target in aliases.items():
        if name in stored or target not in stored:
            raise ValueError(f"its alias {name!r} of {target!r} is not one name for a stored tensor: it is damaged")
    held, wanted = stored | set(aliases), set(expected)
    faults = [f"it lacks {_some(wanted - held)}"] if wanted - held else []
    faults += [f"it has {_some(held - wanted)}, which the model lacks"] if held - wanted else []
    if faults:
        raise ValueError(f"{', and '.join(faults)}: pass the architecture that was packed")


def _require_same_tensor(name: str, tensor: Tensor, stored: Any, *, may_be_half: bool) -> None:
    inside = (stored.get_dtype(), tuple(stored.get_shape()))
    outside = (container.CODES.get(tensor.dtype, str(tensor.dtype)), tuple(tensor.shape))
    if inside != outside and not (may_be_half and is_vector(tensor) and inside == ("F16", outside[1])):
        raise ValueError(f"tensor {name!r} is {inside[0]} of shape {inside[1]} in the file, but must be {outside[0]} "
                         f"of shape {outside[1]} for this model: pass the architecture that was packed")  # fmt: skip


def _some(names: Iterable[str]) -> str:
    """A few names, and how many more there are."""
    ordered = sorted(names)
    more = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
    return ", ".join(map(repr, ordered[:3])) + more
