"""Products of floats with signs by every instruction set that this machine runs, against float64 and integers."""

from collections.abc import Callable

import pytest
import torch
from draws import drawn, each, signs
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from proxconnect import kernels
from proxconnect.kernels.bits import pack_bits

pytestmark = pytest.mark.skipif(not kernels.is_built(), reason="the kernels were not built")

OPERATORS = [kernels.weight_only_linear, kernels.dynamic_int8_linear]
BORDERS = (1, 3, 4, 5, 16, 31, 32, 33, 63, 64, 65, 127, 129, 257, 513, 2049, 4097)
"""Of groups, half words, words, what is taken at once, and 16-bit sums."""


def made(weight: Tensor) -> Tensor:
    return kernels.panels(pack_bits(weight), *weight.shape)


def require_close(out: Tensor, x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor) -> None:
    """Within what sums of floats may lose in any order, and two more roundings."""
    exact = x.double() @ signs(weight).double().T * scale + bias
    lost = (x.shape[-1] + 4) * 2**-24 * (x.double().abs().sum(-1, keepdim=True) * scale.abs() + bias.abs())
    assert out.shape == exact.shape
    assert ((out - exact).abs() <= lost).all()


def rounded(x: Tensor) -> tuple[Tensor, Tensor]:
    """The whole numbers of the rows and the steps."""
    most = x.abs().amax(-1, keepdim=True).clamp(min=2.0**-100)
    return (x * torch.tensor(127.0).div(most)).round(), most / 127


