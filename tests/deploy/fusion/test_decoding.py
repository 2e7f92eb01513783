"""Decoder layers in one call for each new token: the same text as their modules write, whatever happens between."""

import copy
import itertools
import pickle
import warnings
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import proxconnect as pc
from proxconnect.deploy.fusion import layer_by_layer
from proxconnect.deploy.fusion.decoding.stack_forward import StackForward
from proxconnect.deploy.fusion.decoding.token_forward import TokenForward
from thorough import thorough_but

MODELS = {
    "Llama": {}, "Mistral": {"sliding_window": None}, "Qwen2": {"rope_theta": 1e4}, "Qwen3": {"head_dim": 48},
}  # fmt: skip
NEW = {"max_new_tokens": 12, "do_sample": False}


def language_model(kind: str = "Llama", **options: Any) -> nn.Module:
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=96, hidden_size=128, intermediate_size=192, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, bos_token_id=1, eos_token_id=None, pad_token_id=0,
        **(MODELS[kind] | options),
    )  # fmt: skip
    model: nn.Module = getattr(transformers, f"{kind}ForCausalLM")(config)
    for name, parameter in model.named_parameters():  # norms and biases start at ones and zeros
        if parameter.dim() == 1:
            nn.init.uniform_(parameter, 0.5 if "norm" in name else -0.5, 1.5 if "norm" in name else 0.5)
    return model


def packed(kind: str = "Llama", group_size: int | None = None, inputs: Any = "exact", **options: Any) -> nn.Module:
    model = pc.binarize(language_model(kind, **options), "bc", group_size=group_size)
    return pc.pack(model, inputs=inputs).requires_grad_(False)


def prompt(*lengths: int) -> dict[str, Tensor]:
    """Tokens of sequences, those of the short ones behind padding."""
    tokens = torch.randint(2, 96, (len(lengths), max(lengths)))
    mask = torch.arange(max(lengths)) >= max(lengths) - torch.tensor(lengths)[:, None]
    return {"input_ids": torch.where(mask, tokens, 0), "attention_mask": mask.long()}


def forwards(model: Any) -> list[TokenForward]:
    return [vars(layer)["_token_forward"] for layer in model.model.layers]


def count_answers(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the calls that kernels answer, into the result."""
    answers = [0]
    own = TokenForward._answer

    def answer(self: TokenForward, *args: Any) -> Tensor:
        answers[0] += 1
        return own(self, *args)

    monkeypatch.setattr(TokenForward, "_answer", answer)
    return answers


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of tokens for which all layers ran without their modules, counted into a list."""
    answers = [0]
    own = StackForward._answer

    def answer(self: StackForward, *args: Any) -> Any:
        found = own(self, *args)
        answers[0] += found is not None
        return found

    monkeypatch.setattr(StackForward, "_answer", answer)
    return answers


def by_modules(model: Any, **given: Any) -> Any:
    with layer_by_layer(model):
        return model.generate(**given)


CASES = {
    "greedy": {}, "beams": {"num_beams": 3}, "sampled": {"do_sample": True, "num_return_sequences": 2},
    "assisted": {"prompt_lookup_num_tokens": 3},
}  # fmt: skip


WAYS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "plain": ({}, (7,)), "groups": ({"group_size": 64}, (5, 9)), "int8": ({"inputs": "int8"}, (6,)),
}  # fmt: skip
ONE_OF_EACH = {("Llama", "int8"), ("Mistral", "plain"), ("Qwen2", "groups"), ("Qwen3", "plain")}


