"""Tokenizers in GGUF files: what is told of them, and those that llama.cpp does not know."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxconnect.export import ExportError, to_gguf

pytest.importorskip("gguf", reason="gguf is in the extra `gguf`")
import gguf
from tokenizers import Tokenizer, models, processors

from gguf_files import binary, byte_level, language_model, sentence_pieces

TOKENIZER = byte_level()


def fields(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


def test_the_tokenizer_is_in_the_file(tmp_path: Path) -> None:
    model = binary(language_model("llama", 384, rope_parameters={"rope_type": "default", "rope_theta": 77.0}))
    to_gguf(model, tmp_path / "net.gguf", tokenizer=TOKENIZER)
    held = fields(tmp_path / "net.gguf")
    vocabulary = TOKENIZER.get_vocab()
    assert held["tokenizer.ggml.tokens"][:300] == sorted(vocabulary, key=vocabulary.get)
    assert held["tokenizer.ggml.tokens"][300:302] == ["[PAD300]", "[PAD301]"]
    assert held["tokenizer.ggml.token_type"] == [3, 3] + [1] * 298 + [5] * 84
    assert held["tokenizer.ggml.eos_token_id"] == 1
    assert held["tokenizer.ggml.pre"] == "gpt-2"
    assert (held["llama.vocab_size"], held["llama.rope.freq_base"]) == (384, 77.0)


def test_folders_files_and_tokenizers_are_taken(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    model = binary(language_model("llama"))
    sources = [tmp_path, str(tmp_path), tmp_path / "tokenizer.json", TOKENIZER, TOKENIZER.backend_tokenizer]
    for number, source in enumerate(sources):
        to_gguf(model, tmp_path / f"{number}.gguf", tokenizer=source)
        held = fields(tmp_path / f"{number}.gguf")
        assert (held["tokenizer.ggml.eos_token_id"], len(held["tokenizer.ggml.merges"])) == (1, 42)


def test_code_beside_a_tokenizer_is_not_run(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    configuration = json.loads((tmp_path / "tokenizer_config.json").read_text())
    configuration |= {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(configuration))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    with contextlib.suppress(ValueError):
        to_gguf(binary(language_model("llama")), tmp_path / "net.gguf", tokenizer=tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("template", ["<s> $A", "<s> $A </s>", "$A </s>", "$A"])
def test_tokens_that_are_added_to_a_text_are_told(template: str, tmp_path: Path) -> None:
    tokenizer = byte_level()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    to_gguf(binary(language_model("llama")), tmp_path / "net.gguf", tokenizer=tokenizer)
    held = fields(tmp_path / "net.gguf")
    assert held["tokenizer.ggml.add_bos_token"] == ("<s>" in template)
    assert held["tokenizer.ggml.add_eos_token"] == ("</s>" in template)


def changed(tokenizer: Any, change: Callable[[dict[str, Any]], Any]) -> Any:
    """A tokenizer with something else in its tokenizer.json."""
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    change(described)
    return type(tokenizer)(tokenizer_object=Tokenizer.from_str(json.dumps(described)), eos_token="</s>")


def word_level() -> Any:
    return type(TOKENIZER)(tokenizer_object=Tokenizer(models.WordLevel({"a": 0, "</s>": 1}, "a")), eos_token="</s>")


def ending_in(token: str, number: int) -> Any:
    tokenizer = byte_level()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {token}", special_tokens=[(token, number)]
    )
    return tokenizer


TOKENIZERS: dict[str, tuple[Callable[[], Any], str]] = {
    "none": (lambda: None, "give the folder of one, as tokenizer='folder'"),
    "no folder": (lambda: "nowhere", "there is no nowhere: give the folder"),
    "a folder without": (lambda: Path(__file__).parent, "holds no tokenizer that transformers reads"),
    "a file without": (lambda: __file__, "holds no tokenizer that transformers reads"),
    "larger": (lambda: byte_level(size=301), "has 301 tokens, and the model 300: give the tokenizer that"),
    "smaller": (word_level, "is of type WordLevel, and GGUF is written with BPE alone"),
    "another split": (
        lambda: changed(TOKENIZER, lambda it: it["pre_tokenizer"].update(use_regex=False)), "pre_tokenizer .*use_re"),
    "a normalizer": (lambda: changed(TOKENIZER, lambda it: it.update(normalizer={"type": "Lowercase"})), "Lowercase"),
    "dropout": (lambda: changed(TOKENIZER, lambda it: it["model"].update(dropout=0.1)), "has the dropout 0.1"),
    "whole words": (
        lambda: changed(TOKENIZER, lambda it: it["model"].update(ignore_merges=True)), "with ignore_merges True"),
    "no merges": (lambda: changed(TOKENIZER, lambda it: it["model"].update(merges=[])), "merges no tokens"),
    "other ends": (lambda: ending_in("x", 7), "llama.cpp adds at most the begin"),
}  # fmt: skip


@pytest.mark.parametrize("case", TOKENIZERS)
def test_a_tokenizer_that_does_not_fit_is_refused(case: str, tmp_path: Path) -> None:
    make, words = TOKENIZERS[case]
    with pytest.raises((ValueError, OSError), match=words):
        to_gguf(binary(language_model("llama")), tmp_path / "net.gguf", tokenizer=make())
    assert not [*tmp_path.iterdir()]


PIECES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "bytes": (lambda it: (it["model"]["vocab"].pop("<0x0A>"), it["model"]["vocab"].update(new=13)), "no token <0x0A>"),
    "normalizer": (lambda it: it.update(normalizer={"type": "NFKC"}), "llama.cpp only writes spaces as ▁"),
    "a pair less": (lambda it: it["model"]["merges"].pop(), "does not merge .*, though .* is a token"),
    "another order": (lambda it: it["model"]["merges"].sort(), "in two places of its order"),
}  # fmt: skip


@pytest.mark.parametrize("case", PIECES)
def test_pieces_that_scores_cannot_say_are_refused(case: str, tmp_path: Path) -> None:
    change, words = PIECES[case]
    tokenizer = changed(sentence_pieces(words=("▁the", "▁signs", "signs")), change)
    with pytest.raises(ExportError, match=words):
        to_gguf(binary(language_model("llama", len(tokenizer))), tmp_path / "net.gguf", tokenizer=tokenizer)


def test_an_end_of_text_is_needed_and_may_be_that_of_the_configuration(tmp_path: Path) -> None:
    tokenizer, model = type(TOKENIZER)(tokenizer_object=TOKENIZER.backend_tokenizer), binary(language_model("llama"))
    model.config.eos_token_id = [5, 6]
    to_gguf(model, tmp_path / "net.gguf", tokenizer=tokenizer)
    assert fields(tmp_path / "net.gguf")["tokenizer.ggml.eos_token_id"] == 5
    for token, words in (
        (None, "set tokenizer.eos_token or config.eos_token_id"),
        (300, "eos.*300.*are not below 300"),
    ):
        model.config.eos_token_id = token
        with pytest.raises(ExportError, match=words):
            to_gguf(model, tmp_path / "net.gguf", tokenizer=tokenizer)
