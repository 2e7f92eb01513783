"""`pack` against the hard model, bit for bit."""

import copy
import importlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from packed_nets import MLP, binary_mlp, binary_shared
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.optim.swa_utils import AveragedModel
from torch.utils._python_dispatch import TorchDispatchMode

import proxconnect as pc
from proxconnect.deploy import shippable
from proxconnect.deploy.packed import PackedLayer, pack_layers
from proxconnect.deploy.packed.layers.forms import PackedConv2d, PackedLinear
from proxconnect.layers import BinaryConv2d, BinaryLayer, BinaryLinear
from proxconnect.quantizer import Quantizer
from shipping import assert_ships

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
PAIRS = ["fp", "bc", "bnn", "bnn++", "pc", "ede"]
SCALES = ["channel", "tensor", None]
CONVOLUTIONS = [
    {},
    {"stride": 2, "padding": 1, "groups": 2},
    {"dilation": 2, "padding": 2, "bias": False, "groups": 4},
    {"padding": "same", "kernel_size": (3, 5)},
    {"padding": 1, "padding_mode": "reflect"},
    {"padding": 1, "padding_mode": "circular"},
    {"padding": (1, 2), "padding_mode": "replicate"},
    {"padding": 1, "padding_value": 1},
    {"padding": "same", "padding_value": -1, "dilation": 2},
]


def hard_outputs(model: nn.Module, input: Tensor) -> Tensor:
    with torch.no_grad(), pc.hard(model.eval()):
        return model(input)


def assert_packs(layer: BinaryLayer, input: Tensor) -> None:
    """Equal outputs and weights, ⌈n/8⌉ bytes, and the bytes that `summary` foretold."""
    packed = pack_layers(layer)
    assert isinstance(packed, PackedLayer)
    assert_ships(packed(input), hard_outputs(layer, input), signs=layer.has_binary_input)
    assert torch.equal(packed.weight, layer.binary_weight)
    assert packed.weight.dtype == layer.latent.dtype
    assert packed.bits.numel() == -(-layer.latent.numel() // 8)
    assert pc.summary(layer).packed_bytes == sum(tensor.nbytes for tensor in packed.state_dict().values())


@pytest.mark.covering
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("activations", [None, "poly"])
def test_linear_equals_the_hard_layer(dtype: torch.dtype, scale: object, activations: str | None) -> None:
    for pair, bias in zip(PAIRS, [True, False] * 3, strict=True):
        layer = BinaryLinear(13, 9, bias, dtype=dtype, weights=pair, activations=activations, scale=scale)
        input = torch.randn(4, 13, dtype=dtype)
        input[0, :2] = torch.tensor([0.0, -0.0])
        assert_packs(layer, input)


@pytest.mark.parametrize("options", CONVOLUTIONS)
@pytest.mark.parametrize("scale", SCALES)
def test_convolution_equals_the_hard_layer(options: dict[str, object], scale: object) -> None:
    input = torch.randn(2, 4, 8, 9)
    for activations in (None, "bnn++"):
        if activations or not options.get("padding_value"):
            layer = BinaryConv2d(4, 8, **{"kernel_size": 3} | options, activations=activations, scale=scale)
            assert_packs(layer, input)


@pytest.mark.parametrize("dtype", DTYPES)
def test_convolution_keeps_its_dtype(dtype: torch.dtype) -> None:
    assert_packs(BinaryConv2d(3, 5, 3, dtype=dtype, activations="bnn"), torch.randn(2, 3, 6, 6, dtype=dtype))


def test_a_channel_of_zeros_weighs_nothing() -> None:
    layer = BinaryLinear(4, 2)
    layer.weight = torch.stack([torch.zeros(4), torch.randn(4)])
    assert_packs(layer, torch.randn(3, 4))
    assert pack_layers(layer).weight[0].abs().sum() == 0


def test_nan_inputs_stay_nan() -> None:
    layer = BinaryLinear(3, 2, activations="bnn")
    assert pack_layers(layer)(torch.tensor([[torch.nan, 1.0, 1.0]])).isnan().all()


@pytest.mark.parametrize("training", [True, False])
def test_leaves_the_model_as_it_is(training: bool) -> None:
    model = binary_mlp().train(training)
    before, objects = copy.deepcopy(model.state_dict()), {name: id(p) for name, p in model.named_parameters()}
    packed = pack_layers(model)
    assert [type(m).__name__ for m in packed.modules()] == ["MLP", "PackedLinear", "LayerNorm", "PackedLinear"]
    assert not any(m.training for m in packed.modules())
    assert not any(p.requires_grad for p in packed.parameters())
    assert all(m.training == training for m in model.modules())
    assert all(p.requires_grad for p in model.parameters())
    assert {name: id(p) for name, p in model.named_parameters()} == objects
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    theirs = {tensor.data_ptr() for tensor in packed.state_dict().values()}
    assert not theirs & {tensor.data_ptr() for tensor in model.state_dict().values()}


def test_an_optimizer_steps_on_after_packing_a_model_in_eval() -> None:
    packed, model = pack_layers(binary_mlp().eval()), nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model(torch.ones(1, 2)).sum().backward()
    before = model.weight.detach().clone()
    optimizer.step()
    assert not torch.equal(model.weight, before)
    assert isinstance(packed, nn.Module)


def test_hooks_and_attributes_move_along() -> None:
    model, seen = binary_mlp(), []
    model.first.register_forward_hook(lambda module, args, output: seen.append(type(module)))
    model.first.note = "mine"
    packed = pack_layers(model)
    packed(torch.randn(2, 5))
    assert seen == [PackedLinear]
    assert packed.first.note == "mine"


def test_a_packed_copy_keeps_its_learned_scale_while_the_model_trains_on() -> None:
    layer = BinaryLinear(8, 4, weights="bc", scale="learned")
    packed, input = pack_layers(layer), torch.randn(2, 8)
    answer = packed(input)
    with torch.no_grad():
        layer.weight_quantizer.alpha.mul_(2)
    assert torch.equal(packed(input), answer)


def test_shared_and_tied_modules_stay_so() -> None:
    _, model = binary_shared()
    BinaryLinear.convert(model.output)
    image = torch.randn(2, 3, 5, 5)
    packed = pack_layers(model)
    assert packed.inner is packed.again
    assert isinstance(packed.inner, PackedConv2d)
    assert torch.equal(packed.embedding.weight, model.embedding.weight)
    assert_ships(packed(image), hard_outputs(model, image), signs=False)


def test_attention_takes_the_unpacked_weight() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    BinaryLinear.convert(attention.out_proj)
    tokens = torch.randn(3, 4, 8)
    packed = pack_layers(attention)
    assert isinstance(packed.out_proj, PackedLinear)
    with torch.no_grad(), pc.hard(attention.eval()):
        expected = attention(tokens, tokens, tokens)[0]
    torch.testing.assert_close(packed(tokens, tokens, tokens)[0], expected)
    float_out = nn.functional.linear(tokens, attention.out_proj.latent)  # what a layer left float would multiply by
    assert not torch.allclose(nn.functional.linear(tokens, packed.out_proj.weight), float_out)


def test_weight_norm_beside_a_binary_layer() -> None:
    with pytest.warns(FutureWarning, match="weight_norm"):
        model = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 4)), BinaryLinear(4, 2))
    input = torch.randn(2, 3)
    assert_ships(pack_layers(model)(input), hard_outputs(model, input), signs=False)