@pytest.mark.parametrize(("kind", "way"), thorough_but(ONE_OF_EACH, itertools.product(MODELS, WAYS)))
def test_writes_what_its_modules_write(kind: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answers, (options, lengths) = count_answers(None, monkeypatch), WAYS[way]
    model, given = packed(kind, **options), prompt(*lengths)
    kept = {"output_logits": True, "return_dict_in_generate": True}
    expected, found = by_modules(model, **given, **NEW, **kept), model.generate(**given, **NEW, **kept)
    assert answers[0] == 2 * NEW["max_new_tokens"] - 2
    torch.testing.assert_close(found.sequences, expected.sequences)
    atol = 0.03 if way == "int8" else 1e-4
    torch.testing.assert_close(torch.stack(found.logits), torch.stack(expected.logits), rtol=1e-4, atol=atol)


@pytest.mark.parametrize("case", thorough_but([case for case in CASES if case != "greedy"], CASES))
def test_every_way_to_generate(case: str) -> None:
    model, given = packed(), prompt(8)
    if case == "assisted":
        given["input_ids"] = given["input_ids"][:, :4].repeat(1, 2)
    torch.manual_seed(3)
    expected = by_modules(model, **given, **(NEW | CASES[case]))
    torch.manual_seed(3)
    torch.testing.assert_close(model.generate(**given, **(NEW | CASES[case])), expected)
    assert all(forward._is_checked for forward in forwards(model))


def test_a_cache_that_others_hold_cut_and_share_is_not_overwritten() -> None:
    model, given = packed(), prompt(6)
    with torch.no_grad():
        cache = model(given["input_ids"], use_cache=True).cache
        for token in (5, 6):
            model(torch.tensor([[token]]), cache=cache)
        held = cache.layers[0].keys
        before, other = held.clone(), copy.deepcopy(cache)
        cache.crop(-1)
        again = model(torch.tensor([[9]]), cache=cache).logits
        further = model(torch.tensor([[7]]), cache=other).logits
        torch.testing.assert_close(held, before)
        whole = torch.cat([given["input_ids"], torch.tensor([[5, 9]])], 1)
        torch.testing.assert_close(again[:, -1], model(whole).logits[:, -1], rtol=1e-4, atol=1e-4)
        whole = torch.cat([given["input_ids"], torch.tensor([[5, 6, 7]])], 1)
        torch.testing.assert_close(further[:, -1], model(whole).logits[:, -1], rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_follows_every_change() -> None:
    model, given = packed(), prompt(6)

    def agrees() -> None:
        torch.testing.assert_close(model.generate(**given, **NEW), by_modules(model, **given, **NEW))

    agrees()
    layer: Any = model.model.layers[0]
    layer.self_attn.q_proj.scale.mul_(-3)
    agrees()
    layer.input_layernorm.weight.data[:64] = 4
    agrees()
    layer.self_attn.scaling = 2.0
    agrees()
    layer.self_attn.v_proj.bits.bitwise_xor_(255)
    agrees()
    layer.mlp.up_proj = nn.Linear(128, 192)
    agrees()
    assert [forward._kernel is None for forward in forwards(model)] == [True, False]


def test_layers_that_have_been_compared_run_without_their_modules(at_once: list[int]) -> None:
    model, given = packed(), prompt(6)
    model.generate(**given, **NEW)
    assert at_once[0] == NEW["max_new_tokens"] - 2  # the prompt runs by modules, and the next token is compared
    model.generate(**prompt(6, 9), **NEW)  # with padding, which a mask hides
    assert at_once[0] == NEW["max_new_tokens"] - 2
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert vars(other.model)["_token_forward"].module is other.model


@torch.no_grad()
def test_what_only_modules_can_tell_is_told(at_once: list[int]) -> None:
    model, given = packed(), prompt(6)
    model.generate(**given, **NEW)
    before, layer, seen = at_once[0], model.model.layers[1], []
    handle = layer.register_forward_hook(lambda *_: seen.append(1))
    model.generate(**given, **NEW)
    handle.remove()
    own = layer.forward
    layer.forward = lambda *args, **kwargs: [seen.append(1), own(*args, **kwargs)][1]
    model.generate(**given, **NEW)
    del layer.forward
    assert len(seen) == 2 * NEW["max_new_tokens"]
    cache = model(given["input_ids"], use_cache=True).cache
    token = {"input_ids": torch.tensor([[5]]), "cache": cache, "position_ids": torch.tensor([[6]])}
    assert isinstance(model.model(**token, return_dict=False), tuple)
    assert at_once[0] == before
    found = model(**token)
    assert (at_once[0], found.cache.get_seq_length(), found.cache) == (before + 1, 8, cache)
    model.config.output_hidden_states = True
    assert len(model(**token).hidden_states) == 3
    assert len(model(**token, output_hidden_states=True).hidden_states) == 3
    assert at_once[0] == before + 1


def test_hooks_modes_and_other_calls_run_the_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    model, given = packed(), prompt(6)
    answers = count_answers(model, monkeypatch)
    model.generate(**given, **NEW)
    first = answers[0]
    seen: list[Any] = []
    handle = model.model.layers[0].mlp.register_forward_hook(lambda *_: seen.append(1))
    model.generate(**given, **NEW)
    assert (len(seen), answers[0] - first) == (NEW["max_new_tokens"], NEW["max_new_tokens"] - 1)
    handle.remove()
    answers[0] = 0
    model.train().generate(**given, **NEW)
    with torch.autocast("cpu"):
        model.eval().generate(**given, **NEW)
    model.generate(**given, **NEW, cache_implementation="static")
    assert answers[0] == 0


def test_copies_and_pickles_make_their_own_kernels() -> None:
    model, given = packed(), prompt(6)
    expected = model.generate(**given, **NEW)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        torch.testing.assert_close(other.generate(**given, **NEW), expected)
        assert forwards(other)[0].module is other.model.layers[0]
        assert forwards(other)[0]._is_checked


def test_a_kernel_that_answers_otherwise_is_given_up_aloud(monkeypatch: pytest.MonkeyPatch) -> None:
    model, given = packed(), prompt(6)
    expected = by_modules(model, **given, **NEW)
    own = TokenForward._answer
    monkeypatch.setattr(TokenForward, "_answer", lambda *args: own(*args) * 1.01)
    with pytest.warns(UserWarning, match="LlamaDecoderLayer is given up.* is off by"):
        torch.testing.assert_close(model.generate(**given, **NEW), expected)
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(model.generate(**given, **NEW), expected)


def test_layers_without_a_form_run_by_their_modules() -> None:
    kinds = {"binary inputs": {"activations": "bnn+"}, "a float part": {"keep": ["edges", "*.up_proj"]}}
    for options in kinds.values():
        model, given = pc.pack(pc.binarize(language_model(), "bc", **options)), prompt(6)
        torch.testing.assert_close(model.generate(**given, **NEW), by_modules(model, **given, **NEW))
        assert not any(forward._is_checked for forward in forwards(model))
    window = packed("Mistral", sliding_window=4)
    torch.testing.assert_close(window.generate(**prompt(6), **NEW).shape, torch.Size([1, 18]))
    assert not any(forward._is_checked for forward in forwards(window))


def test_the_report_names_the_layers() -> None:
    assert "one call for each new token: model.layers.0, model.layers.1" in str(packed().packing)
