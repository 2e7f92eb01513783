"""What a GPU gains: packed products beside float16, training steps beside float, tokens per second, and memory.

Contenders take turns in rounds, and costs are ratios of medians, beside the quartiles of the ratios within rounds.
Products are captured as CUDA graphs, in which each call takes the next of several weights: caches do not hold them, and
the time of a launch from Python, tens of µs, is not in the figures. Training and generation run as a user runs them.

gemlite, another library with kernels for 1-bit weights, is compared where it is installed. ResNet-50 and DeiT-S need
torchvision and timm; the language model needs transformers.

Run: python benchmarks/gpu.py [products training tokens] [--rounds 15] [--record benchmarks/recorded/gpu.jsonl]
"""

import argparse
import gc
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from datetime import date
from functools import partial
from importlib import import_module
from itertools import product
from math import ceil
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

import proxconnect as pc
from proxconnect import kernels
from proxconnect._support.extras import require
from proxconnect.cli.bench.timing import Spread, Work, interleaved, quotients
from proxconnect.kernels.bits import pack_bits

SIZES = (4096, 4096), (4096, 11008)
"""The outputs and inputs of layers of language models."""
ROWS = (1, 16, 256)
BEYOND_CACHES = 256 * 2**20
"""Bytes of packed weights that one graph goes through: more than the second cache of any GPU holds."""
GROUP = 128

Row = dict[str, Any]


def products(device: torch.device, rounds: int, sizes: Iterable[tuple[int, int]] = SIZES) -> list[Row]:
    """Products of 1, 16 and 256 rows by packed weights, in the times of torch's float16 product."""
    found = []
    for (outputs, inputs), rows in product(sizes, ROWS):
        count = ceil(BEYOND_CACHES / (outputs * inputs / 8))
        x = torch.randn(rows, inputs, device=device, dtype=torch.float16)
        works = {}
        for name, make in PRODUCTS.items():
            try:
                calls = [make(torch.randn(outputs, inputs, device=device), x) for _ in range(count)]
                works[name] = captured(calls, device)
            except Exception as error:  # others' code may raise anything
                found.append({"what": f"{outputs}x{inputs}", "rows": rows, "name": name, "failed": reason_of(error)})
        of = {"what": f"{outputs}x{inputs}", "rows": rows}
        found += measured(works, "float16", rounds, device, of, calls=count)
        del works
    return found


def float16(weight: Tensor, x: Tensor) -> Work:
    half = weight.half()
    return lambda: functional.linear(x, half)


def packed(weight: Tensor, x: Tensor, group_size: int | None = None) -> Work:
    panels = kernels.panels(pack_bits(weight), *weight.shape)
    magnitudes = weight.reshape(len(weight), -1, group_size or weight.shape[1]).abs().mean(2)
    scale = kernels.group_scales(magnitudes) if group_size else magnitudes.flatten()
    return partial(kernels.weight_only_linear, x, panels, len(weight), scale)


def gemlite(weight: Tensor, x: Tensor) -> Work:
    """gemlite's product of float16 inputs by 1-bit weights, whose values are (q - zero) * scale, in groups."""
    core = import_module("gemlite.core")
    outputs, inputs = weight.shape
    layer = core.GemLiteLinearTriton(
        W_nbits=1, group_size=GROUP, in_features=inputs, out_features=outputs, input_dtype=core.DType.FP16,
        output_dtype=core.DType.FP16,
    )  # fmt: skip
    shape = outputs * inputs // GROUP, 1
    scales = 2 * weight.reshape(-1, GROUP).abs().mean(1, keepdim=True)
    zeros = torch.full(shape, 0.5, device=weight.device)  # as a tensor, because a float zero point is not read
    layer.pack((weight > 0).to(torch.uint8), scales.half(), zeros.half(), bias=None)
    return partial(layer, x)


PRODUCTS: Mapping[str, Callable[[Tensor, Tensor], Work]] = {
    "float16": float16,
    "packed": packed,
    f"packed, groups of {GROUP}": partial(packed, group_size=GROUP),
    "gemlite": gemlite,
}
"""From a float32 weight (out, in) and float16 rows (rows, in): the call to time."""


