"""Fused graphs against the layers themselves, one after another."""

import copy
import io
import pickle
import threading
import warnings
from typing import Any

import pytest
import torch
from nets import Block, binary, by_layers, folds_norms, image, mixer, plain, residual
from torch import Tensor, nn

import proxconnect as pc
from proxconnect.deploy.fusion import fuse, layer_by_layer
from proxconnect.deploy.fusion.binary_products import BITS, STEPS
from proxconnect.deploy.fusion.closeness import gap
from proxconnect.deploy.fusion.graph_modules import Region, graph_forward
from proxconnect.deploy.packed import PackedLayer
from proxconnect.kernels.library import has_vectors

pytestmark = pytest.mark.skipif(not pc.kernels.is_built(), reason="the kernels were not built")


def packed(model: nn.Module | None = None, **options: Any) -> nn.Module:
    return pc.pack(binary(residual() if model is None else model, **options))


def runs(model: nn.Module) -> int:
    """How often its graph has run since this was asked first."""
    fused = graph_forward(model)
    assert fused is not None
    count = vars(fused).setdefault("count", [0])
    if "counted" not in vars(fused) or fused._run is not vars(fused)["counted"]:
        run = fused._run

        def counting(*inputs: Any) -> Any:
            count[0] += 1
            return run(*inputs)

        fused._run = vars(fused)["counted"] = counting
    return count[0]


@pytest.mark.parametrize("overflow", [None, "wrap", "saturate", "cyclic"])
@pytest.mark.parametrize("build", [residual, plain])
def test_equal_to_the_layers_to_the_bit(build, overflow):
    accumulator = None if overflow is None else pc.Accumulator(bits=6, overflow=overflow)
    model = packed(build(), accumulator=accumulator)
    for _ in range(2):  # the first answer is compared with the layers'
        x = image()
        assert torch.equal(model(x), by_layers(model, x))
    x = image().contiguous()
    assert torch.equal(model(x), by_layers(model, image().copy_(x)))


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding_value", [0, 1, -1])
def test_borders(padding_mode, padding_value):
    layers = [nn.Conv2d(3, 64, 3), *(nn.Conv2d(64, 64, 3, padding=1, padding_mode=padding_mode) for _ in range(2))]
    model = binary(nn.Sequential(*layers), keep=("0",))  # a float layer behind would round by the layout of its input
    for layer in model[1:3]:
        if padding_mode == "zeros":
            layer.set_padding_value(padding_value)
    model = pc.pack(model)
    x = image()
    assert torch.equal(model(x), by_layers(model, x))


def test_nan_goes_as_far_as_layer_by_layer():
    model, x = packed(plain()), image(batch=3)
    x[1, 0, 0, 0] = torch.nan
    answer = model(x)
    assert torch.equal(answer.isnan(), by_layers(model, x).isnan())
    assert answer.isnan().any(1).tolist() == [False, True, False]


@folds_norms
def test_what_is_fused_is_told():
    assert str(packed().packing) == (
        "fused graph of the model: 2 binary layers with 6 steps (norms, activations, additions), 1 norm of floats, "
        "1 mean of images"
    )
    fusion = packed(plain()).packing.fusion
    assert (fusion.regions[0].counts["binary layers"], fusion.regions[0].counts[BITS]) == (6, 4)


def test_what_was_not_fused_is_not_told():
    assert str(Region("encoder", {"binary layers": 0, BITS: 0, STEPS: 0, "layer norms": 2})) == "encoder: 2 layer norms"


def test_one_is_told_in_the_singular():
    assert str(Region("", {"binary layers": 1, STEPS: 1, BITS: 1, "float convolutions": 1, "attentions": 1})) == (
        "the model: 1 binary layer (1 of them output bits) with 1 step (norms, activations, additions), "
        "1 float convolution, 1 attention"
    )


