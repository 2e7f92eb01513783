"""GGUF files become binary models that answer alike, train on and take adapters; wrong files are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import proxconnect as pc
from gguf_files import binary, byte_level, language_model
from proxconnect.export import to_gguf
from proxconnect.export.gguf.architecture import architecture_of
from proxconnect.huggingface import GgufFileError, from_gguf

gguf = pytest.importorskip("gguf", reason="gguf is in the extra `gguf`")

TOKENIZER = byte_level()
LLAMA3 = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 16}  # fmt: skip
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {}),
    "biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "tied": ("llama", {"tie_word_embeddings": True}),
    "llama3": ("llama", {"rope_parameters": LLAMA3}),
    "linear": ("llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}}),
}


def blank(kind: str, **changes: Any) -> Any:
    """The same architecture with other weights."""
    model = language_model(kind, **changes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


@pytest.mark.parametrize("remainder", ["float16", "q8_0"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_file_becomes_the_model_that_was_written(variant: str, remainder: Any, tmp_path: Path) -> None:
    kind, changes = VARIANTS[variant]
    model = binary(language_model(kind, **changes))
    to_gguf(model, tmp_path / "net.gguf", tokenizer=TOKENIZER, remainder=remainder)
    read = from_gguf(tmp_path / "net.gguf", blank(kind, **changes), "bc").eval()
    layers = [name for name, module in read.named_modules() if isinstance(module, pc.BinaryLinear)]
    assert layers == [name for name, module in model.named_modules() if isinstance(module, pc.BinaryLinear)]
    for name in layers:
        weight, expected = (each.get_submodule(name).binary_weight for each in (read, model))
        assert torch.equal(weight, expected.half().float())
    prompt, tolerance = torch.arange(9)[None], 0.01 if remainder == "float16" else 0.1
    with torch.no_grad():
        answer, expected = read(prompt).logits, model(prompt).logits
    assert (answer - expected).norm() < tolerance * expected.norm()
    to_gguf(read, tmp_path / "again.gguf", tokenizer=TOKENIZER)
    again = from_gguf(tmp_path / "again.gguf", blank(kind, **changes), "bc").eval()
    assert torch.equal(again(prompt).logits, answer) or remainder == "q8_0"


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_scales_of_groups_come_back(kind: str, tmp_path: Path) -> None:
    """One layer has two groups, of which each row has both in its blocks; its latents differ by a factor of three."""
    floats = language_model(kind)
    with torch.no_grad():
        for layer in floats.model.layers:
            layer.mlp.down_proj.weight[:, :128].mul_(3)
    model = binary(floats, group_size=128)
    to_gguf(pc.pack(model), tmp_path / "net.gguf", tokenizer=TOKENIZER)
    read = from_gguf(tmp_path / "net.gguf", blank(kind), "bc").eval()
    layers = [name for name, module in read.named_modules() if isinstance(module, pc.BinaryLinear)]
    assert layers
    for name in layers:
        weight, expected = (each.get_submodule(name).binary_weight for each in (read, model))
        assert torch.equal(weight, expected.half().float())
    assert read.model.layers[0].mlp.down_proj.group_size == 128


def test_it_trains_on_and_takes_adapters(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from proxconnect.huggingface.lora import for_binary

    to_gguf(binary(language_model("llama")), tmp_path / "net.gguf", tokenizer=TOKENIZER)
    model, tokens = from_gguf(tmp_path / "net.gguf", language_model("llama"), "bc").train(), torch.arange(9)[None]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        losses.append(model(tokens, labels=tokens).loss)
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 2
    adapted = get_peft_model(model, for_binary(LoraConfig(target_modules=["q_proj"])))
    adapted(tokens, labels=tokens).loss.backward()
    assert all(parameter.grad is not None for name, parameter in adapted.named_parameters() if "lora_B" in name)


def many_fields(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[16:24] = b"\xff" * 8
    path.write_bytes(content)


def replaced(old: bytes, new: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes().replace(old, new, 1))


def written_at(name: str, offset: int, new: bytes) -> Callable[[Path], None]:
    """Write bytes into a tensor of a file."""

    def write(path: Path) -> None:
        (tensor,) = (tensor for tensor in gguf.GGUFReader(path).tensors if tensor.name == name)
        content, start = bytearray(path.read_bytes()), tensor.data_offset + offset
        content[start : start + len(new)] = new
        path.write_bytes(content)

    return write


LLAMA, MAMBA = (b"\x05" + bytes(7) + name for name in (b"llama", b"mamba"))
REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "text": (lambda path: path.write_text("hello"), "it is no GGUF file"),
    "version": (replaced(b"GGUF\x03", b"GGUF\x09"), "of version 9 of GGUF"),
    "short": (lambda path: path.write_bytes(path.read_bytes()[:-4000]), "which is cut off or damaged"),
    "header": (lambda path: path.write_bytes(path.read_bytes()[:300]), "it ends early"),
    "count": (many_fields, "too long"),
    "type": (replaced(b"\x29\x00\x00\x00", b"\x02\x00\x00\x00"), "F32, F16, BF16, Q8_0 and Q1_0 are read"),
    "architecture": (replaced(LLAMA, MAMBA), "of a 'mamba'"),
    "name": (replaced(b"blk.1.attn_v.weight", b"blk.1.attn_x.weight"), "blk.1.attn_v.weight.* one lacks them"),
    "infinite": (written_at("output_norm.weight", 0, b"\x00\x00\x80\x7f"), "has NaN or infinite values"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_file_is_refused_and_the_model_stays_as_it_was(case: str, tmp_path: Path) -> None:
    change, words = REFUSED[case]
    to_gguf(binary(language_model("llama")), tmp_path / "net.gguf", tokenizer=TOKENIZER)
    change(tmp_path / "net.gguf")
    model = language_model("llama")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(GgufFileError, match=words):
        from_gguf(tmp_path / "net.gguf", model)
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert before.keys() == after.keys()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_key_value_heads": 4}, "llama.attention.head_count_kv 2, and the model 4"),
        ({"rms_norm_eps": 0.1}, "layer_norm_rms_epsilon"),
        ({"tie_word_embeddings": True}, "output.weight of the file and the model differ"),
        ({"attention_bias": True}, "blk.0.attn_k.bias, .* differ in shape, or one lacks them"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5.0}}, "rope.freq_base 10000.0, and the model 5.0"),
    ],
)
def test_another_model_is_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    to_gguf(binary(language_model("llama")), tmp_path / "net.gguf", tokenizer=TOKENIZER)
    with pytest.raises(GgufFileError, match=words):
        from_gguf(tmp_path / "net.gguf", language_model("llama", **changes))


def write_back(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("make", [lambda: binary(language_model("llama")), lambda: language_model("llama").to("meta")])
def test_a_model_that_is_not_blank_is_refused(make: Callable[[], Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"build the float architecture|build it on the CPU"):
        from_gguf(tmp_path / "net.gguf", make())


def test_damage_anywhere_is_refused_or_changes_numbers_alone(tmp_path: Path) -> None:
    to_gguf(binary(language_model("llama")), tmp_path / "net.gguf", tokenizer=TOKENIZER)
    content, generator = (tmp_path / "net.gguf").read_bytes(), torch.Generator().manual_seed(0)
    header = content.index(b"blk.1.ffn_down.weight") + 60
    for _ in range(100):
        damaged = bytearray(content)
        for place in torch.randint(4, header, (3,), generator=generator).tolist():
            damaged[place] = int(torch.randint(256, (), generator=generator))
        (tmp_path / "net.gguf").write_bytes(damaged)
        try:
            from_gguf(tmp_path / "net.gguf", language_model("llama"), "bc")
        except GgufFileError:
            continue
    assert from_gguf(write_back(tmp_path / "net.gguf", content), language_model("llama"), "bc")


def test_other_frequencies_are_refused(tmp_path: Path) -> None:
    to_gguf(binary(language_model("llama", rope_parameters=LLAMA3)), tmp_path / "net.gguf", tokenizer=TOKENIZER)
    with pytest.raises(GgufFileError, match="correct them"):
        from_gguf(tmp_path / "net.gguf", language_model("llama", rope_parameters=LLAMA3 | {"factor": 2.0}))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("groups", [False, True])
def test_a_binary_embedding_comes_back_with_its_head(tied: bool, groups: bool, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"tie_word_embeddings": tied, "hidden_size": 256, "num_attention_heads": 8}
    floats = language_model("llama", **sizes)
    with torch.no_grad():
        floats.model.embed_tokens.weight[:, :128].mul_(3)
    model = binary(floats, None, embeddings=True, group_size=128 if groups else None)
    to_gguf(model, tmp_path / "net.gguf", tokenizer=TOKENIZER)
    read = from_gguf(tmp_path / "net.gguf", blank("llama", **sizes), "bc").eval()
    assert read.binarization.floats == {}
    assert (read.lm_head.latent is read.model.embed_tokens.latent) == tied
    for name in ("lm_head", "model.embed_tokens"):
        weight, expected = (each.get_submodule(name).binary_weight for each in (read, model))
        assert torch.equal(weight, expected.half().float())
    to_gguf(read, tmp_path / "again.gguf", tokenizer=TOKENIZER)
    assert (tmp_path / "again.gguf").read_bytes() == (tmp_path / "net.gguf").read_bytes()


def test_a_binary_embedding_with_a_float_head_and_the_reverse(tmp_path: Path) -> None:
    for keep, kept in (("lm_head", "lm_head"), ("model.embed_tokens", "model.embed_tokens")):
        model = binary(language_model("llama"), keep, embeddings=keep == "lm_head")
        to_gguf(model, tmp_path / "net.gguf", tokenizer=TOKENIZER)
        read = from_gguf(tmp_path / "net.gguf", blank("llama"), "bc")
        assert list(read.binarization.floats) == [kept]


def test_a_file_without_binary_matrices_is_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "net.gguf", "llama")
    model = language_model("llama")
    for name, other in architecture_of(model).modules(2):
        writer.add_tensor(f"{other}.weight", model.get_submodule(name).weight.detach().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(GgufFileError, match="no matrix of the type Q1_0"):
        from_gguf(tmp_path / "net.gguf", model)
