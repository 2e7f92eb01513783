"""The results of a bench as text."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from proxconnect._support.text import file_size, shortened, some
from proxconnect.cli.answer import table
from proxconnect.cli.bench import rivals
from proxconnect.cli.bench.benchmark import FLOAT, PACKED
from proxconnect.cli.bench.profile import SelfTime, seconds_in_run
from proxconnect.cli.bench.rivals import llama_cpp
from proxconnect.cli.networks import shown as shown_shapes
from proxconnect.inspection.summary_table import short

MOST_ROWS = 20
"""The most layers or parts that a table shows."""

MOST_BATCHES = 6

_PACKING = {
    ("inputs", "int8"): "float inputs in 8 bits",
    ("remainder", "int8"): "int8 remainder",
    ("vectors", "float16"): "float16 vectors",
    ("floats", "fast"): "float layers by kernels",
    ("floats", "torch"): "float layers by torch",
}

_MODES = {
    "BW": "binary weights", "BWA": "binary weights and inputs", "BWAA": "binary weights and inputs, 8-bit sums",
}  # fmt: skip

_T = TypeVar("_T")


def shown(bench: Mapping[str, Any], profiled: bool = False) -> Iterator[RenderableType]:
    """Yield the results of `measure` as rich text and tables; if `profiled`, with the packed time by module."""
    packing = [words for (name, value), words in _PACKING.items() if bench.get(name) == value]
    groups = [f"a scale for every {bench['group_size']} inputs"] if bench["group_size"] else []
    how = ", ".join([f"pair {bench['weights']}", *groups, *packing])
    yield Text(f"{bench['model']}: {bench['binary_layers']} of {bench['weight_layers']} layers binary", "bold")
    yield Text(f"{bench['mode']}: {_MODES[bench['mode']]}; {how}")
    yield Text(f"Input {shown_shapes(bench['input_shapes'])}; medians of {bench['rounds']} interleaved rounds")
    yield Text(f"{bench['machine']}\n")
    yield _contest(bench["networks"], bench["float_bytes"])
    yield Text(
        "Peak memory is what a new process needs to load and run the network, beyond its\nimports. Size is that of all "
        "float tensors, else of the file."
    )
    sizes = list(bench["networks"][0]["throughput"])
    for start in range(0, len(sizes), MOST_BATCHES):
        yield ""
        some_sizes = sizes[start : start + MOST_BATCHES]
        made = table("inputs per second\nin batches of", *(f"\n{size}" for size in some_sizes))
        for one in bench["networks"]:
            rates = (one["throughput"].get(size) for size in some_sizes)
            made.add_row(title_of(one["name"]), *("" if rate is None else _three(rate) for rate in rates))
        yield made
    if bench["generation"] is not None:
        yield ""
        yield writing(bench["generation"])
        yield from beside_llama_cpp(bench["generation"])
    yield ""
    yield Text("\n".join(_conclusions(bench["networks"], bench["float_bytes"])), "bold")
    for name, why in bench["absent"].items():
        yield Text(f"No result for {name}: {why}")
    yield ""
    yield _agreement(bench["networks"])
    yield Text("\n".join(_sizes_of_outputs(bench["networks"], bench["largest_answer"])))
    if profiled:
        yield ""
        yield _profile(bench["profile"])
    yield "\nEach binary layer alone, called from Python (the fused graph saves that call):"
    yield _layers(bench["layers"])
    yield Text("\n".join(_factors(bench["layers"])))
    yield ""
    yield Text("\n".join(_bounds(bench)))


def _contest(networks: Sequence[Mapping[str, Any]], float_bytes: int) -> Table:
    """Make a table with a line for each network. Sizes are those of all float tensors, or of the file that is read."""
    made = table("", "latency\nms", "quartiles\nms", "x as fast\nas float32", "peak memory\nbytes", "size\nbytes")
    for one in networks:
        latency = one["latency"]
        made.add_row(
            title_of(one["name"]), milliseconds(latency.median),
            f"{milliseconds(latency.low)} to {milliseconds(latency.high)}", f"{one['speedup'].median:.2f}",
            short(one["peak_memory"]), short(float_bytes if one["name"] == FLOAT else one["file"]),
        )  # fmt: skip
    return made


def _conclusions(networks: Sequence[Mapping[str, Any]], float_bytes: int) -> Iterator[str]:
    """Compare packed with float32, and name the networks with a lower median than packed, the fastest first."""
    by_name = {one["name"]: one for one in networks}
    packed = by_name[PACKED]
    yield f"packed is {packed['speedup'].median:.2f}x as fast as float32."
    yield f"Its file: {file_size(packed['file'], float_bytes)}."
    times_as_fast = {name: packed["latency"].median / one["latency"].median for name, one in by_name.items()}
    faster = sorted((name for name in by_name if times_as_fast[name] > 1), key=lambda name: -times_as_fast[name])
    if faster:
        by = (f"{title_of(name)} ({times_as_fast[name]:.2f}x as fast)" for name in faster)
        yield f"Faster than packed on this machine: {', '.join(by)}"


def title_of(name: str) -> str:
    """Return the title of a benchmarked network: "float32" for "float", and any other name unchanged."""
    return {FLOAT: "float32"}.get(name, name)


def writing(found: Mapping[str, Any]) -> Table:
    """Return a table of the results of `time_writing`, with a row for each form of the language model."""
    first = f"{found['tokens']} tokens after\na prompt of {found['prompt']}"
    made = table(first, "first token\nms", "x as\nfast", "then\ntokens/s", "quartiles\ntokens/s", "x as\nfast")
    for one in found["writers"]:
        rate = one["rate"]
        made.add_row(
            title_of(one["name"]), milliseconds(one["first_token"].median), f"{one['first_speedup'].median:.2f}",
            _three(rate.median), f"{_three(rate.low)} to {_three(rate.high)}", f"{one['rate_speedup'].median:.2f}",
        )  # fmt: skip
    return made


def beside_llama_cpp(found: Mapping[str, Any]) -> Iterator[Text]:
    """Yield which llama.cpp wrote in the results of a language model, and how the packed forms compare with it."""
    engine, name = found["llama_cpp"], llama_cpp.NAME
    if engine is None:
        return
    memory = "" if engine["peak_memory"] is None else f", peak memory {short(engine['peak_memory'])}"
    yield Text(f"\n{name} is {engine['package']} {engine['version']}: file {short(engine['file'])}{memory} bytes.")
    yield Text(f"Its logits differ from those of packed by {100 * engine['difference']:.2g} % of their norm.")
    by_name = {one["name"]: one for one in found["writers"]}
    rival = by_name[name]
    for title in (one for one in by_name if one not in (FLOAT, name)):
        reads = rival["first_token"].median / by_name[title]["first_token"].median
        writes = by_name[title]["rate"].median / rival["rate"].median
        yield Text(f"{title}: prompt {reads:.2f}x, then {writes:.2f}x as fast as {name}.")


def _longest(items: Sequence[_T], seconds: Callable[[_T], float]) -> tuple[list[_T], list[_T]]:
    """Split items into those that take most time, in their order, and the others."""
    numbers = sorted(range(len(items)), key=lambda number: -seconds(items[number]))
    longest = set(numbers[:MOST_ROWS])
    return [items[n] for n in sorted(longest)], [items[n] for n in numbers[MOST_ROWS:]]


def _profile(parts: Sequence[SelfTime]) -> Table:
    """Make a table of the modules and operations that take most of the packed network's time."""
    whole = sum(part.seconds.median for part in parts)
    made = table("part of the packed network", "kind", "calls", "ms", "% of\ntime", left=2)

    def row(name: str, kind: str, calls: str, parts: Sequence[SelfTime]) -> None:
        seconds = sum(part.seconds.median for part in parts)
        made.add_row(name, kind, calls, milliseconds(seconds), f"{100 * seconds / whole:.1f}")

    longest, others = _longest(parts, lambda part: part.seconds.median)
    for part in longest:
        row(shortened(part.name or "(the model)", 36), shortened(part.kind, 22), str(part.calls), [part])
    if others:
        row(f"and {len(others)} more", "", "", others)
    return made