@folds_norms
@pytest.mark.parametrize("inputs", ["exact", "int8"])
def test_products_of_floats(inputs):
    """What follows them is in their pass, as it is layer by layer to the bit."""
    model = pc.pack(binary(mixer(), activations=None), inputs=inputs, floats="torch")
    (region,) = model.packing.fusion.regions
    assert (region.counts["binary layers"], region.counts[STEPS], region.counts[BITS]) == (7, 6, 0)
    x = image()
    x[1, 0, 0, 0] = torch.nan
    for image_of in (x, image(), image(batch=9)):
        answer, expected = model(image_of), by_layers(model, image_of)
        assert torch.equal(answer.isnan(), expected.isnan())
        assert torch.equal(answer.nan_to_num(), expected.nan_to_num())
    for layer in model.modules():
        if isinstance(layer, PackedLayer):
            layer.inputs = "int8" if inputs == "exact" else "exact"
    x = image()
    assert torch.equal(model(x), by_layers(model, x))


@pytest.mark.skipif(not has_vectors(), reason="this machine lacks fast kernels")
@pytest.mark.parametrize(("inputs", "remainder"), [("exact", "float"), ("int8", "float"), ("exact", "int8")])
@torch.no_grad()
def test_gelus_of_floats_are_steps(inputs, remainder):
    """A GELU is a step behind a product of floats, unless it is approximated."""
    net = nn.Sequential(
        nn.Linear(30, 70), nn.GELU(), nn.Linear(70, 60), nn.GELU("tanh"), nn.Linear(60, 40), nn.GELU(), nn.ReLU()
    )
    model = pc.pack(
        binary(net, activations=None, keep=("0",)), inputs=inputs, remainder=remainder, example=torch.randn(9, 30)
    )
    (region,) = model.packing.fusion.regions
    assert region.counts[STEPS] == 2
    x = 3 * torch.randn(50, 30)
    assert gap(by_layers(model, x), model(x)) < 1e-5


class Gated(nn.Module):
    """Reads the output of a product twice."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down, self.act = nn.Linear(64, 64), nn.Linear(64, 64), nn.GELU("tanh")

    def forward(self, rows: Tensor) -> Tensor:
        one = self.up(rows)
        return self.act(self.down(self.act(one))) * one


def test_a_gelu_overwrites_what_it_alone_reads():
    model = pc.pack(binary(nn.Sequential(nn.Linear(64, 64), Gated(), nn.Linear(64, 64)), activations=None))
    x = torch.randn(9, 64)
    for _ in range(2):
        assert torch.equal(model(x), by_layers(model, x))
    fused = graph_forward(model)
    assert fused is not None
    targets = [type(node.target).__name__ for node in fused._run.__self__.graph.nodes]
    assert (targets.count("OverwritingGelu"), targets.count("BinaryProduct")) == (1, 2)


def test_float_rows_between_products_of_signs():
    """Some layers see floats, others signs; no signs are made for those that see floats."""
    model = binary(nn.Sequential(*(nn.Linear(64, 64) for _ in range(8))))
    for layer in (model[1], model[2], model[4]):
        layer.input_quantizer = None
    packed = pc.pack(model)
    (region,) = packed.packing.fusion.regions
    x = torch.randn(9, 64)
    assert torch.equal(packed(x), by_layers(packed, x))
    assert region.counts["binary layers"] == 6


def test_floats_out_of_images_are_in_the_format_of_the_input():
    model = packed(nn.Sequential(nn.Conv2d(3, 8, 3), Block(8, nn.PReLU()), nn.Conv2d(8, 4, 1)))
    x = image()
    assert model(x).is_contiguous(memory_format=torch.channels_last)
    assert model(x.contiguous()).is_contiguous()


class Viewing(nn.Module):
    """A forward with a view that images with their channels last do not have."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = residual()[:4], nn.Linear(16 * 10 * 10, 5)

    def forward(self, image: Tensor) -> Tensor:
        hidden = self.body(image)
        return self.head(hidden.view(hidden.size(0), -1))


