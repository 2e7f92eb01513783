"""What was measured, for people and for programs."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from proxconnect._support.json_numbers import finite
from proxconnect._support.text import shortened, some
from proxconnect.cli.bench import rivals
from proxconnect.cli.bench.examples import shown
from proxconnect.cli.bench.generation import Generation
from proxconnect.cli.bench.layers import LayerTimes
from proxconnect.cli.bench.results import FLOAT, PACKED, Bench, Contender
from proxconnect.cli.bench.timing import Spread
from proxconnect.inspection.table import short

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

MOST_LAYERS = 20
"""How many layers the table shows."""

MOST_BATCHES = 6
"""How many sizes of batches a table shows."""

_NAMES = {FLOAT: "float32", PACKED: "packed"}


def show(bench: Bench, console: "Console", profiled: bool = False) -> None:
    """Print it, in 80 columns or more, readable without colour; `profiled`: with what takes the packed one's time."""
    from rich.text import Text

    def say(line: str, style: str = "") -> None:
        console.print(Text(line, style=style))

    how = ", ".join(filter(None, [f"{bench.options.mode} by {bench.options.weights}", str(bench.options.packing)]))
    say(f"{bench.title}: {bench.binary_layers} of {bench.weight_layers} layers binary, {how}", "bold")
    say(f"Input {shown(bench.shapes)}; medians of {bench.options.rounds} interleaved rounds")
    say(f"{bench.machine}\n")
    console.print(contest(bench.contenders, bench.peaks, bench.files))
    console.print()
    for start in range(0, len(bench.options.batches), MOST_BATCHES):
        console.print(_throughput(bench, bench.options.batches[start : start + MOST_BATCHES]))
        console.print()
    if bench.generation is not None:
        console.print(generation(bench.generation))
        console.print()
    say(_agreement(bench))
    for name, why in bench.absent.items():
        say(f"Without {name}: {why}", "dim")
    console.print()
    if profiled:
        console.print(_profile(bench))
        console.print()
    console.print(_layers(bench))
    console.print()
    for line in _bounds(bench):
        say(line)


def contest(
    contenders: Sequence[Contender], peaks: Mapping[str, int] = MappingProxyType({}),
    files: Mapping[str, int] = MappingProxyType({}),
) -> "Table":  # fmt: skip
    """A line for each contender."""
    table = _table()
    table.add_column("", no_wrap=True)
    for title in ("latency\nms", "quartiles", "x as fast\nas float", "peak memory\nbytes", "file\nbytes"):
        table.add_column(title, justify="right", no_wrap=True)
    for one in contenders:
        table.add_row(
            title_of(one), milliseconds(one.latency.median),
            f"{milliseconds(one.latency.low)} to {milliseconds(one.latency.high)}", f"{one.speedup.median:.2f}",
            short(peaks.get(one.name)), short(files.get(one.name)),
        )  # fmt: skip
    return table


def generation(found: Generation) -> "Table":
    """A line for each network that writes."""
    table = _table()
    table.add_column(f"{found.tokens} tokens after\na prompt of {found.prompt}", no_wrap=True)
    for title in ("first token\nms", "x as\nfast", "then\ntokens/s", "quartiles", "x as\nfast"):
        table.add_column(title, justify="right", no_wrap=True)
    for one in found.writers:
        table.add_row(
            _title(one.name), milliseconds(one.first_token.median), f"{one.first_speedup.median:.2f}",
            _three(one.rate.median), f"{_three(one.rate.low)} to {_three(one.rate.high)}",
            f"{one.rate_speedup.median:.2f}",
        )  # fmt: skip
    return table


def title_of(contender: Contender) -> str:
    """What a table calls it."""
    return _title(contender.name)


def _title(name: str) -> str:
    return _NAMES.get(name, name)


def _throughput(bench: Bench, sizes: Sequence[int]) -> "Table":
    """A line for each contender, a column for each size of batch."""
    table = _table()
    table.add_column("inputs/s in\nbatches of", no_wrap=True)
    for size in sizes:
        table.add_column(f"\n{size}", justify="right", no_wrap=True)
    for one in bench.contenders:
        table.add_row(title_of(one), *(_three(one.throughput(size)) if size in one.seconds else "" for size in sizes))
    return table


def _profile(bench: Bench) -> "Table":
    """The parts that take most of the packed network's time, in its order, and what the others are together."""
    by_time = sorted(bench.parts, key=lambda part: -part.seconds.median)
    shown_ones = by_time[:MOST_LAYERS]
    whole = sum(part.seconds.median for part in bench.parts)
    table = _table()
    for title in ("what takes the packed one's time", "kind"):
        table.add_column(title, no_wrap=True)
    for title in ("calls", "ms", "%"):
        table.add_column(title, justify="right", no_wrap=True)

    def row(name: str, kind: str, calls: str, seconds: float, style: str = "") -> None:
        table.add_row(name, kind, calls, milliseconds(seconds), f"{100 * seconds / whole:.1f}", style=style)

    for part in bench.parts:
        if part in shown_ones:
            name = shortened(part.name or "(the model)", 36)
            row(name, shortened(part.kind, 22), str(part.calls), part.seconds.median)
    others = by_time[MOST_LAYERS:]
    if others:
        row(f"and {len(others)} more", "", "", sum(part.seconds.median for part in others), "dim")
    return table


