"""P found from r against what is known in closed form."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from proxconnect.pairs import PAIRS, prox, transform
from proxconnect.theory import ProbeError, decompose, prox_of, synthesize
from proxconnect.theory.new_pairs.argmin import ArgminProx
from thorough import thorough_but

LINE = torch.cat([torch.linspace(-4, 4, 4001), torch.linspace(-990, 990, 211)]).double() + 1e-4
"""Off the jumps, which are known to about the error of P alone."""


def only(allowed: Tensor, z: Tensor) -> Tensor:
    """The indicator of a set."""
    return torch.where(allowed, torch.zeros_like(z), torch.inf)


def soft(x: Tensor, threshold: float) -> Tensor:
    return x.sign() * (x.abs() - threshold).clamp(min=0)


Case = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]
CASES: dict[str, Case] = {
    "nothing": (torch.zeros_like, lambda x: x),
    "L1": (lambda z: 0.5 * z.abs(), lambda x: soft(x, 0.5)),
    "ridge": (lambda z: 1.5 * z * z, lambda x: x / 4),
    "L1 about 0.3": (lambda z: (z - 0.3).abs(), lambda x: 0.3 + soft(x - 0.3, 1.0)),
    "one-sided": (lambda z: z.clamp(min=0), lambda x: torch.where(x < 0, x, (x - 1).clamp(min=0))),
    "box": (lambda z: only(z.abs() <= 1, z), lambda x: x.clamp(-1, 1)),
    "box that no grid point ends": (lambda z: only(z.abs() <= 0.7137, z), lambda x: x.clamp(-0.7137, 0.7137)),
    "outside of one": (
        lambda z: only(z.abs() >= 0.7137, z), lambda x: 0.7137 * prox.outward(x / 0.7137, 1.0),
    ),
    "signs": (lambda z: only(z.abs() == 1, z), lambda x: prox.sign(x, 1.0)),
    "ternary": (
        lambda z: only((z == 0) | (z.abs() == 1), z), lambda x: (x > 0.5).to(x.dtype) - (x < -0.5).to(x.dtype),
    ),
    "outside": (lambda z: only(z.abs() >= 1, z), lambda x: prox.outward(x, 1.0)),
    "L0": (lambda z: 0.5 * (z != 0).to(z.dtype), lambda x: torch.where(x.abs() > 1, x, 0.0)),
    "binaryrelax": (lambda z: 1.5 * (z.abs() - 1) ** 2, lambda x: prox.binaryrelax(x, 4.0)),
    "proxquant": (lambda z: 0.4 * (z.abs() - 1).abs(), lambda x: prox.proxquant(x, 1.4)),
    "pc": (lambda z: only(z.abs() <= 1, z) + (1 - z.abs()) * 2 / 3, lambda x: prox.proxconnect(x, 3.0)),
    "parq": (lambda z: only(z.abs() <= 1, z) - z * z / 3, lambda x: prox.parq(x, 3.0)),
    "entropy": (
        lambda z: (torch.special.xlogy(1 + z, 1 + z) + torch.special.xlogy(1 - z, 1 - z)).nan_to_num(torch.inf) / 4
        - z * z / 2,
        lambda x: torch.tanh(2 * x),
    ),
    "doubling": (lambda z: -z * z / 4, lambda x: 2 * x),
}  # fmt: skip
every_case = pytest.mark.parametrize(("regularizer", "expected"), CASES.values(), ids=CASES)


FAST = (
    "L1 about 0.3", "one-sided", "box that no grid point ends", "outside of one", "ternary", "proxquant", "pc",
    "entropy", "doubling",
)  # fmt: skip
"""Bounded, unbounded and finite sets, jumps, slopes from 0 to 2, asymmetry."""


@pytest.mark.parametrize("name", thorough_but(FAST, CASES))
def test_it_is_the_known_one(name: str) -> None:
    regularizer, expected = CASES[name]
    found = prox_of(regularizer)
    p, true = found(LINE, 1.0), expected(LINE)
    assert ((p - true).abs() / true.abs().clamp(min=1)).max() <= found.error < 2e-6
    assert (found(LINE.sort().values, 1.0).diff() >= 0).all()


@every_case
def test_the_point_is_a_least_one(
    regularizer: Callable[[Tensor], Tensor], expected: Callable[[Tensor], Tensor]
) -> None:
    """Of all those on a grid; that of the closed form is as well, so that the cases are right."""
    x = torch.tensor([-2.7, -1.3, -0.52, -0.1, 0.0, 0.3, 0.77, 1.01, 3.4], dtype=torch.float64)
    z = torch.arange(-8 * 256, 8 * 256 + 1, dtype=torch.float64) / 256
    least = ((z - x[:, None]) ** 2 / 2 + regularizer(z)).amin(1)
    p = expected(x)
    assert ((p - x) ** 2 / 2 + regularizer(p) <= least + 1e-12).all()


def test_a_lone_point_off_the_grid_is_named() -> None:
    def regularizer(z: Tensor) -> Tensor:
        return only((z == 0.3) | (z == -1.1), z)

    with pytest.raises(ValueError, match=r"name the points that it allows by points="):
        prox_of(regularizer)
    P = prox_of(regularizer, points=[0.3, -1.1])
    x = torch.tensor([-9.0, -0.401, -0.399, 9.0], dtype=torch.float64)
    assert P(x, 1.0).tolist() == [-1.1, -1.1, 0.3, 0.3]


def test_any_float_dtype_passes() -> None:
    P = prox_of(CASES["entropy"][0])
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        x = torch.randn(5, 3).to(dtype)
        assert P(x, 1.0).dtype == dtype
        assert torch.allclose(P(x, 1.0).double(), torch.tanh(2 * x.double()), atol=torch.finfo(dtype).eps + 1e-6)
        assert P(torch.tensor([torch.nan], dtype=dtype), 1.0).isnan().all()


def test_its_r_is_the_one_given() -> None:
    P = prox_of(CASES["L1"][0])
    assert isinstance(P, ArgminProx)
    assert torch.equal(P.regularizer(LINE, 1.0), 0.5 * LINE.abs())


@pytest.mark.parametrize(
    ("case", "T", "name"), [("outside", transform.hardtanh, "bnn"), ("signs", transform.identity, "bc")]
)
def test_it_makes_the_pairs_of_the_catalogue(case: str, T: transform.Transform, name: str) -> None:
    pair = synthesize(T, prox_of(CASES[case][0]), name)
    for part in ("forward", "backward"):
        assert torch.equal(getattr(pair, part)(LINE), getattr(PAIRS[name], part)(LINE))
    assert decompose(pair).legitimate


def raising(z: Tensor) -> Tensor:
    raise RuntimeError("no")


@pytest.mark.parametrize(
    ("regularizer", "error", "said"),
    [
        (raising, ProbeError, "raised RuntimeError"), (lambda z: z.sum(), ProbeError, "shape"),
        (lambda z: z - z.mean(), ProbeError, "mixes entries"), (torch.log, ProbeError, "NaN"),
        (lambda z: torch.where(z.abs() <= 1, 0.0, torch.inf), ProbeError, r"return \.to\(x\.dtype\)"),
        (lambda z: -torch.inf * (z == 0.5).to(z.dtype).ceil().clamp(min=1e-300), ProbeError, "-∞"),
        (lambda z: torch.full_like(z, torch.inf), ValueError, r"\+∞ everywhere"),
        (lambda z: -z * z, ValueError, "leaves ±4000"), (lambda z: -0.45 * z * z, ValueError, "leaves ±4000"),
        (3, TypeError, "callable"),
    ],
    ids=["raises", "shape", "mixes", "NaN", "float32", "-∞", "+∞", "unbounded", "steep", "no callable"],
)  # fmt: skip
def test_what_has_no_prox_is_refused(
    regularizer: Callable[[Tensor], Tensor], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        prox_of(regularizer)
