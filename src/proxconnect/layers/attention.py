"""The binary form of `nn.MultiheadAttention`."""

from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from proxconnect.kernels.accumulator import Accumulator
from proxconnect.layers.added_names import with_added_names
from proxconnect.layers.base import BinaryLayer, pair_of_inputs
from proxconnect.layers.converted import BinaryForm, BinaryLinear
from proxconnect.layers.groups import require_divisible, require_groups
from proxconnect.layers.parameter import SUFFIX, BinaryParameter, Owner, adopt, computed
from proxconnect.layers.products import ProjectionProduct
from proxconnect.pairs import AnyPair
from proxconnect.quantizer.quantizer import overridden
from proxconnect.quantizer.scales import Scale

JOINT = ("in_proj_weight",)
SEPARATE = ("q_proj_weight", "k_proj_weight", "v_proj_weight")


class BinaryProjection(BinaryParameter, ProjectionProduct):
    """A binary in-projection of attention: its weight (out, in) is split by rows among one or more inputs."""

    def forward(self, *inputs: Tensor, bias: Tensor | None = None) -> tuple[Tensor, ...]:  # type: ignore[override]
        """Quantise the inputs if they are binary, and project them as `project` does; `bias` is (out,) or None."""
        return self.project(tuple(map(self.quantize_input, inputs)), *self.weight_factors(), bias)


