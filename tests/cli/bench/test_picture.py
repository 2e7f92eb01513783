"""The picture of latencies against its numbers."""

import pytest

from proxconnect.inspection import plots


def test_bars_are_milliseconds_and_labels_say_how_many_times_as_fast():
    networks = {"float": (0.008, 0.010, 0.012), "packed": (0.002, 0.004, 0.005), "Engine": (0.006, 0.007, 0.007)}
    layers = {"first": (0.003, 0.001), "second": (0.001, 0.002)}
    above, below = plots.plot_latencies(networks, layers, "net").axes
    assert [bar.get_width() for bar in above.patches] == pytest.approx([10, 4, 7])
    assert [label.get_text() for label in above.get_yticklabels()] == ["float", "packed", "Engine"]
    assert [bar.get_width() for bar in below.patches] == pytest.approx([3, 1, 1, 2])
    assert [text.get_text() for text in below.texts] == ["3x", "0.5x"]


def test_a_contest_is_a_panel_with_a_colour_for_each_kind():
    panels = plots.plot_contests({
        "one": {"float": (1, 2, 3), "packed A": (1, 1, 1), "packed B": (1, 1, 1), "Engine": (2, 2, 2)},
        "two": {"float": (1, 1, 1), "packed": (1, 1, 1)},
    }).axes  # fmt: skip
    assert [axes.get_title(loc="left") for axes in panels] == ["one, ms", "two, ms"]
    colours = [bar.get_facecolor() for bar in panels[0].patches]
    assert colours[1] == colours[2] == panels[1].patches[1].get_facecolor()
    assert len(set(colours)) == 3


def test_no_layer_that_is_called_is_no_error(tmp_path):
    plots.save(plots.plot_latencies({"float": (1, 1, 1), "packed": (1, 1, 1)}, {}), tmp_path / "picture.png")
