"""Checkpoints of rows that train by a loop of their own: written aside and renamed, read without pickle."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from proxconnect._support.atomic import replacing

NAME = "last.ckpt"


def write(path: Path, parts: Mapping[str, Any], **more: Any) -> None:
    """Write the states of all parts by name, and what else a row keeps, to `path`."""
    content = {name: part.state_dict() for name, part in parts.items()}
    with replacing(path) as temporary:
        torch.save(content | more, temporary)


def resume(path: Path, parts: Mapping[str, Any]) -> dict[str, Any]:
    """Load the states at `path` into the parts, and return all that it holds; an empty dict if there is no file."""
    if not path.exists():
        return {}
    content: dict[str, Any] = torch.load(path, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(content[name])
    return content
