"""Every reason to stay float, and every model that is refused, on layers built to show it."""

import copy

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.nn.utils.parametrizations import orthogonal

from proxconnect.conversion import binarize, plan
from proxconnect.deploy.packed import pack_layers
from proxconnect.layers import BinaryConv2d, BinaryLinear


class Scaled(nn.Linear):
    def forward(self, input):
        return 2 * super().forward(input)


class Standardised(nn.Conv2d):
    def _conv_forward(self, input, weight, bias):
        return super()._conv_forward(input, weight - weight.mean(), bias)


class Renamed(nn.Linear):
    """A subclass that computes as nn.Linear does."""

    def features(self):
        return self.out_features


def beside(layer: nn.Module) -> nn.Module:
    """`layer` under the name `odd`, beside one that can be binary."""
    return nn.ModuleDict({"plain": nn.Linear(4, 4), "odd": layer})


def reason(layer: nn.Module, **options) -> str:
    return plan(beside(layer), keep=None, **options).floats["odd"]


def replaced_forward() -> nn.Linear:
    layer = nn.Linear(4, 4)
    layer.forward = lambda input: input
    return layer


def computed_weight() -> nn.Linear:
    layer = nn.Linear(4, 4)
    del layer.weight
    layer.weight = torch.zeros(4, 4)
    return layer


ODD = {
    "parametrized": (lambda: orthogonal(nn.Linear(4, 4)), "parametrized (weight)"),
    "new weight norm": (lambda: parametrizations.weight_norm(nn.Linear(4, 4)), "parametrized (weight)"),
    "parametrized bias": (
        lambda: (
            nn.utils.parametrize.register_parametrization(layer := nn.Linear(4, 4), "bias", nn.Identity()) and layer
        ),
        "parametrized (bias)",
    ),
    "weight norm": (lambda: nn.utils.weight_norm(nn.Conv2d(4, 4, 3)), "weight-normed"),
    "spectral norm": (lambda: nn.utils.spectral_norm(nn.Linear(4, 4)), "spectral-normed"),
    "pruned": (lambda: prune.l1_unstructured(nn.Linear(4, 4), "weight", 0.5), "pruned"),
    "pruned bias": (lambda: prune.l1_unstructured(nn.Linear(4, 4), "bias", 0.5), "pruned"),
    "own forward": (lambda: Scaled(4, 4), "Scaled overrides forward: include=(Scaled,)"),
    "own _conv_forward": (lambda: Standardised(4, 4, 3), "Standardised overrides _conv_forward"),
    "forward on the instance": (replaced_forward, "replaced on the instance"),
    "computed weight": (computed_weight, "no parameter of its own"),
    "complex": (lambda: nn.Linear(4, 4, dtype=torch.complex64), "complex64"),
    "float8": (lambda: nn.Linear(4, 4).to(torch.float8_e5m2), "float8_e5m2"),
    "empty": (lambda: nn.Linear(4, 0), "empty"),
    "embedding": (lambda: nn.Embedding(4, 4), "an embedding: embeddings=True"),
    "bilinear": (lambda: nn.Bilinear(4, 4, 4), "no binary form of Bilinear"),
    "recurrent": (lambda: nn.LSTM(4, 4), "weight_ih_l0"),
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:Initializing zero-element", "ignore:Complex modules")
@pytest.mark.parametrize("case", ODD)
def test_stays_float_with_the_reason(case):
    make, expected = ODD[case]
    layer = make()
    assert expected in reason(layer)

    model = beside(layer)
    before = type(layer), list(layer._parameters)
    binarize(model, keep=None)
    assert (type(layer), list(layer._parameters)) == before
    assert isinstance(model["plain"], BinaryLinear)


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(4), nn.LayerNorm((4, 4)), nn.GroupNorm(2, 4), nn.RMSNorm((4, 4))])
def test_norms_are_not_listed(layer):
    assert [row.name for row in plan(beside(layer), keep=None).rows] == ["plain"]


def test_included_subclasses_become_the_plain_binary_form():
    model = nn.ModuleDict({"a": Scaled(4, 4), "b": Standardised(4, 4, 3)})
    binarize(model, keep=None, include=(Scaled, Standardised))
    assert type(model["a"]) is BinaryLinear
    assert type(model["b"]) is BinaryConv2d
    x = torch.randn(3, 4)
    torch.testing.assert_close(model["a"](x), x @ model["a"].weight.T + model["a"].bias)


def test_include_takes_one_class_too_and_leaves_others():
    model = nn.ModuleDict({"a": Scaled(4, 4), "b": Standardised(4, 4, 3)})
    assert plan(model, keep=None, include=Scaled).binary == ("a",)


def test_include_does_not_lift_other_obstacles():
    assert "replaced on the instance" in reason(replaced_forward(), include=nn.Linear)
    assert "pruned" in reason(prune.l1_unstructured(Scaled(4, 4), "weight", 0.5), include=(Scaled,))