class BinaryMultiheadAttention(BinaryForm, Owner, nn.MultiheadAttention):
    """`nn.MultiheadAttention` with binary projections and, on request, binary inputs to them.

    The projections are children: `in_proj_weight_binary`, or three such if `kdim` or `vdim` differ from `embed_dim`,
    and `out_proj`, a `BinaryLinear`. The scaled-dot-product attention between them is float.

    Args:
        embed_dim, num_heads, dropout, bias, add_bias_kv, add_zero_attn, kdim, vdim, batch_first, device, dtype: as in
            `nn.MultiheadAttention`.
        weights, activations, scale, accumulator, group_size: as in `BinaryLinear`, for every projection; so are the
            errors.
    """

    float_type = nn.MultiheadAttention
    input_dim = 1
    binary_names = (*JOINT, *SEPARATE)
    in_proj_weight = computed("in_proj_weight")
    q_proj_weight = computed("q_proj_weight")
    k_proj_weight = computed("k_proj_weight")
    v_proj_weight = computed("v_proj_weight")

    def __init__(
        self, *args: Any, weights: str | AnyPair = "bnn++", activations: str | AnyPair | None = None,
        scale: Scale = "channel", accumulator: Accumulator | None = None, group_size: int | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(*args, **kwargs)
        options: dict[str, Any] = {
            "weights": weights, "activations": activations, "scale": scale, "accumulator": accumulator,
            "group_size": group_size,
        }  # fmt: skip
        self.convert(self, **options)
        BinaryLinear.convert(self.out_proj, **options)

    @classmethod
    def convert(
        cls, layer: nn.Module, *, weights: str | AnyPair = "bnn++", activations: str | AnyPair | None = None,
        scale: Scale = "channel", accumulator: Accumulator | None = None, group_size: int | None = None,
    ) -> Self:  # fmt: skip
        """Make the in-projections of an `nn.MultiheadAttention` binary in place, and return that module.

        Convert `out_proj` separately, with `BinaryLinear.convert`, which has the same arguments.
        """
        names = cls.float_weights(layer) if isinstance(layer, nn.MultiheadAttention) else ()
        parameters = {name: p for name in names if (p := layer._parameters.get(name)) is not None}
        if not names or len(parameters) < len(names):
            raise TypeError(f"{cls.__name__}.convert takes an nn.MultiheadAttention whose in-projections are plain "
                            f"parameters; got {type(layer).__name__}")  # fmt: skip
        require_groups(group_size, scale)
        require_divisible(group_size, pair_of_inputs(activations), cls.row_sizes(layer), type(layer).__name__)
        options: dict[str, Any] = {
            "weights": weights, "activations": activations, "scale": scale, "accumulator": accumulator,
            "group_size": group_size,
        }  # fmt: skip
        children = {name: BinaryProjection(p, **options) for name, p in parameters.items()}
        layer.__class__ = with_added_names(cls, type(layer))
        assert isinstance(layer, cls)
        for name, child in children.items():
            adopt(layer, name, child.train(layer.training))
        return layer

    @classmethod
    def float_weights(cls, layer: nn.Module) -> tuple[str, ...]:
        """Return the names of the in-projection weights: one, or three if `kdim` or `vdim` differ from `embed_dim`."""
        return JOINT if getattr(layer, "_qkv_same_embed_dim", True) else SEPARATE

    def _reset_parameters(self) -> None:
        """Initialise all parameters as torch does, then learned scales from the latents."""
        with overridden(self, "full_precision"):
            super()._reset_parameters()
        for child in self.children():
            if isinstance(child, BinaryLayer):
                child.weight_quantizer.start_scale(child.by_channel(child.latent))

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, key_padding_mask: Tensor | None = None,
        need_weights: bool = True, attn_mask: Tensor | None = None, average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """Return (output, attention weights or None), with arguments and shapes as in `nn.MultiheadAttention`.

        `is_causal` has no effect, because `attn_mask` is the mask; RuntimeError for `is_causal` without it. ValueError
        if the shape of a mask or a batch does not fit; TypeError if a mask is neither boolean nor float.
        """
        if is_causal and attn_mask is None:
            raise RuntimeError("is_causal is a hint about attn_mask: pass that mask too")
        if not query.dim() == key.dim() == value.dim():
            raise ValueError(f"query, key and value have {query.dim()}, {key.dim()} and {value.dim()} dimensions")
        batch_axis = None if query.dim() == 2 else 0 if self.batch_first else 1
        projected = self._project(query, key, value)
        q, k, v = (x[None] if batch_axis is None else x.transpose(0, batch_axis) for x in projected)
        if k.shape[:2] != v.shape[:2]:
            raise ValueError(f"key has (batch, length) {tuple(k.shape[:2])}, value {tuple(v.shape[:2])}")
        if batch_axis is None and key_padding_mask is not None and key_padding_mask.dim() == 1:
            key_padding_mask = key_padding_mask[None]
        mask = self._mask(attn_mask, key_padding_mask, q, k)
        if self.bias_k is not None and self.bias_v is not None:
            k, v = (torch.cat([x, b.expand(x.shape[0], 1, -1)], 1) for x, b in ((k, self.bias_k), (v, self.bias_v)))
            mask = None if mask is None else functional.pad(mask, (0, 1))
        q, k, v = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (q, k, v))
        if self.add_zero_attn:
            k, v = (functional.pad(x, (0, 0, 0, 1)) for x in (k, v))
            mask = None if mask is None else functional.pad(mask, (0, 1))
        dropout, weights = self.dropout if self.training else 0.0, None
        if need_weights:
            scores = q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)
            weights = functional.dropout((scores if mask is None else scores + mask).softmax(-1), dropout)
            answer = weights @ v
        else:
            answer = functional.scaled_dot_product_attention(q, k, v, mask, dropout)
        answer = answer.transpose(1, 2).flatten(-2)
        output = self.out_proj(answer[0] if batch_axis is None else answer.transpose(0, batch_axis))
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        return output, weights if weights is None or batch_axis is not None else weights[0]

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        """Project the three inputs, in one product if they are one tensor."""
        bias = self.in_proj_bias
        if not self._qkv_same_embed_dim:
            biases = (None,) * 3 if bias is None else bias.chunk(3)
            inputs = zip(SEPARATE, (query, key, value), biases, strict=True)
            return tuple(self._projected(name, x, bias=b)[0] for name, x, b in inputs)
        if query is key and key is value:
            return tuple(self._projected("in_proj_weight", query, bias=bias)[0].chunk(3, -1))
        return self._projected("in_proj_weight", query, key, value, bias=bias)

    def _projected(self, name: str, *inputs: Tensor, bias: Tensor | None) -> tuple[Tensor, ...]:
        """Project by a binary child, or by a weight that stayed float."""
        child = self._modules.get(name + SUFFIX)
        if child is not None:
            projected: tuple[Tensor, ...] = child(*inputs, bias=bias)
            return projected
        weight: Tensor = getattr(self, name)
        blocks = len(inputs)
        biases = (None,) * blocks if bias is None else bias.chunk(blocks)
        return tuple(map(functional.linear, inputs, weight.chunk(blocks), biases))

    def _mask(self, attn_mask: Tensor | None, padding: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
        """Merge the masks to one that is added to the scores, (N or 1, heads or 1, L or 1, S)."""
        merged, batch, keys = None, q.shape[0], k.shape[1]
        shape = (q.shape[1], keys)
        if k.shape[0] != batch:
            raise ValueError(f"query has a batch of {batch}, key and value one of {k.shape[0]}")
        if attn_mask is not None:
            if attn_mask.shape not in (shape, (batch * self.num_heads, *shape)):
                known = f"{shape} or {(batch * self.num_heads, *shape)}"
                raise ValueError(f"attn_mask must be {known}; got {tuple(attn_mask.shape)}")
            added = _additive("attn_mask", attn_mask, q.dtype)
            merged = added[None, None] if added.dim() == 2 else added.unflatten(0, (-1, self.num_heads))
        if padding is not None:
            if padding.shape != (batch, keys):
                raise ValueError(f"key_padding_mask must be {(batch, keys)}; got {tuple(padding.shape)}")
            added = _additive("key_padding_mask", padding, q.dtype)[:, None, None]
            merged = added if merged is None else merged + added
        return merged


def _additive(name: str, mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a boolean mask, True for entries to leave out, into 0 and -∞; a float mask keeps its values.

    TypeError, which gives the `name`, for another dtype.
    """
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise TypeError(f"{name} must be boolean, True for entries to leave out, or float; got {mask.dtype}")
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, float("-inf"))