def test_views_of_images_in_c_order():
    model = binary(Viewing())
    x = image().contiguous()
    small = pc.pack(model, example=x)
    torch.testing.assert_close(small(x), by_layers(small, x), rtol=1e-4, atol=1e-4)
    assert not graph_forward(small)._is_given_up
    assert small.packing.proof.answer_gap < 1e-4


class Deciding(nn.Module):
    """A forward that is no graph around parts that are."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3)
        self.blocks = nn.ModuleList([Block(16, nn.PReLU()), Block(16, nn.PReLU())])
        self.head = nn.Conv2d(16, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        hidden = self.stem(image)
        for block in self.blocks if hidden.sum() > -torch.inf else ():
            hidden = block(hidden)
        return self.head(hidden)


def test_parts_of_a_model_that_is_no_graph():
    model = packed(Deciding())
    fusion = model.packing.fusion
    assert [region.name for region in fusion.regions] == ["blocks.0", "blocks.1"]
    assert "TraceError" in fusion.reasons[""]
    assert "layer by layer: the model, since TraceError" in str(fusion)
    x = image()
    torch.testing.assert_close(model(x), by_layers(model, x), rtol=0, atol=0)


class Optional(nn.Module):
    """A forward that takes more than the graph knows of."""

    def __init__(self) -> None:
        super().__init__()
        self.body = residual()

    def forward(self, image: Tensor, shift: Tensor | None = None, *, factor: float = 1.0) -> Tensor:
        answer = self.body(image)
        return (answer if shift is None else answer + shift) * factor


def test_arguments_that_the_graph_does_not_know_go_by_layers():
    model, x = packed(Optional()), image()
    plain_answer = model(image=x)
    assert runs(model) == 0
    assert torch.equal(model(x), plain_answer)
    assert runs(model) == 1
    assert torch.equal(model(x, torch.ones(5)), plain_answer + 1)
    assert torch.equal(model(x, factor=2.0), plain_answer * 2)
    assert runs(model) == 1


@torch.no_grad()
def test_whatever_watches_or_differs_goes_by_layers():
    model, x = packed(), image()
    model(x)
    assert runs(model) == 0
    with torch.enable_grad():
        assert model(x.clone().requires_grad_()).requires_grad
    model.double()(x.double())
    model.float()
    model(x.bfloat16().float())
    seen = []
    handle = model[2].norm.register_forward_hook(lambda *call: seen.append(call[2].shape))
    before = runs(model)
    model(x)
    assert seen == [(2, 16, 10, 10)]
    handle.remove()
    model.train()
    model(x)
    assert runs(model) == before
    model.eval()
    model(x)
    assert runs(model) == before + 1


@torch.no_grad()
def test_a_change_of_what_was_folded_is_seen():
    model, x = packed(), image()
    model(x)
    changes = [
        lambda: model[2].norm.weight.neg_(),
        lambda: model[2].norm.load_state_dict(model[3].norm.state_dict()),
        lambda: setattr(model[3].norm, "running_mean", torch.ones(16)),
        lambda: model[2].conv.load_state_dict(model[3].conv.state_dict()),
        lambda: setattr(model, "6", nn.Identity()),
        lambda: model[2].relu.weight.mul_(-2),
        lambda: setattr(model[2].norm, "eps", 1.0),
        lambda: setattr(model[3].relu, "max_val", 0.5),
        lambda: setattr(model[3].relu, "forward", torch.neg),
        lambda: model.append(nn.Softsign()),
    ]
    for change in changes:
        before = model(x)
        change()
        answer = model(x)
        assert torch.equal(answer, by_layers(model, x))
        assert answer.shape != before.shape or not torch.equal(answer, before)


def test_copies_run_fused_and_alone():
    model, x = packed(), image()
    answer = model(x)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(file, weights_only=False)]
    for twin in copies:
        assert torch.equal(twin(x), answer)
        assert runs(twin) == 0
        twin[2].norm.weight.data = -twin[2].norm.weight
        assert not torch.equal(twin(x), answer)
        assert isinstance(twin, nn.Sequential)
        assert type(twin).__name__ == "Sequential"
    assert torch.equal(model(x), answer)


def test_the_state_dict_is_that_of_the_layers():
    model = binary(residual())
    fused, plain_one = pc.pack(model), pc.deploy.packed.pack_layers(model)
    assert fused.state_dict().keys() == plain_one.state_dict().keys()
    assert [name for name, _ in fused.named_modules()] == [name for name, _ in plain_one.named_modules()]
    assert not any(isinstance(module, PackedLayer) and module.training for module in fused.modules())


class Lying(nn.Module):
    """Its graph shows another function than its forward has."""

    def __init__(self) -> None:
        super().__init__()
        self.body = residual()

    def forward(self, image: Tensor) -> Tensor:
        answer = self.body(image)
        return answer + 1 if isinstance(answer, Tensor) else answer


def test_a_graph_that_answers_otherwise_is_given_up():
    model, x = packed(Lying()), image()
    with pytest.warns(UserWarning, match="the fused graph of Lying is given up.*is off by"):
        answer = model(x)
    assert torch.equal(answer, by_layers(model, x))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(model(x), answer)


def test_compiled_and_exported():
    model, x = packed(), image()
    answer = model(x)
    torch.testing.assert_close(torch.compile(model, backend="eager", fullgraph=True)(x), answer)
    torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), answer)


def test_fusing_twice_changes_nothing():
    model, x = packed(), image()
    answer = model(x)
    assert fuse(model).regions == model.packing.fusion.regions
    assert torch.equal(model(x), answer)


def test_many_threads_get_equal_answers():
    model = packed(plain())
    inputs = [image() for _ in range(8)]
    expected = [by_layers(model, x) for x in inputs]
    faults: list[int] = []

    def work(index: int) -> None:
        for _ in range(20):
            if not torch.equal(model(inputs[index]), expected[index]):
                faults.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults


def test_copies_make_their_graphs_in_many_threads():
    model, x = packed(plain()), image()
    expected, answers = model(x), []
    plain_one = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()

    def work(twin: nn.Module) -> None:
        answers.append(twin(x))
        answers.append(plain_one(x))

    threads = [threading.Thread(target=work, args=(copy.deepcopy(model),)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 12
    assert all(torch.equal(answer, expected if answer.dim() == 2 else plain_one(x)) for answer in answers)


@pytest.fixture
def float64_by_default():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("remainder", ["float", "int8"])
def test_another_default_dtype_changes_nothing(request, remainder):
    norm, pool, slope = nn.BatchNorm2d(16), nn.MaxPool2d(3, 2, 1), nn.LeakyReLU()
    layers = [nn.Conv2d(3, 16, 3), norm, slope, pool, nn.Conv2d(16, 16, 3, bias=False), slope, nn.Conv2d(16, 8, 1)]
    model, x = binary(nn.Sequential(*layers)), image()
    expected = pc.pack(model, remainder=remainder)(x)
    request.getfixturevalue("float64_by_default")
    model = pc.pack(model, remainder=remainder)
    assert model.packing.fusion.regions
    assert torch.equal(model(x), expected)


def test_fused_under_another_default_device(tmp_path):
    model, x = binary(residual()), image()
    pc.save(pc.pack(model), tmp_path / "model.safetensors")
    with torch.device("meta"):
        loaded = pc.load(tmp_path / "model.safetensors", residual())
    assert torch.equal(loaded(x), pc.pack(model)(x))


def test_slices_and_shallow_copies_of_a_fused_model_run():
    model, x = packed(), image()
    answer = model(x)
    assert torch.equal(model[4:](model[:4](x)), answer)
    shallow = copy.copy(model)
    assert torch.equal(shallow(x), answer)
    assert graph_forward(shallow) is None
    with layer_by_layer(model):
        twin = copy.deepcopy(model)
    assert torch.equal(twin(x), answer)
    assert runs(twin) == 0
    twin(x)
    assert runs(twin) == 1