def _layers(layers: Sequence[Mapping[str, Any]]) -> Table:
    """Make a table of the layers that take most of the packed network's time."""
    made = table("layer", "weight", "multiply-\nadds", "float\nms", "packed\nms", "x as\nfast", "float\nbytes",
                 "packed\nbytes", left=2)  # fmt: skip
    longest, others = _longest(layers, lambda layer: seconds_in_run(layer)[1])
    for layer in longest:
        times = ["", "", ""]
        if layer["calls"]:
            seconds = (milliseconds(layer[form].median) for form in ("float_seconds", "packed_seconds"))
            times = [*seconds, f"{layer['speedup'].median:.2f}"]
        name = (layer["name"] or "(the model)") + (f" ({layer['calls']} calls)" if layer["calls"] > 1 else "")
        shapes = layer["shapes"]
        weight = "×".join(map(str, shapes[0])) if len(shapes) == 1 else f"{len(shapes)} weights"
        made.add_row(
            shortened(name, 22), shortened(weight, 11), short(layer["macs"]) if layer["macs"] else "",
            *times, short(layer["float_bytes"]), short(layer["packed_bytes"]),
        )  # fmt: skip
    if others:
        macs, before, after = (sum(other[key] for other in others) for key in ("macs", "float_bytes", "packed_bytes"))
        floats, packed = (sum(times) for times in zip(*map(seconds_in_run, others), strict=True))
        made.add_row(
            f"and {len(others)} more", "", short(macs), milliseconds(floats), milliseconds(packed),
            f"{floats / packed:.2f}" if packed else "", short(before), short(after),
        )  # fmt: skip
    return made


