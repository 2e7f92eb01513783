"""Files of plain floats: their contents, other readers, and models without them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import proxconnect as pc
from networks import NETWORKS
from proxconnect._support.example import tensors_in
from proxconnect.cli.networks import run
from proxconnect.deploy.packed.layers.int8 import levels_of, scale_of
from proxconnect.export import to_floats
from proxconnect.export.formats import FORMATS


class Tied(nn.Module):
    """A head tied to an embedding, one layer under two names, and a stem that stays float."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        self.stem = nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8)
        self.inner = nn.Linear(8, 8)
        self.again = self.inner
        self.head = nn.Linear(8, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.again(self.inner(self.norm(self.stem(self.embedding(tokens))))))


def binary_tied() -> nn.Module:
    model = pc.binarize(Tied(), keep=("stem", "head"))
    model(torch.arange(7))  # batch norms see something
    return model.eval()


def loaded(path: Path, build: Callable[[], nn.Module]) -> nn.Module:
    """Load a file into the float network without this library."""
    model = build().eval()
    model.load_state_dict(load_file(path), strict=True)
    return model


def nearest(weight: Tensor) -> Tensor:
    """The floats that 8-bit levels stand for."""
    scale = scale_of(weight)
    return scale[:, None] * levels_of(weight, scale)


def test_names_that_share_a_tensor_are_all_there(tmp_path: Path) -> None:
    model, tokens = binary_tied(), torch.arange(7)
    to_floats(pc.pack(model), tmp_path / "net.safetensors")
    state = load_file(tmp_path / "net.safetensors")
    assert set(state) == set(Tied().state_dict())
    assert torch.equal(state["head.weight"], model.embedding.weight)
    for name in ("inner", "again"):
        assert torch.equal(state[f"{name}.weight"], model.inner.binary_weight)
    floats = loaded(tmp_path / "net.safetensors", Tied)
    assert floats.head.weight is floats.embedding.weight
    torch.testing.assert_close(floats(tokens), model(tokens))


def test_a_binary_model_and_its_packed_form_make_one_file(tmp_path: Path) -> None:
    model = binary_tied()
    to_floats(model, tmp_path / "a.safetensors")
    to_floats(pc.pack(model), tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_8_bit_layers_are_the_floats_of_their_levels(tmp_path: Path) -> None:
    model = binary_tied()
    to_floats(pc.pack(model, remainder="int8"), tmp_path / "net.safetensors")
    state = load_file(tmp_path / "net.safetensors")
    stem = model.stem.weight.detach()
    assert torch.equal(state["stem.weight"], nearest(stem))
    assert not torch.equal(state["stem.weight"], stem)
    assert torch.equal(state["inner.weight"], model.inner.binary_weight)


def test_vectors_of_16_bits_become_floats(tmp_path: Path) -> None:
    model = binary_tied()
    pc.save(pc.pack(model, vectors="float16"), tmp_path / "packed")
    to_floats(pc.load(tmp_path / "packed", Tied()), tmp_path / "net.safetensors")
    state = load_file(tmp_path / "net.safetensors")
    assert {tensor.dtype for tensor in state.values()} == {torch.float32, torch.int64}
    magnitudes = model.inner.latent.detach().abs().mean(1, keepdim=True).half().float()
    assert torch.equal(state["inner.weight"], magnitudes * model.inner.binary_weight.sign())
    assert torch.equal(state["norm.weight"], model.norm.weight.half().float())


@pytest.mark.parametrize("name", ["DeiT", "BERT", "U-Net", "nn.Transformer"])
def test_the_float_network_answers_as_the_packed_one(name: str, tmp_path: Path) -> None:
    network: Any = NETWORKS[name]
    model, example = network.build(), network.example()
    pc.binarize(model.train(), example=example)
    with torch.no_grad():
        run(model, example)  # batch norms see something
        packed = pc.pack(model.eval())
        FORMATS["float"].write(packed, example, tmp_path / "net.safetensors")
        expected = tensors_in(run(packed, example))
        answers = FORMATS["float"].run(tmp_path / "net.safetensors", network.build)(example)
        others = tensors_in(run(network.build().eval(), example))
    torch.testing.assert_close(answers, expected, rtol=1e-4, atol=2e-5)
    assert not torch.allclose(others[0], expected[0], rtol=1e-2)


class Remembering(nn.Linear):
    """A layer with state that is no tensor."""

    def get_extra_state(self) -> Any:
        return {"steps": 3}


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        (lambda: nn.Linear(4, 4), ValueError, "no binary layer and no packed one"),
        (lambda: nn.Sequential(pc.BinaryLinear(4, 4), Remembering(4, 4)), ValueError, "'1._extra_state' is extra"),
        (lambda: pc.pack(pc.BinaryLinear(4, 4)).to("meta"), ValueError, "'bias' is on the meta device"),
    ],
    ids=["float", "extra state", "meta"],
)
def test_a_model_without_plain_floats_is_refused_and_no_file_is_lost(
    model: Callable[[], nn.Module], error: type[Exception], words: str, tmp_path: Path
) -> None:
    file = tmp_path / "net.safetensors"
    file.write_text("before")
    with pytest.raises(error, match=words):
        to_floats(model(), file)
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]
    assert file.read_text() == "before"
