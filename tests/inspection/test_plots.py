"""The pictures draw what they claim: their lines against the functions they are of."""

import re
import sys

import pytest
import torch

from proxconnect.inspection import plots
from proxconnect.pairs import PAIRS, Heuristic
from proxconnect.theory import decompose, plot_verdict


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


def test_a_figure_is_written_without_pyplot(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)  # which another test may have imported
    plots.save(plots.plot_pair("bc"), tmp_path / "bc.png")
    assert (tmp_path / "bc.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert "matplotlib.pyplot" not in sys.modules


def sign(x):
    return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)


def drawn(axes, style="-"):
    """Points of the widest line of a style, and which of its steps are drawn."""
    line = max((one for one in axes.lines if one.get_linestyle() == style), key=lambda one: len(one.get_xdata()))
    x, y = points(line)
    return x, y, ~(y[1:].isnan() | y[:-1].isnan())


@pytest.mark.parametrize(("name", "mu"), [("bc", None), ("bnn", None), ("pc", 2.0), ("bnn++", 2.0), ("bnn+", 2.0)])
def test_a_verdict_shows_f_and_b_as_they_are_and_jumps_as_gaps(name, mu):
    pair = PAIRS[name]
    axes = plot_verdict(decompose(pair, mu=mu)).axes
    for cell, function, title in ((axes[0], pair.forward, "F(x)"), (axes[1], pair.backward, "B(x)")):
        x, y, is_drawn = drawn(cell)
        known = ~y.isnan()
        assert cell.get_title() == title
        assert torch.equal(y[known], function(x[known], mu))
        assert float(x.diff().min()) >= 0
        assert float(y.diff().abs()[is_drawn].max()) < 0.02


def test_a_gap_is_open_where_the_jump_is_and_a_steep_rise_has_none():
    jumping = decompose(lambda x: torch.where(x < 0.3, -1.0, 2.0).to(x), torch.ones_like)
    x, y, _ = drawn(plot_verdict(jumping).axes[0])
    (gap,) = y.isnan().nonzero().flatten().tolist()
    assert (float(y[gap - 1]), float(y[gap + 1])) == (-1.0, 2.0)
    assert float(x[gap + 1] - x[gap - 1]) < 1e-12
    assert abs(float(x[gap]) - 0.3) < 1e-12
    assert not bool(drawn(plot_verdict(decompose("md", mu=400.0)).axes[0])[1].isnan().any())


def test_p_t_and_r_of_bnn_are_drawn_where_p_goes_and_dotted_across_its_gap():
    cells = {axes.get_title(): axes for axes in plot_verdict(decompose("bnn")).axes}
    x, p, _ = drawn(cells["P(x)"])
    reached = ~p.isnan()
    expected = sign(x) * x.abs().clamp(min=1.0)
    assert torch.allclose(p[reached & (x.abs() > 1e-9)], expected[reached & (x.abs() > 1e-9)], atol=1e-9)
    for title, value in (("T(z)", lambda z: z.clamp(-1, 1)), ("r(z)", torch.zeros_like)):
        z, y, _ = drawn(cells[title])
        assert torch.equal(y.isnan(), z.abs() < 1)
        assert torch.allclose(y[z.abs() >= 1], value(z[z.abs() >= 1]), atol=1e-9)
        dotted = points(next(line for line in cells[title].lines if line.get_linestyle() == ":"))[1]
        assert not bool(dotted.isnan().any())


def test_values_that_a_prox_takes_alone_are_dots():
    cells = {axes.get_title(): axes for axes in plot_verdict(decompose("bc")).axes}
    for title in ("T(z)", "r(z), +∞ beyond"):
        (dots,) = (line for line in cells[title].lines if line.get_marker() == "o")
        assert points(dots)[0].tolist() == [-1.0, 1.0]


def test_r_of_full_precision_is_a_line_not_its_rounding():
    r = plot_verdict(decompose("fp")).axes[-1]
    assert r.get_ylim() == (-1.0, 1.0)


def test_an_illegitimate_pair_has_its_interval_shaded_its_reason_and_the_forward_that_would_suit_it():
    verdict = decompose("bnn+", mu=2.0)
    figure = plot_verdict(verdict)
    assert figure.get_suptitle() == "bnn+ at μ = 2: not legitimate"
    assert verdict.reason in " ".join(figure.get_supxlabel().split())
    assert len(figure.axes) == 2
    for axes in figure.axes:
        (band,) = axes.patches
        extents = band.get_path().get_extents(band.get_patch_transform())
        assert (extents.x0, extents.x1) == pytest.approx(verdict.interval)
        low, high = axes.get_xlim()
        assert low < verdict.interval[0] < high
    x, y, _ = drawn(figure.axes[0], "--")
    assert torch.allclose(y, PAIRS["bnn++"].forward(x, 2.0), atol=1e-5)