def test_never_copies_the_latents() -> None:
    shapes = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            copies = (torch.ops.aten.clone.default, torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
            if func in copies and args[0].is_floating_point():
                shapes.append(tuple(args[0].shape))
            return func(*args, **kwargs or {})

    model = binary_mlp()
    with Watch():
        pack_layers(model)
    assert (7,) in shapes  # the norm's weight: the watch works
    assert not {tuple(m.latent.shape) for m in (model.first, model.last)} & set(shapes)


def test_a_packed_layer_moves_between_dtypes_copies_and_compiles() -> None:
    packed = pack_layers(binary_mlp())
    input = torch.randn(2, 5)
    assert torch.equal(copy.deepcopy(packed)(input), packed(input))
    compiled = torch.compile(packed, fullgraph=True, backend="eager")
    assert torch.equal(compiled(input), packed(input))
    half = copy.deepcopy(packed).half()
    assert half.last.weight.dtype == torch.float16  # has no scale
    assert half.first.bits.dtype == torch.uint8
    assert half(input.half()).dtype == torch.float16


def test_a_packed_weight_is_read_only() -> None:
    packed = pack_layers(binary_mlp())
    with pytest.raises(TypeError, match="read-only"):
        packed.first.weight = torch.zeros(7, 5)
    with pytest.raises(TypeError, match="made by packing"):
        PackedLinear(3, 4)
    assert "PackedLinear(in_features=7, out_features=3, bias=True, packed, scale=None, binary input)" in repr(packed)


class Subclass(BinaryLinear):
    """A binary layer that packing does not know."""


def diverged(layer: BinaryLinear) -> None:
    layer.latent.data[1, 2] = torch.nan


def infinite(layer: BinaryLinear) -> None:
    layer.latent.data[1, 2] = -torch.inf


def overflowing(layer: BinaryLinear) -> None:
    layer.latent.data.fill_(3e38)


def pruned(layer: BinaryLinear) -> None:
    prune.l1_unstructured(layer, "latent", 0.5)


def parametrized(layer: BinaryLinear) -> None:
    parametrize.register_parametrization(layer, "latent", nn.Tanh())


def scaled_input(layer: BinaryLinear) -> None:
    layer.input_quantizer = Quantizer("bnn", "tensor")


def other_dimension(layer: BinaryLinear) -> None:
    layer.weight_quantizer.channel_dims = (1,)


def named_like_ours(layer: BinaryLinear) -> None:
    layer.bits = 8


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (diverged, "'0'.*NaN or infinite.*checkpoint"),
        (infinite, "'0'.*NaN or infinite"),
        (overflowing, "'0'.*overflows.*divide"),
        (pruned, r"'0'.*prune.remove"),
        (parametrized, r"'0'.*remove_parametrizations"),
        (scaled_input, "'0'.*a scale, 'tensor': set input_quantizer.scale=None"),
        (other_dimension, "'0'.*channel_dims=\\(0,\\)"),
        (named_like_ours, "'0'.*'bits'.*rename"),
    ],
)
def test_names_what_cannot_be_packed(spoil: Callable[[BinaryLinear], None], words: str) -> None:
    model = nn.Sequential(BinaryLinear(4, 3))
    spoil(model[0])
    with pytest.raises(ValueError, match=words):
        pack_layers(model)


