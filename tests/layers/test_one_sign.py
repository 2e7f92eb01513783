"""Training and packing warn of binary inputs of one sign, and of no others."""

import copy
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import proxconnect as pc
from proxconnect.layers.one_sign import FirstInputs, _unsettled

SAID = "had one sign only"


def network(activation: nn.Module, behind: nn.Module | None = None) -> nn.Module:
    torch.manual_seed(0)
    inner = (nn.Linear(8, 16), activation, behind or nn.Identity(), nn.Linear(16, 16))
    return pc.binarize(nn.Sequential(*inner, nn.Linear(16, 2)), activations="bnn")


def train(model: nn.Module, steps: int = 8, run: Callable[[Tensor], Tensor] | None = None, rows: int = 8) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        (run or model)(torch.randn(rows, 8)).square().sum().backward()
        optimizer.step()


@pytest.fixture
def strict() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*one sign only")
        yield


@pytest.mark.parametrize(
    ("activation", "behind", "source"),
    [
        (nn.ReLU(), None, "ReLU"),
        (nn.ReLU(inplace=True), nn.Dropout(0.1), "ReLU"),
        (nn.ReLU6(), nn.MaxPool1d(1), "a clamp"),
        (nn.Sigmoid(), None, "a sigmoid"),
    ],
)
def test_training_behind_a_relu_warns_once_and_names_the_layer_and_what_is_before_it(activation, behind, source):
    model = network(activation, behind)
    with pytest.warns(UserWarning, match=SAID) as caught:
        train(model, 12)
    (warning,) = caught
    assert f"the binary input of 3 (after {source}) had one sign only" in str(warning.message)
    assert "Put batch norm, PReLU or Hardtanh before" in str(warning.message)
    assert warning.filename == __file__


def test_every_layer_of_a_network_is_in_one_warning_by_its_name():
    layers = [part for _ in range(3) for part in (nn.Linear(16, 16), nn.ReLU())]
    model = pc.binarize(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), *layers, nn.Linear(16, 2)), activations="poly")
    with pytest.warns(UserWarning, match=r"of 2 \(after ReLU\), 4 \(after ReLU\), 6 \(after ReLU\) had") as caught:
        train(model)
    assert len(caught) == 1


def test_a_layer_that_is_made_by_hand_is_described():
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), pc.BinaryLinear(16, 4, activations="bnn"))
    with pytest.warns(UserWarning, match=r"of a BinaryLinear \(4, 16\) \(after ReLU\) had"):
        train(model)


def test_attention_behind_a_relu_is_named():
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.attention, self.last = nn.Linear(8, 8), nn.MultiheadAttention(8, 2), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x).relu()
            return self.last(self.attention(x, x, x)[0])

    model = pc.binarize(Attending(), activations="bnn", keep=["first", "last"])
    with pytest.warns(UserWarning, match=r"of attention.in_proj_weight_binary \(after ReLU\)"):
        train(model)


def test_replicas_and_recomputed_passes_count():
    model = network(nn.ReLU())
    with pytest.warns(UserWarning, match=SAID):
        train(model, run=lambda x: replica(model)(x))
    model = network(nn.ReLU())
    with pytest.warns(UserWarning, match=SAID):
        train(model, run=lambda x: checkpoint(model, x.requires_grad_(), use_reentrant=True))


def replica(model: nn.Module) -> nn.Module:
    """Copy a model as DataParallel does: the modules are new, and share what they hold."""
    copies = {module: module._replicate_for_data_parallel() for module in model.modules()}
    for module, made in copies.items():
        made._modules = {name: copies[child] for name, child in module._modules.items()}
        made._parameters = module._parameters
    return copies[model]


@pytest.mark.usefixtures("strict")
@pytest.mark.parametrize("activation", [nn.Identity(), nn.PReLU(), nn.Hardtanh(), nn.GELU(), nn.BatchNorm1d(16)])
def test_inputs_of_both_signs_are_silent(activation):
    train(network(activation))


@pytest.mark.usefixtures("strict")
def test_what_is_no_evidence_is_silent():
    train(network(nn.ReLU()), steps=4)  # too few steps
    train(network(nn.ReLU()), steps=8, rows=1)  # too few entries
    model = network(nn.ReLU())
    train(model, run=lambda x: model[3:](torch.ones(32, 16)))  # constants
    both = network(nn.Identity())
    train(both, run=lambda x: both[3:](torch.rand(32, 16) - (x[0, 0] > 0).float()))  # now positive, now negative
    learned = pc.add_thresholds(network(nn.ReLU()))
    train(learned)  # the thresholds move away from 0
    train(pc.binarize(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.Linear(16, 2))))


@pytest.fixture
def noted(monkeypatch) -> list[Tensor]:
    """The inputs that were looked at."""
    inputs: list[Tensor] = []
    note = FirstInputs.note
    monkeypatch.setattr(FirstInputs, "note", lambda self, x: inputs.append(x) or note(self, x))
    return inputs


@pytest.mark.usefixtures("strict")
def test_only_quantised_training_passes_are_looked_at_and_no_compiled_ones(noted):
    model, x = network(nn.ReLU()), torch.randn(32, 8)
    with torch.no_grad():
        model(x)
    model.eval()(x), model.train()
    with pc.full_precision(model):
        train(model)
    train(model, run=torch.compile(model, backend="eager", fullgraph=True))
    assert not noted
    torch.func.grad(lambda w: torch.func.functional_call(model, {"0.weight": w}, x).sum())(model[0].weight)
    assert not model[3].first_inputs.has_one_sign  # transformed inputs have no values


@pytest.mark.parametrize(("activation", "passes"), [(nn.PReLU(), 1), (nn.ReLU(), 5)])
def test_inputs_are_looked_at_in_the_first_passes_only(noted, activation, passes):
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        train(model := network(activation), rows=32)
    assert len(noted) == passes
    assert model[3].first_inputs not in _unsettled


def test_without_an_optimizer_they_are_not_looked_at_for_ever(noted):
    model, x = network(nn.ReLU()), torch.randn(4, 8)
    for _ in range(210):
        model(x)
    assert len(noted) == 200
    assert model[3].first_inputs not in _unsettled


def test_a_copy_is_looked_at_again_and_a_warning_of_binarize_is_not_repeated(strict):
    with pytest.warns(UserWarning, match=SAID):
        train(model := network(nn.ReLU()))
    with pytest.warns(UserWarning, match="of 3 .after ReLU. " + SAID):
        train(copy.deepcopy(model))
    floats = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.Linear(16, 2))
    with pytest.warns(UserWarning, match="has one sign only"):
        pc.binarize(floats, activations="bnn", example=torch.randn(32, 8))
    train(floats)


def test_pack_with_an_example_warns_too(strict):
    example = torch.randn(64, 8)
    with pytest.warns(UserWarning, match="on the example the binary input of 3 has one sign only") as caught:
        pc.pack(network(nn.ReLU()), example=example)
    assert caught[0].filename == __file__
    pc.pack(network(nn.PReLU()), example=example)
    pc.pack(network(nn.ReLU()))
    pc.pack(network(nn.ReLU()), example=example[:1])
    pc.pack(network(nn.ReLU()), example=torch.zeros(1, 8))
