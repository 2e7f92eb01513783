"""Tiny language models and tokenizers to write as GGUF, and llama.cpp to run them."""

import json
import urllib.request
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE
from torch import Tensor, nn

import proxconnect as pc

SENTENCES = [
    "the quick brown fox jumps over the lazy dog",
    "binary weights are signs and a scale",
    "one block holds 128 signs, and a number",
]
KINDS = {
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
    "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM),
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
}
SIZES = {
    "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 128, "bos_token_id": 0, "eos_token_id": 1,
    "initializer_range": 0.1, "sliding_window": None,
}  # fmt: skip
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|", 1)
SPLITS = {
    "gpt-2": pre_tokenizers.ByteLevel(add_prefix_space=False),
    "smollm": pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    ),
    **{name: pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False),
    ]) for name, pattern in (("qwen2", QWEN2), ("smaug-bpe", LLAMA3), ("llama-bpe", LLAMA3))},
}  # fmt: skip
"""Pre-tokenizers by their names in llama.cpp."""


def byte_level(split: str = "gpt-2", size: int = 300) -> transformers.PreTrainedTokenizerFast:
    """A byte-level tokenizer, trained on the sentences with the split of GPT-2, so that other splits forbid merges."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = SPLITS["gpt-2"], decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=["<s>", "</s>"],
                                  initial_alphabet=SPLITS["gpt-2"].alphabet(), show_progress=False)  # fmt: skip
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.pre_tokenizer, tokenizer.model.ignore_merges = SPLITS[split], split == "llama-bpe"
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


PIECES = ("▁the", "▁sign", "▁signs", "the", "ing", "ow", "wn", "ck", "ic")
"""Words for `sentence_pieces`, of which "brown" and "quick" hold two that overlap."""


def sentence_pieces(words: tuple[str, ...] = PIECES, prefix: bool = True) -> Any:
    """A tokenizer as of LLaMA 2: the words and all their beginnings, with the merges that transformers makes."""
    pieces = sorted(
        {word[:end] for word in words for end in range(2, len(word) + 1)}, key=lambda piece: (len(piece), piece)
    )
    letters = sorted({letter for sentence in SENTENCES for letter in sentence.replace(" ", "▁")})
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces, *letters]
    known = {*pieces, *letters}
    merges = [(piece[:at], piece[at:]) for piece in pieces for at in range(1, len(piece))
              if piece[:at] in known and piece[at:] in known]  # fmt: skip
    tokenizer = Tokenizer(BPE({name: number for number, name in enumerate(names)}, merges, unk_token="<unk>",
                              byte_fallback=True, fuse_unk=True))  # fmt: skip
    steps = [normalizers.Prepend("▁")] * prefix + [normalizers.Replace(" ", "▁")]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in names[:3]])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def language_model(kind: str, vocabulary: int = 300, **changes: Any) -> Any:
    """A tiny float model with weights that are all of one size, so that none is too small to be seen."""
    torch.manual_seed(0)
    config, model = KINDS[kind]
    made = model(config(vocab_size=vocabulary, **SIZES | changes)).eval()
    for name, parameter in made.named_parameters():
        if parameter.dim() == 1:
            nn.init.normal_(parameter, float("norm" in name), 0.2)
    return made


def binary(model: nn.Module, keep: Any = ("model.embed_tokens", "lm_head"), **options: Any) -> Any:
    """The same model with binary weights."""
    return pc.binarize(model, "bc", keep=keep, **options).eval()


def trained(kind: str, tokenizer: Any, steps: int = 60) -> Any:
    """A packed model that knows the sentences by heart."""
    model = binary(language_model(kind, len(tokenizer))).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0)
    rows = [torch.tensor([[*tokenizer(text).input_ids, tokenizer.eos_token_id]]) for text in SENTENCES]
    for step in range(steps):
        row = rows[step % len(rows)]
        optimizer.zero_grad()
        model(row, labels=row).loss.backward()
        optimizer.step()
    return pc.pack(model.eval())


class Engine:
    """llama.cpp, with a file loaded."""

    def __init__(self, path: Path) -> None:
        import xllamacpp

        options = xllamacpp.CommonParams()
        options.model.path, options.n_ctx, options.n_parallel = str(path), 128, 1
        options.cpuparams.n_threads, options.warmup, options.verbosity, options.fit_params = 1, False, 0, False
        self._server = xllamacpp.Server(options)

    def answer(self, route: str, **body: Any) -> Any:
        """What its server answers."""
        address = self._server.listening_address + route
        request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, with those that begin it."""
        return self.answer("/tokenize", content=text, add_special=True)["tokens"]

    def greedy(self, prompt: list[int], count: int) -> list[int]:
        """The next tokens, each the most probable one."""
        return self.answer("/completion", prompt=prompt, n_predict=count, temperature=0, return_tokens=True)["tokens"]

    def log_probabilities(self, prompt: list[int], vocabulary: int) -> Tensor:
        """Those of all tokens to be the next one after a prompt.

        The token that is then written is that of the prompt: of half a letter none are reported.
        """
        reply = self.answer("/completion", prompt=prompt, n_predict=1, n_probs=vocabulary,
                            logit_bias=[[prompt[0], 1000.0]])  # fmt: skip
        found = torch.full((vocabulary,), torch.nan)
        for token in reply["completion_probabilities"][0]["top_logprobs"]:
            found[token["id"]] = token["logprob"]
        return found