def test_other_layers_and_models_are_refused() -> None:
    with pytest.raises(TypeError, match=r"'0'.*Subclass has no packed form.*keep that layer float"):
        pack_layers(nn.Sequential(Subclass(2, 2)))
    with pytest.raises(ValueError, match=r"call pc.binarize\(model\)"):
        pack_layers(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"packed already.*pc.save"):
        pack_layers(pack_layers(BinaryLinear(2, 2)))
    with pytest.raises(ValueError, match=r"'0'.*meta device"):
        pack_layers(nn.Sequential(BinaryLinear(2, 2)).to("meta"))
    with pytest.raises(ValueError, match=r"'0'.*padding \(-1, -1\) is negative"):
        pack_layers(nn.Sequential(BinaryConv2d(2, 2, 3, padding=-1, padding_mode="circular")))
    for value in ("x", MLP, binary_mlp().state_dict()):
        with pytest.raises(TypeError, match=rf"^pack\(model\) takes an nn.Module.*got {type(value).__name__}"):
            pack_layers(value)


class Averaged(AveragedModel):
    """A user's own kind of averaging."""


@pytest.mark.parametrize(
    ("wrap", "inner"),
    [
        (lambda model: torch.compile(model, backend="eager"), "_orig_mod"),
        (nn.DataParallel, "module"),
        (AveragedModel, "module"),
        (Averaged, "module"),
    ],
)
def test_a_wrapped_model_is_refused(wrap: Callable[[nn.Module], nn.Module], inner: str) -> None:
    model = wrap(binary_mlp())
    with pytest.raises(ValueError, match=rf"wrapped in .*pc.pack\(model.{inner}\)"):
        pack_layers(model)
    assert isinstance(pack_layers(getattr(model, inner)).first, PackedLinear)


@pytest.mark.parametrize("wrap", [lambda model: torch.compile(model, backend="eager"), nn.DataParallel])
def test_a_wrapped_part_of_a_model_is_refused(wrap: Callable[[nn.Module], nn.Module], tmp_path: Path) -> None:
    layers = [nn.Linear(5, 5), nn.Sequential(nn.Linear(5, 5), nn.ReLU()), nn.Linear(5, 2)]
    model = pc.binarize(nn.Sequential(*layers))
    original = copy.deepcopy(model)
    model[1] = wrap(model[1])
    with pytest.raises(ValueError, match=r"module '1' is wrapped in .* before pc.pack\(model\)") as caught:
        pc.pack(model)
    packed = pc.pack(original)
    pc.save(packed, tmp_path / "net.safetensors")
    network = nn.Sequential(layers[0], wrap(nn.Sequential(nn.Linear(5, 5), nn.ReLU())), nn.Linear(5, 2))
    with pytest.raises(pc.PackedFileError, match=r"module '1' is wrapped in .*: call model.set_submodule"):
        pc.load(tmp_path / "net.safetensors", network)
    packed[1] = wrap(packed[1])
    with pytest.raises(ValueError, match=r"module '1' is wrapped in .* before pc.save\(model, path\)"):
        pc.save(packed, tmp_path / "net.safetensors")
    advice = str(caught.value).partition("call ")[2].partition(" before")[0]
    eval(advice, {"model": model})  # what the message says
    assert isinstance(pc.pack(model)[1][0], PackedLinear)


def test_an_averaged_part_of_a_model_packs() -> None:
    model = pc.binarize(nn.Sequential(nn.Linear(5, 5), AveragedModel(nn.Linear(5, 5)), nn.Linear(5, 2)))
    assert isinstance(pc.pack(model)[1].module, PackedLinear)


def test_every_wrapper_is_where_it_is_said_to_be() -> None:
    for module, name in shippable._INNER:
        assert issubclass(getattr(importlib.import_module(module), name), nn.Module)


def test_a_model_compiled_in_place_packs() -> None:
    model, input = binary_mlp(), torch.randn(2, 5)
    model.compile(backend="eager")
    model(input)
    assert torch.equal(pack_layers(model)(input), hard_outputs(model, input))
