"""The overflow penalty against sums computed by hand."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from proxconnect import Accumulator, BinaryLinear, OverflowPenalty, binarize, pack

BITS, BOUND = 3, 4


def layer(accumulator: Accumulator | None) -> BinaryLinear:
    return BinaryLinear(12, 5, weights="bc", activations="bc", scale=None, accumulator=accumulator)


def by_hand(layers: list[BinaryLinear], inputs: list[Tensor]) -> float:
    """The sum over layers of the mean of (|z|/M - 1)₊."""
    total = 0.0
    for each, x in zip(layers, inputs, strict=True):
        sums = torch.where(x >= 0, 1.0, -1.0) @ torch.where(each.latent.detach() >= 0, 1.0, -1.0).T
        total += sum(max(abs(z) / BOUND - 1, 0.0) for z in sums.flatten().tolist()) / sums.numel()
    return total


def test_it_is_the_mean_excess_summed_over_layers_and_passes() -> None:
    layers = [layer(Accumulator(BITS, overflow)) for overflow in ("wrap", "saturate", "cyclic")]
    model, inputs = nn.ModuleList([*layers, layer(None)]), [torch.randn(4, 12) for _ in range(4)]
    penalty = OverflowPenalty(model)
    for each, x in zip(model, inputs, strict=True):
        each(x)
    expected = by_hand(layers, inputs[:3])
    assert expected > 0
    assert penalty().item() == pytest.approx(expected)
    assert penalty().item() == 0
    for _ in range(2):
        layers[0](inputs[0])
    assert penalty().item() == pytest.approx(2 * by_hand(layers[:1], inputs[:1]))


def test_a_step_along_its_gradient_reduces_the_excess() -> None:
    model = layer(Accumulator(BITS))
    nn.init.uniform_(model.latent, 0.001, 0.1)  # all signs +, so that every sum overflows
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    penalty, x, values = OverflowPenalty(model), torch.ones(2, 12), []
    for _ in range(3):
        optimizer.zero_grad()
        model(x)
        loss = penalty()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[0] == pytest.approx(2.0)
    assert values[-1] < values[0]


def test_evaluation_is_not_counted_and_the_end_of_the_block_ends_it() -> None:
    model = layer(Accumulator(BITS))
    with OverflowPenalty(model) as penalty:
        model.eval()(torch.ones(2, 12))
        assert penalty().item() == 0
        model.train()(torch.ones(2, 12))
    assert penalty().item() == 0
    model(torch.ones(2, 12))
    assert model.excesses is None


def test_packing_leaves_it_behind() -> None:
    model = nn.Sequential(layer(Accumulator(BITS, derivative="clamp")))
    OverflowPenalty(model)
    model(torch.ones(2, 12))
    packed = pack(model)
    assert packed[0].excesses is None
    assert packed[0].accumulator == Accumulator(BITS)


def test_it_works_compiled() -> None:
    torch.compiler.reset()
    model = layer(Accumulator(BITS))
    penalty, x = OverflowPenalty(model), torch.randn(4, 12)
    torch.compile(model, backend="aot_eager")(x)
    value = penalty()
    value.backward()
    assert value.item() == pytest.approx(by_hand([model], [x]))
    assert model.latent.grad is not None


def test_a_model_without_accumulators_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no layer of this Sequential has an accumulator: pass accumulator="):
        OverflowPenalty(binarize(nn.Sequential(nn.Linear(3, 3)), activations="bnn", keep=None))
    with pytest.raises(TypeError, match=r"takes an nn\.Module"):
        OverflowPenalty("model")  # type: ignore[arg-type]


def test_what_checkpointing_repeats_and_what_has_no_gradient_does_not_count() -> None:
    plain = layer(Accumulator(BITS))
    saving, x, values = copy.deepcopy(plain), torch.ones(2, 12), []
    for model, run in ((plain, plain), (saving, lambda x: checkpoint(saving, x, use_reentrant=False))):
        penalty = OverflowPenalty(model)
        for _ in range(3):
            with torch.no_grad():
                model(x)
            loss = run(x).sum() + penalty()
            loss.backward()
            values.append(loss.item())
    assert values[:3] == values[3:]
    assert torch.equal(plain.latent.grad, saving.latent.grad)  # type: ignore[arg-type]


def test_copies_and_empty_batches_are_free_of_it() -> None:
    model = layer(Accumulator(BITS))
    penalty = OverflowPenalty(model)
    model(torch.ones(2, 12))
    assert copy.deepcopy(model).excesses is None
    assert penalty().isfinite()
    model(torch.ones(0, 12))
    assert penalty().item() == 0


def test_a_second_penalty_is_refused() -> None:
    model = layer(Accumulator(BITS))
    first = OverflowPenalty(model)
    with pytest.raises(ValueError, match="has an OverflowPenalty already"):
        OverflowPenalty(model)
    first.remove()
    second = OverflowPenalty(model)
    nn.init.uniform_(model.latent, 0.001, 0.1)  # every sum overflows
    model(torch.ones(2, 12))
    assert first().item() == 0
    first.remove()
    assert second().item() > 0
