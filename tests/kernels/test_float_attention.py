"""Attention in one pass, held against float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from proxconnect import kernels

needs_kernel = pytest.mark.skipif(
    not (kernels.is_built() and kernels.has_float_kernels()), reason="this machine has no kernel of attention"
)


def heads(batch: int, tokens: int, count: int, width: int, spread: float = 1.0) -> tuple[Tensor, ...]:
    """q, k and v, as views of what one layer gives."""
    qkv = torch.randn(batch, tokens, 3, count, width) * spread
    return qkv.permute(2, 0, 3, 1, 4).unbind(0)


def exact(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    """Of float64, (batch, queries, heads, width)."""
    scores = q.double() @ k.double().transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    return (scores.softmax(-1) @ v.double()).transpose(1, 2)


def by_torch(q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
    return functional.scaled_dot_product_attention(q, k, v, scale=scale).transpose(1, 2)


def error(answer: Tensor, right: Tensor) -> float:
    """The root mean square."""
    return float((answer.double() - right).square().mean().sqrt())


@settings(deadline=None, max_examples=60)
@given(
    batch=st.integers(1, 3), tokens=st.integers(1, 200), count=st.integers(1, 4),
    width=st.integers(1, 130) | st.sampled_from((16, 32, 64)),
    spread=st.sampled_from((1e-6, 0.5, 1.0, 3.0)), threads=st.integers(1, 3),
)  # fmt: skip
def test_as_near_as_sums_of_floats(
    batch: int, tokens: int, count: int, width: int, spread: float, threads: int
) -> None:
    q, k, v = heads(batch, tokens, count, width, spread)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        answer = kernels.attention(q, k, v)
    finally:
        torch.set_num_threads(before)
    right = exact(q, k, v)
    assert answer.shape == (batch, tokens, count, width)
    assert error(answer, right) <= 2 * error(by_torch(q, k, v), right) + 1e-7 * spread


@needs_kernel
def test_the_kernel_answers() -> None:
    """And not torch, which rounds otherwise."""
    q, k, v = heads(1, 197, 3, 64)
    assert not torch.equal(kernels.attention(q, k, v), by_torch(q, k, v))


@pytest.mark.parametrize(("queries", "keys"), [(1, 16), (8, 1), (40, 17), (5, 1024), (8, 1100), (33, 48)])
def test_queries_of_other_tokens(queries: int, keys: int) -> None:
    q = torch.randn(2, 3, queries, 32)
    k, v = torch.randn(2, 2, 3, keys, 32).unbind(0)
    assert error(kernels.attention(q, k, v, 0.25), exact(q, k, v, 0.25)) < 1e-6


@pytest.mark.parametrize("spread", [30.0, 100.0])
def test_large_scores_choose_one_key(spread: float) -> None:
    q, k, v = heads(1, 64, 2, 64, spread)
    assert error(kernels.attention(q, k, v), exact(q, k, v)) < 1e-4 * spread


def test_weights_of_far_keys_are_nothing() -> None:
    q, k, v = (torch.ones(1, 1, 40, 16) for _ in range(3))
    k[:, :, 1:] = -60.0
    v[:, :, 1:] = 1e20
    assert torch.equal(kernels.attention(q, k, v, 1.0), torch.ones(1, 40, 1, 16))


@pytest.mark.parametrize("entry", [float("nan"), float("inf"), -float("inf"), 1e30])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_is_not_a_small_number_goes_by_torch(which: int, entry: float) -> None:
    inputs = heads(2, 40, 2, 32)
    inputs[which][1, 0, 33, 5] = entry
    torch.testing.assert_close(kernels.attention(*inputs), by_torch(*inputs), equal_nan=True)


def test_entries_that_no_part_holds_are_nothing() -> None:
    q, k, v = heads(1, 32, 1, 32, 1e-40)
    torch.testing.assert_close(kernels.attention(q, k, v), by_torch(q, k, v), rtol=0, atol=1e-38)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_go_by_torch(dtype: torch.dtype) -> None:
    q, k, v = (t.to(dtype) for t in heads(1, 32, 1, 32))
    assert torch.equal(kernels.attention(q, k, v), by_torch(q, k, v))


def test_entries_that_lie_apart_go_by_torch() -> None:
    q, k, v = (t.transpose(-1, -2) for t in heads(1, 32, 2, 32))
    assert torch.equal(kernels.attention(q, k, v), by_torch(q, k, v))


@pytest.mark.parametrize("tokens", [5, 40])
def test_rows_of_one_layer(tokens: int) -> None:
    rows = torch.randn(2, tokens, 3 * 2 * 32)
    views = rows.reshape(2, tokens, 3, 2, 32).permute(2, 0, 3, 1, 4).unbind(0)
    assert torch.equal(kernels.attention_of_rows(rows, 2), kernels.attention(*views))
    every_second = torch.randn(2, 2 * tokens, 3 * 2 * 32)[:, ::2].copy_(rows)
    assert torch.equal(kernels.attention_of_rows(every_second, 2), kernels.attention(*views))
    apart = rows.mT.contiguous().mT
    torch.testing.assert_close(kernels.attention_of_rows(apart, 2), kernels.attention(*views))


@pytest.mark.parametrize("shape", [(0, 5, 48), (2, 0, 48)])
def test_rows_without_entries(shape: tuple[int, int, int]) -> None:
    assert kernels.attention_of_rows(torch.empty(shape), 2).shape == (*shape[:2], 2, 8)
