"""llama.cpp runs the files of `to_gguf`, and answers like the packed model."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers.processors import TemplateProcessing

import proxconnect as pc
from gguf_files import SENTENCES, SPLITS, Engine, binary, byte_level, language_model, sentence_pieces, trained
from proxconnect.export import to_gguf
from thorough import thorough_but

pytest.importorskip("gguf", reason="gguf is in the extra `gguf`")
pytest.importorskip("xllamacpp", reason="xllamacpp, llama.cpp for Python, is in the extra `test`")

ROUNDING = 0.04
"""The most that logits differ by, relative to their norm: llama.cpp rounds the inputs of each layer to 8 bits."""

LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16}  # fmt: skip
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "mistral": ("mistral", {}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "wide heads": ("qwen3", {"head_dim": 64}),
    "a head for each query": ("llama", {"num_key_value_heads": 4}),
    "biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "tied": ("llama", {"tie_word_embeddings": True}),
    "llama3": ("llama", {"rope_parameters": LLAMA3}),
    "linear": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}}),
    "linear qwen2": ("qwen2", {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}}),
    "theta": ("qwen3", {"rope_parameters": {"rope_type": "default", "rope_theta": 50.0}}),
    "eps": ("llama", {"rms_norm_eps": 0.1}),
}


def distance(model: Any, engine: Engine, prompt: list[int]) -> float:
    """How far the logits of the next token are apart, but for a constant, relative to their norm."""
    with torch.no_grad():
        expected = model(torch.tensor([prompt])).logits[0, -1].float()
    found = engine.log_probabilities(prompt, len(expected))
    expected, found = expected - expected.mean(), found - found.mean()
    return float((found - expected).norm() / expected.norm())


def prompt_of(tokenizer: Any) -> list[int]:
    return tokenizer(SENTENCES[0]).input_ids


FAST = "mistral", "wide heads", "biases", "tied", "llama3", "linear qwen2", "eps"
"""Every architecture, and every part of a file that variants have."""


@pytest.mark.parametrize("variant", thorough_but(FAST, VARIANTS))
def test_logits_are_those_of_the_packed_model_up_to_8_bit_inputs(variant: str, tmp_path: Path) -> None:
    tokenizer, (kind, changes) = byte_level(), VARIANTS[variant]
    model = pc.pack(binary(language_model(kind, len(tokenizer), **changes)))
    to_gguf(model, tmp_path / "net.gguf", tokenizer=tokenizer)
    assert distance(model, Engine(tmp_path / "net.gguf"), prompt_of(tokenizer)) < ROUNDING


@pytest.mark.parametrize("scale", thorough_but(["learned"], ["channel", "learned"]))
def test_logits_of_a_model_with_scales_of_groups(scale: str, tmp_path: Path) -> None:
    """Without the groups of its second matrix the logits would be far off: see the assertion before the last."""
    tokenizer = byte_level()
    floats = language_model("llama", len(tokenizer))
    with torch.no_grad():
        for layer in floats.model.layers:
            layer.mlp.down_proj.weight[:, :128].mul_(5)
    plain = pc.pack(binary(copy.deepcopy(floats)))
    model = pc.pack(binary(floats, scale=scale, group_size=128))
    to_gguf(model, tmp_path / "net.gguf", tokenizer=tokenizer)
    engine = Engine(tmp_path / "net.gguf")
    assert distance(plain, engine, prompt_of(tokenizer)) > 4 * ROUNDING
    assert distance(model, engine, prompt_of(tokenizer)) < ROUNDING


@pytest.mark.parametrize("tied", thorough_but([True], [False, True]))
def test_logits_of_a_model_whose_matrices_are_all_binary(tied: bool, tmp_path: Path) -> None:
    """Rows of the embedding have two blocks of other scales; with one scale a row the logits would be far off."""
    tokenizer = byte_level()
    floats = language_model("qwen2", len(tokenizer), tie_word_embeddings=tied, hidden_size=256, num_attention_heads=8)
    with torch.no_grad():
        floats.model.embed_tokens.weight[:, :128].mul_(5)
    plain = pc.pack(binary(copy.deepcopy(floats), None, embeddings=True))
    model = pc.pack(binary(floats, None, embeddings=True, group_size=128))
    to_gguf(model, tmp_path / "net.gguf", tokenizer=tokenizer)
    engine = Engine(tmp_path / "net.gguf")
    assert distance(plain, engine, prompt_of(tokenizer)) > 4 * ROUNDING
    assert distance(model, engine, prompt_of(tokenizer)) < ROUNDING


@pytest.mark.parametrize("kind", thorough_but(["qwen3"], ["llama", "qwen2", "qwen3"]))
def test_it_writes_the_same_text(kind: str, tmp_path: Path) -> None:
    tokenizer = byte_level()
    model = trained(kind, tokenizer)
    to_gguf(model, tmp_path / "net.gguf", tokenizer=tokenizer)
    engine = Engine(tmp_path / "net.gguf")
    for sentence in SENTENCES:
        whole = tokenizer(sentence).input_ids
        prompt, count = whole[:4], len(whole) - 4
        written = model.generate(torch.tensor([prompt]), max_new_tokens=count, do_sample=False)[0].tolist()
        assert written == whole  # it has learned something
        assert engine.greedy(prompt, count) == whole[4:]


def test_a_binary_head_an_8_bit_remainder_and_a_scale_for_each_matrix(tmp_path: Path) -> None:
    tokenizer = byte_level()
    model = pc.pack(binary(language_model("llama", len(tokenizer)), ("model.embed_tokens",), scale="tensor"))
    to_gguf(model, tmp_path / "net.gguf", tokenizer=tokenizer, remainder="q8_0")
    assert distance(model, Engine(tmp_path / "net.gguf"), prompt_of(tokenizer)) < ROUNDING


TEXTS = [*SENTENCES, "", " a  b\n\n c", "Foxes' 12812 it's, 128 1 28!  ", "žluťoučký 狐 🦊", "<s> is text"]


@pytest.mark.parametrize("split", SPLITS)
def test_texts_have_the_same_byte_level_tokens(split: str, tmp_path: Path) -> None:
    tokenizer = byte_level(split, 384)
    to_gguf(binary(language_model("llama", 384)), tmp_path / "net.gguf", tokenizer=tokenizer)
    engine = Engine(tmp_path / "net.gguf")
    for text in TEXTS:
        assert engine.tokens(text) == tokenizer(text).input_ids, text


@pytest.mark.parametrize("prefix", [True, False])
def test_texts_have_the_same_sentence_pieces(prefix: bool, tmp_path: Path) -> None:
    tokenizer = sentence_pieces(prefix=prefix)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    to_gguf(binary(language_model("llama", len(tokenizer))), tmp_path / "net.gguf", tokenizer=tokenizer)
    engine = Engine(tmp_path / "net.gguf")
    for text in TEXTS:
        assert engine.tokens(text) == tokenizer(text).input_ids, text
