"""Folders of packed models as the Hugging Face hub has them: the packed file, and a card that says what is in it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from proxconnect._support import extras
from proxconnect._support.atomic import replacing_together
from proxconnect.deploy.packed import save
from proxconnect.deploy.runtime import load
from proxconnect.inspection import summary

FILE, CARD = "model.safetensors", "README.md"


def save_pretrained(
    packed: nn.Module, folder: str | os.PathLike[str], *, title: str, pair: str, architecture: str,
    measured: Mapping[str, float] | None = None, **data: Any,
) -> None:  # fmt: skip
    """Write a packed model and its card to a folder, which `hf upload NAME FOLDER` puts on the hub.

    Args:
        packed: what `pc.pack` or `pc.load` made.
        folder: is made if it is not there; what it holds under these two names is replaced.
        title: the first line of the card.
        pair: the pair that trained it, as "bnn++", or several in words: no packed file says it.
        architecture: the code of an expression that builds the float network, as "timm.create_model('resnet18')".
        measured: what was measured and the number, as {"accuracy on Fashion-MNIST's test set": 0.917}.
        data: further fields of the card's head, as license="mit" or base_model="facebook/deit-tiny".

    ValueError for a model that is not packed, OSError where nothing can be written, MissingExtraError without
    `pip install 'proxconnect[huggingface]'`.
    """
    hub = extras.require("huggingface_hub", "huggingface")
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    head = hub.ModelCardData(library_name="proxconnect", tags=["binarized", "1-bit"], **data)
    with replacing_together(place / CARD, place / FILE) as (card, file):
        save(packed, file)
        parts = [f"# {title}", _sentence(pair), _table(packed, file, measured or {}), _code(architecture)]
        card.write_text("\n\n".join([f"---\n{head}\n---", *parts]) + "\n", encoding="utf-8")


def from_pretrained(
    name: str | os.PathLike[str], float_model: nn.Module, *, revision: str | None = None, **options: Any
) -> nn.Module:
    """The packed model of such a folder, or of a repository on the hub, by `pc.load`, whose options it takes.

    As there, `float_model` is the architecture, may be on the meta device and stays as it is: nothing that is
    downloaded is code. `revision` is a branch, tag or commit of the repository.
    """
    if Path(name).is_dir():
        return load(Path(name) / FILE, float_model, **options)
    hub = extras.require("huggingface_hub", "huggingface")
    return load(hub.hf_hub_download(os.fspath(name), FILE, revision=revision), float_model, **options)


def _sentence(pair: str) -> str:
    return (
        f"Weights of 1 bit, trained by the forward-backward pair **{pair}** and packed by proxconnect. "
        "The file holds tensors alone; the architecture comes from code."
    )


def _table(packed: nn.Module, file: Path, measured: Mapping[str, float]) -> str:
    """What is binary, how large it is, and what was measured."""
    found, size = summary(packed), file.stat().st_size
    binary = [row for row in found.rows if row.weight_bits == 1]
    inputs = sum(row.input_bits == 1 for row in binary)
    lines = {
        "binary layers": f"{len(binary)}, {inputs} of them with binary inputs",
        "binary parameters": f"{found.binary_parameters:,} of {found.parameters:,}",
        "file": f"{size:,} bytes, {found.float_bytes / size:.1f} times smaller than {found.float_bytes:,} in float",
        **{what: f"{value:g}" for what, value in measured.items()},
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {what} | {value} |" for what, value in lines.items())])


def _code(architecture: str) -> str:
    return (
        "```py\nfrom proxconnect.huggingface import from_pretrained\n\n"
        f'model = from_pretrained("this repository, or a folder", {architecture})\n```'
    )
