"""Products of signs by every instruction set that this machine runs, against integers, bit for bit."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from draws import drawn, each
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from proxconnect import Accumulator, kernels
from proxconnect.kernels.bits import pack_bits

pytestmark = pytest.mark.skipif(not kernels.is_built(), reason="the kernels were not built")

ACCUMULATORS = [
    None, Accumulator(2, "wrap"), Accumulator(8, "wrap"), Accumulator(16, "wrap"), Accumulator(8, "saturate"),
    Accumulator(4, "saturate"), Accumulator(8, "cyclic"), Accumulator(5, "cyclic", slope=1.5),
]  # fmt: skip
BORDERS = (1, 7, 8, 63, 64, 65, 127, 128, 129, 255, 256, 257, 31 * 64, 31 * 64 + 1, 4095)
"""Of words, of vectors, of 8-bit sums, and of how many words a byte can count."""


def signs(x: Tensor) -> Tensor:
    return torch.where(x >= 0, 1, -1)


def product(x: Tensor, weight: Tensor, instruction_set: str, *rest: object) -> Tensor:
    rows, columns = weight.shape
    made = kernels.panels(pack_bits(weight), rows, columns)
    return kernels.binary_linear(x, made, rows, *rest, instruction_set=instruction_set)  # type: ignore[arg-type]  # as given


def exact(x: Tensor, weight: Tensor) -> Tensor:
    return (signs(x) @ signs(weight).T).float()


@pytest.mark.covering
@each
@pytest.mark.parametrize("columns", BORDERS)
@pytest.mark.parametrize("rows", [1, 8, 9, 33])
def test_sums_are_those_of_integers(instruction_set: str, columns: int, rows: int) -> None:
    weight = drawn(rows, columns, seed=1)
    for batch in (1, 3, 4, 5):
        x = drawn(batch, columns)
        assert torch.equal(product(x, weight, instruction_set), exact(x, weight)), batch


@each
@pytest.mark.parametrize("columns", [32000, 32001, 65600])
def test_least_sums_of_long_rows(instruction_set: str, columns: int) -> None:
    """AVX2 sums rows of up to 500 words in 16 bits."""
    found = product(torch.ones(16, columns), -torch.ones(64, columns), instruction_set)
    assert torch.equal(found, torch.full((16, 64), -float(columns)))


@pytest.mark.covering(strength=3)
@each
@pytest.mark.parametrize("columns", [16, 64, 200, 4095])
@pytest.mark.parametrize("rows", [9, 64, 150])
@pytest.mark.parametrize("batch", [48, 65, 200])
def test_rows_that_fill_tiles(instruction_set: str, columns: int, rows: int, batch: int) -> None:
    x, weight = drawn(batch, columns), drawn(rows, columns, seed=1)
    x[-2, 3] = torch.nan
    expected = exact(x, weight)
    expected[-2] = torch.nan
    assert torch.equal(product(x, weight, instruction_set).nan_to_num(7777.0), expected.nan_to_num(7777.0))


@each
@pytest.mark.parametrize("columns", [32767, 32768, 32769])
def test_long_rows(instruction_set: str, columns: int) -> None:
    """All alike, so that the sums are as large as they can be."""
    x = torch.ones(2, columns)
    assert product(x, -torch.ones(3, columns), instruction_set).eq(-columns).all()


@pytest.mark.covering
@each
@pytest.mark.parametrize("accumulator", ACCUMULATORS, ids=str)
@pytest.mark.parametrize("scales", [0, 1, 19])
@pytest.mark.parametrize("batch", [6, 60])
def test_what_becomes_of_a_sum(instruction_set: str, accumulator: Accumulator | None, scales: int, batch: int) -> None:
    """Held, then scaled, then shifted, each rounded as torch does it."""
    x, weight, bias = drawn(batch, 300), drawn(19, 300, seed=1), drawn(19, seed=2)
    x[0], weight[0] = 1.0, 1.0  # a sum of 300
    scale = drawn(scales, seed=3) if scales else None
    sums = exact(x, weight) if accumulator is None else accumulator(exact(x, weight))
    expected = (sums if scale is None else sums * scale) + bias
    assert torch.equal(product(x, weight, instruction_set, scale, bias, accumulator), expected)


@each
def test_zeros_of_either_sign_are_positive_and_nan_stays(instruction_set: str) -> None:
    x = torch.tensor([[0.0, -0.0, 1e-45, -1e-45, torch.inf, -torch.inf] * 12, [1.0] * 71 + [torch.nan], [-1.0] * 72])
    weight = torch.ones(9, 72)
    out = product(x, weight, instruction_set)
    assert out[0].eq(24).all()
    assert out[1].isnan().all()
    assert out[2].eq(-72).all()


@each
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_shape_and_layout(instruction_set: str, data: st.DataObject) -> None:
    lead = data.draw(st.lists(st.integers(0, 4), max_size=3))
    columns, rows, offset = (data.draw(st.integers(low, high)) for low, high in ((1, 400), (1, 70), (0, 3)))
    x, weight = drawn(*lead, columns + offset)[..., offset:], drawn(rows, columns, seed=1)
    if data.draw(st.booleans()) and len(lead) > 1:
        x = x.transpose(0, 1)
    out = product(x, weight, instruction_set)
    assert out.shape == (*x.shape[:-1], rows)
    assert torch.equal(out, exact(x, weight))


@each
@pytest.mark.parametrize("threads", [2, 3, 7])
def test_threads_do_not_change_it(instruction_set: str, threads: int) -> None:
    x, weight = drawn(200, 1000), drawn(301, 1000, seed=1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert torch.equal(product(x, weight, instruction_set), exact(x, weight))
    finally:
        torch.set_num_threads(before)


def test_several_threads_of_python_may_call_at_once() -> None:
    x, made = [drawn(64, 700, seed=i) for i in range(8)], kernels.panels(pack_bits(drawn(301, 700)), 301, 700)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        alone = [kernels.binary_linear(row, made, 301) for row in x]
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda row: kernels.binary_linear(row, made, 301), x * 20))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(out, alone[i % 8]) for i, out in enumerate(together))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_threads_of_its_own() -> None:
    x, made = drawn(200, 1000), kernels.panels(pack_bits(drawn(301, 1000, seed=1)), 301, 1000)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        expected = kernels.binary_linear(x, made, 301).numpy()
        child = os.fork()
        if child == 0:  # where torch's own threads would hang
            signal.alarm(30)
            same = np.array_equal(kernels.binary_linear(x, made, 301).numpy(), expected)
            os._exit(0 if same else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        torch.set_num_threads(before)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("panels", kernels.panels(pack_bits(drawn(20, 70)), 20, 70))

    def forward(self, x: Tensor) -> Tensor:
        return kernels.binary_linear(x.relu() - 0.5, self.panels, 20) + 1  # type: ignore[arg-type]  # a buffer


def test_it_compiles_and_exports_whole() -> None:
    layer, x = Layer(), drawn(5, 70)
    assert torch.equal(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), layer(x))
    assert torch.equal(torch.export.export(layer, (x,)).module()(x), layer(x))


def test_the_operator_passes_the_checks_of_torch() -> None:
    made = kernels.panels(pack_bits(drawn(20, 70)), 20, 70)
    operator = torch.ops.proxconnect.binary_linear.default
    arguments = (drawn(3, 70), made, 20, drawn(20), drawn(20), 1, 8, 1.0, None)
    torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))


GOOD = {"input": drawn(3, 70), "panels": kernels.panels(pack_bits(drawn(20, 70)), 20, 70), "out_features": 20}


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [
        ({"input": drawn(3, 70).double()}, TypeError, "input must be float32 on the CPU"),
        ({"input": drawn(3, 0)}, ValueError, "0 < in"),
        ({"input": drawn(3, 129)}, ValueError, r"panels of such a weight are \(3, 3, 8\)"),
        ({"out_features": 0}, ValueError, "at least 1 output"),
        ({"out_features": 30}, ValueError, r"panels of such a weight are \(4, 2, 8\)"),
        ({"panels": torch.zeros(3, 2, 8)}, TypeError, "panels must be contiguous int64"),
        ({"scale": drawn(19)}, ValueError, "scale must have 1 or 20 entries"),
        ({"bias": drawn(1)}, ValueError, "bias must have 20 entries"),
        ({"bias": torch.zeros(20, dtype=torch.int32)}, TypeError, "bias must be float32"),
        ({"instruction_set": "sse9"}, ValueError, "this machine runs portable"),
    ],
)
def test_bad_use_is_refused(wrong: dict[str, object], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        kernels.binary_linear(**(GOOD | wrong))  # type: ignore[arg-type]  # what is refused


@pytest.mark.parametrize(
    ("bits", "columns"), [(pack_bits(drawn(20, 70)), 128), (pack_bits(drawn(20, 70)), 71), (drawn(20, 128), 128)]
)
def test_panels_of_other_bits_are_refused(bits: Tensor, columns: int) -> None:
    with pytest.raises(ValueError, match=f"{20 * columns} signs are .* bytes of uint8"):
        kernels.panels(bits, 20, columns)


def test_panels_of_unaligned_bits() -> None:
    bits = pack_bits(drawn(9, 128))
    shifted = torch.cat([bits[:3], bits])[3:]
    assert torch.equal(kernels.panels(shifted, 9, 128), kernels.panels(bits, 9, 128))