def _factors(layers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Say of which factors the multiply-adds of the layers are; an attention may have several kinds of inputs."""
    for bits, factors in (([1], "1-bit inputs"), ([32], "float inputs"), ([1, 32], "inputs of both kinds")):
        if names := [layer["name"] for layer in layers if layer["input_bits"] == bits]:
            which = "All" if len(names) == len(layers) else some(names)
            yield f"{which}: multiply-adds of 1-bit weights × {factors}."


def _agreement(networks: Sequence[Mapping[str, Any]]) -> Table:
    """Make a table of how far the answers of each form are from those of the network that it runs."""
    run_by = {PACKED: "binary"} | {rival.name: rival.runs for rival in rivals.RIVALS}
    made = table("outputs of", "differ from those of", "by at most", left=2)
    for one in networks:
        if one["name"] != FLOAT:
            runs, apart = run_by.get(one["name"], FLOAT), one["largest_difference"]
            made.add_row(one["name"], title_of(runs), f"{apart:.2g}" if apart else "0, to the bit")
    return made


def _sizes_of_outputs(networks: Sequence[Mapping[str, Any]], largest: float) -> Iterator[str]:
    """Say how large outputs are, and which forms are so far apart that only accuracies can tell whether it matters."""
    yield f"The largest output of the binary network is {largest:.2g}."
    far = [one["name"] for one in networks if one["name"] != FLOAT and one["largest_difference"] > largest / 10]
    if far:
        yield f"Differences above a tenth of it: {some(far)}. Compare accuracies on your own data."


def _bounds(bench: Mapping[str, Any]) -> Iterator[str]:
    """Say what share of the time the binary layers take, and so how fast the network could be at most."""
    share = bench["binary_share_of_time"]
    yield f"Binary layers with fused operations take {100 * share:.0f} % of the packed network's time."
    if share < 1:
        speedup = next(one["speedup"].median for one in bench["networks"] if one["name"] == PACKED)
        yield f"If they took no time at all, packed would be {speedup / (1 - share):.2f}x as fast as float32."
    if constant := bench["one_signed"]:
        yield f"The binary input of {some(constant)} has one sign only, as after a ReLU."
        yield "The times are valid, but a network cannot learn from such inputs. bireal_resnet18 has none."
    uncalled = [layer["name"] for layer in bench["layers"] if not layer["calls"]]
    if uncalled:
        yield f"Not timed, because other code uses their weights: {some(uncalled)}"


def milliseconds(seconds: float) -> str:
    """Return seconds as text in milliseconds, with about three significant digits, but at most three decimals."""
    return _three(1000 * seconds)


def _three(value: float) -> str:
    """Format with three significant digits, at most three of them behind the point."""
    return f"{value:,.{max(0, min(3, 2 - math.floor(math.log10(value)))) if value > 0 else 0}f}"
