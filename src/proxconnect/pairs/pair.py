"""A forward-backward pair is an object: F quantises in the forward pass, B stands where F' would in the backward pass.

PC++ iterates w = F_μ(w*), w* ← w* - η·B_μ(w*) ⊙ ∇ℓ(w).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from types import MethodType

import torch
from torch import Tensor

from proxconnect.pairs import prox as proxes
from proxconnect.pairs import transform as transforms
from proxconnect.pairs.part import common_sharpness
from proxconnect.pairs.prox import Prox
from proxconnect.pairs.sharpness import Sharpness
from proxconnect.pairs.transform import Slope, Transform

Map = Callable[[Tensor, float | Tensor], Tensor]


class ForwardBackward(ABC):
    """What every pair answers, whether it has a decomposition (`Pair`) or not (`Heuristic`).

    `forward` and `backward` are elementwise on a tensor of any float dtype and keep its shape and dtype. `mu` is a
    float or a 0-dim tensor, and may be left out where the pair does not depend on it. A float outside the pair's domain
    raises ValueError; a tensor is not looked at, which would wait for its device.
    """

    name: str

    @property
    @abstractmethod
    def slope(self) -> Slope:
        """Which values B takes."""

    @property
    @abstractmethod
    def sharpness(self) -> Sharpness | None:
        """The range of μ: lowest allowed, usual start, usual end; None where the pair does not depend on μ."""

    @abstractmethod
    def forward(self, x: Tensor, mu: float | Tensor | None = None) -> Tensor:
        """F_μ(x)."""

    @abstractmethod
    def backward(self, x: Tensor, mu: float | Tensor | None = None) -> Tensor:
        """B_μ(x)."""

    @property
    def is_identity(self) -> bool:
        """Whether F(x) = x and B(x) = 1, that is, whether this is full precision."""
        return False

    @property
    def is_sign(self) -> bool:
        """Whether F is known to be the sign, at every μ."""
        return False

    def support(self, x: Tensor, mu: float | Tensor | None = None) -> Tensor:
        """Where B_μ(x) is not 0, as booleans, True where it is NaN."""
        return self.backward(x, mu) != 0

    def is_soft(self) -> bool:
        """Whether F takes values other than ±1 at its usual start."""
        probe = torch.tensor([-2.0, -0.5, -0.01, 0.01, 0.5, 2.0])
        start = self.sharpness.start if self.sharpness else 1.0
        return not torch.equal(self.forward(probe, start).abs(), torch.ones_like(probe))

    def _checked(self, mu: float | Tensor | None, x: Tensor) -> float | Tensor:
        """μ in the dtype of x, after a check of its domain; TypeError unless x is a float tensor."""
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"pair {self.name!r} takes a float tensor; got {got}")
        if isinstance(mu, Tensor):
            return mu.to(x.dtype)
        if self.sharpness is None:
            return 1.0
        if mu is None:
            raise ValueError(f"pair {self.name!r} depends on its sharpness: pass mu, or fix it with .at(mu)")
        self.sharpness.require(mu, f"pair {self.name!r}")
        return mu


@dataclass(frozen=True)
class Pair(ForwardBackward):
    """A legitimate pair, declared by its decomposition: F = T∘P and B = T'∘P for a prox P and a transform T.

    PC++ with it is ProxConnect on ℓ∘T, so it inherits ProxConnect's convergence theory (`T` fixed over time).

    Args:
        name: what messages, tables and `PAIRS` call it.
        prox, transform: P and T, by default the identity.
        doc: the docstring of this pair.

    Raises:
        TypeError: a name that is no string, or parts that are no `Prox` and `Transform`; `theory.synthesize` takes
            callables.

    Example:
        >>> pair = pc.PAIRS["bnn++"]
        >>> pair
        Pair(name='bnn++', prox=Identity(), transform=SignSwish())
        >>> pair.forward(torch.tensor([-1.0, 0.5]), 1.0)
        tensor([-0.8553,  0.4799])
    """

    name: str
    prox: Prox = proxes.identity
    transform: Transform = transforms.identity
    doc: str = field(default="", repr=False, compare=False)

    def __post_init__(self) -> None:
        _require_name(self.name, "Pair(name, prox, transform)")
        for part, kind, usual in ((self.prox, Prox, "prox.parq"), (self.transform, Transform, "transform.hardtanh")):
            if not isinstance(part, kind):
                raise TypeError(
                    f"pair {self.name!r} takes a {kind.__name__} of proxconnect.pairs, as {usual}; got {part!r}: "
                    "theory.synthesize(transform, prox, name) makes a Pair of callables"
                )
        if self.doc:
            object.__setattr__(self, "__doc__", self.doc)

    @property
    def sharpness(self) -> Sharpness | None:
        """The range of μ of the part that depends on it; the intersection where both do."""
        return common_sharpness((self.prox, self.transform))

    @property
    def slope(self) -> Slope:
        """Which values B takes."""
        return self.transform.slope

    @property
    def is_identity(self) -> bool:
        """Whether both parts are the identity."""
        return self.prox == proxes.identity and self.transform == transforms.identity

    @property
    def is_sign(self) -> bool:
        """Whether the parts are those of BinaryConnect or BNN."""
        return (self.prox, self.transform) in (
            (proxes.sign, transforms.identity),
            (proxes.outward, transforms.hardtanh),
        )

    def support(self, x: Tensor, mu: float | Tensor | None = None) -> Tensor:
        """Where B_μ(x) is not 0, as booleans, True where it is NaN."""
        mu = self._checked(mu, x)
        return self.transform.support(self.prox(x, mu), mu)

    def forward(self, x: Tensor, mu: float | Tensor | None = None) -> Tensor:
        """F_μ(x) = T(P(x))."""
        mu = self._checked(mu, x)
        return self.transform(self.prox(x, mu), mu)

    def backward(self, x: Tensor, mu: float | Tensor | None = None) -> Tensor:
        """B_μ(x) = T'(P(x))."""
        mu = self._checked(mu, x)
        return self.transform.derivative(self.prox(x, mu), mu)

    def at(self, mu: float) -> "Pair":
        """The same pair with its sharpness fixed at `mu`; ValueError outside the domain."""
        if self.sharpness is None:
            return self
        self._checked(mu, torch.empty(0))
        return Pair(f"{self.name}@{mu:g}", self.prox.at(mu), self.transform.at(mu), self.doc)


