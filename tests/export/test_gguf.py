"""The tensors of a GGUF file, read without llama.cpp."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import proxconnect as pc
from proxconnect.export import to_gguf
from proxconnect.export.gguf.architecture import neighbours_of_halves
from proxconnect.export.gguf.blocks import block_scales, from_blocks, to_blocks
from proxconnect.kernels.bits import pack_bits

gguf = pytest.importorskip("gguf", reason="gguf is in the extra `gguf`")
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb  # noqa: E402

from gguf_files import binary, byte_level, language_model  # noqa: E402

TOKENIZER = byte_level()


def decoded(blocks: np.ndarray) -> np.ndarray:
    """The floats of blocks of Q1_0, one weight after another."""
    rows = []
    for row in blocks:
        weights: list[float] = []
        for start in range(0, len(row), 18):
            scale = float(row[start : start + 2].view(np.float16)[0])
            weights += [scale if row[start + 2 + j // 8] >> j % 8 & 1 else -scale for j in range(128)]
        rows.append(weights)
    return np.array(rows, np.float32)


def read(path: Path) -> dict[str, Any]:
    """The tensors of a file in floats, by name."""
    kinds = gguf.GGMLQuantizationType
    return {
        tensor.name: decoded(tensor.data) if tensor.tensor_type == kinds.Q1_0
        else gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        for tensor in gguf.GGUFReader(path).tensors
    }  # fmt: skip


def rotated_pairs(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """What llama.cpp does to (…, positions, size): entries 2i and 2i + 1 are a complex number, which turns."""
    turned = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * torch.complex(cos, sin)
    return torch.view_as_real(turned).flatten(-2)


def test_rows_are_permuted_so_that_rotating_pairs_equals_rotating_halves() -> None:
    heads, size, positions = 3, 8, 5
    q, angles = torch.randn(1, heads, positions, size), torch.randn(1, positions, size // 2)
    both = torch.cat([angles, angles], dim=-1)
    halves, _ = apply_rotary_pos_emb(q, q, both.cos(), both.sin())
    order = neighbours_of_halves(heads, size).view(heads, size) - size * torch.arange(heads)[:, None]
    permuted = q.gather(-1, order[None, :, None].expand_as(q))
    expected = halves.gather(-1, order[None, :, None].expand_as(q))
    torch.testing.assert_close(rotated_pairs(permuted, angles[0].cos(), angles[0].sin()), expected)


@pytest.mark.parametrize("scale", ["channel", "tensor", None])
@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_binary_matrices_are_hard_weights_with_scales_of_16_bits(kind: str, scale: Any, tmp_path: Path) -> None:
    model = binary(language_model(kind), scale=scale)
    to_gguf(model, tmp_path / "net.gguf", tokenizer=TOKENIZER)
    tensors, layer = read(tmp_path / "net.gguf"), model.model.layers[1]
    for name, module in (("ffn_down", layer.mlp.down_proj), ("attn_v", layer.self_attn.v_proj)):
        weight = module.binary_weight.detach()
        assert np.array_equal(tensors[f"blk.1.{name}.weight"], weight.half().float().numpy())
    for name, heads in (("q", 4), ("k", 2)):
        weight = getattr(layer.self_attn, f"{name}_proj").binary_weight.detach().half().float()
        if kind == "llama":
            weight = weight.view(heads, 2, 16, 128).swapaxes(1, 2).reshape(weight.shape)
        assert np.array_equal(tensors[f"blk.1.attn_{name}.weight"], weight.numpy())


@pytest.mark.parametrize("remainder", ["float16", "q8_0"])
def test_the_remainder_is_16_or_8_bits_and_norms_stay_floats(remainder: Any, tmp_path: Path) -> None:
    model = binary(language_model("llama", attention_bias=True))
    to_gguf(model, tmp_path / "net.gguf", tokenizer=TOKENIZER, remainder=remainder)
    tensors, kinds = gguf.GGUFReader(tmp_path / "net.gguf").tensors, gguf.GGMLQuantizationType
    types = {tensor.name: tensor.tensor_type for tensor in tensors}
    assert types["token_embd.weight"] == types["output.weight"] == kinds[remainder.upper().replace("FLOAT", "F")]
    assert {types[name] for name in types if "norm" in name or "bias" in name} == {kinds.F32}
    assert {types[name] for name in types if name.startswith("blk") and ".weight" in name and "norm" not in name} == {
        kinds.Q1_0
    }
    values, found = model.model.embed_tokens.weight.detach().numpy(), read(tmp_path / "net.gguf")
    step = abs(values).max() / (2048 if remainder == "float16" else 127)
    assert abs(found["token_embd.weight"] - values).max() <= step
    assert np.array_equal(found["output_norm.weight"], model.model.norm.weight.detach().numpy())
    bias = model.model.layers[0].self_attn.q_proj.bias.detach().view(4, 2, 16).swapaxes(1, 2).flatten()
    assert np.array_equal(found["blk.0.attn_q.bias"], bias.numpy())


def test_a_binary_model_its_packed_form_and_a_loaded_file_make_one_file(tmp_path: Path) -> None:
    model = binary(language_model("llama"))
    packed = pc.pack(model)
    pc.save(packed, tmp_path / "net.safetensors")
    packed(torch.arange(4)[None])  # fused graphs take the place of some layers
    loaded = pc.load(tmp_path / "net.safetensors", language_model("llama"))
    for name, each in (("a", model), ("b", packed), ("c", loaded)):
        to_gguf(each, tmp_path / name, tokenizer=TOKENIZER)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def test_a_tied_head_and_a_pack_in_8_bits(tmp_path: Path) -> None:
    tied = binary(language_model("llama", tie_word_embeddings=True))
    to_gguf(tied, tmp_path / "tied.gguf", tokenizer=TOKENIZER)
    assert "output.weight" not in read(tmp_path / "tied.gguf")
    for model in (tied, binary(language_model("llama"))):
        packed = pc.pack(model, remainder="int8")
        to_gguf(packed, tmp_path / "net.gguf", tokenizer=TOKENIZER)
        head = read(tmp_path / "net.gguf")["token_embd.weight" if model is tied else "output.weight"]
        assert np.array_equal(head, packed.lm_head.weight.half().float().numpy())


@pytest.mark.covering(strength=1)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("group_size", [None, 128])
def test_a_binary_embedding_and_head_are_blocks_of_signs(tied: bool, group_size: int | None, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"tie_word_embeddings": tied, "hidden_size": 256, "num_attention_heads": 8}
    model = binary(language_model("qwen2", **sizes), None, embeddings=True, group_size=group_size)
    to_gguf(model, tmp_path / "net.gguf", tokenizer=TOKENIZER)
    kinds = gguf.GGMLQuantizationType
    types = {tensor.name: tensor.tensor_type for tensor in gguf.GGUFReader(tmp_path / "net.gguf").tensors}
    assert {kind for name, kind in types.items() if "norm" not in name and "bias" not in name} == {kinds.Q1_0}
    assert ("output.weight" in types) == (not tied)
    found = read(tmp_path / "net.gguf")
    for name, module in (("token_embd", model.model.embed_tokens), ("output", model.lm_head))[: 2 - tied]:
        assert np.array_equal(found[f"{name}.weight"], module.binary_weight.half().float().numpy())
    pc.save(pc.pack(model), tmp_path / "net")
    loaded = pc.load(tmp_path / "net", language_model("qwen2", **sizes))
    to_gguf(loaded, tmp_path / "b", tokenizer=TOKENIZER)
    assert (tmp_path / "b").read_bytes() == (tmp_path / "net.gguf").read_bytes()


@pytest.mark.parametrize("shape", [(), (4,), (4, 1), (4, 2), (4, 4)])
def test_each_block_has_the_scale_of_its_group(shape: tuple[int, ...]) -> None:
    scale, latent = torch.rand(shape) + 0.5, torch.randn(4, 512)
    each = scale[:, None] if scale.dim() == 1 else scale
    weight = latent.sign() * each.expand(4, each.shape[-1] if scale.dim() else 1).repeat_interleave(
        512 // (each.shape[-1] if scale.dim() else 1), dim=1
    )  # fmt: skip
    blocks = to_blocks(pack_bits(latent), block_scales(scale, 4, 512))
    assert np.array_equal(decoded(blocks), weight.half().float().numpy())
    bits, scales = from_blocks(blocks, 4, 512)
    assert torch.equal(bits, pack_bits(latent))
    assert torch.equal(scales, block_scales(scale, 4, 512).half().float())
