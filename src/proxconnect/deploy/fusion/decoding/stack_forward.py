"""Run all decoder layers of a language model for one new token by their kernels, without the calls of their modules."""

import functools
from dataclasses import fields
from typing import Any

from torch import Tensor, nn

from proxconnect.deploy.fusion.calls import are_plain
from proxconnect.deploy.fusion.decoding.token_forward import TokenForward, token_forward

_IGNORED = ("use_cache", "cache_position")
"""The arguments of a model that do not change the answer to one token, given a cache."""

_ASKED = ("output_attentions", "output_hidden_states")
"""What a configuration may ask for, which only the modules can tell."""


class StackForward:
    """The callable that runs a model of decoder layers for one new token, or returns None for calls its modules run.

    It takes tokens, their positions, a `DynamicCache`, and no mask or one that hides no token. All layers must be ready
    to answer by their kernels, which have been compared with their modules before. Embedding, angles and the last norm
    run as modules.
    """

    is_paused = False

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the model's answer to a call with these arguments, or None, and then the cache is as it was."""
        rest = dict(kwargs)
        ids, positions, mask = (rest.pop(name, None) for name in ("input_ids", "position_ids", "attention_mask"))
        cache = rest.pop("cache", None) or rest.pop("past_key_values", None)
        if self.is_paused or args or cache is None or not (_is_one_token(ids) and _is_one_token(positions)):
            return None
        if any(value is not None and name not in _IGNORED for name, value in rest.items()) or not _shows_all(mask):
            return None
        forwards = self._forwards()
        return self._answer(ids, positions, cache, forwards) if forwards else None

    def require_comparison(self) -> None:
        """Leave it to the layers to look for changes of large tensors, after training."""

    def _forwards(self) -> list[TokenForward]:
        """Return the callables of all layers; none if the modules must run."""
        module: Any = self.module
        found = [token_forward(layer) for layer in module.layers]
        ready = [forward for forward in found if isinstance(forward, TokenForward) and forward.is_ready()]
        asked = any(getattr(module.config, name, False) for name in _ASKED)
        return [] if asked or not len(ready) == len(found) == module.config.num_hidden_layers else ready

    def _answer(self, ids: Tensor, positions: Tensor, cache: Any, forwards: list[TokenForward]) -> Any:
        module: Any = self.module
        hidden = module.embed_tokens(ids)
        angles = module.rotary_emb(hidden, position_ids=positions)
        tokens = [forward.token(hidden, angles, None, cache) for forward in forwards]
        if not are_plain((ids, positions, hidden, *angles)) or None in tokens:
            return None
        for forward, token in zip(forwards, tokens, strict=True):
            assert token is not None
            hidden = forward.advance(token._replace(hidden=hidden))
        make_output, cached = _output_and_cache()
        return make_output(last_hidden_state=module.norm(hidden), **{cached: cache})


def _is_one_token(numbers: Any) -> bool:
    """Return True for numbers of one token a sequence, (batch, 1)."""
    return type(numbers) is Tensor and numbers.dim() == 2 and numbers.shape[1] == 1


def _shows_all(mask: Any) -> bool:
    """Return True without a mask, and for a mask (batch, tokens) that hides none."""
    return mask is None or (type(mask) is Tensor and mask.dim() == 2 and bool(mask.all()))


@functools.cache
def _output_and_cache() -> tuple[Any, str]:
    """Return the class of what a model of transformers returns, and what that calls the cache in this version."""
    from transformers.modeling_outputs import BaseModelOutputWithPast

    names = {field.name for field in fields(BaseModelOutputWithPast)}
    return BaseModelOutputWithPast, "cache" if "cache" in names else "past_key_values"
