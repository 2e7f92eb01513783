"""`proxconnect check`: exit codes, text, JSON, pictures, and printed code that runs."""

import functools
import io
import json
import math
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator

import pytest
import torch

from proxconnect import PAIRS
from proxconnect._support.installation import pip_install
from proxconnect.cli.answer import plain
from proxconnect.cli.command import main
from proxconnect.cli.verbs import check
from proxconnect.pairs import SURROGATES
from proxconnect.theory import Verdict, decompose
from proxconnect.theory.new_pairs.correction import FAR

THEIRS = """
import torch
from proxconnect import PAIRS, Heuristic, Pair
from proxconnect.pairs import Prox, Sharpness, Transform, prox

print("noise of their module")

def double_exponential(x):
    return torch.exp(-x.abs())

def identity(x):
    return x

def magnitude(x):
    return x.abs()

def steps(x):
    return torch.round(100 * x)

def mixing(x):
    return x / x.abs().mean()

def raising(x):
    return x + undefined

def arch(x):
    return torch.sqrt(4 - x.square())

class Gaussian(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        return gradient * torch.exp(-ctx.saved_tensors[0].square())

class Twice(Transform):
    def __call__(self, p, mu):
        return p

    def derivative(self, p, mu):
        return torch.full_like(p, 2.0)

class Falling(Prox):
    sharpness = Sharpness(0.5, 1.0, 3.0)

    def __call__(self, x, mu):
        return -mu * x

def widening(x, mu):
    return mu / (1 + x.square())

bnn = PAIRS["bnn"]
bnn_plus = Heuristic("mine", prox.sign, PAIRS["bnn+"].backward, PAIRS["bnn+"].sharpness)
steep = Heuristic("steep", prox.sign, lambda x, mu: mu * double_exponential(mu * x), Sharpness(2.0, 3.0, 9.0))
unscaled = Heuristic("unscaled", prox.sign, widening, Sharpness(0.5, 1.0, 3.0))
misdeclared = Pair("misdeclared", transform=Twice())
falling = Pair("falling", prox=Falling())
number = 3
"""

LEGITIMATE = {
    "fp", "bc", "pc", "parq", "binaryrelax", "md", "bnn", "bnn++", "poly+", "ede+", "clip+", "erf+", "rectangle",
}  # fmt: skip
"""The legitimate pairs of the catalogue and of the surrogates, at μ = 2."""