def twin(x: Tensor, weight: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    whole, step = rounded(x)
    return (whole.long() @ signs(weight).long().T).float() * step * scale + bias


@pytest.mark.covering
@each
@pytest.mark.parametrize("columns", BORDERS)
@pytest.mark.parametrize("rows", [1, 8, 9, 33, 129])
def test_exact_products(instruction_set: str, columns: int, rows: int) -> None:
    weight, scale, bias = drawn(rows, columns, seed=1), drawn(rows, seed=2), drawn(rows, seed=3)
    for batch in (1, 2, 5, 8, 17, 31, 33):
        x = drawn(batch, columns)
        out = kernels.weight_only_linear(x, made(weight), rows, scale, bias, instruction_set)
        require_close(out, x, weight, scale, bias)


@pytest.mark.covering
@each
@pytest.mark.parametrize("columns", BORDERS)
@pytest.mark.parametrize("rows", [1, 8, 9, 33, 225])
def test_rounded_products_are_those_of_integers(instruction_set: str, columns: int, rows: int) -> None:
    weight, scale, bias = drawn(rows, columns, seed=1), drawn(rows, seed=2), drawn(rows, seed=3)
    for batch in (1, 2, 5, 8, 17, 31, 33):
        x = drawn(batch, columns)
        out = kernels.dynamic_int8_linear(x, made(weight), rows, scale, bias, instruction_set)
        assert torch.equal(out, twin(x, weight, scale, bias))


IN_GROUPS = ((64, 64), (128, 64), (128, 128), (384, 192), (640, 320), (4160, 64), (4096, 1024))
"""The columns, and those of a group: within what is taken at once, across it, and beyond it."""


@pytest.mark.covering
@each
@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize(("columns", "size"), IN_GROUPS)
@pytest.mark.parametrize("rows", [1, 33, 129, 225])
def test_sums_of_groups_have_scales_of_their_own(
    instruction_set: str, operator: Callable[..., Tensor], columns: int, size: int, rows: int
) -> None:
    weight, scale, bias = drawn(rows, columns, seed=1), drawn(rows, columns // size, seed=2), drawn(rows, seed=3)
    scaled = signs(weight).double() * scale.double().repeat_interleave(size, 1)
    for batch in (1, 2, 5, 8, 17, 33):
        x = drawn(batch, columns)
        out = operator(x, made(weight), rows, kernels.group_scales(scale), bias, instruction_set)
        whole, step = rounded(x) if operator is kernels.dynamic_int8_linear else (x, torch.ones(()))
        seen = whole.double() * step.double()
        lost = (columns + 8) * 2**-24 * (seen.abs() @ scaled.abs().T + bias.abs())
        assert ((out - (seen @ scaled.T + bias)).abs() <= lost).all()


@each
@pytest.mark.parametrize(("batch", "rows", "columns"), [(3, 9, 128), (17, 225, 640)])
def test_the_result_of_a_group_is_that_of_its_columns(
    instruction_set: str, batch: int, rows: int, columns: int
) -> None:
    """But for the roundings of a few products."""
    x, weight, scale = drawn(batch, columns), drawn(rows, columns, seed=1), drawn(rows, 2, seed=2)
    x[:, columns // 2 :], bias = 0, drawn(rows, seed=3)
    for operator in OPERATORS:
        grouped = operator(x, made(weight), rows, kernels.group_scales(scale), bias, instruction_set)
        whole = operator(x, made(weight), rows, scale[:, 0], bias, instruction_set)
        assert torch.allclose(grouped, whole, rtol=2**-22, atol=2**-22 * float(whole.abs().max()))


@each
def test_sums_as_large_as_they_can_be(instruction_set: str) -> None:
    """More than 16 bits, and than floats hold."""
    for columns in (260, 2**17, 2**17 + 64):
        x, weight = torch.full((5, columns), 127.0), -torch.ones(5, columns)
        out = kernels.dynamic_int8_linear(x, made(weight), 5, instruction_set=instruction_set)
        assert out.eq(-127.0 * columns).all()


@each
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_shape_and_layout(instruction_set: str, data: st.DataObject) -> None:
    lead = data.draw(st.lists(st.integers(0, 7), max_size=3))
    columns, rows, offset = (data.draw(st.integers(low, high)) for low, high in ((1, 400), (1, 140), (0, 3)))
    x, weight = drawn(*lead, columns + offset)[..., offset:], drawn(rows, columns, seed=1)
    if data.draw(st.booleans()) and len(lead) > 1:
        x = x.transpose(0, 1)
    one, none = torch.ones(()), torch.zeros(rows)
    require_close(kernels.weight_only_linear(x, made(weight), rows, None, None, instruction_set), x, weight, one, none)
    out = kernels.dynamic_int8_linear(x, made(weight), rows, one, None, instruction_set)
    assert torch.equal(out, twin(x, weight, one, none))


@each
@settings(max_examples=40, deadline=None)
@given(
    columns=st.integers(1, 300),
    power=st.integers(-140, 120),
    spread=st.integers(0, 30),
    scale=st.floats(-3, 3, width=32),
)
def test_the_bound_of_rounding(instruction_set: str, columns: int, power: int, spread: int, scale: float) -> None:
    """|y - exact| ≤ |scale| · in · step / 2, up to float32's own roundings, for rows of any size, subnormal too."""
    x = drawn(4, columns).double() * 2.0 ** (power - spread * torch.rand(4, columns).double())
    x, weight = x.float(), drawn(9, columns, seed=1)
    out = kernels.dynamic_int8_linear(x, made(weight), 9, torch.tensor([scale]), None, instruction_set)
    exact = x.double() @ signs(weight).double().T * scale
    _, step = rounded(x)
    bound = abs(scale) * columns * step.double() / 2
    assert ((out - exact).abs() <= bound * (1 + 2**-13) + 2.0**-148).all()


@each
@settings(max_examples=40, deadline=None)
@given(columns=st.integers(1, 300), power=st.integers(-140, 120), spread=st.integers(0, 30))
def test_the_bound_of_exact_products(instruction_set: str, columns: int, power: int, spread: int) -> None:
    """For rows of any size, subnormal too, whose entries differ by as much."""
    x = (drawn(40, columns).double() * 2.0 ** (power - spread * torch.rand(40, columns).double())).float()
    weight = drawn(9, columns, seed=1)
    out = kernels.weight_only_linear(x, made(weight), 9, instruction_set=instruction_set)
    exact = x.double() @ signs(weight).double().T
    assert ((out - exact).abs() <= columns * 2**-23 * x.double().abs().sum(-1, keepdim=True)).all()


@each
def test_the_error_of_rounding_in_the_mean(instruction_set: str) -> None:
    x, weight = drawn(50, 1000), drawn(200, 1000, seed=1)
    out = kernels.dynamic_int8_linear(x, made(weight), 200, None, None, instruction_set)
    _, step = rounded(x)
    errors = (out - x.double() @ signs(weight).double().T) / step
    assert errors.square().mean().sqrt().item() == pytest.approx((1000 / 12) ** 0.5, rel=0.05)


@each
@pytest.mark.parametrize("batch", [1, 4, 40])
def test_inf_and_nan(instruction_set: str, batch: int) -> None:
    """As additions let them through; rounded rows become NaN, others stay."""
    x, weight = drawn(batch, 70), drawn(9, 70, seed=1)
    x[-1, 66] = torch.inf
    out = kernels.weight_only_linear(x, made(weight), 9, instruction_set=instruction_set)
    assert torch.equal(out[-1], signs(weight)[:, 66] * torch.inf)
    assert out[:-1].isfinite().all()
    x[-1, 3] = torch.inf
    out = kernels.weight_only_linear(x, made(weight), 9, instruction_set=instruction_set)
    assert torch.equal(out[-1].isnan(), signs(weight)[:, 66] != signs(weight)[:, 3])
    for what in (torch.inf, -torch.inf, torch.nan):
        x[-1, 66] = what
        out = kernels.dynamic_int8_linear(x, made(weight), 9, None, drawn(9), instruction_set)
        assert out[-1].isnan().all()
        assert out[:-1].isfinite().all()


@each
def test_rows_of_zeros_give_the_bias(instruction_set: str) -> None:
    weight, bias = drawn(9, 70, seed=1), drawn(9, seed=2)
    for operator in OPERATORS:
        out = operator(torch.zeros(3, 70), made(weight), 9, drawn(9), bias, instruction_set)
        assert torch.equal(out, bias.expand(3, 9))


@each
@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize(("batch", "rows"), [(200, 301), (2, 3001)])
def test_threads_do_not_change_it(instruction_set: str, threads: int, batch: int, rows: int) -> None:
    x, weight, one, none = drawn(batch, 500), drawn(rows, 500, seed=1), torch.ones(1), torch.zeros(rows)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        out = kernels.dynamic_int8_linear(x, made(weight), rows, None, None, instruction_set)
        assert torch.equal(out, twin(x, weight, one, none))
        out = kernels.weight_only_linear(x, made(weight), rows, None, None, instruction_set)
        require_close(out, x, weight, one, none)
    finally:
        torch.set_num_threads(before)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("panels", made(drawn(20, 70)))

    def forward(self, x: Tensor) -> Tensor:
        y = kernels.weight_only_linear(x.relu() - 0.5, self.panels, 20)  # type: ignore[arg-type]  # a buffer
        return y + kernels.dynamic_int8_linear(x, self.panels, 20)  # type: ignore[arg-type]  # a buffer


def test_they_compile_and_export_whole() -> None:
    layer, x = Layer(), drawn(5, 70)
    assert torch.equal(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), layer(x))
    assert torch.equal(torch.export.export(layer, (x,)).module()(x), layer(x))


@pytest.mark.parametrize("name", ["weight_only_linear", "dynamic_int8_linear"])
def test_the_operators_pass_the_checks_of_torch(name: str) -> None:
    operator = getattr(torch.ops.proxconnect, name).default
    arguments = (drawn(3, 70), made(drawn(20, 70)), 20, drawn(20), drawn(20), None)
    torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))