def captured(calls: list[Work], device: torch.device) -> Work:
    """All calls, one after the other, as one CUDA graph; on another device as they are."""
    for call in calls[:3]:
        call()
    if device.type != "cuda":
        return lambda: [call() for call in calls]
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    return partial(replayed, graph, calls)


def replayed(graph: Any, calls: list[Work]) -> None:
    """Run a captured graph; `calls` keep the weights that it reads."""
    graph.replay()


def training(device: torch.device, rounds: int, names: Iterable[str] = ("resnet50", "deit_small")) -> list[Row]:
    """A step of training, eager and compiled, in bfloat16 by autocast: forward, backward, AdamW, μ."""
    found = []
    for name, compiled in product(names, (False, True)):
        make, images = NETWORKS[name]
        works, memory = {}, {}
        for pair in (None, "bc", "bnn+", "bnn++"):
            torch.manual_seed(0)
            before = allocated(device)
            step = step_of(make(), pair, images, device, compiled=compiled)
            step()
            memory[pair or "float"] = peak_of(step, device) - before
            works[pair or "float"] = step
        of = {"what": f"{name} {'x'.join(map(str, images))}", "compiled": compiled}
        found += [
            row | {"megabytes": memory[row["name"]] / 1e6} for row in measured(works, "float", rounds, device, of)
        ]
        torch._dynamo.reset()
        del works, step
        gc.collect()
    return found


def resnet50() -> nn.Module:
    model: nn.Module = require("torchvision.models", "test").resnet50()
    return model


def deit_small() -> nn.Module:
    model: nn.Module = require("timm", "test").create_model("deit_small_patch16_224")
    return model


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet50": (resnet50, (64, 3, 224, 224)),
    "deit_small": (deit_small, (128, 3, 224, 224)),
}
"""What makes a network, and the shape of its batch."""


def step_of(
    model: nn.Module, pair: str | None, images: tuple[int, ...], device: torch.device, *, compiled: bool
) -> Work:
    """A step of training of the float model (None) or of a binary one."""
    model = model.to(device)
    optimizer_of = partial(torch.optim.AdamW, lr=1e-4, fused=device.type == "cuda")
    if pair is None:
        optimizer = optimizer_of(model.parameters())
    else:
        pc.binarize(model, pair)
        optimizer = optimizer_of(model.parameters())
        pc.Sharpening(optimizer, model, steps=100_000)
    x, labels = torch.randn(images, device=device), torch.randint(10, images[:1], device=device)
    call = torch.compile(model) if compiled else model

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            loss = functional.cross_entropy(call(x), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def tokens(device: torch.device, rounds: int, new: int = 128) -> list[Row]:
    """Tokens that a small LLaMA writes after a prompt of 64, batch 1, float16: float, and packed."""
    models, memory = {}, {}
    for name in ("float16", "packed"):
        torch.manual_seed(0)
        before = allocated(device)
        models[name] = small_llama(packed=name == "packed").to(device, torch.float16)
        memory[name] = allocated(device) - before
    vocabulary = models["float16"].config.vocab_size
    prompt = torch.randint(vocabulary, (1, 64), device=device)
    options = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}
    rows = []
    for cache in ("dynamic", "static"):  # transformers compiles steps with a static cache
        works = {name: partial(generate, model, prompt, options, cache) for name, model in models.items()}
        of = {"what": f"LLaMA, cache {cache}", "rows": 1}
        rows += [
            row | {"megabytes": memory[row["name"]] / 1e6, "tokens_per_second": new / row["seconds"][1]}
            for row in measured(works, "float16", rounds, device, of)
        ]
    return rows


def generate(model: nn.Module, prompt: Tensor, options: dict[str, Any], cache: str) -> Tensor:
    kind = {} if cache == "dynamic" else {"cache_implementation": cache}
    with torch.no_grad():
        written: Tensor = model.generate(prompt, **options, **kind)  # type: ignore[operator]
    return written


