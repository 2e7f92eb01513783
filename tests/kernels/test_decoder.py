"""`DecoderLayer` against the same layer in a few lines of torch, in float64."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from proxconnect import kernels
from proxconnect.kernels.bits import pack_bits
from proxconnect.kernels.decoder import BinaryWeight, DecoderLayer

EPS, SCALE = 1e-5, 0.3


def rms_norm(x: Tensor, weight: Tensor | None) -> Tensor:
    return x if weight is None else x / (x.square().mean(-1, keepdim=True) + EPS).sqrt() * weight.double()


def turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn heads (batch, heads, width) by angles (batch or 1, 1, width)."""
    first, second = x.chunk(2, -1)
    return x * cosine.double() + torch.cat([-second, first], -1) * sine.double()


class Twin:
    """A decoder layer whose weights are ±1 with a scale for each output or group, random norms, and biases."""

    rounds = False
    """Whether inputs of products are rounded to 8 bits."""

    def __init__(self, width: int, hidden: int, heads: int, key_heads: int, head_width: int, group: int = 0,
                 has_norms: bool = False) -> None:  # fmt: skip
        self.head_width, self.group = head_width, group
        sizes = {
            "query": (heads * head_width, width), "key": (key_heads * head_width, width),
            "value": (key_heads * head_width, width), "output": (width, heads * head_width),
            "gate": (hidden, width), "up": (hidden, width), "down": (width, hidden),
        }  # fmt: skip
        self.dense: dict[str, tuple[Tensor, Tensor]] = {}
        self.weights = {name: self._weight(name, *size) for name, size in sizes.items()}
        widths = {"input_norm": width, "hidden_norm": width}
        widths |= {"query_norm": head_width, "key_norm": head_width} if has_norms else {}
        self.norms = {name: torch.rand(size) + 0.5 for name, size in widths.items()}

    def _weight(self, name: str, rows: int, columns: int) -> BinaryWeight:
        signs, bias = torch.randn(rows, columns).sign(), torch.randn(rows) / 4
        groups = columns // self.group if self.group else 1
        scale = (torch.rand(rows, groups) + 0.5) / columns**0.5
        self.dense[name] = (signs.view(rows, groups, -1) * scale[..., None]).view(rows, columns).double(), bias.double()
        laid_out = kernels.group_scales(scale) if self.group else scale[:, 0].contiguous()
        return BinaryWeight(kernels.panels(pack_bits(signs), rows, columns), columns, rows, laid_out, bias)

    def product(self, name: str, x: Tensor) -> Tensor:
        if self.rounds:
            step = x.abs().amax(-1, keepdim=True) / 127
            x = (x / step).round() * step
        return functional.linear(x, *self.dense[name])

    def __call__(
        self, x: Tensor, cosine: Tensor, sine: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Return the output, and all keys and values (batch, key heads, tokens + 1, width)."""
        x = x.double()[:, 0]
        normed = rms_norm(x, self.norms["input_norm"])
        q, k, v = (self.product(name, normed).unflatten(1, (-1, self.head_width)) for name in ("query", "key", "value"))
        q, k = rms_norm(q, self.norms.get("query_norm")), rms_norm(k, self.norms.get("key_norm"))
        q, k = turned(q, cosine, sine), turned(k, cosine, sine)
        keys, values = (torch.cat([old.double(), new[:, :, None]], 2) for old, new in ((keys, k), (values, v)))
        shared = [part.repeat_interleave(q.shape[1] // k.shape[1], 1) for part in (keys, values)]
        scores = SCALE * q[:, :, None] @ shared[0].mT
        weights = (scores if seen is None else scores.masked_fill(~seen, -torch.inf)).softmax(-1)
        hidden = x + self.product("output", (weights @ shared[1])[:, :, 0].flatten(1))
        normed = rms_norm(hidden, self.norms["hidden_norm"])
        gated = functional.silu(self.product("gate", normed)) * self.product("up", normed)
        return (hidden + self.product("down", gated))[:, None], keys, values


def cached(batch: int, heads: int, tokens: int, width: int, room: int) -> Tensor:
    return torch.randn(batch, heads, tokens + room, width)


SIZES = [  # width, hidden, heads, key heads, head width
    (64, 128, 4, 4, 16), (128, 192, 8, 2, 16), (96, 64, 3, 1, 34), (40, 24, 5, 5, 6), (128, 64, 1, 1, 130),
]  # fmt: skip
TOKENS = {"first": (1, 0), "two sequences": (2, 7), "three": (3, 33)}


def check(twin: Twin, batch: int, tokens: int, seen: Tensor | None = None, atol: float = 1e-5, **options: Any) -> None:
    """Compare output and cache with those of the twin, and see that the rest of the cache stays."""
    width = twin.head_width
    heads = twin.weights["key"].out_features // width
    keys, values = (torch.randn(batch, heads, tokens + 5, width) for _ in range(2))
    before = [part.clone() for part in (keys, values)]
    x, (cosine, sine) = torch.randn(batch, 1, twin.weights["query"].in_features), torch.randn(2, batch, 1, width)
    run = DecoderLayer(twin.weights, twin.norms, width, EPS, SCALE, **options)
    y = run(x, cosine, sine, keys, values, tokens, seen)
    expected, *grown = twin(x, cosine, sine, *(part[:, :, :tokens] for part in before), seen=seen)
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=atol)
    for mine, right, old in zip((keys, values), grown, before, strict=True):
        torch.testing.assert_close(mine[:, :, : tokens + 1].double(), right, rtol=1e-5, atol=atol)
        torch.testing.assert_close(mine[:, :, tokens + 1 :], old[:, :, tokens + 1 :], rtol=0, atol=0)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("instruction_set", kernels.instruction_sets())
def test_equals_its_twin(sizes: tuple[int, ...], instruction_set: str) -> None:
    for batch, tokens in TOKENS.values():
        check(Twin(*sizes, has_norms=batch == 2), batch, tokens, instruction_set=instruction_set)
    seen = torch.rand(3, 1, 1, 34) < 0.5
    seen[..., -1] = True
    check(Twin(*sizes), 3, 33, seen, instruction_set=instruction_set)


@pytest.mark.parametrize("instruction_set", kernels.instruction_sets())
def test_groups_have_scales_of_their_own(instruction_set: str) -> None:
    check(Twin(128, 256, 4, 2, 32, group=64), 2, 9, instruction_set=instruction_set)


@pytest.mark.parametrize("group", [0, 64])
@pytest.mark.parametrize("instruction_set", kernels.instruction_sets())
def test_rounds_the_inputs_of_products(group: int, instruction_set: str) -> None:
    """A number at half a step may round to either side, so the twin that rounds is only much closer."""
    twin = Twin(128, 256, 4, 2, 32, group)
    run = DecoderLayer(twin.weights, twin.norms, 32, EPS, SCALE, rounds=True, instruction_set=instruction_set)
    x, (cosine, sine), (keys, values) = torch.randn(2, 1, 128), torch.randn(2, 2, 1, 32), torch.randn(2, 2, 2, 9, 32)
    y, errors = run(x, cosine, sine, keys, values, 8), []
    for twin.rounds in (True, False):
        errors.append((y - twin(x, cosine, sine, keys[:, :, :8], values[:, :, :8])[0]).norm())
    assert errors[0] < errors[1] / 3


@pytest.mark.parametrize("rounds", [False, True])
@pytest.mark.parametrize("batch", [1, 40])  # rounded, the second is multiplied by bytes with AVX-512
@pytest.mark.parametrize("group", [0, 64])
def test_threads_share_heads_and_outputs(group: int, batch: int, rounds: bool) -> None:
    """The answer is that of one thread to the bit, with more threads than processors and columns too."""
    twin, tokens = Twin(384, 704, 6, 3, 64, group), 20
    run = DecoderLayer(twin.weights, twin.norms, 64, EPS, SCALE, rounds)
    x, (cosine, sine) = torch.randn(batch, 1, 384), torch.randn(2, batch, 1, 64)
    cache, before = torch.randn(2, batch, 3, tokens + 1, 64), torch.get_num_threads()
    answers, caches = [], []
    try:
        for threads in (1, 2, 3, 20):
            torch.set_num_threads(threads)
            caches.append(cache.clone())
            answers.append(run(x, cosine, sine, *caches[-1], tokens))
    finally:
        torch.set_num_threads(before)
    for answer, grown in zip(answers[1:], caches[1:], strict=True):
        assert torch.equal(answer, answers[0])
        assert torch.equal(grown, caches[0])
    if not rounds:
        expected = twin(x, cosine, sine, *cache[:, :, :, :tokens])[0]
        torch.testing.assert_close(answers[0].double(), expected, rtol=1e-5, atol=1e-4)


def test_nan_and_infinity_go_where_they_go_in_torch() -> None:
    twin = Twin(64, 128, 4, 2, 16)
    run = DecoderLayer(twin.weights, twin.norms, 16, EPS, SCALE)
    for bad, place in ((torch.nan, "x"), (torch.inf, "x"), (torch.nan, "key"), (torch.nan, "value")):
        x, (cosine, sine) = torch.randn(2, 1, 64), torch.randn(2, 2, 1, 16)
        keys, values = torch.randn(2, 2, 2, 9, 16)
        {"x": x, "key": keys[:, 0], "value": values[:, 0]}[place][0, 0, 3] = bad
        expected = twin(x, cosine, sine, keys[:, :, :8], values[:, :, :8])[0]
        torch.testing.assert_close(run(x, cosine, sine, keys, values, 8).isnan(), expected.isnan())


def test_wrong_arguments_are_refused_in_words() -> None:
    twin = Twin(64, 128, 4, 2, 16)
    run = DecoderLayer(twin.weights, twin.norms, 16, EPS, SCALE)
    x, angles, cache = torch.randn(2, 1, 64), torch.randn(2, 1, 16), torch.randn(2, 2, 9, 16)
    wrong: dict[str, tuple[Any, ...]] = {
        r"x must be \(batch, 1, 64\)": (x[..., :63], angles, angles, cache, cache, 3),
        "x must be float32": (x.double(), angles, angles, cache, cache, 3),
        r"sine must be \(2 or 1, 1, 16\)": (x, angles, angles[..., :8], cache, cache, 3),
        r"keys must be \(2, 2, more than 9, 16\)": (x, angles, angles, cache, cache, 9),
        "values must be .* strided as the keys": (x, angles, angles, cache, cache.mT.contiguous().mT, 3),
        r"seen must be bool \(2 or 1, 1, 1, 4\)": (x, angles, angles, cache, cache, 3, torch.ones(2, 1, 1, 3).bool()),
    }
    for message, arguments in wrong.items():
        with pytest.raises((TypeError, ValueError), match=message):
            run(*arguments)
    with pytest.raises(ValueError, match="'up' must be"):
        DecoderLayer(twin.weights | {"up": twin.weights["down"]}, twin.norms, 16, EPS, SCALE)
    with pytest.raises(ValueError, match="head_width must be even"):
        DecoderLayer(twin.weights, twin.norms, 24, EPS, SCALE)
    with pytest.raises(ValueError, match="hidden_norm must have 64 entries"):
        DecoderLayer(twin.weights, twin.norms | {"hidden_norm": torch.ones(16)}, 16, EPS, SCALE)
