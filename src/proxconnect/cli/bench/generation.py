"""The speed at which causal language models of transformers write with their own `generate`."""

from collections.abc import Callable, Mapping
from functools import partial
from time import perf_counter
from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn

from proxconnect.cli.bench.timing import Spread, in_turn, quotients

Write = Callable[[list[int], int], tuple[float, float]]
"""Writes a number of tokens after a prompt; returns the seconds to the first token, and from there to the last one."""


def can_write(model: nn.Module) -> bool:
    """Return True if `model` is a causal language model of transformers, which goes on from a prompt by `generate`."""
    can_generate = getattr(model, "can_generate", None)
    if can_generate is None or not can_generate():
        return False
    goes_on = not getattr(model.config, "is_encoder_decoder", False)
    return goes_on and getattr(model, "main_input_name", None) == "input_ids"


def require_room(title: str, model: nn.Module, prompt: int, tokens: int) -> None:
    """Raise ValueError if a language model has too few positions for `prompt` and `tokens`, or `tokens` is below 2.

    Both are numbers of tokens, and `title` names the network in the message. Nothing is checked for other models.
    """
    if not can_write(model):
        return
    if tokens < 2:
        raise ValueError(f"--tokens {tokens}: the rate is that of the tokens after the first, so write 2 or more")
    room = getattr(model.config, "max_position_embeddings", None)
    if room is not None and prompt + tokens > room:
        raise ValueError(f"{title} has {room} positions: --prompt {prompt} and --tokens {tokens} are more together")


def prompt_for(model: nn.Module, length: int) -> Tensor:
    """Return the numbers of `length` random tokens of a language model, (1, length), the same at each call."""
    words = cast(Any, model).get_input_embeddings().num_embeddings
    return torch.randint(words, (1, length), generator=torch.Generator().manual_seed(0))


def time_writing(
    models: Mapping[str, nn.Module], prompt: Tensor, tokens: int, rounds: int, engines: Mapping[str, Write]
) -> dict[str, Any]:
    """Time how fast several forms of one language model write `tokens` tokens, 2 or more, after a prompt.

    `models` has the forms by name; speedups are relative to the first one. `prompt` has the numbers of its tokens, (1,
    length). `engines` are others that write, by name. Returns "prompt", its length, "tokens" and "writers": for each
    form its "name" and the quartiles over `rounds` of the seconds until the first token ("first_token"), of the tokens
    per second after it ("rate"), and of both speedups.
    """
    reference = next(iter(models))
    works = {name: partial(_write, model, prompt, tokens) for name, model in models.items()}
    works |= {name: partial(write, prompt[0].tolist(), tokens) for name, write in engines.items()}
    for work in works.values():
        work()
    taken = in_turn(works, rounds)
    firsts = {name: [first for first, _ in several] for name, several in taken.items()}
    steps = {name: [rest / (tokens - 1) for _, rest in several] for name, several in taken.items()}
    writers = [
        {
            "name": name,
            "first_token": Spread.of(firsts[name]),
            "first_speedup": Spread.of(quotients(firsts[reference], firsts[name])),
            "rate": Spread.of([1 / seconds for seconds in steps[name]]),
            "rate_speedup": Spread.of(quotients(steps[reference], steps[name])),
        }
        for name in works
    ]
    return {"prompt": prompt.shape[1], "tokens": tokens, "writers": writers}


def _write(model: Any, ids: Tensor, tokens: int) -> tuple[float, float]:
    """Return the seconds until the first new token, and those from there to the last one."""
    moments: list[float] = []  # of the prompt, then of each new token
    streamer = SimpleNamespace(put=lambda _: moments.append(perf_counter()), end=lambda: None)
    start = perf_counter()
    model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, num_beams=1,
        use_cache=True, eos_token_id=None, streamer=streamer,
    )  # fmt: skip
    _, first, *rest = moments
    assert len(rest) == tokens - 1
    return first - start, rest[-1] - first
