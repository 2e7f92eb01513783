"""Hard state dicts load into the float architecture; batch-norm statistics are those of the hard net."""

import copy

import pytest
import torch
import torchvision
from torch import nn

from proxconnect.deploy.hardening import hard_state_dict, reestimate_batchnorm
from proxconnect.layers import BinaryConv2d, BinaryLinear
from proxconnect.layers.modes import hard


def binary(model, **options):
    """The model with every linear and 2-d convolution binary, in place."""
    for module in list(model.modules()):
        for form in (BinaryLinear, BinaryConv2d):
            if type(module) is form.float_type:
                form.convert(module, **options)
    return model


@pytest.mark.parametrize("weights", ["bnn++", "fp", "bc"])
@pytest.mark.parametrize("architecture", ["resnet18", "mnasnet0_5"])
def test_loads_strictly_and_gives_the_same_answers(architecture, weights):
    torch.manual_seed(0)
    plain = getattr(torchvision.models, architecture)(weights=None, num_classes=7)
    model = binary(copy.deepcopy(plain), weights=weights)
    plain.load_state_dict(hard_state_dict(model), strict=True)
    x = torch.randn(2, 3, 64, 64)
    with hard(model):
        torch.testing.assert_close(plain.eval()(x), model.eval()(x), rtol=0, atol=0)


def test_version_metadata_is_kept():
    model = torchvision.models.mnasnet0_5(weights=None)
    state = hard_state_dict(binary(copy.deepcopy(model)))
    assert state._metadata == model.state_dict()._metadata


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(5, 5)
        self.b = self.a

    def forward(self, x):
        return self.b(self.a(x))


def test_a_shared_module_appears_under_all_its_names():
    plain = Shared()
    model = binary(copy.deepcopy(plain))
    state = hard_state_dict(model)
    assert list(state) == list(plain.state_dict())
    plain.load_state_dict(state)
    x = torch.randn(3, 5)
    assert torch.equal(plain(x), model.eval()(x))


def test_a_layer_that_is_the_model_itself():
    state = hard_state_dict(BinaryLinear(4, 2, weights="bc", scale=None))
    assert list(state) == ["weight", "bias"]
    assert set(state["weight"].flatten().tolist()) <= {-1.0, 1.0}


def test_binary_activations_warn_because_the_float_net_has_none():
    with pytest.warns(UserWarning, match="quantises activations"):
        hard_state_dict(BinaryLinear(4, 2, activations="bnn"))


def test_a_model_without_binary_layers_is_refused():
    with pytest.raises(ValueError, match="no binary layer and no packed one"):
        hard_state_dict(nn.Linear(2, 2))


def network():
    torch.manual_seed(0)
    return nn.Sequential(BinaryLinear(6, 8, weights="bnn++"), nn.BatchNorm1d(8), nn.ReLU(), BinaryLinear(8, 2))


def test_statistics_are_those_of_the_hard_weights_over_all_batches():
    model = network()
    batches = [torch.randn(50, 6) + 1 for _ in range(4)]
    reestimate_batchnorm(model, [(x, "label") for x in batches])
    outputs = [nn.functional.linear(x, model[0].binary_weight, model[0].bias) for x in batches]
    torch.testing.assert_close(model[1].running_mean, torch.stack([z.mean(0) for z in outputs]).mean(0))
    torch.testing.assert_close(model[1].running_var, torch.stack([z.var(0) for z in outputs]).mean(0))


@pytest.mark.parametrize("training", [True, False])
def test_mode_and_momentum_are_given_back(training):
    model = network().train(training)
    model[3].train(not training)
    reestimate_batchnorm(model, [torch.randn(9, 6)])
    assert [m.training for m in model] == [training] * 3 + [not training]
    assert model[1].momentum == 0.1
    assert model[0].weight_quantizer.override is None


def test_nothing_is_lost_where_it_fails():
    model = network().eval()
    model(torch.randn(4, 6))
    before = copy.deepcopy(model.state_dict())
    for batches, error in (([], ValueError), ([torch.randn(9, 6), torch.randn(9, 5)], RuntimeError)):
        with pytest.raises(error):
            reestimate_batchnorm(model, batches)
        after = model.state_dict()
        assert all(torch.equal(before[k], after[k]) for k in before)
        assert model[1].momentum == 0.1
        assert not any(m.training for m in model.modules())
