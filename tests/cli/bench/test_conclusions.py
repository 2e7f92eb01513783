"""What a bench says in words below its tables."""

from proxconnect.cli.bench.tables import _conclusions, _factors, _sizes_of_outputs
from proxconnect.cli.bench.timing import Spread


def networks(**milliseconds: float) -> list[dict[str, object]]:
    return [
        {"name": name, "latency": Spread.of([ms / 1e3]), "speedup": Spread.of([milliseconds["float"] / ms]),
         "file": {"float": 1100, "packed": 80}.get(name)}
        for name, ms in milliseconds.items()
    ]  # fmt: skip


def test_faster_networks_are_named_in_one_line_the_fastest_first():
    packed, size, faster = _conclusions(networks(float=3.0, packed=4.0, slower=5.0, OpenVINO=2.0), 1000)
    assert packed == "packed is 0.75x as fast as float32."
    assert size == "Its file: 80 bytes, 12.5 times smaller than the 1,000 bytes of all float tensors."
    assert faster == "Faster than packed on this machine: OpenVINO (2.00x as fast), float32 (1.33x as fast)"


def test_no_other_is_named_if_the_packed_one_is_fastest():
    line, _ = _conclusions(networks(float=3.0, packed=1.0, OpenVINO=1.5), 1000)
    assert line.startswith("packed is 3.00x as fast")


def test_layers_are_told_with_the_factors_of_their_multiply_adds():
    layers = [{"name": name, "input_bits": bits} for name, bits in (("a", [1]), ("b", [32]), ("c", [1, 32]))]
    assert [*_factors(layers[:1])] == ["All: multiply-adds of 1-bit weights × 1-bit inputs."]
    assert [*_factors(layers)] == [
        "a: multiply-adds of 1-bit weights × 1-bit inputs.",
        "b: multiply-adds of 1-bit weights × float inputs.",
        "c: multiply-adds of 1-bit weights × inputs of both kinds.",
    ]


def test_outputs_that_are_far_apart_are_named():
    near = {"name": "packed", "largest_difference": 0.01}
    far = {"name": "OpenVINO binary+int8", "largest_difference": 0.29}
    assert [*_sizes_of_outputs([near], 0.3)] == ["The largest output of the binary network is 0.3."]
    assert [*_sizes_of_outputs([near, far], 0.3)][1] == (
        "Differences above a tenth of it: OpenVINO binary+int8. Compare accuracies on your own data."
    )
