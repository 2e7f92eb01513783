"""Conversion in place: what it changes, what it leaves, its patterns, and errors that change nothing."""

import copy
import pickle
import warnings

import pytest
import torch
import torchvision
from torch import nn

from proxconnect import PAIRS, Accumulator, Heuristic, hard, pack, summary
from proxconnect.conversion import Plan, binarize, plan
from proxconnect.layers import BinaryConv2d, BinaryLayer, BinaryLinear, binarize_parameter
from proxconnect.pairs.prox import sign


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), nn.Flatten(), nn.Linear(8 * 16, 8), nn.Linear(8, 5),
    )  # fmt: skip


def state(model: nn.Module) -> dict[str, object]:
    """What a conversion could change, with the identity of every module and parameter."""
    return {
        name: (module, type(module), dict(vars(module)), dict(module._parameters), module.training)
        for name, module in model.named_modules(remove_duplicate=False)
    }


def test_layers_change_class_and_nothing_else():
    model = net()
    modules, parameters = dict(model.named_modules()), dict(model.named_parameters())
    float_state = copy.deepcopy(model.state_dict())
    assert binarize(model) is model
    assert [type(model[i]) for i in (0, 2, 4, 6, 7)] == [nn.Conv2d, BinaryConv2d, BinaryConv2d, BinaryLinear, nn.Linear]
    assert all(dict(model.named_modules())[name] is module for name, module in modules.items())
    assert {id(p) for p in model.parameters()} == {id(p) for p in parameters.values()}
    assert model[2].latent is parameters["2.weight"]
    model.load_state_dict(float_state, strict=True)


def test_the_binary_model_computes_with_signs():
    model = net()
    expected = copy.deepcopy(model)
    binarize(model, "bc", scale=None)
    with torch.no_grad():
        for i in (2, 4, 6):
            expected[i].weight.copy_(torch.where(expected[i].weight >= 0, 1.0, -1.0))
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(model(x), expected(x))


def test_plan_says_what_binarize_does_and_changes_nothing():
    model, arguments = net(), {"weights": {"2": "bc", "*": "bnn++"}, "activations": {"4": "poly"}, "keep": ("7", "0")}
    before = state(model)
    planned = plan(model, **arguments)
    assert state(model) == before
    binarize(model, **arguments)
    assert model.binarization == planned
    for row in planned.rows:
        layer = model.get_submodule(row.name)
        assert isinstance(layer, BinaryLayer) == (row.weights is not None)
        if isinstance(layer, BinaryLayer):
            pairs = {part: quantizer.pair.name for part, quantizer in layer.quantizers.items()}
            assert pairs == {"weights": row.weights} | ({"activations": row.activations} if row.activations else {})


def test_a_single_layer_is_a_model():
    layer = nn.Linear(4, 4)
    with pytest.raises(ValueError, match=r"\(the model\)"):
        binarize(layer)
    assert binarize(layer, keep=None) is layer
    assert isinstance(layer, BinaryLinear)
    assert layer.binarization.binary == ("",)


def test_the_first_pattern_that_fits_decides():
    weights = {"2": "bc", "[24]": "pc", "0": None, "7": "bnn"}
    rows = {row.name: (row.weights, row.reason) for row in plan(net(), weights, keep=()).rows}
    assert rows == {
        "0": (None, "weights: '0' says float"), "2": ("bc", ""), "4": ("pc", ""),
        "6": (None, "weights: no pattern fits it"), "7": ("bnn", ""),
    }  # fmt: skip


IGNORED = {
    "behind the rest": ({"weights": {"*": "bnn", "2": "bc"}}, "weights: .2. decides no layer, because .[*]. stands"),
    "float behind the rest": ({"weights": {"*": "bnn", "2": None}}, "'2' decides no layer.*Put '2' first"),
    "behind a wider one": (
        {"activations": {"[246]": "bnn", "4": "poly", "*": None}}, "activations: '4' decides no layer, because '.246.'",
    ),
    "an edge": ({"weights": {"7": "bc", "*": "bnn"}}, "'7' fits only layers that stay float: 7: edge: the last.*keep"),
    "kept": ({"weights": {"2": "bc", "*": "bnn"}, "keep": "2"}, "'2' fits only layers that stay float: 2: keep: '2'"),
    "inputs of a float layer": ({"weights": {"2": "bc"}, "activations": {"4": "poly"}}, "activations: .4..*no pattern"),
    "inputs of an edge": ({"activations": {"0": "poly", "*": "bnn"}}, "activations: '0'.*edge: the first"),
}  # fmt: skip