@pytest.fixture(scope="module", autouse=True)
def decomposed_once() -> Iterator[None]:
    """Share verdicts between tests, since most ask for the same pairs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("proxconnect.cli.subject.decompose", functools.cache(decompose))
        yield


@pytest.fixture
def theirs(folder):
    (folder / "theirs.py").write_text(THEIRS)
    return folder


def run(capsys, *arguments):
    status = main(["check", *arguments])
    out, err = capsys.readouterr()
    return status, out, err


def said(text):
    return " ".join(text.split())


def as_json(capsys, *arguments):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(run(capsys, *arguments, "--json")[1], parse_constant=refuse)


@pytest.mark.parametrize(
    ("arguments", "status", "answer"),
    [
        (["bnn++"], 0, "bnn++: legitimate\n"),
        (["pc", "--mu", "1", "2", "50"], 0, "pc: legitimate\n"),
        (["bnn+"], 1, "bnn+: not legitimate\n"),
        (["reste"], 1, "reste: legitimate at μ = 1; not legitimate at μ = 2, 5\n"),
        (["theirs:bnn"], 0, "theirs:bnn: legitimate\n"),
        (["theirs:unscaled"], 1, "theirs:unscaled: not legitimate\n"),
        (["theirs:Gaussian"], 1, "theirs:Gaussian: not legitimate\n"),
        (["theirs:identity", "theirs:magnitude"], 1, "(theirs:identity, theirs:magnitude): not legitimate\n"),
        (["--backward", "theirs:double_exponential"], 1, "(sign, theirs:double_exponential): not legitimate\n"),
        (["theirs:misdeclared"], 1, "theirs:misdeclared: legitimate, but not as declared\n"),
        (["theirs:steps"], 3, "theirs:steps: cannot tell\n"),
        (["theirs:falling"], 1, "theirs:falling: not legitimate\n"),
        (["torch.nn.functional:hardtanh"], 0, "torch.nn.functional:hardtanh: legitimate\n"),
    ],
)
def test_the_exit_status_is_the_answer(capsys, theirs, arguments, status, answer):
    found, out, err = run(capsys, *arguments)
    assert (found, err) == (status, "")
    assert out.removeprefix("noise of their module\n").startswith(answer)


@pytest.mark.parametrize(
    ("arguments", "phrase"),
    [
        (["fp"], "P(x) = x = T(x): gradient descent on ℓ."),
        (["bnn++"], "μ = 1, 2, 5 F and B are functions of P = ∫dF/B, which never falls. P(x) = x, T = F: gradient"),
        (["bc"], "P jumps from -1 to 1 at x = 0; P stays at -1 up to x = 0; P stays at 1 from x = 0 on."),
        (["bnn"], "ProxConnect on ℓ∘T; P jumps from -1 to 1 at x = 0; P stays at -1 from x = -1 to 0; P stays at 1"),
        (["pc", "--mu", "2"], "ProxConnect on ℓ; P jumps from -0.5 to 0.5 at x = 0; P stays at -1 up to x = -0.5;"),
        (["pc", "--mu", "1"], "ProxConnect on ℓ; P stays at -1 up to x = -1; P stays at 1 from x = 1 on."),
        (["parq", "--mu", "5"], "P stays at -1 up to x = -0.2; P stays at 1 from x = 0.2 on."),
        (["binaryrelax", "--mu", "5"], "ProxConnect on ℓ; P jumps from -0.8 to 0.8 at x = 0."),
        (["md", "--mu", "0.1", "50"], "ProxConnect on ℓ; P rises without jumps or plateaus."),
        (["poly"], "F stays at 1, so P is flat there, but B is not constant: it goes from 0 to 2 (for 0 < x < 1)."),
        (["theirs:identity", "theirs:magnitude"], "∫dF/B diverges at the zero of B at x = 0"),
        (["theirs:misdeclared"], "but the declared T' is 2 near p = -1000, where T has slope 1"),
        (["bnn", "--domain", "-2", "0.5"], "Seen on [-2, 0.5] in float64"),
        (["bnn", "--domain", "-1e3", "+2.5E-1"], "Seen on [-1000, 0.25] in float64"),
        (["bnn", "--domain", "-.5e1", "1"], "Seen on [-5, 1] in float64"),
    ],
)
def test_the_reason_is_said_in_words(capsys, theirs, arguments, phrase):
    assert phrase in said(run(capsys, *arguments)[1])


@pytest.mark.parametrize(
    "arguments", [["bnn+"], ["pc", "--all"], ["theirs:Gaussian"], ["theirs:unscaled"], ["theirs:misdeclared"]]
)
def test_nothing_is_wider_than_a_terminal(capsys, theirs, arguments):
    assert max(map(len, run(capsys, *arguments)[1].splitlines())) <= 80


def test_the_table_has_the_verdicts_of_the_literature(capsys):
    found = as_json(capsys, "--all", "--mu", "2")
    verdicts = {record["pair"]: record["legitimate"] for record in found["catalogue"]}
    assert verdicts == {name: name in LEGITIMATE for name in (*PAIRS, *SURROGATES)}
    assert (found["status"], found["verdicts"], found["correction"]) == (0, [], None)


def test_the_printed_table_has_a_row_for_each_answer_and_marks_the_pair_asked_for(capsys, folder):
    status, out, _ = run(capsys, "bnn", "--all")
    rows = [line[1:].split() for line in out.partition("─ \n")[2].splitlines() if line[3:4].strip()]
    assert status == 0
    assert [row[1] for row in rows if row[0] == ">"] == ["bnn"]
    named = [" ".join(row).removeprefix("> ") for row in rows]
    assert "bnn legitimate ProxConnect on ℓ∘T" in named
    assert "reste legitimate 1 ProxConnect on ℓ∘T" in named
    assert any(row.startswith("reste not legitimate 2, 5 F stays at 1, so P is flat") for row in named)
    assert {row.split()[0] for row in named} == {*PAIRS, *SURROGATES}


def test_json_has_the_verdict_the_curves_and_the_correction(capsys, theirs):
    found = as_json(capsys, "theirs:bnn_plus", "--mu", "2")
    (verdict,) = found["verdicts"]
    reason = "F stays at 1, so P is flat there, but B is not constant: it goes from -0.1477 to 2"
    assert (found["status"], verdict["mu"], verdict["legitimate"], verdict["reason"]) == (1, 2.0, False, reason)
    assert verdict["interval"][0] == 0
    assert found["correction"] == {
        "name": "bnn++", "mu": None, "in_catalogue": True, "normalised": False, "warning": None,
        "code": 'import proxconnect\n\nmodel = proxconnect.binarize(model, weights="bnn++")',
    }  # fmt: skip
    x = torch.tensor(verdict["curves"]["x"], dtype=torch.float64)
    for part, values in (("F", PAIRS["bnn+"].forward(x, 2.0)), ("B", PAIRS["bnn+"].backward(x, 2.0))):
        assert verdict["curves"][part] == values.tolist()
    assert "P" not in verdict["curves"]


def test_json_of_a_legitimate_pair_has_its_prox_and_its_regularizer(capsys):
    curves = as_json(capsys, "pc", "--mu", "2")["verdicts"][0]["curves"]
    x, P, r = (torch.tensor(curves[part], dtype=torch.float64) for part in ("x", "P", "r"))
    torch.testing.assert_close(P, PAIRS["pc"].forward(x, 2.0), rtol=0, atol=1e-12)
    distance = 0.5 * (1 - P.abs())  # (1 - 1/μ)·dist(z, ±1), up to a constant
    assert float((r - distance).std()) < 1e-9


def test_json_has_null_for_what_is_infinite():
    pole = Verdict(name="pole", domain=(-1.0, 1.0), forward=lambda x: 1 / x, backward=torch.ones_like)
    (record,) = plain(check.as_json([pole]))["verdicts"]
    at = record["curves"]["x"].index(0.0)
    assert record["curves"]["F"][at - 1 : at + 2] == [-32.0, None, 32.0]


def test_prints_of_their_code_stay_out_of_json(capsys, theirs):
    _, out, err = run(capsys, "theirs:bnn", "--json")
    assert json.loads(out)["status"] == 0
    assert err == "noise of their module\n"


SUBJECTS = {
    "bnn+": (PAIRS["bnn+"].backward, 1.0),
    "dsq": (SURROGATES["dsq"].backward, 1.0),
    "poly": (PAIRS["poly"].backward, 1.0),
    "theirs:bnn_plus": (PAIRS["bnn+"].backward, 1.0),
    "theirs:unscaled": (lambda x, _: 2 / (1 + x.square()) / (2 * math.atan(FAR)), 1.0),
    "theirs:Gaussian": (lambda x, _: torch.exp(-x.square()) / (math.sqrt(math.pi) / 2), 1.0),
    "theirs:falling": (lambda x, _: torch.ones_like(x), 1.0),
    "--backward theirs:double_exponential": (lambda x, _: torch.exp(-x.abs()), 1.0),
    "theirs:identity theirs:magnitude": (lambda x, _: x.abs(), 1.0),
}


@pytest.mark.filterwarnings("ignore::proxconnect.theory.UnboundedForwardWarning")
@pytest.mark.parametrize("arguments", SUBJECTS)
def test_the_printed_code_makes_a_legitimate_pair_with_the_same_backward_that_trains(
    capsys, theirs, monkeypatch, arguments
):
    mus = ["--mu", "2"] if arguments == "theirs:unscaled" else []
    code = as_json(capsys, *arguments.split(), *mus)["correction"]["code"]
    _, out, _ = run(capsys, *arguments.split(), *mus)
    assert "".join(f"    {line}\n" if line else "\n" for line in code.splitlines()) in out
    monkeypatch.syspath_prepend(theirs)
    names = {"model": torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Linear(6, 6), torch.nn.Linear(6, 6))}
    exec(code, names)
    layer = names["model"][1]
    backward, mu = SUBJECTS[arguments]
    pair = layer.weight_quantizer.pair
    x = torch.linspace(-3, 3, 301, dtype=torch.float64)
    torch.testing.assert_close(pair.backward(x, mu), backward(x, mu), rtol=1e-9, atol=1e-12)
    assert decompose(pair, mu=mu, domain=(-50.0, 50.0)).legitimate
    before = layer.latent.detach().clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(torch.randn(8, 6)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(layer.latent, before)
    assert bool(layer.latent.isfinite().all())


def test_a_corrected_pair_ends_at_signs_where_a_constant_helps_and_else_is_warned_of(capsys, theirs):
    helped = said(run(capsys, "theirs:unscaled", "--mu", "3")[1])
    assert "Correction: unscaled+ keeps B up to a constant factor, by which F ends at ±1, and has F(x)" in helped
    assert "Warning" not in helped
    assert "erf+ of the catalogue keeps B up to a constant factor" in said(run(capsys, "theirs:Gaussian")[1])
    lost = said(run(capsys, "theirs:falling")[1])
    assert "Warning: the F of 'falling+' ends at -1e+06 and 1e+06 and misses ±1" in lost
    assert "normalise=True)" not in lost


def test_a_backward_that_one_pair_keeps_at_one_sharpness_alone_says_which(capsys, theirs):
    text = said(run(capsys, "theirs:unscaled", "--mu", "3", "2")[1])
    assert "That is the B of μ = 3 alone; the sharpness of the new pair turns its F into F(μx)." in text
    assert 'correct(theirs.unscaled.at(3.0), name="unscaled+", normalise=True)' in text


def test_a_backward_that_cannot_be_integrated_is_said_to_be_so(capsys, theirs):
    arguments = ["--backward", "theirs:arch", "--domain", "-1.5", "1.5"]
    status, out, _ = run(capsys, *arguments)
    assert status == 1
    assert "It could not be corrected: backward is NaN at" in said(out)
    found = as_json(capsys, *arguments)
    assert found["correction"] is None
    assert found["uncorrected"].startswith("backward is NaN at")


def test_a_backward_that_is_0_has_no_correction(capsys, theirs):
    status, out, _ = run(capsys, "torch:round")
    assert status == 1
    assert "It could not be corrected: B is 0 throughout" in said(out)


def test_a_pair_whose_sharpness_begins_above_1_is_corrected_too(capsys, theirs):
    assert "Correction: steep+ keeps B" in said(run(capsys, "theirs:steep")[1])


@pytest.mark.parametrize("suffix", [".png", ".svg", ".SVG"])
def test_the_picture_is_written_whole_and_alone_and_says_of_which_mu_it_is(capsys, folder, suffix):
    status, out, _ = run(capsys, "reste", "--plot", f"picture{suffix}")
    assert status == 1
    assert f"picture{suffix} shows reste at μ = 2." in out  # it is legitimate at 1
    assert [file.name for file in folder.iterdir()] == [f"picture{suffix}"]
    data = (folder / f"picture{suffix}").read_bytes()
    if suffix == ".png":
        assert data.startswith(b"\x89PNG\r\n")
    else:
        assert ElementTree.fromstring(data).tag.endswith("svg")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a pair to check, or give --all"),
        (["bnm"], "unknown pair 'bnm': did you mean 'bnn'"),
        (["bnm"], "dsq, reste; a pair of your own is MODULE:NAME"),
        (["clip of gp(1)"], "unknown prox map 'gp' in 'clip of gp(1)': did you mean gap?"),
        (["bc", "bnn"], "give one pair, or F and B as MODULE:F MODULE:B"),
        (["bc", "--backward", "theirs:magnitude"], "--backward stands alone, with F = sign"),
        (["--backward", "bc"], "'bc' is no MODULE:NAME, as in my_module:my_surrogate"),
        (["--backward", "theirs:bnn"], "'theirs:bnn' is a pair, which has both F and B: check theirs:bnn alone"),
        (["theirs:identity", "theirs:Gaussian"], "is an autograd Function, which has an F of its own"),
        (["their:bnn"], "no module 'their' in {folder}, "),
        (["theirs:bmn"], "module 'theirs' ({folder}/theirs.py) has no 'bmn': did you mean 'bnn'"),
        (["theirs:number"], "'theirs:number' ({folder}/theirs.py) is of type int: give a Pair"),
        (["theirs:Twice"], "'theirs:Twice' ({folder}/theirs.py) is the class Twice: give a Pair"),
        (["theirs:mixing"], "theirs:mixing: forward mixes entries"),
        (["theirs:raising"], "forward raised NameError for a float64 tensor of shape (120,): name 'undefined' is not"),
        (["theirs:raising"], "({folder}/theirs.py:24)"),
        (["theirs:identity", "--mu", "2"], "a callable has its sharpness in itself"),
        (["pc", "--mu", "0.5"], "pair 'pc' needs a finite sharpness μ >= 1; got μ = 0.5"),
        (["pc", "--mu", "one"], "a number is needed, got 'one'"),
        (["pc", "--domain", "2", "1"], "domain must be (low, high) with low < high"),
        (["--all", "--plot", "a.png"], "--plot draws a verdict: name the pair"),
        (["bc", "--plot", "a.pdf"], "give a file that ends in .png or .svg, got 'a.pdf'"),
        (["bc", "--plot", "nowhere/a.png"], "its directory must exist and be writable, got 'nowhere/a.png'"),
    ],
)
def test_errors_of_a_user_are_one_line(capsys, theirs, arguments, message):
    status, out, err = run(capsys, *arguments)
    assert status == 2
    assert message.format(folder=theirs) in err
    assert err.count("\n") == 1
    assert out in ("", "noise of their module\n")


def test_what_an_encoding_lacks_is_a_question_mark(capsys, monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main(["check", "bnn+"]) == 1
    stdout.flush()
    assert capsys.readouterr().err == ""
    assert b"? = 1  F stays at 1" in stdout.buffer.getvalue()


def test_a_picture_without_matplotlib_is_one_line_with_its_installation(capsys, folder, absent):
    absent("matplotlib")
    status, out, err = run(capsys, "bc", "--plot", "bc.png")
    assert (status, out) == (2, "")
    assert pip_install("plots") in err
    assert run(capsys, "bc")[0] == 0


def test_no_code_of_the_folder_is_imported_for_a_name_of_the_catalogue(capsys, folder):
    for name in ("bnn", "bc", "torch", "matplotlib"):
        (folder / f"{name}.py").write_text("raise SystemExit(9)")
    assert run(capsys, "bnn")[0] == 0
    assert str(folder) not in sys.path
