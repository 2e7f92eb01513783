"""Folders for the Hugging Face hub: the packed file of a model, and its card."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from proxconnect._support import extras
from proxconnect._support.arguments import require_type
from proxconnect._support.atomic import replacing_together
from proxconnect._support.paths import folder_name
from proxconnect._support.text import file_size
from proxconnect.deploy import load, save
from proxconnect.inspection import summary

FILE, CARD = "model.safetensors", "README.md"


def save_pretrained(
    packed: nn.Module, folder: str | os.PathLike[str], *, title: str, pair: str, architecture: str,
    measured: Mapping[str, float] | None = None, **data: Any,
) -> None:  # fmt: skip
    """Write a packed model and its card to a folder, which `hf upload NAME FOLDER` puts on the hub.

    Args:
        packed: a packed model, returned by `pc.pack` or `pc.load`.
        folder: the folder. It is made if it is missing; its files model.safetensors and README.md are replaced.
        title: the heading of the card.
        pair: the pair that trained the model, such as "bnn++", which no packed file keeps; or several in words.
        architecture: an expression that builds the float network, such as "timm.create_model('resnet18')".
        measured: results for the card, such as {"accuracy on Fashion-MNIST's test set": 0.917}.
        data: further metadata of the card, such as license="mit" or base_model="facebook/deit-tiny".

    Raises:
        ValueError: as for `pc.save`, such as for a model that is not packed.
        TypeError: if an argument has another type, or as for `pc.save`.
        OSError: if the folder cannot be written.
        MissingExtraError: if the extra `huggingface` is not installed.
    """
    for name, text in {"title": title, "pair": pair, "architecture": architecture}.items():
        require_type(text, str, f"{name} takes a string")
    require_type({} if measured is None else measured, Mapping, "measured takes a mapping from names to numbers")
    hub = extras.require("huggingface_hub", "huggingface")
    place = folder_name(folder, "folder")
    place.mkdir(parents=True, exist_ok=True)
    head = hub.ModelCardData(library_name="proxconnect", tags=["binarized", "1-bit"], **data)
    with replacing_together(place / CARD, place / FILE) as (card, file):
        save(packed, file)
        card.write_text(
            f"---\n{head}\n---\n\n# {title}\n\n"
            f"Weights of 1 bit, trained by the forward-backward pair **{pair}** and packed by proxconnect. "
            "The file holds tensors alone; the architecture comes from code.\n\n"
            f"{_table(packed, file, measured or {})}\n\n"
            "```py\nfrom proxconnect.huggingface import from_pretrained\n\n"
            f'model = from_pretrained("this repository, or a folder", {architecture})\n```\n',
            encoding="utf-8",
        )


def from_pretrained(
    name: str | os.PathLike[str], float_model: nn.Module, *, revision: str | None = None, **options: Any
) -> nn.Module:
    """Load the packed model of a folder that `save_pretrained` wrote, or of a repository on the hub.

    Nothing that is downloaded is run as code. Errors are those of `pc.load` and of the library `huggingface_hub`;
    MissingExtraError without it, unless `name` is a folder.

    Args:
        name: the folder, or the repository as "user/name".
        float_model: the float architecture, as for `pc.load`.
        revision: a branch, tag or commit of the repository.
        options: the options of `pc.load`.
    """
    folder = folder_name(name, "name")
    if folder.is_dir():
        return load(folder / FILE, float_model, **options)
    hub = extras.require("huggingface_hub", "huggingface")
    return load(hub.hf_hub_download(os.fspath(name), FILE, revision=revision), float_model, **options)


def _table(packed: nn.Module, file: Path, measured: Mapping[str, float]) -> str:
    """Return a Markdown table of the binary layers, the sizes and the results."""
    found, size = summary(packed), file.stat().st_size
    binary = [row for row in found.rows if row.weight_bits == 1]
    inputs = sum(row.input_bits == 1 for row in binary)
    lines = {
        "binary layers": f"{len(binary)}, {inputs} of them with binary inputs",
        "binary parameters": f"{found.binary_parameters:,} of {found.parameters:,}",
        "file": file_size(size, found.float_bytes),
        **{what: f"{value:g}" for what, value in measured.items()},
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {what} | {value} |" for what, value in lines.items())])
