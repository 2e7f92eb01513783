"""Forward-backward pairs: F quantises in the forward pass, B replaces F' in the backward pass.

PC++ iterates w = F_μ(w*), w* ← w* - η·B_μ(w*) ⊙ ∇ℓ(w).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from types import MethodType

import torch
from torch import Tensor

from proxconnect._support.arguments import require_callable, require_type
from proxconnect.pairs import prox as proxes
from proxconnect.pairs import squashing
from proxconnect.pairs import transform as transforms
from proxconnect.pairs.part import Sharpness, common_sharpness
from proxconnect.pairs.prox import Prox
from proxconnect.pairs.transform import Slope, Transform

Map = Callable[[Tensor, float | Tensor], Tensor]

_SIGNS = (
    (proxes.sign, transforms.identity),
    (proxes.outward, transforms.hardtanh),
    (proxes.Gap(1.0, 1.0), squashing.clip),
)
"""The P and T, at every μ, whose F = T∘P is sign."""


class ForwardBackward(ABC):
    """The interface of all pairs of F and B, with a decomposition (`Pair`) or without (`Heuristic`).

    F quantizes latent weights or inputs in the forward pass. B multiplies the gradient in the backward pass.

    `forward` and `backward` are elementwise on a tensor of any float dtype and keep its shape and dtype. `mu` is the
    sharpness μ, a float or a 0-dim tensor; leave it out if the pair does not depend on it. A float outside the pair's
    domain raises ValueError. A tensor is not checked, because that would wait for its device.
    """

    name: str

    @property
    def slope(self) -> Slope:
        """The values that B takes: "one" (1 everywhere), "indicator" (0 and 1) or "any"."""
        return "any"

    @property
    @abstractmethod
    def sharpness(self) -> Sharpness | None:
        """The allowed μ, its usual start and end, and its fixed value; None if the pair does not depend on μ."""

    @abstractmethod
    def forward(self, x: Tensor, mu: float | Tensor | None = None) -> Tensor:
        """Return F_μ(x), the quantized values of `x`, with the shape and dtype of `x`; for `mu` see `backward`."""

    @abstractmethod
    def backward(self, x: Tensor, mu: float | Tensor | None = None) -> Tensor:
        """Return B_μ(x), by which the backward pass multiplies the gradient, with the shape and dtype of `x`.

        `mu` may be None only if the pair does not depend on it; otherwise None raises ValueError.
        """

    @property
    def is_identity(self) -> bool:
        """True if the pair is known to be full precision: F(x) = x and B(x) = 1."""
        return False

    @property
    def is_sign(self) -> bool:
        """True if F is known to be sign(x) at every μ."""
        return False

    def support(self, x: Tensor, mu: float | Tensor | None = None) -> Tensor:
        """Return booleans with the shape of `x`: True where B_μ(x) is not 0 or NaN; `mu` as in `backward`."""
        return self.backward(x, mu) != 0

    def is_soft(self) -> bool:
        """Return True if F at the usual start of μ is not ±1 at any of six points from -2 to 2."""
        probe = torch.tensor([-2.0, -0.5, -0.01, 0.01, 0.5, 2.0])
        start = self.sharpness.start if self.sharpness else 1.0
        return not torch.equal(self.forward(probe, start).abs(), torch.ones_like(probe))

    def _checked(self, mu: float | Tensor | None, x: Tensor) -> float | Tensor:
        """Check the domain of μ and return it in the dtype of x; TypeError unless x is a float tensor."""
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(f"pair {self.name!r} takes a float tensor; got {got}")
        if isinstance(mu, Tensor):
            return mu.to(x.dtype)
        if self.sharpness is None:
            return 1.0
        if mu is None:
            raise ValueError(f"pair {self.name!r} depends on its sharpness: pass mu, or fix it with .at(mu)")
        return self.sharpness.require(mu, f"pair {self.name!r}")


@dataclass(frozen=True)
class Pair(ForwardBackward):
    """A legitimate pair, declared by its decomposition: F = T∘P and B = T'∘P for a prox P and a transform T.

    PC++ with it is ProxConnect on ℓ∘T, so for a fixed `T` it inherits ProxConnect's convergence theory.

    Args:
        name: its name in messages, tables and `PAIRS`.
        prox, transform: P and T; each is the identity by default.
        doc: the docstring of this pair.

    Raises:
        TypeError: the name or `doc` is no string, or a part is no `Prox` or `Transform`; `theory.synthesize` takes
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
        require_type(self.name, str, "Pair(name, prox, transform) takes a string as name")
        require_type(self.doc, str, f"doc of {self.name!r} takes a string")
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
        """The allowed sharpness μ, with its usual start and end: of two parts the larger numbers; None without μ."""
        return common_sharpness((self.prox, self.transform))

    @property
    def slope(self) -> Slope:
        """The values that B takes: "one" (1 everywhere), "indicator" (0 and 1) or "any" (anything else)."""
        return self.transform.slope

    @property
    def is_identity(self) -> bool:
        """True if both parts are the identity, which is full precision: F(x) = x and B(x) = 1."""
        return self.prox == proxes.identity and self.transform == transforms.identity

    @property
    def is_sign(self) -> bool:
        """True if the parts are those of BinaryConnect, BNN or BNN at another width, whose F is sign(x)."""
        return any(self.prox == prox and self.transform == transform for prox, transform in _SIGNS)

    def support(self, x: Tensor, mu: float | Tensor | None = None) -> Tensor:
        """Return booleans with the shape of `x`: True where B_μ(x) is not 0 or NaN; `mu` as in `backward`."""
        mu = self._checked(mu, x)
        return self.transform.support(self.prox(x, mu), mu)

    def forward(self, x: Tensor, mu: float | Tensor | None = None) -> Tensor:
        """Return F_μ(x) = T(P(x)), with the shape and dtype of the float tensor `x`."""
        mu = self._checked(mu, x)
        return proxes.sign(x, mu) if self.is_sign else self.transform(self.prox(x, mu), mu)

    def backward(self, x: Tensor, mu: float | Tensor | None = None) -> Tensor:
        """Return B_μ(x) = T'(P(x)), with the shape and dtype of the float tensor `x`."""
        mu = self._checked(mu, x)
        return self.transform.derivative(self.prox(x, mu), mu)

    def at(self, mu: float) -> "Pair":
        """Return a copy called `name@mu` that always uses the sharpness `mu`; this pair if it does not depend on μ."""
        if self.sharpness is None:
            return self
        mu = self.sharpness.require(mu, f"pair {self.name!r}")
        return Pair(f"{self.name}@{mu:g}", self.prox.at(mu), self.transform.at(mu), self.doc)


