"""Run a decoder layer of a language model for one new token in one call."""

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from proxconnect.kernels.arguments import require_float32, require_vector
from proxconnect.kernels.epilogue import FusedKernel
from proxconnect.kernels.fused_linear import FusedFloatLinear
from proxconnect.kernels.library import CDecoder, CDecoderCache, CDecoderProduct, loaded
from proxconnect.kernels.steps import Add

_PRODUCTS = ("query", "key", "value", "output", "gate", "up", "down")
_NORMS = ("input_norm", "hidden_norm", "query_norm", "key_norm")


@dataclass(frozen=True)
class BinaryWeight:
    """A binary weight (out, in) of a decoder layer: its panels and sizes, and its scale and bias in float32."""

    panels: Tensor
    in_features: int
    out_features: int
    scale: Tensor | None = None
    """As `weight_only_linear` takes it, or from `group_scales`."""
    bias: Tensor | None = None


class DecoderLayer(FusedKernel):
    """A callable for a decoder layer of LLaMA's kind with one new token for each sequence.

    With n = rms_norm(x), and queries and keys of n turned by the position of the token, it returns

        y = h + down(silu(gate(m)) · up(m)),  h = x + output(softmax(scale · q Kᵀ) V),  m = rms_norm(h).

    Args:
        weights: the seven weights by name: query, key, value, output, gate, up and down.
        norms: the weights of the norms, float32 on the CPU, copied: input_norm and hidden_norm (width,), and if heads
            are normed, query_norm and key_norm (head_width,).
        head_width: the entries of a head, an even number that divides the outputs of queries and keys.
        eps: added to the mean squares in all norms.
        scale: multiplies the products of queries and keys.
        rounds: True for inputs of products that are rounded to 8 bits, as by `dynamic_int8_linear`.
        instruction_set: one of `instruction_sets()`, by default the best.

    Raises: as in `binary_linear`, and ValueError for sizes that do not fit.
    """

    def __init__(
        self, weights: Mapping[str, BinaryWeight], norms: Mapping[str, Tensor], head_width: int, eps: float,
        scale: float, rounds: bool = False, instruction_set: str | None = None,
    ) -> None:  # fmt: skip
        _require_sizes(weights, head_width)
        kernels, self._number = loaded(instruction_set)
        self.rounds, self._call = rounds, kernels.px_decoder_layer
        self._width, queries = weights["query"].in_features, weights["query"].out_features
        self._head_width, self._key_heads = head_width, weights["key"].out_features // head_width
        self._alive: list[object] = []
        products = [
            self._product(weights[name], (Add(),) if name in ("output", "down") else (), instruction_set)
            for name in _PRODUCTS
        ]
        sizes = self._width, weights["gate"].out_features, queries // head_width, self._key_heads, head_width
        widths = self._width, self._width, head_width, head_width
        at = [self._norm(name, norms.get(name), width) for name, width in zip(_NORMS, widths, strict=True)]
        self._decoder = CDecoder(*sizes, eps, scale, int(rounds), *at, *products)
        self._address = ctypes.addressof(self._decoder)

    def __call__(
        self, x: Tensor, cosine: Tensor, sine: Tensor, keys: Tensor, values: Tensor, tokens: int,
        seen: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Return y (batch, 1, width) for x of that shape, and write key and value at place `tokens` of the cache.

        All are float32 on the CPU. `cosine` and `sine` (batch or 1, 1, head_width) are those of the token's position.
        `keys` and `values` (batch, key heads, room, head_width) have the same strides, contiguous tokens, and
        `tokens` < room of them. `seen`, if given, is bool (batch or 1, 1, 1, tokens + 1), False for tokens to which
        the new one does not attend; it attends to one at least.
        """
        batch = self._require_token(x, cosine, sine)
        self._require_cache(batch, keys, values, tokens)
        x, cosine, sine = x.contiguous(), *(part.expand(batch, 1, -1).contiguous() for part in (cosine, sine))
        if seen is not None:
            seen = _require_mask(seen, batch, tokens + 1).expand(batch, 1, 1, -1).contiguous()
        seen_at = None if seen is None else seen.data_ptr()
        cache = CDecoderCache(keys.data_ptr(), values.data_ptr(), tokens, keys.stride()[:2], seen_at)
        y = torch.empty_like(x)
        self._call(
            self._number, x.data_ptr(), batch, cosine.data_ptr(), sine.data_ptr(), ctypes.addressof(cache),
            self._address, y.data_ptr(), torch.get_num_threads(),
        )  # fmt: skip
        return y

    def _require_token(self, x: Tensor, cosine: Tensor, sine: Tensor) -> int:
        """Return the batch; raise unless the input and the angles are as `__call__` takes them."""
        batch, width = x.shape[0], self._head_width
        require_float32("x", x)
        if x.shape[1:] != (1, self._width):
            raise ValueError(f"x must be (batch, 1, {self._width}); got {tuple(x.shape)}")
        for name, part in (("cosine", cosine), ("sine", sine)):
            require_float32(name, part)
            if part.shape not in ((batch, 1, width), (1, 1, width)):
                raise ValueError(f"{name} must be ({batch} or 1, 1, {width}); got {tuple(part.shape)}")
        return batch

    def _require_cache(self, batch: int, keys: Tensor, values: Tensor, tokens: int) -> None:
        width = self._head_width
        for name, cached in (("keys", keys), ("values", values)):
            require_float32(name, cached)
            shape, strides = cached.shape, cached.stride()
            fits = len(shape) == 4 and (shape[0], shape[1], shape[3]) == (batch, self._key_heads, width)
            if not fits or not 0 <= tokens < shape[2] or strides[2:] != (width, 1) or strides != keys.stride():
                raise ValueError(
                    f"{name} must be ({batch}, {self._key_heads}, more than {tokens}, {width}) with contiguous tokens, "
                    f"and strided as the keys; got {tuple(shape)} with strides {strides}"
                )

    def _product(self, weight: BinaryWeight, then: tuple[Add, ...], instruction_set: str | None) -> CDecoderProduct:
        sizes = weight.in_features, weight.out_features
        kernel = FusedFloatLinear(weight.panels, *sizes, weight.scale, weight.bias, then, self.rounds, instruction_set)
        self._alive.append(kernel)
        return CDecoderProduct(weight.panels.data_ptr(), weight.out_features, kernel.epilogue.address)

    def _norm(self, name: str, weight: Tensor | None, width: int) -> int | None:
        """Keep a copy of the weight of a norm, and return its address; None for heads without a norm."""
        if weight is None:
            return None
        require_vector(name, weight, width)
        self._alive.append(kept := weight.detach().reshape(-1).clone())
        return kept.data_ptr()


def _require_mask(seen: Tensor, batch: int, tokens: int) -> Tensor:
    if seen.dtype is torch.bool and seen.is_cpu and seen.shape in ((batch, 1, 1, tokens), (1, 1, 1, tokens)):
        return seen
    raise ValueError(
        f"seen must be bool ({batch} or 1, 1, 1, {tokens}) on the CPU; got {seen.dtype} {tuple(seen.shape)}"
    )


def _require_sizes(weights: Mapping[str, BinaryWeight], head_width: int) -> None:
    """Raise ValueError unless the sizes of the weights fit each other and the heads."""
    width, queries = weights["query"].in_features, weights["query"].out_features
    keys, hidden = weights["key"].out_features, weights["gate"].out_features
    expected = {
        "key": (keys, width), "value": (keys, width), "output": (width, queries), "gate": (hidden, width),
        "up": (hidden, width), "down": (width, hidden),
    }  # fmt: skip
    for name, size in expected.items():
        got = weights[name].out_features, weights[name].in_features
        if got != size:
            raise ValueError(f"the weight {name!r} must be {size}; got {got}")
    if head_width < 2 or head_width % 2 or queries % head_width or keys % head_width or queries % keys:
        raise ValueError(
            f"head_width must be even and divide the {queries} outputs of queries and the {keys} of keys, of which the "
            f"first must be a multiple of the second; got {head_width}"
        )
