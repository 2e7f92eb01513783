"""Binary embeddings against a reference of a few lines, with gradients for the latents and for learned scales."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import proxconnect as pc
from proxconnect import PAIRS
from proxconnect.layers import Accumulator, BinaryEmbedding
from proxconnect.theory.certificates.recorder import Recorder

ROWS, DIM, SIZE = 9, 12, 4
FEW, MANY = torch.tensor([[1, 4], [4, 7]]), torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7, 8, 4, 1, 1]])
SCALES = {"row": ("channel", None), "groups": ("channel", SIZE), "learned": ("learned", None),
          "learned groups": ("learned", SIZE), "one": ("tensor", None), "none": (None, None)}  # fmt: skip


def embedding(scale: Any, group_size: int | None, **options: Any) -> BinaryEmbedding:
    return BinaryEmbedding(ROWS, DIM, dtype=torch.float64, scale=scale, group_size=group_size, **options)


def reference(layer: BinaryEmbedding, indices: Tensor, pull: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """The rows, and the gradients of the latent and of a learned scale, entry by entry from the formulas."""
    quantizer, training = layer.weight_quantizer, layer.training
    pair, mu, scale = quantizer.pair, float(quantizer.mu), quantizer.scale
    columns = {"tensor": ROWS * DIM}.get(scale, layer.group_size or DIM)
    w = layer.latent.detach().reshape(-1, columns)
    mean = torch.ones(len(w), 1, dtype=w.dtype) if scale is None else w.abs().mean(1, keepdim=True)
    x, is_hard = w / mean, not training and pair.name != "fp"
    f = torch.where(w >= 0, 1.0, -1.0).double() if is_hard else pair.forward(x, torch.tensor(mu))
    alpha = mean if scale is None else (w * f).sum(1, keepdim=True) / (f * f).sum(1, keepdim=True)
    learned = None if quantizer.alpha is None else quantizer.alpha.detach().reshape(-1, 1)
    outer = alpha if learned is None else learned * alpha / mean
    slope = outer / mean * pair.backward(x, torch.tensor(mu))
    table, slopes = ((outer * f).reshape(ROWS, DIM), slope.reshape(ROWS, DIM))
    gradient, inner = torch.zeros(2, ROWS, DIM, dtype=torch.float64)
    for index, g in zip(indices.flatten().tolist(), pull.reshape(-1, DIM), strict=True):
        gradient[index] += slopes[index] * g
        inner[index] += (alpha / mean * f).reshape(ROWS, DIM)[index] * g
    shared = None if learned is None else inner.reshape(-1, columns).sum(1)
    return torch.stack([table[i] for i in indices.flatten().tolist()]).view(*indices.shape, DIM), gradient, shared


@pytest.mark.covering
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("sharing", SCALES)
@pytest.mark.parametrize("training", [True, False])
def test_rows_and_gradients_are_those_of_the_reference(name: str, sharing: str, training: bool) -> None:
    scale, group_size = SCALES[sharing]
    if name == "fp" and scale == "learned":
        pytest.skip("fp learns no scale")
    layer = embedding(scale, group_size, weights=name).train(training)
    if layer.weight_quantizer.alpha is not None:
        nn.init.uniform_(layer.weight_quantizer.alpha, 0.5, 2.0)
    for indices in (FEW, MANY):  # fewer than rows, and more
        pull = torch.randn(*indices.shape, DIM, dtype=torch.float64)
        rows, latent, learned = reference(layer, indices, pull)
        answer = layer(indices)
        parameters = [p for p in layer.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(answer, parameters, pull)
        close = {"rtol": 1e-10, "atol": 1e-10}
        torch.testing.assert_close(answer, rows, **close)
        torch.testing.assert_close(gradients[0], latent, **close)
        if learned is not None:
            torch.testing.assert_close(gradients[1].flatten(), learned, **close)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sharing", SCALES)
@pytest.mark.parametrize("training", [True, False])
def test_few_rows_are_quantised_to_the_bits_of_the_whole_table(sharing: str, training: bool, dtype: Any) -> None:
    scale, group_size = SCALES[sharing]
    layer = BinaryEmbedding(ROWS, DIM, dtype=dtype, scale=scale, group_size=group_size).train(training)
    for indices in (FEW, FEW[0, 0], FEW[:0]):
        assert torch.equal(layer(indices), functional.embedding(indices, layer.weight))


def test_only_the_rows_that_are_looked_up_are_quantised() -> None:
    seen = []
    layer = embedding("channel", None)
    layer.weight_quantizer.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    layer(FEW), layer(MANY)
    assert seen == [(4, DIM), (ROWS, DIM)]


@pytest.mark.parametrize("indices", [FEW, MANY], ids=["few", "many"])
@pytest.mark.parametrize("scale", ["channel", "learned"])
def test_the_row_of_padding_stays_0_and_frequencies_divide(indices: Tensor, scale: Any) -> None:
    options: dict[str, Any] = {"padding_idx": 4, "scale_grad_by_freq": True}
    layer, plain = embedding(scale, None, weights="bc", **options), nn.Embedding(ROWS, DIM, **options)
    with torch.no_grad():
        plain.weight.copy_(layer.weight)
    layer(indices).sum().backward(), plain(indices).sum().backward()
    assert not layer.latent.grad[4].any()
    if scale == "channel":  # bc passes gradients on
        torch.testing.assert_close(layer.latent.grad, plain.weight.grad.double())
    torch.optim.SGD(layer.parameters(), 0.1).step()
    assert not layer.eval()(torch.tensor(4)).any()


def test_it_converts_in_place_and_loads_float_weights() -> None:
    plain = nn.Embedding(ROWS, DIM, padding_idx=2)
    weight, state = plain.weight, copy.deepcopy(plain.state_dict())
    layer = BinaryEmbedding.convert(plain, weights="bc")
    assert layer is plain
    assert layer.latent is weight
    assert layer.padding_idx == 2
    other = BinaryEmbedding(ROWS, DIM, padding_idx=2, weights="bc", scale="learned")
    other.load_state_dict(state)
    torch.testing.assert_close(other.weight_quantizer.alpha, weight.abs().mean(1))
    assert torch.equal(other.latent, weight)
    assert torch.equal(BinaryEmbedding.from_pretrained(state["weight"]).latent, weight)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_norm": 1.0}, "max_norm writes to its weight at each look-up.*leave it out"),
        ({"sparse": True}, "gradients are sparse.*leave `sparse` out"),
        ({"activations": "bnn"}, "takes no activations, because its inputs are indices"),
        ({"activations": "bnn", "accumulator": Accumulator(8)}, "no activations and no accumulator"),
        ({"group_size": 5}, "groups of 5 do not divide the 12 inputs"),
    ],
)
def test_wrong_options_are_refused_in_words(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        BinaryEmbedding(ROWS, DIM, **options)
    own = {key: options[key] for key in ("max_norm", "sparse") if key in options}
    plain = nn.Embedding(ROWS, DIM, **own)
    with pytest.raises(ValueError, match=words):
        BinaryEmbedding.convert(plain, **{key: value for key, value in options.items() if key not in own})
    assert type(plain) is nn.Embedding
    if own:
        model = nn.ModuleDict({"words": plain, "head": nn.Linear(DIM, 3)})
        with pytest.raises(ValueError, match=rf"embeddings=True\) makes no embedding binary: words: .*{words}"):
            pc.plan(model, keep=None, embeddings=True)


def test_an_index_outside_is_an_error() -> None:
    for index in (-1, ROWS):
        with pytest.raises(IndexError):
            embedding("channel", None)(torch.tensor([index]))


def test_a_trajectory_of_an_embedding_is_that_of_the_whole_latent() -> None:
    layer = embedding(None, None, weights="bnn++")
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    recorder, latents = Recorder(optimizer, layer, entries=ROWS * DIM), []
    for _ in range(3):
        optimizer.zero_grad()
        layer(FEW).square().sum().backward()
        latents.append(layer.latent.detach().flatten().clone())
        optimizer.step()
    recorded = recorder.trajectories()[""]
    torch.testing.assert_close(recorded.latents[:3], torch.stack(latents))
    assert math.isfinite(float(recorded.gradients.norm()))
    assert recorded.gradients.any()