@dataclass(frozen=True)
class FixedMap:
    """An elementwise map at one sharpness, whatever μ it is asked for."""

    map: Map
    mu: float

    def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
        """The map at the fixed sharpness."""
        return self.map(x, self.mu)


@dataclass(frozen=True)
class MethodMap:
    """A method of an object as a map; two are equal where their objects are, as those of a copied pair."""

    owner: object
    method: str

    def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
        """The method's value."""
        value: Tensor = getattr(self.owner, self.method)(x, mu)
        return value


@dataclass(frozen=True, init=False)
class Heuristic(ForwardBackward):
    """A pair given by two maps of (x, μ) that no decomposition joins; it carries no guarantee.

    To be pickled with a model, the maps must be functions of a module or methods of such objects as `sign_swish`.

    Args:
        name: what messages, tables and `PAIRS` call it.
        forward, backward: F and B, elementwise; kept as `forward_map` and `backward_map`.
        sharpness: the range of μ; None where neither map depends on it.
        doc: the docstring of this pair.

    Raises:
        TypeError: a name that is no string, maps that cannot be called, or a sharpness that is neither a `Sharpness`
            nor None.

    Example:
        >>> pair = pc.Heuristic("mine", lambda x, mu: x.sign(), lambda x, mu: 1 / (1 + x * x))
        >>> pair.backward(torch.tensor([0.0, 1.0]), 1.0)
        tensor([1.0000, 0.5000])
    """

    name: str
    forward_map: Map = field(repr=False)
    backward_map: Map = field(repr=False)
    sharpness: Sharpness | None = None
    doc: str = field(default="", repr=False, compare=False)

    def __init__(
        self, name: str, forward: Map, backward: Map, sharpness: Sharpness | None = None, doc: str = ""
    ) -> None:
        _require_name(name, "Heuristic(name, forward, backward)")
        for given_as, given in (("forward", forward), ("backward", backward)):
            if not callable(given):
                raise TypeError(f"{given_as} of {name!r} takes a callable of (x, μ), as prox.sign; got {given!r}")
        if sharpness is not None and not isinstance(sharpness, Sharpness):
            raise TypeError(f"sharpness of {name!r} takes a Sharpness(lowest, start, end) or None; got {sharpness!r}")
        # In the order of the fields, from which torch.compile builds it again.
        values = (name, _comparable(forward), _comparable(backward), sharpness, doc)
        for part, value in zip(fields(self), values, strict=True):
            object.__setattr__(self, part.name, value)
        object.__setattr__(self, "__doc__", doc or type(self).__doc__)

    @property
    def slope(self) -> Slope:
        """Which values B takes: it may be any."""
        return "any"

    @property
    def is_sign(self) -> bool:
        """Whether the forward map is `prox.sign`."""
        return self.forward_map == proxes.sign

    def forward(self, x: Tensor, mu: float | Tensor | None = None) -> Tensor:
        """F_μ(x), as given."""
        return self.forward_map(x, self._checked(mu, x))

    def backward(self, x: Tensor, mu: float | Tensor | None = None) -> Tensor:
        """B_μ(x), as given."""
        return self.backward_map(x, self._checked(mu, x))

    def at(self, mu: float) -> "Heuristic":
        """The same pair with its sharpness fixed at `mu`; ValueError outside the domain."""
        if self.sharpness is None:
            return self
        self._checked(mu, torch.empty(0))
        return Heuristic(
            f"{self.name}@{mu:g}",
            forward=self.forward_map if self.is_sign else FixedMap(self.forward_map, mu),
            backward=FixedMap(self.backward_map, mu),
            doc=self.doc,
        )


def _require_name(name: object, call: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"{call} takes a string as name; got {name!r}")


def _comparable(given: Map) -> Map:
    """The map, a bound method wrapped: Python compares those by the identity of their object."""
    return MethodMap(given.__self__, given.__name__) if isinstance(given, MethodType) else given


AnyPair = Pair | Heuristic
