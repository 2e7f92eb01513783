"""The speed of writing: counts, times, and the networks that can write."""

import copy
import io

import pytest
import torch
import transformers
from rich.console import Console
from torch import nn

import proxconnect as pc
from proxconnect.cli.bench import generation, tables
from proxconnect.cli.bench.timing import Spread

SIZES = {"vocab_size": 50, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96}


def llama() -> nn.Module:
    config = transformers.LlamaConfig(max_position_embeddings=40, **SIZES)
    return transformers.LlamaForCausalLM(config).eval().requires_grad_(False)


def written(model: nn.Module, prompt: torch.Tensor) -> list[int]:
    mask = torch.ones_like(prompt)
    return model.generate(input_ids=prompt, attention_mask=mask, max_new_tokens=20, do_sample=False).tolist()[0]


def test_a_packed_network_writes_what_the_hard_one_does():
    prompt = torch.randint(50, (1, 12))
    binary = pc.binarize(llama(), "bnn++", example={"input_ids": prompt}).eval()
    assert written(pc.pack(binary), prompt) == written(binary, prompt)


def test_in_8_bits_the_next_word_stays_about_as_likely():
    prompt = torch.randint(50, (2, 12))
    binary = pc.binarize(llama(), "bnn++", example={"input_ids": prompt}).eval()
    packed = pc.pack(binary, remainder="int8", example={"input_ids": prompt})  # whose bounds each layer keeps
    expected, found = (model(input_ids=prompt).logits for model in (binary, packed))
    assert 0 < (found - expected).abs().max() <= 0.03 * expected.abs().max()


def test_the_prompt_runs_once_and_then_every_token_alone():
    model, lengths = llama(), []
    hook = model.model.register_forward_pre_hook(
        lambda _, args, kwargs: lengths.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    found = generation.time_writing({"float": model}, generation.prompt_for(model, 7), 5, rounds=3, engines={})
    hook.remove()
    assert lengths == 4 * [(1, 7), (1, 1), (1, 1), (1, 1), (1, 1)]  # once before the rounds
    assert (found["prompt"], found["tokens"]) == (7, 5)


def test_no_token_ends_the_text():
    model = llama()
    prompt = generation.prompt_for(model, 6)
    first = written(model, prompt)[6]
    model.generation_config.eos_token_id = first
    generation.time_writing({"float": model}, prompt, 4, rounds=1, engines={})


class Slow(nn.Module):
    """Takes `first` seconds of a clock for a prompt and `step` for a token."""

    def __init__(self, clock, first, step):
        super().__init__()
        self.clock, self.first, self.step = clock, first, step

    def generate(self, *, input_ids, max_new_tokens, streamer, **_):
        streamer.put(input_ids)
        for number in range(max_new_tokens):
            self.clock.now += self.step if number else self.first
            streamer.put(input_ids[:, :1])
        streamer.end()


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_the_rate_is_that_of_the_tokens_after_the_first(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(generation, "perf_counter", clock)
    models = {"float": Slow(clock, 8.0, 0.5), "packed": Slow(clock, 2.0, 0.125)}
    asked = []

    def other(prompt, tokens):
        asked.append((prompt, tokens))
        return 4.0, 8 * 0.25

    prompt = torch.tensor([[5, 6, 7]])
    a, b, c = generation.time_writing(models, prompt, 9, rounds=2, engines={"other": other})["writers"]
    assert asked == 3 * [([5, 6, 7], 9)]  # once before the rounds
    assert (a["name"], a["first_token"].median, a["rate"].median) == ("float", 8, 2)
    assert (b["name"], b["first_token"].median, b["rate"].median) == ("packed", 2, 8)
    assert (a["first_speedup"].median, a["rate_speedup"].median) == (1, 1)
    assert (b["first_speedup"].median, b["rate_speedup"].median) == (4, 4)
    assert (c["name"], c["first_token"].median, c["rate"].median) == ("other", 4, 4)
    assert (c["first_speedup"].median, c["rate_speedup"].median) == (2, 2)


def test_who_writes():
    assert generation.can_write(llama())
    assert generation.can_write(pc.pack(pc.binarize(copy.deepcopy(llama()), "bnn++").eval()))
    encoder = transformers.BertForMaskedLM(transformers.BertConfig(**SIZES))
    translator = transformers.T5ForConditionalGeneration(
        transformers.T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    )
    for model in (encoder, translator, nn.Linear(2, 2)):
        assert not generation.can_write(model)
        generation.require_room("it", model, 10**6, 1)


def test_what_has_no_room_is_refused():
    generation.require_room("LLaMA", llama(), prompt=30, tokens=10)
    with pytest.raises(ValueError, match="LLaMA has 40 positions: --prompt 30 and --tokens 11 are more"):
        generation.require_room("LLaMA", llama(), prompt=30, tokens=11)
    with pytest.raises(ValueError, match="write 2 or more"):
        generation.require_room("LLaMA", llama(), prompt=30, tokens=1)


def test_the_table_fits_80_columns():
    one = Spread(1.0, 1.0, 1.0)
    keys = ("name", "first_token", "first_speedup", "rate", "rate_speedup")
    slow = ("float", Spread(1.5, 2.5, 3.5), one, Spread(0.5, 1.25, 1.75), one)
    fast = ("packed", Spread(0.001, 0.002, 0.003), Spread(1, 1250, 1300), Spread(1e5, 2e5, 3e5), one)
    writers = [dict(zip(keys, values, strict=True)) for values in (slow, fast)]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(tables.writing({"prompt": 100_000, "tokens": 4096, "writers": writers}))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    rows = {line.split()[0]: line.split() for line in lines[-2:]}
    assert rows["float32"] == ["float32", "2,500", "1.00", "1.25", "0.500", "to", "1.75", "1.00"]
    assert rows["packed"] == ["packed", "2.00", "1250.00", "200,000", "100,000", "to", "300,000", "1.00"]
