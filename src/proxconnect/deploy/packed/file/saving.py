"""Write a packed file."""

import os
from collections.abc import Mapping

from torch import Tensor, nn

from proxconnect._support.arguments import require_module
from proxconnect._support.atomic import replacing
from proxconnect._support.text import some
from proxconnect.deploy.packed.file import tensor_file
from proxconnect.deploy.packed.file.architecture import called, persistent
from proxconnect.deploy.packed.file.metadata import KEY, Metadata
from proxconnect.deploy.packed.half_vectors import as_half, vectors_of
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.deploy.shippable import require_unwrapped
from proxconnect.layers import BinaryLayer


def save(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a packed model to a safetensors file. If that fails, the old file stays.

    The file holds every parameter and every persistent buffer, tied ones once. docs/file-format.md describes it.

    Args:
        model: a packed model, returned by `pack` or `load`.
        path: the file, such as "model.safetensors".

    Raises:
        ValueError: if the model is not packed, is wrapped, or keeps state that is no tensor.
        TypeError: for a dtype that no file can hold.
        OSError: if `path` cannot be written.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 2))
        >>> packed = pc.pack(pc.binarize(model, "bnn++"))
        >>> pc.save(packed, "model.safetensors")
    """
    require_module(model, "save(model, path)")
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
    with replacing(path) as temporary:
        metadata = Metadata(specs, aliases, vectors)
        tensor_file.write(temporary, stored, {tensor_file.CHECKSUM: tensor_file.BLANK, KEY: metadata.to_json()})
        tensor_file.seal(temporary)


def _stored_once(modules: Mapping[str, nn.Module]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors to store, in main memory, and the stored name behind each alias."""
    for name, module in modules.items():
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            raise ValueError(
                f"{called(name)} keeps extra state, which a file of tensors cannot hold: remove it before packing"
            )
    first: dict[int, str] = {}
    stored, aliases = {}, {}
    for name, tensor in persistent(modules):
        if first.setdefault(id(tensor), name) == name:
            stored[name] = tensor_file.storable(name, tensor)
        else:
            aliases[name] = first[id(tensor)]
    return stored, aliases
