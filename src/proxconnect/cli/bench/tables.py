"""The results of a bench as text."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from proxconnect._support.text import shortened, some
from proxconnect.cli.bench import rivals
from proxconnect.cli.bench.generation import Generation
from proxconnect.cli.bench.profile import Part
from proxconnect.cli.bench.results import FLOAT, PACKED, Bench
from proxconnect.cli.examples import shown as shown_shapes
from proxconnect.cli.tables import table
from proxconnect.inspection.table import short

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

MOST_ROWS = 20
"""The most layers or parts that a table shows."""

MOST_BATCHES = 6
"""The most sizes of batches that a table shows."""

TITLES = {FLOAT: "float32", PACKED: "packed"}
"""Contenders by name, if a table calls them differently."""

_PACKING = {
    ("inputs", "int8"): "float inputs in 8 bits",
    ("remainder", "int8"): "int8 remainder",
    ("vectors", "float16"): "float16 vectors",
    ("floats", "fast"): "floats by kernels",
    ("floats", "torch"): "floats by torch",
}
"""Words for options of `pc.pack`."""

_T = TypeVar("_T")


def shown(bench: Bench, profiled: bool = False) -> "Iterator[RenderableType]":
    """Yield the results, for 80 columns or more and readable without colour.

    `profiled`: with the parts of the packed network's time.
    """
    from rich.text import Text

    packing = [_PACKING[item] for item in bench.options.packing.items() if item in _PACKING]
    how = ", ".join([f"{bench.options.mode} by {bench.options.weights}", *packing])
    yield Text(f"{bench.title}: {bench.binary_layers} of {bench.weight_layers} layers binary, {how}", style="bold")
    yield Text(f"Input {shown_shapes(bench.shapes)}; medians of {bench.options.rounds} interleaved rounds")
    yield Text(f"{bench.machine}\n")
    yield _contest(bench)
    for start in range(0, len(bench.options.batches), MOST_BATCHES):
        yield ""
        yield _throughput(bench, bench.options.batches[start : start + MOST_BATCHES])
    if bench.generation is not None:
        yield ""
        yield writing(bench.generation)
    yield ""
    yield Text("\n".join(_agreement(bench)))
    for name, why in bench.absent.items():
        yield Text(f"Without {name}: {why}", style="dim")
    if profiled:
        yield ""
        yield _profile(bench)
    yield ""
    yield _layers(bench)
    yield ""
    yield Text("\n".join(_bounds(bench)))


def _contest(bench: Bench) -> "Table":
    """Make a table with a line for each contender."""
    made = table("", "latency\nms", "quartiles", "x as fast\nas float", "peak memory\nbytes", "file\nbytes")
    for one in bench.contenders:
        made.add_row(
            TITLES.get(one.name, one.name), milliseconds(one.latency.median),
            f"{milliseconds(one.latency.low)} to {milliseconds(one.latency.high)}", f"{one.speedup.median:.2f}",
            short(bench.peaks.get(one.name)), short(bench.files.get(one.name)),
        )  # fmt: skip
    return made


def _throughput(bench: Bench, sizes: Sequence[int]) -> "Table":
    """Make a table with a line for each contender and a column for each size of batch."""
    made = table("inputs/s in\nbatches of", *(f"\n{size}" for size in sizes))
    for one in bench.contenders:
        cells = (_three(one.throughput(size)) if size in one.seconds else "" for size in sizes)
        made.add_row(TITLES.get(one.name, one.name), *cells)
    return made


def writing(found: Generation) -> "Table":
    """Make a table with a line for each network that writes."""
    first = f"{found.tokens} tokens after\na prompt of {found.prompt}"
    made = table(first, "first token\nms", "x as\nfast", "then\ntokens/s", "quartiles", "x as\nfast")
    for one in found.writers:
        made.add_row(
            TITLES.get(one.name, one.name), milliseconds(one.first_token.median), f"{one.first_speedup.median:.2f}",
            _three(one.rate.median), f"{_three(one.rate.low)} to {_three(one.rate.high)}",
            f"{one.rate_speedup.median:.2f}",
        )  # fmt: skip
    return made


def _longest(items: Sequence[_T], seconds: Callable[[_T], float]) -> tuple[list[_T], list[_T]]:
    """Split items into those that take most time, in their order, and the others."""
    numbers = sorted(range(len(items)), key=lambda number: -seconds(items[number]))
    longest = set(numbers[:MOST_ROWS])
    return [items[n] for n in sorted(longest)], [items[n] for n in numbers[MOST_ROWS:]]


def _profile(bench: Bench) -> "Table":
    """Make a table of the parts that take most of the packed network's time."""
    whole = sum(part.seconds.median for part in bench.parts)
    made = table("what takes the packed one's time", "kind", "calls", "ms", "%", left=2)

    def row(name: str, kind: str, calls: str, parts: Sequence[Part], style: str = "") -> None:
        seconds = sum(part.seconds.median for part in parts)
        made.add_row(name, kind, calls, milliseconds(seconds), f"{100 * seconds / whole:.1f}", style=style)

    longest, others = _longest(bench.parts, lambda part: part.seconds.median)
    for part in longest:
        row(shortened(part.name or "(the model)", 36), shortened(part.kind, 22), str(part.calls), [part])
    if others:
        row(f"and {len(others)} more", "", "", others, "dim")
    return made


