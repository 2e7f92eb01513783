"""Files of plain floats: the hard weights of the float network."""

import os

from torch import Tensor, nn

from proxconnect._support.atomic import replacing
from proxconnect.deploy.hardening import hard_state_dict
from proxconnect.deploy.packed.file import tensor_file


def to_floats(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write `proxconnect.hard_state_dict(model)` as a safetensors file. If that fails, the old file stays.

    `safetensors.torch.load_file` reads the file, and the float network loads it with `strict=True`. A tensor under
    several names is there under each.

    Args:
        model: a packed or binary model.
        path: the file, such as "net.safetensors".

    Raises:
        ValueError: if the model is neither, or holds state that is no tensor or has no values.
        TypeError: for a dtype that no file holds.
        OSError: if `path` cannot be written.

    Warns:
        BinaryInputsWarning: if layers have binary inputs, which the float network does not.
    """
    tensors = {}
    for name, tensor in hard_state_dict(model).items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name!r} is extra state, which a file of tensors cannot hold: remove it first")
        tensors[name] = tensor_file.storable(name, tensor)
    with replacing(path) as temporary:
        tensor_file.write(temporary, tensors, {"format": "pt"})  # transformers requires this entry