@pytest.mark.parametrize("case", IGNORED)
def test_a_pattern_that_decides_nothing_is_refused(case):
    arguments, message = IGNORED[case]
    for call in (plan, binarize):
        with pytest.raises(ValueError, match=message):
            call(net(), **arguments)


def test_a_rest_may_be_empty_and_float_patterns_may_name_float_layers():
    model = plan(net(), {"0": None, "[246]": "bc", "*": "bnn"}, {"[246]": "fp", "*": "bnn"})
    assert [(row.weights, row.activations) for row in model.rows] == [(None, None), *[("bc", None)] * 3, (None, None)]


def test_fp_leaves_inputs_float_everywhere():
    x = torch.randn(2, 3, 4, 4)
    model = binarize(net(), "bc", "fp", keep=None)
    assert {row.activations for row in model.binarization.rows} == {None}
    assert torch.allclose(pack(model)(x), model.eval()(x), atol=1e-5)
    with hard(model.train()):
        assert torch.equal(model[0].quantize_input(x), x)
    layer = BinaryConv2d(3, 4, 3, activations=PAIRS["fp"])
    assert torch.allclose(pack(layer)(x), layer.eval()(x), atol=1e-5)
    accumulator = Accumulator(8)
    for make in (lambda: binarize(net(), "bc", "fp", accumulator=accumulator),
                 lambda: BinaryLinear(2, 2, activations="fp", accumulator=accumulator)):  # fmt: skip
        with pytest.raises(ValueError, match="pass activations too, and not 'fp'"):
            make()


def test_patterns_cross_dots_and_mind_case():
    model = torchvision.models.resnet18()
    assert all(name.startswith("layer1.") for name in plan(model, {"layer1*": "bc"}).binary)
    assert len(plan(model, {"layer1*": "bc"}).binary) == 4
    with pytest.raises(ValueError, match="fits no layer"):
        plan(model, {"Layer1*": "bc"})


def test_pairs_may_be_objects_of_your_own():
    mine = Heuristic("mine", forward=sign, backward=sign)
    model = binarize(net(), {"2": mine, "*": PAIRS["pc"]}, activations=PAIRS["poly"].at(2.0))
    assert model[2].weight_quantizer.pair is mine
    assert model[4].input_quantizer.pair.name == "poly"
    assert [row.weights for row in model.binarization.rows] == [None, "mine", "pc", "pc", None]


def test_the_scale_reaches_every_layer():
    for scale in ("channel", "tensor", None):
        model = binarize(net(), scale=scale)
        assert {model[i].weight_quantizer.scale for i in (2, 4, 6)} == {scale}


def test_the_padding_value_goes_where_zeros_pad_binary_inputs():
    model = binarize(net(), activations={"2": "poly", "4": "poly"}, keep=None, padding_value=-1)
    assert (model[0].padding_value, model[2].padding_value, model[4].padding_value) == (0, -1, 0)


def test_keep_takes_globs_beside_the_edges():
    assert plan(net(), keep=["edges", "6"]).floats == {
        "0": "edge: the first layer registered",
        "6": "keep: '6'",
        "7": "edge: the last layer registered",
    }
    assert plan(net(), keep="[06]").binary == ("2", "4", "7")
    assert plan(net(), keep=None).binary == plan(net(), keep=()).binary == ("0", "2", "4", "6", "7")


def test_keep_takes_a_callable_of_name_and_module():
    seen = []

    def small(name: str, module: nn.Module) -> bool:
        seen.append(name)
        return module.weight.numel() < 300

    assert plan(net(), keep=small).floats == dict.fromkeys(("0", "7"), "keep: the callable chose it")
    assert seen == ["0", "2", "4", "6", "7"]