def _layers(bench: Bench) -> "Table":
    """Make a table of the layers that take most of the packed network's time."""
    made = table("layer", "weight", "MACs", "float\nms", "packed\nms", "x as\nfast", "float\nbytes", "packed\nbytes",
                 left=2)  # fmt: skip
    longest, others = _longest(bench.layers, lambda layer: layer.seconds[1])
    for layer in longest:
        times = (None if spread is None else spread.median for spread in (layer.float_seconds, layer.packed_seconds))
        name = (layer.name or "(the model)") + (f" ({layer.calls} calls)" if layer.calls > 1 else "")
        weight = "×".join(map(str, layer.shapes[0])) if len(layer.shapes) == 1 else f"{len(layer.shapes)} weights"
        made.add_row(
            shortened(name, 22), shortened(weight, 11), short(layer.macs) if layer.macs else "",
            *map(milliseconds, times), "" if layer.speedup is None else f"{layer.speedup.median:.2f}",
            short(layer.float_bytes), short(layer.packed_bytes),
        )  # fmt: skip
    if others:
        floats, packed = (sum(times) for times in zip(*(layer.seconds for layer in others), strict=True))
        made.add_row(
            f"and {len(others)} more", "", short(sum(o.macs for o in others)), milliseconds(floats),
            milliseconds(packed), f"{floats / packed:.2f}" if packed else "",
            short(sum(o.float_bytes for o in others)), short(sum(o.packed_bytes for o in others)), style="dim",
        )  # fmt: skip
    return made


def _agreement(bench: Bench) -> Iterator[str]:
    """Say how far answers are from those of the network that a contender runs."""
    difference = bench.contender(PACKED).difference
    says = "the same to the bit" if difference == 0 else f"|Δ| ≤ {difference:.2g} of {bench.largest_answer:.2g}"
    yield f"Answers, packed to binary in eval(): {says}"
    run_by = {rival.name: rival.runs for rival in rivals.RIVALS}
    for one in bench.contenders:
        if one.name not in TITLES:
            yield f"Answers, {one.name} to {run_by.get(one.name, 'float')}: |Δ| ≤ {one.difference:.2g}"


def _bounds(bench: Bench) -> Iterator[str]:
    """Say what share of the time the binary layers take, and so how fast the network could be at most."""
    yield f"Binary layers, with what is fused into them: {100 * bench.share:.0f} % of the packed one's time."
    if bench.share < 1:
        bound = bench.contender(PACKED).speedup.median / (1 - bench.share)
        yield f"If they took none, it would be {bound:.2f}x as fast as float: the rest bounds it."
    uncalled = [layer.name for layer in bench.layers if not layer.calls]
    if uncalled:
        yield f"Never called, since other code takes their weights: {some(uncalled)}"


def milliseconds(seconds: float | None) -> str:
    """Format seconds as milliseconds with three digits, or to a thousandth."""
    return "" if seconds is None else _three(1000 * seconds)


def _three(value: float) -> str:
    """Format with three significant digits, at most three of them behind the point."""
    return f"{value:,.{max(0, min(3, 2 - math.floor(math.log10(value)))) if value > 0 else 0}f}"