@dataclass(frozen=True)
class FixedMap:
    """A map of (x, μ) that always uses the stored sharpness; a call may leave μ out."""

    map: Map
    mu: float

    def __call__(self, x: Tensor, mu: float | Tensor | None = None) -> Tensor:
        """Return the wrapped map at `x` and the stored sharpness; `mu` is ignored."""
        return self.map(x, self.mu)


@dataclass(frozen=True)
class MethodMap:
    """A method of an object as a map of (x, μ); two are equal if their objects and method names are."""

    owner: object
    method: str

    def __call__(self, x: Tensor, mu: float | Tensor) -> Tensor:
        """Call the method of the object with `x` and `mu`, and return its tensor."""
        value: Tensor = getattr(self.owner, self.method)(x, mu)
        return value


@dataclass(frozen=True, init=False)
class Heuristic(ForwardBackward):
    """A pair that states F and B as two maps of (x, μ), without a decomposition and so without a guarantee.

    To pickle it with a model, use functions of a module or methods of objects such as `sign_swish` as maps.

    Args:
        name: its name in messages, tables and `PAIRS`.
        forward, backward: F and B, elementwise; the attributes are `forward_map` and `backward_map`.
        sharpness: the range of μ, with its `fixed` value if μ does not usually move; None if neither map depends on μ.
        doc: the docstring of this pair.

    Raises:
        TypeError: the name or `doc` is no string, a map is not callable, or the sharpness is no `Sharpness` or None.

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
        require_type(name, str, "Heuristic(name, forward, backward) takes a string as name")
        require_type(doc, str, f"doc of {name!r} takes a string")
        require_callable(forward, f"forward of {name!r} takes a callable of (x, μ), as prox.sign")
        require_callable(backward, f"backward of {name!r} takes a callable of (x, μ), as prox.sign")
        require_type(
            sharpness, Sharpness | None, f"sharpness of {name!r} takes a Sharpness(lowest, start, end) or None"
        )
        # Python compares bound methods by the identity of their object.
        maps = [MethodMap(m.__self__, m.__name__) if isinstance(m, MethodType) else m for m in (forward, backward)]
        values = (name, *maps, sharpness, doc)  # as the fields: torch.compile builds the pair again from them
        for part, value in zip(fields(self), values, strict=True):
            object.__setattr__(self, part.name, value)
        object.__setattr__(self, "__doc__", doc or type(self).__doc__)

    @property
    def is_sign(self) -> bool:
        """True if the forward map is `prox.sign`, so that F is sign(x) at every μ."""
        return self.forward_map == proxes.sign

    def forward(self, x: Tensor, mu: float | Tensor | None = None) -> Tensor:
        """Return F_μ(x), the quantized values of `x`, with the shape and dtype of `x`."""
        return self.forward_map(x, self._checked(mu, x))

    def backward(self, x: Tensor, mu: float | Tensor | None = None) -> Tensor:
        """Return B_μ(x), by which the backward pass multiplies the gradient, with the shape and dtype of `x`."""
        return self.backward_map(x, self._checked(mu, x))

    def at(self, mu: float) -> "Heuristic":
        """Return a copy called `name@mu` that always uses the sharpness `mu`; this pair if it does not depend on μ."""
        if self.sharpness is None:
            return self
        mu = self.sharpness.require(mu, f"pair {self.name!r}")
        return Heuristic(
            f"{self.name}@{mu:g}",
            forward=self.forward_map if self.is_sign else FixedMap(self.forward_map, mu),
            backward=FixedMap(self.backward_map, mu),
            doc=self.doc,
        )


AnyPair = Pair | Heuristic
