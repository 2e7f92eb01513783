"""Plain floats: the weights that the float network has when it computes as the packed one does."""

import os

from torch import Tensor, nn

from proxconnect._support.atomic import replacing
from proxconnect.deploy.hardening import hard_state_dict
from proxconnect.deploy.packed.file import tensor_file


def to_floats(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write what `proxconnect.hard_state_dict(model)` returns as a safetensors file, whole or not at all.

    The file is a state dict of the float network, which `safetensors.torch.load_file` reads and `load_state_dict` takes
    with `strict=True`. Tensors under several names are there under each.

    Args:
        model: what `proxconnect.pack` or `proxconnect.load` made, or a binary model.
        path: the file, as net.safetensors.

    Raises:
        ValueError: for a model that is neither, and for state that is no tensor or has no values. TypeError: for a
            dtype that no file holds. OSError: where `path` cannot be written. It warns as `hard_state_dict` does.
    """
    tensors = {name: _stored(name, tensor) for name, tensor in hard_state_dict(model).items()}
    with replacing(path) as temporary:
        tensor_file.write(temporary, tensors, {"format": "pt"})  # transformers refuses files that do not say so


def _stored(name: str, tensor: object) -> Tensor:
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name!r} is extra state, which a file of tensors cannot hold: remove it first")
    return tensor_file.storable(name, tensor)