def small_llama(*, packed: bool) -> nn.Module:
    """A LLaMA of 1.1e9 weights with random values; packed, all but its embedding and head have 1 bit a weight."""
    transformers = require("transformers", "huggingface")
    config = transformers.LlamaConfig(
        hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32, num_key_value_heads=4,
    )  # fmt: skip
    model: nn.Module = transformers.LlamaForCausalLM(config).eval()
    return pc.pack(pc.binarize(model, "bc", group_size=GROUP)) if packed else model


def measured(
    works: Mapping[str, Work], reference: str, rounds: int, device: torch.device, of: Row, calls: int = 1
) -> list[Row]:
    """Time works, and return for each the quartiles of its seconds a call, and of its ratios to the reference."""
    seconds = interleaved({name: partial(finished, work, device) for name, work in works.items()}, rounds)
    rows = []
    for name, values in seconds.items():
        spread, ratios = Spread.of(values), Spread.of(quotients(values, seconds[reference]))
        row = of | {"name": name, "seconds": [value / calls for value in (spread.low, spread.median, spread.high)]}
        ratio = spread.median / Spread.of(seconds[reference]).median
        rows.append(row | {"ratio": ratio, "quartiles": [ratios.low, ratios.high]})
    return rows


def finished(work: Work, device: torch.device) -> None:
    """Run a work and wait until the device has done it."""
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()


def allocated(device: torch.device) -> int:
    return torch.cuda.memory_allocated() if device.type == "cuda" else 0


def peak_of(work: Work, device: torch.device) -> int:
    """Bytes that the device holds at most while a work runs."""
    if device.type != "cuda":
        work()
        return 0
    torch.cuda.reset_peak_memory_stats()
    finished(work, device)
    return torch.cuda.max_memory_allocated()


def reason_of(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


MEASURES: dict[str, Callable[[torch.device, int], list[Row]]] = {
    "products": products, "training": training, "tokens": tokens,
}  # fmt: skip


def timed(rows: list[Row]) -> list[Row]:
    return [row for row in rows if "failed" not in row]


def failures(rows: list[Row]) -> list[str]:
    """Why contenders have no times, each reason once."""
    return list(dict.fromkeys(f"{row['name']}: {row['failed']}" for row in rows if "failed" in row))


def table_of(rows: list[Row]) -> Table:
    table = Table("what", "rows", "contender", box=None)
    for heading in ("µs", "of the first", "quartiles", "MB", "tokens/s"):
        table.add_column(heading, justify="right")
    for row in timed(rows):
        what = row["what"] + (", compiled" if row.get("compiled") else "")
        low, high = row["quartiles"]
        numbers = f"{row['seconds'][1] * 1e6:.1f}", f"{row['ratio']:.3f}", f"{low:.3f}-{high:.3f}"
        others = [f"{row[key]:.0f}" if key in row else "" for key in ("megabytes", "tokens_per_second")]
        table.add_row(what, str(row.get("rows", "")), row["name"], *numbers, *others)
    return table


def machine(device: torch.device) -> Row:
    name = torch.cuda.get_device_name() if device.type == "cuda" else "the CPU"
    triton = getattr(require("triton", "gpu"), "__version__", "") if device.type == "cuda" else ""
    return {"device": name, "torch": torch.__version__, "cuda": torch.version.cuda, "triton": triton}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("measures", nargs="*", default=[*MEASURES], metavar="MEASURE", help=f"of {', '.join(MEASURES)}")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--record", type=Path, metavar="FILE", help="append the numbers to this file, one line a measure"
    )
    options = parser.parse_args()
    if unknown := [name for name in options.measures if name not in MEASURES]:
        parser.error(f"unknown {', '.join(unknown)}: there are {', '.join(MEASURES)}")
    if not torch.cuda.is_available():
        parser.error("torch finds no CUDA device, and nothing else is measured here")
    device, console = torch.device("cuda"), Console(width=100, highlight=False)
    facts = machine(device)
    for name in options.measures:
        with nullcontext() if name == "training" else torch.no_grad():
            rows = MEASURES[name](device, options.rounds)
        console.print(f"{name}: {facts['device']}, torch {facts['torch']}, triton {facts['triton']}", table_of(rows))
        for reason in failures(rows):
            console.print(reason, markup=False)
        if options.record:
            line = facts | {"measure": name, "date": date.today().isoformat(), "rows": rows}
            with options.record.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