def _layers(bench: Bench) -> "Table":
    """The layers that take most of the packed network's time, in its order, and what the others are together."""
    by_time = sorted(bench.layers, key=lambda layer: -layer.seconds[1])
    shown_ones = {layer.name for layer in by_time[:MOST_LAYERS]}
    table = _table()
    for title in ("layer", "weight"):
        table.add_column(title, no_wrap=True)
    for title in ("MACs", "float\nms", "packed\nms", "x as\nfast", "float\nbytes", "packed\nbytes"):
        table.add_column(title, justify="right", no_wrap=True)
    for layer in bench.layers:
        if layer.name in shown_ones:
            table.add_row(shortened(_called(layer), 22), shortened(_weight(layer), 11), *_cells(layer))
    others = by_time[MOST_LAYERS:]
    if others:
        floats, packed = (sum(times) for times in zip(*(layer.seconds for layer in others), strict=True))
        table.add_row(
            f"and {len(others)} more", "", short(sum(o.macs for o in others)), milliseconds(floats),
            milliseconds(packed), f"{floats / packed:.2f}" if packed else "",
            short(sum(o.float_bytes for o in others)), short(sum(o.packed_bytes for o in others)), style="dim",
        )  # fmt: skip
    return table


def _cells(layer: LayerTimes) -> tuple[str, ...]:
    times = (None if spread is None else spread.median for spread in (layer.float_seconds, layer.packed_seconds))
    speedup = "" if layer.speedup is None else f"{layer.speedup.median:.2f}"
    macs = short(layer.macs) if layer.macs else ""
    return (macs, *map(milliseconds, times), speedup, short(layer.float_bytes), short(layer.packed_bytes))


def _called(layer: LayerTimes) -> str:
    name = layer.name or "(the model)"
    return f"{name} ({layer.calls} calls)" if layer.calls > 1 else name


def _weight(layer: LayerTimes) -> str:
    """Its shape, or how many weights are timed together."""
    return "×".join(map(str, layer.shapes[0])) if len(layer.shapes) == 1 else f"{len(layer.shapes)} weights"


def _agreement(bench: Bench) -> str:
    """How far the packed answers are from the binary ones, and the engines' from those of the networks they run."""
    difference = bench.contender(PACKED).difference
    says = "the same to the bit" if difference == 0 else f"|Δ| ≤ {difference:.2g} of {bench.largest_answer:.2g}"
    others = [
        f"Answers, {c.name} to {_runs(c.name)}: |Δ| ≤ {c.difference:.2g}"
        for c in bench.contenders
        if c.name not in _NAMES
    ]
    return "\n".join([f"Answers, packed to binary in eval(): {says}", *others])


def _runs(name: str) -> str:
    """Which network an engine runs."""
    return next((rival.runs for rival in rivals.RIVALS if rival.name == name), "float")


def _bounds(bench: Bench) -> list[str]:
    """How much the binary layers are of the time, and so how fast the network could be at most."""
    lines = [f"Binary layers, with what is fused into them: {100 * bench.share:.0f} % of the packed one's time."]
    if bench.share < 1:
        bound = bench.contender(PACKED).speedup.median / (1 - bench.share)
        lines.append(f"If they took none, it would be {bound:.2f}x as fast as float: the rest bounds it.")
    uncalled = [layer.name for layer in bench.layers if not layer.calls]
    if uncalled:
        lines.append(f"Never called, since other code takes their weights: {some(uncalled)}")
    return lines


def _table() -> "Table":
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1), show_edge=False)


def milliseconds(seconds: float | None) -> str:
    """With three digits, or a thousandth of a millisecond."""
    return "" if seconds is None else _three(1000 * seconds)


def _three(value: float | None) -> str:
    """Three significant digits where they are behind the point, and at most three behind it."""
    if value is None:
        return ""
    return f"{value:,.{max(0, min(3, 2 - math.floor(math.log10(value)))) if value > 0 else 0}f}"


def as_json(bench: Bench) -> dict[str, Any]:
    """All of it as plain data, in seconds and bytes: every number finite or None."""
    return {
        "model": bench.title,
        "mode": bench.options.mode,
        "weights": bench.options.weights,
        **dataclasses.asdict(bench.options.packing),
        "keep": list(bench.options.keep or ()),
        "input_shapes": [list(shape) for shape in bench.shapes],
        "rounds": bench.options.rounds,
        "binary_layers": bench.binary_layers,
        "weight_layers": bench.weight_layers,
        "machine": dataclasses.asdict(bench.machine),
        "networks": [_contender(bench, contender) for contender in bench.contenders],
        "largest_answer": finite(bench.largest_answer),
        "binary_share_of_time": bench.share,
        "profile": [dataclasses.asdict(part) for part in bench.parts],
        "layers": [_layer(layer) for layer in bench.layers],
        "generation": None if bench.generation is None else dataclasses.asdict(bench.generation),
        "absent": dict(bench.absent),
    }  # fmt: skip


def _contender(bench: Bench, contender: Contender) -> dict[str, Any]:
    return {
        "name": contender.name,
        "version": contender.version,
        "latency": _spread(contender.latency),
        "speedup": _spread(contender.speedup),
        "throughput": {str(size): contender.throughput(size) for size in contender.seconds},
        "largest_difference": finite(contender.difference),
        "peak_memory": bench.peaks.get(contender.name),
        "file": bench.files.get(contender.name),
    }


def _layer(layer: LayerTimes) -> dict[str, Any]:
    plain = dataclasses.asdict(layer)
    return plain | {name: _spread(getattr(layer, name)) for name in ("float_seconds", "packed_seconds", "speedup")}


def _spread(spread: Spread | None) -> dict[str, float | None] | None:
    return None if spread is None else {name: finite(value) for name, value in dataclasses.asdict(spread).items()}
