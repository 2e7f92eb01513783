"""Byte-level BPE, as of GPT-2, LLaMA 3 and Qwen: GGUF's tokenizer "gpt2"."""

from typing import Any

from proxconnect.export.portable import ExportError

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

_PRE = {
    ("", False): "gpt-2",
    ("digits", False): "smollm",
    (_WORDS + r"\p{N}{1,3}" + _REST, False): "smaug-bpe",
    (_WORDS + r"\p{N}{1,3}" + _REST, True): "llama-bpe",
    (_WORDS + r"\p{N}" + _REST, False): "qwen2",
}
"""llama.cpp's name for a pre-tokenizer, by its pattern and whether words that are tokens stay whole."""


def parts(described: Any, tokens: list[str], types: list[int]) -> dict[str, Any]:
    """Return what GGUF holds of such a tokenizer, by the names in `Vocabulary`.

    Args:
        described: its tokenizer.json.
        tokens, types: not used.

    Raises:
        ExportError: if llama.cpp would split a text differently, or would not read the file, as without merges.
    """
    model, normalizer = described["model"], described["normalizer"]
    if normalizer is not None and normalizer["type"] != "NFC":  # llama.cpp takes text as it is, also for Qwen
        raise _refusal(f"normalizer {normalizer}")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise _refusal(f"{name} {model[name]!r}")
    pattern = _pattern(described["pre_tokenizer"])
    pre = _PRE.get((pattern, bool(model.get("ignore_merges")))) if pattern is not None else None
    if pre is None:
        raise _refusal(f"pre_tokenizer {described['pre_tokenizer']}, with ignore_merges {model.get('ignore_merges')}")
    if not model["merges"]:
        raise ExportError("the tokenizer merges no tokens, and llama.cpp reads no file without merges: train it on "
                          "text with a vocabulary of more than its single bytes")  # fmt: skip
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    return {"model": "gpt2", "pre": pre, "merges": [" ".join(pair) for pair in pairs]}


def _pattern(pre_tokenizer: Any) -> str | None:
    """Return the pattern of words, "digits" before or "" for that of GPT-2, or None for an unknown pre-tokenizer."""
    steps = [pre_tokenizer] if (pre_tokenizer or {}).get("type") != "Sequence" else pre_tokenizer["pretokenizers"]
    *before, last = steps
    if last is None or last["type"] != "ByteLevel" or last["add_prefix_space"] or len(before) > 1:
        return None
    if last["use_regex"]:
        is_digits = bool(before) and before[0]["type"] == "Digits" and before[0]["individual_digits"]
        return "digits" if is_digits else None if before else ""
    if not before or before[0]["type"] != "Split" or before[0]["behavior"] != "Isolated" or before[0]["invert"]:
        return None
    pattern: str | None = before[0]["pattern"].get("Regex")
    return pattern


def _refusal(part: str) -> ExportError:
    return ExportError(f"the tokenizer has the {part}, which is written for none of llama.cpp's "
                       f"{', '.join(_PRE.values())}: use the tokenizer of a LLaMA or Qwen")  # fmt: skip
