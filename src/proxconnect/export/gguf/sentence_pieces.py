"""BPE of SentencePiece with bytes for unknown letters, as of LLaMA 2 and Mistral: GGUF's tokenizer "llama".

Its merges have no list of pairs: two neighbours merge if their text is a token, those of the highest score first.
"""

import re
from typing import Any

from proxconnect.export.portable import ExportError

SPACE = "▁"
IS_BYTE = re.compile(r"<0x[0-9A-F]{2}>").fullmatch
"""Match the token of one byte."""

_ESCAPE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
_PREFIX = {"type": "Prepend", "prepend": SPACE}
_NORMAL = 1


def parts(described: Any, tokens: list[str], types: list[int]) -> dict[str, Any]:
    """Return what GGUF holds of such a tokenizer, by the names in `Vocabulary`.

    Args:
        described: its tokenizer.json.
        tokens, types: the text and the type of each token.

    Raises:
        ExportError: if llama.cpp would split a text differently.
    """
    adds_space = _adds_space(described["normalizer"], described["pre_tokenizer"])
    missing = [f"<0x{byte:02X}>" for byte in range(256) if f"<0x{byte:02X}>" not in described["model"]["vocab"]]
    if missing:
        raise ExportError(f"the tokenizer has no token {missing[0]}, and llama.cpp needs one for each of 256 bytes: "
                          "use one that was converted from SentencePiece")  # fmt: skip
    pieces = {token for token, kind in zip(tokens, types, strict=True) if kind == _NORMAL}
    ranks = _ranks(described["model"]["merges"], pieces)
    scores = [-float(ranks.get(token, len(ranks))) for token in tokens]
    return {"model": "llama", "pre": "default", "scores": scores, "add_space_prefix": adds_space}


def _adds_space(normalizer: Any, pre_tokenizer: Any) -> bool:
    """Return True if a text begins with a space that it did not have; ExportError unless spaces are escaped alone."""
    steps = normalizer["normalizers"] if (normalizer or {}).get("type") == "Sequence" else [normalizer]
    if pre_tokenizer is None and steps in ([_ESCAPE], [_PREFIX, _ESCAPE]):
        return len(steps) == 2
    if normalizer is None and pre_tokenizer is not None and pre_tokenizer["type"] == "Metaspace":
        options = {key: pre_tokenizer.get(key) for key in ("replacement", "split")}
        if options == {"replacement": SPACE, "split": False}:
            return bool(pre_tokenizer["prepend_scheme"] != "never")
    raise ExportError(f"the tokenizer has the normalizer {normalizer} and pre_tokenizer {pre_tokenizer}, and "
                      f"llama.cpp only writes spaces as {SPACE}: use a LLaMA 2 or Mistral one")  # fmt: skip


def _ranks(merges: list[Any], pieces: set[str]) -> dict[str, int]:
    """Return the place of each merged token in the order of merges; ExportError unless scores say the same."""
    pairs = [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in merges]
    ranks: dict[str, int] = {}
    last = ""
    for left, right in pairs:
        if left + right != last and ranks.setdefault(left + right, len(ranks)) != len(ranks) - 1:
            raise _refusal(f"merges {left + right!r} in two places of its order")
        last = left + right
    listed = set(pairs)
    letters = {letter for piece in pieces for letter in piece}
    for piece in pieces:
        for at in range(1, len(piece)):
            pair = piece[:at], piece[at:]
            if pair not in listed and all(half in pieces or half in letters for half in pair):
                raise _refusal(f"does not merge {pair[0]!r} and {pair[1]!r}, though {piece!r} is a token")
    return ranks


def _refusal(reason: str) -> ExportError:
    return ExportError(f"the tokenizer {reason}, which the scores of llama.cpp cannot say: use one that was converted "
                       "from SentencePiece, or a byte-level one")  # fmt: skip
