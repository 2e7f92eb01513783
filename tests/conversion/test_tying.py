"""Embeddings, and heads that are tied to them, become binary together on request, with one latent, or stay float."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import proxconnect as pc
from gguf_files import language_model
from networks import bert
from proxconnect.layers import BinaryEmbedding, BinaryLinear


class Language(nn.Module):
    """Two embeddings, a body, and a head that may be tied to the first of them."""

    def __init__(self, tied: bool = True) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(11, 8), nn.Embedding(5, 8)
        self.body = nn.Linear(8, 8)
        self.head = nn.Linear(8, 11, bias=False)
        if tied:
            self.head.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.body(self.words(ids) + self.places.weight[: ids.shape[-1]]))


IDS = torch.tensor([[1, 3, 3], [7, 0, 1]])


def binary(tied: bool = True, pair: str = "bc", **options: Any) -> Any:
    return pc.binarize(Language(tied), pair, keep=None, embeddings=True, **options)


def test_by_default_an_embedding_and_a_tied_head_stay_float() -> None:
    floats = pc.plan(Language(), keep=None).floats
    assert floats == {
        "words": "an embedding: embeddings=True makes it binary",
        "places": "an embedding: embeddings=True makes it binary",
        "head": "tied to words.weight",
    }


@pytest.mark.parametrize("scale", ["channel", "tensor", "learned", None])
def test_tied_layers_have_one_latent_one_scale_and_one_sharpness(scale: Any) -> None:
    model, weight = Language(), None
    weight = model.words.weight
    pc.binarize(model, "pc", keep=None, embeddings=True, scale=scale)
    assert isinstance(model.words, BinaryEmbedding)
    assert isinstance(model.head, BinaryLinear)
    assert model.head.latent is model.words.latent is weight
    assert model.head.weight_quantizer is model.words.weight_quantizer
    assert model.binarization.row("head").outcome == "pc, float: tied to words"
    names = [name for name, _ in model.named_parameters()]
    assert "head.latent" not in names
    assert len(names) == 4 + 3 * (scale == "learned")
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    pc.Sharpening(optimizer, model, steps=2, start=1.0, end=16.0)
    model(IDS).sum().backward(), optimizer.step()
    assert model.head.weight_quantizer.mu == 4.0
    model.eval()
    assert torch.equal(model.head.weight, model.words.weight)
    assert torch.equal(model.words(IDS), model.head.weight[IDS])


@pytest.mark.parametrize("scale", ["channel", "learned"])
@pytest.mark.parametrize("group_size", [None, 4])
def test_the_gradient_is_the_sum_of_both_uses(scale: Any, group_size: int | None) -> None:
    """Against an untied twin with the same numbers, whose two gradients are added."""
    tied = binary(pair="bnn++", scale=scale, group_size=group_size)
    twin = binary(False, "bnn++", scale=scale, group_size=group_size)
    twin.load_state_dict(tied.state_dict())
    assert twin.head.latent is not twin.words.latent
    for model in (tied, twin):
        model(IDS).logsumexp(-1).square().sum().backward()
    torch.testing.assert_close(tied.words.latent.grad, twin.words.latent.grad + twin.head.latent.grad)
    assert twin.words.latent.grad.any()
    assert twin.head.latent.grad.any()
    if scale == "learned":
        alphas = [layer.weight_quantizer.alpha.grad for layer in (tied.words, twin.words, twin.head)]
        torch.testing.assert_close(alphas[0], alphas[1] + alphas[2])


def test_they_stay_tied_in_copies_and_checkpoints(tmp_path: Path) -> None:
    model = binary(scale="learned")
    with torch.no_grad():
        model.words.latent.normal_()
        model.words.weight_quantizer.alpha.uniform_(1, 2)
    torch.save(model.state_dict(), tmp_path / "net.pt")
    again = binary(scale="learned")
    again.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True))
    for other in (again, copy.deepcopy(model), copy.deepcopy(model).to(torch.float64).to(torch.float32)):
        assert other.head.latent is other.words.latent
        assert other.head.weight_quantizer is other.words.weight_quantizer
        assert torch.equal(other.eval()(IDS), model.eval()(IDS))
    floats = Language()
    floats.load_state_dict(pc.hard_state_dict(model))
    torch.testing.assert_close(floats(IDS), model.eval()(IDS))


@pytest.mark.parametrize(("keep", "reason"), [("head", "keep: 'head'"), ("edges", "edge: the last layer registered")])
def test_if_one_stays_float_so_do_all(keep: str, reason: str) -> None:
    result = pc.plan(Language(), "bc", keep=keep, embeddings=True)
    assert result.floats == {"words": f"tied to head, which stays float: {reason}", "head": reason}
    assert result.binary == ("places", "body")


def test_an_untied_head_is_an_edge_and_the_embedding_is_none() -> None:
    for example in (None, IDS):
        result = pc.plan(Language(tied=False), "bc", embeddings=True, example=example)
        assert list(result.floats) == ["head"]
        assert result.floats["head"].startswith("edge")


def test_binary_inputs_are_those_of_the_head_alone() -> None:
    model = binary(activations="bnn", example=IDS)
    assert model.words.input_quantizer is None
    assert model.head.has_binary_input
    assert model.binarization.row("places").outcome == "bc, float: its inputs are indices"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "two pairs": ({"weights": {"words": "bc", "*": "bnn"}}, "'words' and 'head' are tied and have one latent"),
    "no pattern": ({"weights": {"head": "bc", "body": "bc"}}, "'head' fits only layers that stay float: head: tied to"),
    "kept": ({"keep": ["words", "places"]}, r"makes no embedding binary: words: keep: 'words'\. Pass a `keep` without"),
    "groups": ({"group_size": 3}, "layer 'words': groups of 3 do not divide the 8 inputs of this Embedding"),
    "inputs": ({"activations": {"places": "bnn"}}, "'places' fits only layers .*its inputs are indices"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_is_refused_and_the_model_stays_as_it_was(case: str) -> None:
    options, words = WRONG[case]
    model = Language()
    for function in (pc.plan, pc.binarize):
        with pytest.raises(ValueError, match=words):
            function(model, **{"keep": None, "embeddings": True} | options)
    assert type(model.words) is nn.Embedding
    assert model.head.weight is model.words.weight


def test_a_model_without_embeddings_and_an_option_that_is_no_boolean_are_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(ValueError, match=r"this one has none: leave it out"):
        pc.binarize(model, keep=None, embeddings=True)
    with pytest.raises(TypeError, match="embeddings takes True or False"):
        pc.binarize(model, keep=None, embeddings="words")  # type: ignore[arg-type]


class Scaled(nn.Embedding):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * 2


def test_an_embedding_with_its_own_forward_stays_float_with_its_head_unless_included() -> None:
    model = Language(tied=False)
    model.words = Scaled(11, 8)
    model.head.weight = model.words.weight
    floats = pc.plan(model, keep=None, embeddings=True).floats
    assert floats["words"].startswith("Scaled overrides forward: include=(Scaled,)")
    assert floats["head"] == "tied to words.weight"
    assert pc.plan(model, keep=None, embeddings=True, include=Scaled).floats == {}


def test_weights_held_by_another_module_or_by_linear_layers_alone_stay_float() -> None:
    model = Language()
    model.other = nn.Bilinear(1, 8, 11)
    model.other.weight = model.words.weight
    floats = pc.plan(model, keep=None, embeddings=True).floats
    assert floats["words"].startswith("tied to")
    assert floats["head"].startswith("tied to")
    model = Language(tied=False)
    model.again = nn.Linear(8, 8)
    model.again.weight = model.body.weight
    assert list(pc.plan(model, keep=None, embeddings=True).floats) == ["body", "again"]


def t5() -> nn.Module:
    """A model with three embeddings and a head of one weight, and embeddings of relative positions."""
    sizes = {"vocab_size": 32, "d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    return transformers.T5ForConditionalGeneration(transformers.T5Config(**sizes))


@pytest.mark.parametrize("make", [lambda: language_model("qwen2", tie_word_embeddings=True), bert, t5])
def test_transformers_ties_latents_and_saves_them_once(make: Any, tmp_path: Path) -> None:
    model = pc.binarize(make(), "bc", keep=None, embeddings=True)
    before = dict(model.named_parameters(remove_duplicate=False))
    model.tie_weights()
    after = dict(model.named_parameters(remove_duplicate=False))
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)
    assert not any(isinstance(module, nn.Embedding) and not isinstance(module, BinaryEmbedding)
                   for module in model.modules())  # fmt: skip
    model.save_pretrained(tmp_path)
    with pytest.raises(TypeError, match="resize the token embeddings of the float network, and binarize that"):
        model.resize_token_embeddings(400)
    assert dict(model.named_parameters(remove_duplicate=False)).keys() == before.keys()
