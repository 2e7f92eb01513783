"""Tokenizers of transformers as GGUF holds them: the ends that any tokenizer has, and what its kind adds."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxconnect._support import extras
from proxconnect._support.arguments import require_type
from proxconnect.export.gguf import byte_pairs, sentence_pieces
from proxconnect.export.portable import ExportError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""The types of tokens in a file."""

_PAD = 128
_PAD_SHARE = 0.01


@dataclass(frozen=True)
class Vocabulary:
    """The tokenizer of a file."""

    model: str
    """Its kind, "gpt2" or "llama"."""
    pre: str
    """How it splits text before it merges pairs."""
    tokens: list[str]
    types: list[int]
    special: dict[str, int]
    """The tokens of the roles "bos", "eos", "unk" and "pad", as far as it has them."""
    adds: dict[str, bool]
    """Whether it adds "bos" and "eos" to a text."""
    scores: list[float] | None = None
    merges: list[str] | None = None
    add_space_prefix: bool | None = None
    chat_template: str | None = None

    def add_to(self, writer: Any) -> None:
        """Add it to a `gguf.GGUFWriter`."""
        writer.add_tokenizer_model(self.model)
        writer.add_tokenizer_pre(self.pre)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        if self.scores is not None:
            writer.add_token_scores(self.scores)
        if self.merges is not None:
            writer.add_token_merges(self.merges)
        for role, token in self.special.items():
            getattr(writer, f"add_{role}_token_id")(token)
        for role, is_added in self.adds.items():
            getattr(writer, f"add_add_{role}_token")(is_added)
        if self.add_space_prefix is not None:
            writer.add_add_space_prefix(self.add_space_prefix)
        if self.chat_template is not None:
            writer.add_chat_template(self.chat_template)


def opened(tokenizer: object) -> Any:
    """Return a fast tokenizer of transformers from a folder, a file "tokenizer.json" or a tokenizer itself.

    OSError for a path that does not exist, ValueError for one without a tokenizer, TypeError for another object.
    Nothing is downloaded, and no code beside the tokenizer runs.
    """
    transformers = extras.require("transformers", "gguf")
    if tokenizer is None:
        raise ValueError("a GGUF file holds its tokenizer: give the folder of one, as tokenizer='folder'")
    if isinstance(tokenizer, str | os.PathLike):
        return _read(transformers, Path(tokenizer))
    if type(tokenizer).__name__ == "Tokenizer" and hasattr(tokenizer, "to_str"):
        return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    require_type(tokenizer, transformers.PreTrainedTokenizerBase,
                 "tokenizer takes a folder, a file tokenizer.json or a tokenizer of transformers")  # fmt: skip
    return tokenizer


def _read(transformers: Any, path: Path) -> Any:
    if not path.exists():
        raise FileNotFoundError(f"there is no {path}: give the folder or file of a tokenizer")
    try:
        if path.is_dir():
            return transformers.AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        return transformers.PreTrainedTokenizerFast(tokenizer_file=os.fspath(path))
    except Exception as error:  # tokenizers raises plain Exception
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path} holds no tokenizer that transformers reads ({reason}): let transformers save yours "
                         "there") from error  # fmt: skip


def vocabulary_of(tokenizer: Any, config: Any) -> Vocabulary:
    """Return a tokenizer of `opened` as the vocabulary of a model with this `config`; ExportError if none holds it."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ExportError(f"{type(tokenizer).__name__} has no tokenizer.json: load its folder as a fast tokenizer of "
                          "transformers, which makes one")  # fmt: skip
    described = json.loads(backend.to_str())
    special = {role: getattr(tokenizer, f"{role}_token_id") for role in ("bos", "eos", "unk", "pad")}
    special |= {role: _first(getattr(config, f"{role}_token_id", None))
                for role in ("bos", "eos") if special[role] is None}  # fmt: skip
    special = {role: token for role, token in special.items() if token is not None}
    if "eos" not in special:
        raise ExportError("neither the tokenizer nor config has an end of text, which llama.cpp needs: set "
                          "tokenizer.eos_token or config.eos_token_id")  # fmt: skip
    tokens, types = _tokens(described, special, config.vocab_size)
    outside = {role: token for role, token in special.items() if not 0 <= token < len(tokens)}
    if outside:
        raise ExportError(f"the tokens {outside} are not below {len(tokens)}: correct them in the tokenizer and config")
    kind = sentence_pieces if described["model"].get("byte_fallback") else byte_pairs
    template = getattr(tokenizer, "chat_template", None)
    return Vocabulary(
        tokens=tokens, types=types, special=special, adds=_added(backend, special),
        chat_template=template if isinstance(template, str) else None, **kind.parts(described, tokens, types),
    )  # fmt: skip


def _first(token: Any) -> Any:
    return next(iter(token), None) if isinstance(token, list | tuple) else token


def _tokens(described: Any, special: dict[str, int], size: int) -> tuple[list[str], list[int]]:
    """Return the text and the type of each of `size` tokens."""
    if described["model"]["type"] != "BPE":
        raise ExportError(f"the tokenizer is of type {described['model']['type']}, and GGUF is written with BPE alone: "
                          "use the tokenizer of a LLaMA or Qwen")  # fmt: skip
    known = {number: (token, NORMAL) for token, number in described["model"]["vocab"].items()}
    if described["model"].get("byte_fallback"):
        known |= {n: (t, BYTE) for n, (t, _) in known.items() if sentence_pieces.IS_BYTE(t)}
    for added in described["added_tokens"]:
        known[added["id"]] = (added["content"], CONTROL if added["special"] else USER_DEFINED)
    unknown = special.get("unk")
    if unknown in known:
        known[unknown] = (known[unknown][0], UNKNOWN)
    unused = size - (max(known) + 1)
    if unused < 0 or unused >= max(_PAD, _PAD_SHARE * size):
        raise ExportError(f"the tokenizer has {max(known) + 1} tokens, and the model {size}: give the tokenizer that "
                          "the model was trained with")  # fmt: skip
    filled = [known.get(number, (f"[PAD{number}]", UNUSED)) for number in range(size)]
    return [token for token, _ in filled], [kind for _, kind in filled]


def _added(backend: Any, special: dict[str, int]) -> dict[str, bool]:
    """Return whether it adds the tokens "bos" and "eos"; ExportError if it adds others."""
    plain, whole = (backend.encode("a", add_special_tokens=added).ids for added in (False, True))
    begin, end = [special.get("bos")], [special["eos"]]
    for adds in ({"bos": b, "eos": e} for b in (False, True) for e in (False, True)):
        if whole == begin * adds["bos"] + plain + end * adds["eos"]:
            return adds
    raise ExportError(f"the tokenizer makes {whole} of a text that is {plain}, and llama.cpp adds at most the begin "
                      f"{begin[0]} and the end {end[0]}: set tokenizer.bos_token and eos_token, or its "
                      "post_processor")  # fmt: skip
