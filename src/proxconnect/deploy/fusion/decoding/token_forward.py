"""Run a decoder layer for one new token in one call, after comparing the first answer with that of its modules."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from proxconnect.deploy.fusion.calls import are_plain
from proxconnect.deploy.fusion.closeness import gap
from proxconnect.deploy.fusion.decoding.architecture import kernel_of, parts_of
from proxconnect.deploy.fusion.decoding.cache import Room, growing_layer, room_in
from proxconnect.deploy.fusion.sources import Sources
from proxconnect.kernels.decoder import DecoderLayer

_CLOSE = 1e-3
"""The largest error of the first answer, relative to the largest entry."""

_CLOSE_IF_ROUNDED = 2e-2
"""The same for inputs in 8 bits, where rounding differs by a step if an input differs in its last bit."""

_IGNORED = ("position_ids", "use_cache", "cache_position")
"""The arguments of a decoder layer that do not change the answer to one token."""


class Token(NamedTuple):
    """The arguments of a call with one new token a sequence: hidden state, angles of its position, mask and cache."""

    hidden: Tensor
    cosine: Tensor
    sine: Tensor
    seen: Tensor | None
    cached: Any


class TokenForward:
    """The callable that runs a decoder layer for one new token, or returns None for calls that the modules must run.

    It takes plain float32 CPU tensors, a `DynamicCache`, and no mask or a bool one, in `eval()` and without gradients
    and hooks. The kernel is made again if a weight or a module changes. It is given up with a warning if its first
    answer without NaN differs from that of `own`, the layer's own forward, by more than rounding can explain.
    """

    is_paused = _is_given_up = _is_checked = False
    _sources: Sources | None = None
    _kernel: DecoderLayer | None = None

    def __init__(self, module: nn.Module, own: Callable[..., Any]) -> None:
        self.module, self._own = module, own

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
        """Return the layer's answer to a call with these arguments, or None, and then the cache is as it was."""
        if self.is_paused or self._is_given_up:
            return None
        token = self._token(args, kwargs)
        if token is None or not self._may_run():
            return None
        return self.advance(token) if self._is_checked else self._checked(token, args, kwargs)

    def is_ready(self) -> bool:
        """Return True if the kernel has been compared, and computes all that a call of the layer would."""
        layer = self.module
        is_seen = layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer)
        return not (self.is_paused or self._is_given_up or is_seen) and self._may_run() and self._is_checked

    def advance(self, token: Token) -> Tensor:
        """Return the answer of the kernel, and let the cache hold one more token."""
        room = room_in(token.cached)
        answer = self._answer(token, room)
        room.show(token.cached)
        return answer

    def token(self, hidden: Tensor, angles: tuple[Tensor, Tensor], seen: Tensor | None, cache: Any) -> Token | None:
        """Return what the kernel takes; None if it does not take the shapes and dtypes of these arguments."""
        attention: Any = self.module._modules["self_attn"]
        cached = growing_layer(cache, attention.layer_idx)
        token = Token(hidden, *angles, seen, cached)
        if cached is None or cached.keys.shape[0] != len(hidden) or hidden.dtype is not torch.float32:
            return None
        return token if self._are_angles(token, attention.head_dim) and self._is_mask(token) else None

    def require_comparison(self) -> None:
        """Look for changes of large tensors too before the kernel runs again, as after training."""
        if self._sources is not None:
            self._sources.require_comparison()

    def _token(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Token | None:
        rest = dict(kwargs)
        hidden = args[0] if len(args) == 1 else rest.pop("hidden_states", None)
        angles, seen = rest.pop("position_embeddings", None), rest.pop("attention_mask", None)
        cache = rest.pop("cache", None) or rest.pop("past_key_values", None)
        if len(args) > 1 or type(hidden) is not Tensor or hidden.dim() != 3 or hidden.shape[1] != 1:
            return None
        if not isinstance(angles, tuple) or len(angles) != 2 or cache is None:
            return None
        if any(value is not None and value is not False for name, value in rest.items() if name not in _IGNORED):
            return None
        return self.token(hidden, angles, seen, cache) if are_plain((hidden, *angles, seen)) else None

    @staticmethod
    def _are_angles(token: Token, head_width: int) -> bool:
        """Return True if all entries of a head turn, by angles of each sequence or of all."""
        shapes = ((len(token.hidden), 1, head_width), (1, 1, head_width))
        return all(part.shape in shapes and part.dtype is torch.float32 for part in (token.cosine, token.sine))

    @staticmethod
    def _is_mask(token: Token) -> bool:
        """Return True without a mask, and for a bool mask that says which tokens the new one attends to."""
        seen, tokens = token.seen, token.cached.keys.shape[2] + 1
        if seen is None:
            return True
        return seen.dtype is torch.bool and seen.shape in ((len(token.hidden), 1, 1, tokens), (1, 1, 1, tokens))

    def _may_run(self) -> bool:
        """Return True if the kernel computes the layer now; make it again if the layer has changed."""
        if self._sources is None or self._sources.have_changed():
            self._sources = Sources(self.module, fx.Graph(), parts_of(self.module))
            self._kernel, self._is_checked = kernel_of(self.module), False
        return self._kernel is not None and not self._sources.is_in_training() and not self._sources.are_hooked()

    def _answer(self, token: Token, room: Room) -> Tensor:
        assert self._kernel is not None
        angles = token.cosine, token.sine
        return self._kernel(token.hidden, *angles, room.keys, room.values, room.tokens, token.seen)

    def _checked(self, token: Token, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """Return the answer of the layer's own forward, after comparing the kernel's with it."""
        room = Room(token.cached.keys, token.cached.values)
        answer = self._answer(token, room)
        expected: Tensor = self._own(self.module, *args, **kwargs)
        tokens = slice(room.tokens, room.tokens + 1)
        grown = token.cached.keys, token.cached.values
        off = gap(
            (expected, *(part[:, :, tokens] for part in grown)),
            (answer, room.keys[:, :, tokens], room.values[:, :, tokens]),
        )
        assert self._kernel is not None
        if off <= (_CLOSE_IF_ROUNDED if self._kernel.rounds else _CLOSE):
            self._is_checked = not bool(expected.isnan().any())  # NaN proves nothing: compare again
        elif not bool(expected.isnan().any()):
            self._is_given_up = True
            warnings.warn(
                f"the kernel of {type(self.module).__name__} is given up, so that its modules run one by one, more "
                f"slowly: its answer to a token is off by {off:.1e} from theirs",
                stacklevel=6,
            )
        return expected

    def __getstate__(self) -> dict[str, Any]:
        """Return the state for copies and pickles, without the kernel, which they make again."""
        return {"module": self.module}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__ |= state
        self._own = type(self.module)._own_forward  # type: ignore[attr-defined]  # of the subclasses that run graphs


def token_forward(module: nn.Module) -> Any:
    """Return what runs a module for one new token; None for modules without that, and for shallow copies."""
    forward = vars(module).get("_token_forward")
    return forward if forward is not None and forward.module is module else None