GOOD = {"input": drawn(3, 70), "panels": made(drawn(20, 70)), "out_features": 20}


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: str(operator.__name__))
@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({"input": drawn(3, 70).double()}, TypeError, "input must be float32 on the CPU"),
        ({"input": drawn(3, 0)}, ValueError, "0 < in"),
        ({"input": torch.tensor(1.0)}, ValueError, "0 < in"),
        ({"input": drawn(3, 129)}, ValueError, r"panels of such a weight are \(3, 3, 8\)"),
        ({"panels": torch.zeros(3, 2, 8)}, TypeError, "panels must be contiguous int64"),
        ({"panels": made(drawn(20, 70)).transpose(0, 1)}, TypeError, "panels must be contiguous int64"),
        ({"scale": drawn(19)}, ValueError, "scale must have 1 or 20 entries"),
        ({"bias": drawn(1)}, ValueError, "bias must have 20 entries"),
        ({"instruction_set": "sse9"}, ValueError, "this machine runs portable"),
    ],
)
def test_bad_use_is_refused(operator: object, wrong: dict[str, object], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        operator(**(GOOD | wrong))  # type: ignore[operator]  # one of the two


def test_rows_too_long_for_32_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="0 < in <= 16777216"):
        kernels.dynamic_int8_linear(torch.zeros(1, 1).expand(1, 2**24 + 1), GOOD["panels"], 20)  # type: ignore[arg-type]  # a tensor