@pytest.mark.parametrize("wrong", [nn.Bilinear, nn.Module, "Linear", int])
def test_include_refuses_what_has_no_binary_form(wrong):
    with pytest.raises(TypeError, match=r"subclasses of the layers that have a binary form"):
        plan(beside(nn.Identity()), include=(wrong,))


@pytest.mark.parametrize("layer", [Renamed(4, 4), nn.modules.linear.NonDynamicallyQuantizableLinear(4, 4)])
def test_subclasses_without_a_forward_of_their_own_are_eligible(layer):
    assert plan(beside(layer), keep=None).binary == ("plain", "odd")


def test_tied_weights_name_who_else_holds_them():
    model = nn.ModuleDict({"embed": nn.Embedding(5, 4), "body": nn.Linear(4, 4), "head": nn.Linear(4, 5)})
    model["head"].weight = model["embed"].weight
    result = plan(model, keep=None)
    assert result.floats["head"] == "tied to embed.weight"
    assert result.binary == ("body",)


def test_weights_held_by_the_parent_or_twice_by_the_layer_are_tied():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model.register_parameter("shortcut", model[0].weight)
    model[1].register_parameter("again", model[1].weight)
    floats = plan(model, keep=None).floats
    assert floats["0"] == "tied to shortcut"
    assert floats["1"] == "tied to 1.again"
    assert "2" not in floats


def test_two_linear_layers_tied_to_each_other_both_stay_float():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    assert plan(model, keep=None).floats.keys() == {"0", "1"}


def test_one_module_under_two_names_is_not_tied():
    model = nn.Module()
    model.norms = nn.Linear(4, 4)
    model.blocks = nn.ModuleList([model.norms, nn.Linear(4, 4)])
    result = plan(model, keep=None)
    assert result.binary == ("norms", "blocks.1")
    assert result.row("blocks.0") == result.row("norms")
    assert "also blocks.0" in str(result)
    binarize(model, keep=None)
    assert model.norms is model.blocks[0]
    assert isinstance(model.norms, BinaryLinear)


def test_unsupported_modules_with_matrices_of_any_name_are_listed():
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.token = nn.Parameter(torch.ones(3, 4, 4)), nn.Parameter(torch.ones(1, 1, 4))

    assert reason(Experts()) == "no binary form of Experts (up, token)"


def test_lazy_models_are_refused_until_they_ran():
    model = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.LazyBatchNorm1d(), nn.Linear(4, 4))
    with pytest.raises(ValueError, match=r"lazy modules.*\(0, 2\): run it once"):
        binarize(model, keep=None)
    model(torch.randn(2, 3))
    binarize(model, keep=None)
    assert isinstance(model[0], BinaryLinear)


def test_a_binary_model_is_refused():
    model = binarize(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)), keep=None)
    with pytest.raises(ValueError, match=r"binary already \(0, 1\).*Build it anew"):
        binarize(model, keep=None)


def test_integer_weights_are_refused():
    model = beside(nn.Linear(4, 4))
    model["odd"].weight = nn.Parameter(torch.zeros(4, 4, dtype=torch.int8), requires_grad=False)
    with pytest.raises(ValueError, match=r"non-float model: odd holds integer"):
        binarize(model)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_quantized_models_are_refused():
    quantized = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)), {nn.Linear})
    with pytest.raises(ValueError, match="non-float model"):
        binarize(quantized)


def test_packed_models_are_refused():
    packed = pack_layers(binarize(nn.Sequential(nn.Linear(4, 4)), keep=None))
    with pytest.raises(ValueError, match=r"non-float model: 0 holds integer, packed or quantized"):
        binarize(packed)


def test_a_model_without_eligible_layer_says_why():
    model = nn.Sequential(nn.Embedding(4, 4), nn.Bilinear(4, 4, 3))
    because = (
        r"(?s)no layer would become binary.*no binary form of Bilinear.*only layers .Linear, Conv1d.*Attention, Conv1D"
    )
    with pytest.raises(ValueError, match=because):
        binarize(model)
    with pytest.raises(ValueError, match="no layer would become binary"):
        binarize(nn.ReLU())


def test_a_deep_copy_of_a_float_model_is_not_tied_to_it():
    layer = nn.Linear(4, 4)
    assert len(plan(nn.Sequential(layer, copy.deepcopy(layer)), keep=None).binary) == 2


def test_layers_of_swin_are_eligible_though_their_parent_owns_parameters():
    model = torchvision.models.SwinTransformer([4, 4], 8, [2], [2], [4, 4], num_classes=4)
    reasons = plan(model, keep=None).floats
    assert reasons == dict.fromkeys(
        ("features.1.0.attn", "features.1.1.attn"),
        "no binary form of ShiftedWindowAttention (relative_position_bias_table)",
    )