def test_keep_and_patterns_know_all_names_of_a_layer():
    model = net()
    model.register_module("shared", model[2])
    assert plan(model, keep="shared").floats == {"2": "keep: 'shared'"}
    assert plan(model, {"shared": "bc", "*": "bnn"}, keep=None).row("2").weights == "bc"
    assert plan(model, keep=lambda name, _: name == "shared").floats == {"2": "keep: the callable chose it"}


def swin(num_classes: int = 3) -> nn.Module:
    return torchvision.models.SwinTransformer([4, 4], 8, [2], [2], [4, 4], num_classes=num_classes)


WRONG = {
    "unknown pair": ({"weights": "bnn+++"}, ValueError, r"did you mean 'bnn\+\+'"),
    "unknown pair in a mapping": ({"weights": {"2": "bcc"}}, ValueError, "did you mean 'bc'"),
    "unknown activations": ({"activations": "polly"}, ValueError, "did you mean 'poly'"),
    "no pair": ({"weights": 3}, TypeError, "a pair is a name of PAIRS"),
    "no weights": ({"weights": None}, TypeError, "weights takes a pair"),
    "empty mapping": ({"weights": {}}, ValueError, "the mapping is empty"),
    "pattern for nothing": ({"weights": {"conv": "bc"}}, ValueError, "weights: the pattern 'conv' fits no layer.*'0'"),
    "input pattern for nothing": ({"activations": {"9": "bc"}}, ValueError, "activations: the pattern '9'"),
    "pattern for float layers": (
        {"weights": {"odd*": "bc", "*": "bc"}}, ValueError, "only layers that stay float: odd: no binary form",
    ),
    "pattern that is no string": ({"weights": {2: "bc"}}, TypeError, "a pattern is a string"),
    "keep for nothing": ({"keep": "edge"}, ValueError, "keep: the pattern 'edge' fits no layer.*'edges'"),
    "keep of nothing": ({"keep": 3}, TypeError, "keep takes 'edges'"),
    "keep of no strings": ({"keep": [nn.Linear]}, TypeError, "a pattern is a string"),
    "scale": ({"scale": "row"}, ValueError, "scale must be 'channel'"),
    "padding value": ({"padding_value": 2, "activations": "bc"}, ValueError, "padding_value must be 0, 1 or -1"),
    "padding of float": ({"padding_value": 1}, ValueError, "pass activations too"),
    "all kept": ({"keep": "*"}, ValueError, "(?s)no layer would become binary.*keep=None"),
    "example": ({"example": torch.randn(1, 7)}, RuntimeError, "(?i)expected"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_an_error_leaves_the_model_as_it_was(case):
    arguments, error, message = WRONG[case]
    model = net().train()
    model.register_module("odd", nn.Bilinear(4, 4, 3))
    before = state(model)
    with pytest.raises(error, match=message):
        binarize(model, **arguments)
    assert state(model) == before


class Stubborn(nn.Linear):
    """A layer that refuses the conversion itself, after all checks."""

    def __setattr__(self, name, value):
        if name == "__class__":
            raise TypeError("I stay as I am")
        super().__setattr__(name, value)


def stubborn() -> nn.Module:
    encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.Sequential(nn.Linear(8, 8), encoder, nn.Linear(8, 8), Stubborn(8, 8), nn.Linear(8, 2))


def test_an_error_in_the_midst_of_the_conversion_leaves_the_model_as_it_was():
    model, x = stubborn().eval(), torch.randn(2, 3, 8)
    before, expected = state(model), model(x)
    with pytest.raises(TypeError, match="I stay as I am"):
        binarize(model, activations="bnn")
    assert state(model) == before
    assert torch.equal(model(x), expected)
    model(x).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()  # no guard of binary layers in eval() is left
    assert binarize(model[1], keep=None) is model[1]


@pytest.mark.parametrize("own", [nn.Linear(8, 8), torch.zeros(3), "mine"])
def test_a_model_with_an_attribute_called_binarization_is_refused(own):
    model = net()
    model.binarization = own
    before = state(model)
    for call in (plan, binarize):
        with pytest.raises(ValueError, match=r"keeps its plan as model\.binarization, but this Sequential .*rename it"):
            call(model)
    assert state(model) == before


def test_the_default_device_of_the_caller_plays_no_part():
    model, x = net().eval(), torch.randn(2, 3, 4, 4)
    with torch.device("meta"):
        binarize(model, activations="bnn", scale="learned")
        binarize_parameter(model[0], "bias")
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"cpu"}
    assert model(x).isfinite().all()


def test_a_pattern_that_names_a_stage_gets_the_glob():
    with pytest.raises(ValueError, match=r"did you mean 'layer1\.\*'\?"):
        plan(torchvision.models.resnet18(), {"layer1": "bc"})


def test_the_record_is_plain_data():
    model = binarize(net(), activations="poly")
    again = pickle.loads(pickle.dumps(model))
    assert again.binarization == copy.deepcopy(model).binarization == model.binarization
    assert isinstance(again.binarization, Plan)
    assert again.binarization.row("2").kind == "Conv2d"
    with pytest.raises(KeyError):
        again.binarization.row("conv")


@pytest.mark.parametrize("model", [net(), swin(), torchvision.models.resnet18()])
def test_the_table_has_80_columns_and_every_layer(model):
    result = plan(model, activations="poly")
    lines = repr(result).split("\n")
    assert max(map(len, lines)) <= 80
    assert lines[0] == f"{len(result.binary)} of {len(result.rows)} layers binary, scale channel"
    kinds = {row.kind[:13] for row in result.rows}
    assert sum(any(f" {kind}" in line for kind in kinds) for line in lines) >= len(result.rows)


def test_rich_prints_whole_names():
    from rich.console import Console

    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    result = plan(swin())
    console.print(result)
    printed = console.export_text()
    assert all(row.name in printed for row in result.rows)


def test_float_inputs_where_the_weight_is_taken():
    """Activations are quantised in forward, which these modules bypass."""
    rows = plan(swin(), activations="poly")
    assert rows.row("features.1.0.attn.qkv").activations is None
    assert rows.row("features.1.0.mlp.0").activations == "poly"


def test_an_example_shows_unknown_layers_that_are_bypassed():
    class Taker(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x):
            return nn.functional.linear(x, 2 * self.inner.weight)

    model = nn.Sequential(nn.Linear(4, 4), Taker(), nn.Linear(4, 4))
    assert plan(model, activations="poly", keep=None).row("1.inner").activations == "poly"
    row = plan(model, activations="poly", keep=None, example=torch.randn(2, 4)).row("1.inner")
    assert (row.weights, row.activations, row.reason) == ("bnn++", None, "its forward is bypassed")
    assert plan(model, example=torch.randn(2, 4)).binary == ("1.inner",)


def test_hooks_and_optimizers_that_hold_the_layer_go_on():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    calls = []
    model[2].register_forward_hook(lambda *_: calls.append(1))
    binarize(model, "bc")
    before = model[2].latent.detach().clone()
    model(torch.randn(2, 3, 4, 4)).square().mean().backward()
    optimizer.step()
    assert calls
    assert not torch.equal(model[2].latent, before)


@pytest.mark.parametrize("build", [torchvision.models.mobilenet_v3_small, torchvision.models.mnasnet0_5, swin])
def test_torchvision_models_train_after_conversion(build):
    model = binarize(build(num_classes=3), activations="poly")
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None]
    assert not missing


def test_binary_inputs_behind_a_relu_are_told():
    def net(activation):
        return nn.Sequential(nn.Linear(4, 6), activation, nn.Linear(6, 6), nn.Linear(6, 2))

    example = torch.randn(8, 4)
    with pytest.warns(UserWarning, match="input of 2 has one sign only"):
        model = binarize(net(nn.ReLU()), activations="bnn", example=example)
    assert model.binarization.row("2").reason == "its input has one sign only"
    assert summary(model, example).one_signed == ("2",)
    assert "useless inputs those of 2 have one sign only" in str(summary(pack(model), example))
    assert torch.allclose(*model.eval()(example[:2]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        silent = binarize(net(nn.Hardtanh()), activations="bnn", example=example)
        binarize(net(nn.ReLU()), example=example)
    assert summary(silent, example).one_signed == ()


@pytest.mark.parametrize("call", [binarize, plan, summary])
def test_what_is_no_model_is_told(call):
    with pytest.raises(TypeError, match=r"takes an nn\.Module"):
        call(lambda: None)
