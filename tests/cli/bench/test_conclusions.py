"""What a bench says in words below its tables."""

from proxconnect.cli.bench.tables import _conclusions
from proxconnect.cli.bench.timing import Spread


def networks(**milliseconds: float) -> list[dict[str, object]]:
    return [
        {"name": name, "latency": Spread.of([ms / 1e3]), "speedup": Spread.of([milliseconds["float"] / ms]),
         "file": {"float": 1000, "packed": 80}.get(name)}
        for name, ms in milliseconds.items()
    ]  # fmt: skip


def test_faster_networks_are_named_in_one_line_the_fastest_first():
    packed, faster = _conclusions(networks(float=3.0, packed=4.0, slower=5.0, OpenVINO=2.0))
    assert packed == "packed is 0.75x as fast as float32, and its file is 12.5 times smaller."
    assert faster == "Faster here than packed: OpenVINO (2.00x as fast), float32 (1.33x as fast)"


def test_no_other_is_named_if_the_packed_one_is_fastest():
    (line,) = _conclusions(networks(float=3.0, packed=1.0, OpenVINO=1.5))
    assert line.startswith("packed is 3.00x as fast")
