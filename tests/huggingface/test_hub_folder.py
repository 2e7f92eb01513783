"""Folders of packed models: the file, the card, and the loaded model."""

from pathlib import Path

import huggingface_hub
import pytest
import torch
from torch import nn

import proxconnect as pc
from proxconnect.huggingface import from_pretrained, save_pretrained


def network() -> nn.Module:
    return nn.Sequential(*[nn.Linear(64, 64) for _ in range(4)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    packed = pc.pack(pc.binarize(network(), activations="bnn").eval())
    save_pretrained(
        packed, tmp_path / "new", title="Four layers", pair="bnn++", architecture="network()",
        measured={"accuracy on nothing": 0.5}, license="mit",
    )  # fmt: skip
    torch.save(packed(torch.ones(2, 64)), tmp_path / "expected.pt")
    return tmp_path / "new"


def test_a_folder_gives_the_packed_model_back(folder: Path) -> None:
    model = from_pretrained(folder, network())
    assert torch.equal(model(torch.ones(2, 64)), torch.load(folder.parent / "expected.pt", weights_only=True))
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "README.md"}


def test_the_card_says_what_is_in_the_file(folder: Path) -> None:
    card = huggingface_hub.ModelCard.load(folder / "README.md")
    assert (card.data.library_name, card.data.license, card.data.tags) == ("proxconnect", "mit", ["binarized", "1-bit"])
    size = (folder / "model.safetensors").stat().st_size
    for said in ("# Four layers", "**bnn++**", "2, 2 of them with binary inputs", "8,192 of 16,640", f"{size:,} bytes",
                 "| accuracy on nothing | 0.5 |", "network())"):  # fmt: skip
        assert said in card.content


def test_a_repository_is_asked_of_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(name: str, file: str, revision: str | None) -> str:
        asked.append((name, file, revision))
        return str(folder / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    from_pretrained("someone/network", network(), revision="v1")
    assert asked == [("someone/network", "model.safetensors", "v1")]


def test_a_float_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no packed layer"):
        save_pretrained(network(), tmp_path, title="", pair="", architecture="")