def test_a_point_that_decides_is_a_line():
    verdict = decompose(lambda x: -sign(x - 4), torch.ones_like)
    for axes in plot_verdict(verdict).axes:
        (line,) = (one for one in axes.lines if one.get_linestyle() == "--" and len(one.get_xdata()) == 2)
        assert line.get_xdata()[0] == pytest.approx(4.0)
        assert axes.get_xlim()[0] < 4 < axes.get_xlim()[1]


@pytest.mark.parametrize("domain", [(5.0, 9.0), (-0.5, 1.0), (-1000.0, 1000.0)])
def test_a_verdict_is_drawn_within_its_domain(domain):
    low, high = plot_verdict(decompose("bnn++", mu=1.0, domain=domain)).axes[0].get_xlim()
    assert domain[0] <= low < high <= domain[1]


def test_callables_whose_values_carry_gradients_are_drawn():
    slope = torch.nn.Parameter(torch.ones((), dtype=torch.float64))
    verdict = decompose(lambda x: slope * x, lambda x: slope.expand_as(x))
    assert torch.equal(*drawn(verdict.plot().axes[0])[:2])


def test_the_suffix_says_the_kind_of_file(tmp_path):
    figure = plots.plot_pair("bc")
    plots.save(figure, tmp_path / "bc.svg")
    assert b"<svg" in (tmp_path / "bc.svg").read_bytes()
    with pytest.raises(ValueError, match=r"give a file that ends in \.png or \.svg, got .*bc\.pdf"):
        plots.save(figure, tmp_path / "bc.pdf")


def test_the_page_with_a_slider_holds_all_that_it_needs(tmp_path):
    mine = Heuristic("mine", PAIRS["bc"].prox, PAIRS["bnn"].transform.derivative)
    plots.interactive_catalogue(f"{tmp_path}/pairs.html", ["bnn++", mine])
    text = (tmp_path / "pairs.html").read_text()
    body = re.sub(r"<script.*?</script>", lambda script: script[0].partition(">")[0] + ">", text, flags=re.DOTALL)
    assert re.findall(r"""(?:src|href)=["']([^"']*)""", body) == ["data:,"]
    assert re.findall(r'"name":"([^"]*)"', text)[-6:] == ["bnn++"] * 4 + ["mine"] * 2


@pytest.mark.parametrize(
    ("name", "pairs", "words"),
    [
        ("a.png", ["bc"], r"ends in \.html, got .*a\.png"),
        ("a.html", [], "at least one pair"),
        ("a.html", ["bcc"], "'bc'"),
    ],
    ids=["suffix", "none", "unknown"],
)
def test_a_page_that_cannot_be_is_refused(tmp_path, name, pairs, words):
    with pytest.raises(ValueError, match=words):
        plots.interactive_catalogue(tmp_path / name, pairs)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("draw", "given", "words"),
    [
        (plots.plot_latencies, ({}, {}), "one of the networks"),
        (plots.plot_contests, ({},), "one of the contests"),
        (plots.plot_accuracies, ({},), "one of the panels"),
        (plots.plot_differences, ({},), "one of the panels"),
        (plots.plot_excesses, ({},), "one of the panels"),
        (plots.plot_excesses, ({"bnn++": {}},), "one of the runs of 'bnn\\+\\+'"),
        (plots.plot_curves, ({}, {}), "one of the runs"),
        (plots.plot_latents, ({},), "at least one layer"),
    ],
    ids=["latencies", "contests", "accuracies", "differences", "excesses", "excesses of none", "curves", "latents"],
)
def test_nothing_to_draw_is_refused_in_words(draw, given, words):
    with pytest.raises(ValueError, match=words):
        draw(*given)


def test_comparisons_in_one_setting_share_a_panel():
    found = {"bnn++ against bnn+": (0.01, (0.005, 0.015)), "bnn++ against bc": (-0.02, None)}
    (axes,) = plots.plot_differences({title: {"BW": difference} for title, difference in found.items()}).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(found)
    assert axes.get_title(loc="left") == "BW"
    assert len(plots.plot_differences({title: {"BW": d, "BWA": d} for title, d in found.items()}).axes) == 2


def test_a_path_may_be_a_text(tmp_path):
    plots.save(plots.plot_pair("bc"), f"{tmp_path}/bc.svg")
    assert (tmp_path / "bc.svg").read_text().startswith("<?xml")
