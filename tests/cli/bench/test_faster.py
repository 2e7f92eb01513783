"""What the tables of a bench say in words."""

from proxconnect.cli.bench.tables import _faster
from proxconnect.cli.bench.timing import Spread


def networks(**milliseconds: float) -> list[dict[str, object]]:
    return [{"name": name, "latency": Spread.of([ms / 1e3])} for name, ms in milliseconds.items()]


def test_faster_networks_are_named_in_one_line_the_fastest_first():
    (line,) = _faster(networks(float=3.0, packed=4.0, slower=5.0, OpenVINO=2.0))
    assert line == "Faster here than packed: OpenVINO (2.00x as fast), float32 (1.33x as fast)"


def test_nothing_is_said_if_the_packed_one_is_fastest():
    assert list(_faster(networks(float=3.0, packed=1.0, OpenVINO=1.5))) == []
