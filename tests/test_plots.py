"""The pictures draw what they claim: their lines against the functions they are of."""

import sys

import pytest
import torch

from proxconnect import plots
from proxconnect.pairs import PAIRS, Heuristic


def points(line):
    x, y = (torch.as_tensor(values, dtype=torch.float64) for values in line.get_data())
    return x, y


def curves(axes):
    return [line for line in axes.lines if len(line.get_xdata()) > 2]


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_is_drawn_as_it_is(name):
    pair = PAIRS[name]
    mus = [1.0, 3.0] if pair.sharpness else [1.0]
    forward, backward = plots.plot_pair(name, mus if pair.sharpness else None).axes
    for axes, function in ((forward, pair.forward), (backward, pair.backward)):
        lines = curves(axes)
        assert len(lines) == len(mus)
        for line, mu in zip(lines, mus, strict=True):
            x, y = points(line)
            assert x.min() < -2 < 2 < x.max()
            assert torch.equal(y, function(x, mu))
            low, high = axes.get_ylim()
            assert axes is forward or low < y.min() <= y.max() < high


def test_a_sharpness_outside_the_domain_is_refused():
    with pytest.raises(ValueError, match="pair 'pc' needs a finite sharpness"):
        plots.plot_pair("pc", [0.5])


def test_the_catalogue_shows_every_pair_and_marks_heuristics():
    figure = plots.plot_catalogue()
    cells = {cell.get_suptitle(): cell for cell in figure.subfigs if cell.get_suptitle()}
    assert set(cells) == {f"{n} (heuristic)" if isinstance(p, Heuristic) else n for n, p in PAIRS.items()}
    for name, pair in PAIRS.items():
        cell = cells.get(name) or cells[f"{name} (heuristic)"]
        x, y = points(curves(cell.axes[1])[-1])
        assert torch.equal(y, pair.backward(x, 6.0))


def test_curves_are_means_of_runs_in_per_cent():
    losses, accuracies = {"bc": [[1.0, 0.5], [3.0, 1.5]]}, {"bc": [[0.5, 0.8], [0.7, 1.0]]}
    loss, accuracy = plots.plot_curves(losses, accuracies).axes
    assert points(loss.lines[0])[1].tolist() == [2.0, 1.0]
    assert torch.allclose(points(accuracy.lines[0])[1], torch.tensor([60.0, 90.0], dtype=torch.float64))
    assert loss.lines[0].get_color() == plots.PAIR_COLOURS["bc"]


def test_no_two_pairs_share_a_colour():
    assert len(set(plots.PAIR_COLOURS.values())) == len(plots.PAIR_COLOURS)


def test_latents_are_counted_in_units_of_their_scale():
    latent = torch.tensor([[-3.0, 1.0, 1.0, 3.0], [20.0, 20.0, 20.0, 20.0]])
    hard = latent.sign() * latent.abs().mean(1, keepdim=True)
    (axes,) = plots.plot_latents({"layer": (latent, hard)}).axes
    counts, edges, _ = axes.patches[0].get_data()
    share = {round(float(e), 1): float(c) for c, e in zip(counts, edges, strict=False) if c}
    assert share == {-1.5: 0.125, 0.5: 0.25, 1.0: 0.5, 1.5: 0.125}
    assert [text.get_text() for text in axes.texts] == ["12 %", "88 %"]


def test_latents_of_nothing():
    with pytest.raises(ValueError, match="at least one layer"):
        plots.plot_latents({})


def test_a_figure_is_written_without_pyplot(tmp_path):
    before = "matplotlib.pyplot" in sys.modules
    plots.save(plots.plot_pair("bc"), tmp_path / "bc.png")
    assert (tmp_path / "bc.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert before or "matplotlib.pyplot" not in sys.modules
