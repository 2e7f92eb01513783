"""llama.cpp in a process that loads one GGUF file and answers requests.

`python -P llama_cpp_process.py PACKAGE FILE THREADS POSITIONS` is that process. It runs as a file, because as a module
of proxconnect it would import torch. PACKAGE is a key of `ENGINES`. Each line of its input is a request in JSON, the
name of a method of `Engine` and its arguments. Each line of its output is the answer in JSON.
"""

import json
import os
import runpy
import sys
import urllib.request
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

own_peak = runpy.run_path(str(Path(__file__).parents[3] / "inspection" / "memory.py"))["own_peak"]


class Engine(Protocol):
    """A GGUF file, loaded by llama.cpp. Prompts are numbers of tokens."""

    def write(self, prompt: list[int], tokens: int) -> tuple[float, float]:
        """Write `tokens` tokens; return the seconds until the first one, and those from there to the last one."""

    def logits(self, prompt: list[int]) -> list[float]:
        """Return the logits of the token after the prompt, plus some constant."""


class LlamaCppPython:
    """The package llama-cpp-python: calls of llama.cpp, timed here."""

    def __init__(self, file: str, threads: int, positions: int) -> None:
        import llama_cpp

        self._logits_of = llama_cpp.llama_get_logits_ith
        self._llama = llama_cpp.Llama(
            file, n_ctx=positions, n_batch=positions, n_threads=threads, n_threads_batch=threads, verbose=False
        )

    def write(self, prompt: list[int], tokens: int) -> tuple[float, float]:
        """See `Engine`."""
        self._llama.reset()
        start = perf_counter()
        self._llama.eval(prompt)
        token = self._llama.sample(temp=0.0)
        first = perf_counter()
        for _ in range(tokens - 1):
            self._llama.eval([token])
            token = self._llama.sample(temp=0.0)
        return first - start, perf_counter() - first

    def logits(self, prompt: list[int]) -> list[float]:
        """See `Engine`."""
        self._llama.reset()
        self._llama.eval(prompt)
        return list(self._logits_of(self._llama.ctx, -1)[: self._llama.n_vocab()])


class XLlamaCpp:
    """The package xllamacpp: llama.cpp's server, which times itself, without the way to it."""

    def __init__(self, file: str, threads: int, positions: int) -> None:
        import xllamacpp

        options = xllamacpp.CommonParams()
        options.model.path, options.n_ctx, options.n_parallel = file, positions, 1
        options.cpuparams.n_threads = options.cpuparams_batch.n_threads = threads
        options.n_batch, options.warmup, options.verbosity, options.fit_params = positions, False, 1, False
        self._server = xllamacpp.Server(options)
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def write(self, prompt: list[int], tokens: int) -> tuple[float, float]:
        """See `Engine`."""
        taken = self._complete(prompt, n_predict=tokens, ignore_eos=True, samplers=["top_k"], top_k=1)["timings"]
        if (taken["prompt_n"], taken["predicted_n"]) != (len(prompt), tokens):
            raise RuntimeError(f"it read {taken['prompt_n']} of {len(prompt)} tokens and wrote {taken['predicted_n']}")
        return taken["prompt_ms"] / 1000, taken["predicted_ms"] / 1000

    def logits(self, prompt: list[int]) -> list[float]:
        """See `Engine`."""
        size = self._request("/v1/models")["data"][0]["meta"]["n_vocab"]
        bias = [[prompt[0], 1000.0]]  # writes a token of the prompt: the server reports none for half a letter
        reply = self._complete(prompt, n_predict=1, n_probs=size, logit_bias=bias)
        found = {token["id"]: token["logprob"] for token in reply["completion_probabilities"][0]["top_logprobs"]}
        return [found[token] for token in range(size)]

    def _complete(self, prompt: list[int], **options: Any) -> Any:
        return self._request("/completion", {"prompt": prompt, "temperature": 0, "cache_prompt": False, **options})

    def _request(self, route: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            self._server.listening_address + route, None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )  # fmt: skip
        with self._opener.open(request) as reply:
            return json.load(reply)


ENGINES: dict[str, type[LlamaCppPython] | type[XLlamaCpp]] = {"llama_cpp": LlamaCppPython, "xllamacpp": XLlamaCpp}
"""What runs llama.cpp, by the package that it comes from."""


def _main(package: str, file: str, threads: str, positions: str) -> None:
    """Load the file, and answer requests until the input ends."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # llama.cpp prints
    __import__(package)
    bare = own_peak()
    engine: Engine = ENGINES[package](file, int(threads), int(positions))
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        if name == "peak_memory":
            peak = own_peak()
            answer: Any = None if bare is None or peak is None else peak - bare
        else:
            answer = getattr(engine, name)(*arguments)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    _main(*sys.argv[1:])
