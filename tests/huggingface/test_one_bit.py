"""Language models of transformers in which all matrices are 1 bit: they train, pack, save, load and generate."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import proxconnect as pc
from gguf_files import KINDS, language_model
from proxconnect.deploy.packed.layers.base import CompactLayer
from proxconnect.huggingface import ProxConnectConfig
from proxconnect.layers import BinaryLayer

MODELS = {"llama": ("llama", False), "qwen2, tied": ("qwen2", True)}
PROMPT, SENTENCE = torch.tensor([[3, 1, 4, 1]]), torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7]])


def train(model: nn.Module, steps: int) -> list[float]:
    """The losses of a few steps on one sentence, up to a hard end."""
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=0.01, weight_decay=0)
    pc.Sharpening(optimizer, model, steps=steps)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(SENTENCE, labels=SENTENCE).loss  # type: ignore[operator]
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    model.eval()
    return losses


def generated(model: Any) -> list[int]:
    return model.generate(PROMPT, max_new_tokens=10, do_sample=False, eos_token_id=None)[0].tolist()


@pytest.mark.parametrize(
    ("name", "options"), [("llama", {}), ("qwen2, tied", {"scale": "learned", "group_size": 64})], ids=[*MODELS]
)
def test_all_matrices_are_1_bit_and_the_packed_model_writes_what_it_learned(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    kind, tied = MODELS[name]
    model = language_model(kind, 100, tie_word_embeddings=tied)
    matrices = sum(p.numel() for p in model.parameters() if p.dim() > 1)
    pc.binarize(model, "bnn++", keep=None, embeddings=True, **options)
    assert model.binarization.floats == {}
    losses = train(model, 20)
    assert losses[-1] < losses[0] / 4
    assert (model.lm_head.latent is model.model.embed_tokens.latent) == tied
    expected = generated(model)
    assert expected == SENTENCE[0].tolist()
    packed = pc.pack(model)
    pc.save(packed, tmp_path / "net")
    loaded = pc.load(tmp_path / "net", language_model(kind, 100, tie_word_embeddings=tied))
    for network in (packed, loaded):
        assert generated(network) == expected
        numbers = pc.summary(network)
        assert numbers.binary_parameters == matrices
        assert numbers.parameters - matrices == sum(p.numel() for p in network.parameters())  # norms and biases
        assert not any(isinstance(m, BinaryLayer) for m in network.modules())
        floats = [t for m in network.modules() if isinstance(m, CompactLayer) for t in m._parameters.values()]
        assert all(t is None or t.dim() == 1 for t in floats)


@pytest.mark.parametrize(
    ("name", "scale"), [("llama", "channel"), ("qwen2, tied", "channel"), ("qwen2, tied", "learned")]
)
def test_transformers_saves_and_loads_it(name: str, scale: Any, tmp_path: Path) -> None:
    kind, tied = MODELS[name]
    language_model(kind, 100, tie_word_embeddings=tied).save_pretrained(tmp_path / "float")
    config = ProxConnectConfig("bnn++", keep=None, embeddings=True, scale=scale)
    model = KINDS[kind][1].from_pretrained(tmp_path / "float", quantization_config=config)
    train(model, 3)
    sharpness = float(model.lm_head.weight_quantizer.mu)
    model.save_pretrained(tmp_path / "binary")
    for place in ("binary", "again"):
        again, report = KINDS[kind][1].from_pretrained(tmp_path / place if place == "binary" else tmp_path / "second",
                                                       output_loading_info=True)  # fmt: skip
        assert not any(report.values())
        assert (again.lm_head.latent is again.model.embed_tokens.latent) == tied
        assert (again.lm_head.weight_quantizer is again.model.embed_tokens.weight_quantizer) == tied
        assert float(again.lm_head.weight_quantizer.mu) == sharpness > pc.PAIRS["bnn++"].sharpness.start
        assert torch.equal(again(SENTENCE).logits, model(SENTENCE).logits)
        again.save_pretrained(tmp_path / "second")
    latent = again.lm_head.latent
    again.tie_weights()
    assert again.lm_head.latent is latent
    losses = train(again, 5)
    assert losses[-1] < losses[0]
    with pytest.raises(TypeError, match="resize the token embeddings of the float network"):
        again.resize_token_embeddings(120)


def test_a_tied_head_of_a_configuration_that_keeps_edges_is_refused(tmp_path: Path) -> None:
    language_model("qwen2", 100, tie_word_embeddings=True).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"makes no embedding binary: model\.embed_tokens: tied to lm_head"):
        KINDS["qwen2"][1].from_pretrained(tmp_path, quantization_config=ProxConnectConfig(embeddings=True))
