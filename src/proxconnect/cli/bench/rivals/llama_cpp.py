"""llama.cpp: a packed language model as a GGUF file, in a separate process."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from proxconnect._support.extras import MissingExtraError
from proxconnect.cli.bench.rivals.onnx_runtime import CannotRunError
from proxconnect.deploy.packed import Remainder
from proxconnect.export import ExportError, to_gguf

NAME = "llama.cpp"

ROUNDING = 0.1
"""The largest difference of its logits from those of the packed network, relative to their norm, to accept.

llama.cpp rounds the inputs of each layer to 8 bits. For that untrained LLaMAs differ by 0.01 to 0.03.
"""

_DISTRIBUTIONS = {"llama_cpp": "llama-cpp-python", "xllamacpp": "xllamacpp"}
"""The packages with llama.cpp, as pip names them. The first is preferred: pip builds it for this processor."""

_FAULT = re.compile(r"\berror\b|^\w+Error:", re.IGNORECASE)
"""A line of a log that tells of an error, as no line of code in a traceback does."""

_PROCESS = Path(__file__).with_name("llama_cpp_process.py")


@dataclass(frozen=True)
class Engine:
    """llama.cpp with the file of a network, which answers like the network."""

    process: "subprocess.Popen[str]"
    log: Path
    distribution: str
    """The package that it comes from, as pip names it."""
    file: int
    """The size of its file in bytes."""
    difference: float
    """The difference of its logits from those of the packed network, relative to their norm."""

    def described(self) -> dict[str, Any]:
        """Return its entry in the results of a bench.

        "peak_memory" is the bytes by which the peak memory of its process has grown after all imports so far.
        """
        return {
            "package": self.distribution, "version": version(self.distribution), "file": self.file,
            "peak_memory": _ask(self.process, self.log, "peak_memory"), "difference": self.difference,
        }  # fmt: skip

    def write(self, prompt: list[int], tokens: int) -> tuple[float, float]:
        """Write `tokens` tokens; return the seconds until the first one, and those from there to the last one."""
        first, rest = _ask(self.process, self.log, "write", prompt, tokens)
        return first, rest


@contextmanager
def running(
    packed: nn.Module, prompt: Tensor, tokens: int, remainder: Remainder, threads: int, folder: Path
) -> Iterator[Engine]:
    """Start llama.cpp with a packed language model, check its answer, and stop it at the end of the context.

    Args:
        packed: the model, as `to_gguf` takes it.
        prompt: the numbers of the tokens of a prompt, (1, length), after which logits are compared.
        tokens: the number of tokens that it must have room for, after the prompt.
        remainder: that of the packed model; for "int8", layers that are not binary have 8 bits in the file, else 16.
        threads: the number of its threads.
        folder: an existing folder for its files.

    Raises:
        CannotRunError: if it is not installed, cannot run the model, or answers differently than rounding explains.
    """
    package = next(filter(find_spec, _DISTRIBUTIONS), None)
    if package is None:
        raise CannotRunError("not installed; run: pip install llama-cpp-python (or xllamacpp)")
    file, log = folder / "llama.gguf", folder / "llama.log"
    _write_file(packed, file, remainder)
    ids = prompt[0].tolist()
    command = [sys.executable, "-P", str(_PROCESS), package, str(file), str(threads)]
    with log.open("w") as errors, subprocess.Popen(
        [*command, str(len(ids) + tokens)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
    ) as process:  # fmt: skip
        try:
            logits = torch.tensor(_ask(process, log, "logits", ids))
            difference = relative_difference(cast(Any, packed)(input_ids=prompt).logits[0, -1].detach().float(), logits)
            if not difference <= ROUNDING:
                raise CannotRunError(f"its logits differ from those of packed by {100 * difference:.0f} % of their "
                                     f"norm, and rounding explains {100 * ROUNDING:.0f} %")  # fmt: skip
            engine = Engine(process, log, _DISTRIBUTIONS[package], file.stat().st_size, difference)
            engine.write(ids, tokens)
            yield engine
        finally:
            process.kill()  # leaving the context closes its pipes and waits for it


def relative_difference(expected: Tensor, found: Tensor) -> float:
    """Return the norm of the difference of two vectors of logits, less their means, relative to that of `expected`."""
    expected, found = expected - expected.mean(), found - found.mean()
    return float((found - expected).norm() / expected.norm())


def placeholder_tokenizer(size: int) -> Any:
    """Return a tokenizer of `size` made-up tokens, 3 or more, for the file of a network that gets tokens as numbers."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["a", "b", "ab", *(f"t{number}" for number in range(3, size))]  # llama.cpp wants a merge
    tokenizer = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, [("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=names[-1])


def _write_file(packed: nn.Module, file: Path, remainder: Remainder) -> None:
    tokenizer = placeholder_tokenizer(cast(Any, packed).config.vocab_size)
    try:
        to_gguf(packed, file, tokenizer=tokenizer, remainder="q8_0" if remainder == "int8" else "float16")
    except (ExportError, MissingExtraError) as error:
        raise CannotRunError(str(error)) from error


def _ask(process: "subprocess.Popen[str]", log: Path, *request: Any) -> Any:
    """Send a request and return the answer; CannotRunError with a line of `log` if the process has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        pass  # the answer is empty, too
    answer = process.stdout.readline()
    if not answer:
        lines = [" ".join(line.split()) for line in log.read_text(errors="replace").splitlines()]
        fault = next(filter(_FAULT.search, lines), "it says nothing")
        raise CannotRunError(f"its process ended: {fault[:200]}")
    return json.loads(answer)
