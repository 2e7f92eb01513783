"""Models and arguments that cannot be written as GGUF are refused, and no file is lost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import proxconnect as pc
from proxconnect._support.extras import MissingExtraError
from proxconnect.export import ExportError, to_gguf
from proxconnect.export.gguf.blocks import block_scales, to_blocks

pytest.importorskip("gguf", reason="gguf is in the extra `gguf`")
import gguf

from gguf_files import binary, byte_level, language_model

TOKENIZER = byte_level()


def test_what_blocks_cannot_hold_is_refused() -> None:
    with pytest.raises(ExportError, match="for each group of 64 inputs, and Q1_0 has one for 128"):
        block_scales(torch.ones(4, 8), 4, 512)
    with pytest.raises(ExportError, match="has 192 inputs, and Q1_0 holds blocks of 128"):
        block_scales(torch.ones(4), 4, 192)
    with pytest.raises(ExportError, match="exceeds 65504"):
        to_blocks(torch.zeros(16, dtype=torch.uint8), torch.full((1, 1), 7e4))


def without(name: str) -> Any:
    model = binary(language_model("llama"))
    del model.model._modules[name]
    return model


def with_adapter() -> Any:
    model = binary(language_model("llama"))
    model.model.layers[0].adapter = nn.Linear(2, 2)
    return model


def huge() -> Any:
    model = binary(language_model("llama"))
    model.lm_head.weight.data[0, 0] = 1e6
    return model


YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0}
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "another architecture": (lambda: binary(nn.Sequential(nn.Linear(8, 8)), ()), "those are LlamaForCausalLM, Mistral"),
    "float": (lambda: language_model("llama"), r"call pc.binarize\(model\) and train it first"),
    "binary inputs": (
        lambda: binary(language_model("llama"), activations="bnn"), "layer 'model.layers.0.self_attn.q_proj': it has "
        "binary inputs, which GGUF cannot hold: train it with binary weights alone"),
    "accumulator": (
        lambda: binary(language_model("llama"), activations="bnn", accumulator=pc.Accumulator(16, "wrap")),
        "it has a limited accumulator"),
    "inputs": (lambda: binary(language_model("llama", intermediate_size=192)), "mlp.down_proj': it has 192 inputs"),
    "activation": (lambda: binary(language_model("llama", hidden_act="gelu")), "config.hidden_act is 'gelu'"),
    "window": (lambda: binary(language_model("mistral", sliding_window=16)), "set config.max_position_embeddings to 1"),
    "rope": (lambda: binary(language_model("qwen2", rope_parameters=YARN)),
             "config.rope_parameters are .*yarn.*types default, linear"),
    "missing": (lambda: without("norm"), "it has no model.norm"),
    "adapter": (with_adapter, "no place for model.layers.0.adapter.weight, .* without adapters"),
    "bias": (lambda: binary(language_model("qwen3", attention_bias=True)), "no place for .*q_proj.bias"),
    "huge": (huge, "layer 'lm_head': its weight exceeds 65504"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", REFUSED)
def test_a_model_that_gguf_cannot_hold_is_refused_and_no_file_is_lost(case: str, tmp_path: Path) -> None:
    make, words = REFUSED[case]
    file = tmp_path / "net.gguf"
    file.write_text("before")
    with pytest.raises(ValueError, match=words):
        to_gguf(make(), file, tokenizer=TOKENIZER)
    assert [path.name for path in tmp_path.iterdir()] == ["net.gguf"]
    assert file.read_text() == "before"


def test_a_write_that_fails_loses_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.gguf").write_text("before")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", full)
    with pytest.raises(OSError, match="make room on its disk"):
        to_gguf(binary(language_model("llama")), tmp_path / "net.gguf", tokenizer=TOKENIZER)
    assert [path.name for path in tmp_path.iterdir()] == ["net.gguf"]
    assert (tmp_path / "net.gguf").read_text() == "before"


@pytest.mark.parametrize("package", ["gguf", "transformers"])
def test_a_missing_package_is_named(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from proxconnect._support import extras

    real = extras.import_module

    def missing(module: str) -> Any:
        if module == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return real(module)

    monkeypatch.setattr(extras, "import_module", missing)
    with pytest.raises(MissingExtraError, match=rf"{package} is not installed; run: pip install .*\[gguf\]'"):
        to_gguf(binary(language_model("llama")), tmp_path / "net.gguf", tokenizer=TOKENIZER)


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"to_gguf.* takes an nn.Module as model; got str"):
        to_gguf("net", tmp_path / "net.gguf", tokenizer=TOKENIZER)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="remainder must be 'float16' or 'q8_0'; got 'int8'"):
        to_gguf(nn.Linear(2, 2), tmp_path / "net.gguf", tokenizer=TOKENIZER, remainder="int8")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"tokenizer takes a folder, a file tokenizer\.json or a tokenizer"):
        to_gguf(language_model("llama"), tmp_path / "net.gguf", tokenizer=3)
