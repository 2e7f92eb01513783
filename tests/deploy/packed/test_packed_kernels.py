"""Packed layers on the kernels: when they are used, that they follow changed bits, and what runs without them."""

import copy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._inductor import metrics
from torch.nn.functional import gelu, relu

import proxconnect as pc
from proxconnect import kernels
from proxconnect.deploy.fusion import layer_by_layer
from proxconnect.deploy.packed import pack_layers
from proxconnect.deploy.packed.layers.one_bit import KernelLayer, warn_unless_built
from proxconnect.inspection.machine import Machine
from proxconnect.kernels import library

built = pytest.mark.skipif(not kernels.is_built(), reason="the kernels were not built")


class Net(nn.Module):
    """A convolution, a line, a projection and a dense layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3)
        self.image = nn.Conv2d(12, 16, 3, padding=1)
        self.line = nn.Conv1d(16, 16, 3, padding=1, padding_mode="circular")
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.dense = nn.Linear(16, 9)
        self.head = nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.line(self.image(self.stem(x)).flatten(2)).transpose(1, 2)
        x = self.attention(x, x, x, need_weights=False)[0]
        return self.head(self.dense(x.mean(1)))


def binary(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    model = pc.binarize(Net(), activations="bnn", **options)
    return model.eval().requires_grad_(False)


@pytest.fixture
def image() -> Tensor:
    return torch.randn(2, 3, 8, 8)


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installation without the kernels."""
    monkeypatch.setattr(library, "library", lambda: None)
    cached = warn_unless_built, library.instruction_sets
    for function in cached:
        function.cache_clear()
    yield
    for function in cached:
        function.cache_clear()


def kernel_layers(model: nn.Module) -> dict[str, KernelLayer]:
    return {name: layer for name, layer in model.named_modules() if isinstance(layer, KernelLayer)}


@built
@pytest.mark.parametrize("accumulator", [None, pc.Accumulator(5, "wrap"), pc.Accumulator(5, "saturate")])
def test_the_kernels_compute_the_layers(image: Tensor, accumulator: pc.Accumulator | None) -> None:
    model = binary(accumulator=accumulator)
    packed = pack_layers(model)
    layers = kernel_layers(packed)
    assert len(layers) == 5
    assert all(layer.prepacked is not None for layer in layers.values())
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        answer = packed(image)
    calls = {event.key: event.count for event in profile.key_averages()}
    assert calls["proxconnect::binary_conv2d"] == 2
    assert calls["proxconnect::binary_linear"] == 3
    assert torch.equal(answer, model(image))


def test_without_the_kernels_torch_computes_the_same(image: Tensor, no_kernels: None) -> None:
    model = binary()
    with pytest.warns(
        UserWarning, match=r"without its kernels: .* the right answers .* C\+\+17 .*pip install"
    ) as warned:
        packed = pc.pack(model)
    assert warned[0].filename == __file__
    assert "WITHOUT ITS KERNELS" in str(packed.packing)
    assert "pip install --force-reinstall" in str(packed.packing)
    numbers = pc.summary(packed)
    assert numbers.kernels == "not built"
    assert "kernels        NOT BUILT: packed layers give the right answers with torch" in str(numbers)
    assert "KERNELS NOT BUILT" in str(Machine.here())
    assert all(layer.prepacked is None for layer in kernel_layers(packed).values())
    assert torch.equal(packed(image), model(image))


@pytest.mark.filterwarnings("error:.*without its kernels")
def test_it_says_so_once(no_kernels: None) -> None:
    with pytest.warns(UserWarning, match="without its kernels"):
        pc.pack(binary())
    pc.pack(binary())


@pytest.mark.filterwarnings("error:.*without its kernels")
def test_it_says_nothing_where_no_kernels_can_be(no_kernels: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxconnect.deploy.packed.layers.one_bit.IS_SUPPORTED", False)
    pc.pack(binary())


@built
def test_a_summary_names_the_instruction_set() -> None:
    best = kernels.instruction_sets()[-1]
    assert f"kernels        {best}\n" in f"{pc.summary(pc.pack(binary()))}\n"
    assert pc.summary(binary()).kernels is None


@built
def test_the_panels_follow_the_bits(image: Tensor) -> None:
    model = binary()
    torch.manual_seed(1)
    other = binary().requires_grad_(False)
    for parameter in other.parameters():
        parameter.copy_(torch.randn_like(parameter))
    first, second = pc.pack(model), pc.pack(other)
    assert not any("panels" in key for key in first.state_dict())
    first.load_state_dict(second.state_dict(), strict=True)
    assert torch.equal(first(image), other(image))
    first.load_state_dict(pc.pack(model).state_dict(), strict=True, assign=True)
    assert torch.equal(first(image), model(image))
    assert torch.equal(copy.deepcopy(first)(image), model(image))


@built
def test_the_panels_follow_bits_that_change_in_place_or_for_a_call(image: Tensor) -> None:
    packed = pc.pack(binary())
    before, unpacked = packed(image), copy.deepcopy(packed)
    packed.dense.bits ^= 255
    packed.image.bits.bitwise_xor_(255)
    for name, layer in kernel_layers(unpacked).items():
        layer.bits = packed.get_submodule(name).bits.clone()
        layer.prepacked = None  # by torch
    assert not torch.equal(packed(image), before)
    assert torch.equal(packed(image), unpacked(image))
    original = pc.pack(binary())
    swapped = {name: buffer for name, buffer in packed.named_buffers() if name.endswith("bits")}
    assert torch.equal(torch.func.functional_call(original, swapped, (image,)), packed(image))
    assert torch.equal(original(image), before)


@built
def test_packed_in_inference_mode_they_need_no_version(image: Tensor) -> None:
    with torch.inference_mode():
        packed = pc.pack(binary())
    assert torch.equal(packed(image), pc.pack(binary())(image))


@built
def test_a_device_without_kernels_computes_by_torch(image: Tensor) -> None:
    packed = pc.pack(binary())
    elsewhere = copy.deepcopy(packed).to("meta")
    assert all(layer.prepacked is None for layer in kernel_layers(elsewhere).values())
    assert elsewhere(image.to("meta")).shape == (2, 5)
    back = elsewhere.to_empty(device="cpu")
    back.load_state_dict(packed.state_dict())
    assert torch.equal(back(image), packed(image))


def test_load_moves_the_model_to_a_device_where_it_runs_by_layers(image: Tensor, tmp_path: Path) -> None:
    pc.save(pc.pack(binary()), tmp_path / "net.safetensors")
    elsewhere = pc.load(tmp_path / "net.safetensors", Net(), device="meta")
    assert {tensor.device.type for tensor in elsewhere.state_dict().values()} == {"meta"}
    assert str(elsewhere.packing).startswith("layer by layer")
    assert elsewhere(image.to("meta")).shape == (2, 5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_on_cuda_they_compute_the_same_and_back(image: Tensor, dtype: torch.dtype) -> None:
    packed = pc.pack(binary())
    moved = copy.deepcopy(packed).to("cuda", dtype)
    expected = packed.to(dtype)(image.to(dtype))
    torch.testing.assert_close(moved(image.to("cuda", dtype)).cpu(), expected)
    assert torch.equal(moved.cpu()(image.to(dtype)), expected)


@built
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes(image: Tensor, dtype: torch.dtype) -> None:
    model = binary().to(dtype)
    assert torch.equal(pc.pack(model)(image.to(dtype)), model(image.to(dtype)))


@built
def test_a_gradient_takes_the_way_of_torch(image: Tensor) -> None:
    packed = pc.pack(binary())
    packed.dense.bias.requires_grad_(True)
    packed(image).sum().backward()
    assert packed.dense.bias.grad is not None


@built
def test_the_memory_format_stays_that_of_the_input(image: Tensor) -> None:
    layer = pc.pack(nn.Sequential(pc.BinaryConv2d(3, 8, 3, activations="bnn"))).to(memory_format=torch.channels_last)
    last = image.contiguous(memory_format=torch.channels_last)
    assert layer(image).is_contiguous()
    assert layer(last).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(layer(last), layer(image))


@built
@pytest.mark.parametrize("padding_value", [0, 1, -1])
@pytest.mark.parametrize(
    "options",
    [
        {"padding": "same", "kernel_size": 3},
        {"padding": "same", "kernel_size": (2, 4)},
        {"padding": (2, 1), "kernel_size": (5, 3), "dilation": (1, 2), "stride": (2, 1)},
        {"padding": "valid", "kernel_size": 1, "groups": 3},
    ],
)
def test_paddings(image: Tensor, options: dict[str, Any], padding_value: int) -> None:
    layer = (
        pc.BinaryConv2d(3, 6, activations="bnn", padding_value=padding_value, **options).eval().requires_grad_(False)
    )
    packed = pc.pack(nn.Sequential(layer))
    assert torch.equal(packed(image), layer(image))
    assert torch.equal(packed(image)[0], packed[0](image[0]))  # without a batch


def test_it_compiles_without_graph_breaks(image: Tensor) -> None:
    packed = pc.pack(binary())
    compiled = torch.compile(packed, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(image), packed(image))


class Block(nn.Module):
    """Two convolutions, each followed by batch norm, a shortcut and an activation function."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(16, 16, 3, padding=1) for _ in range(2))
        self.norm, self.last_norm = nn.BatchNorm2d(16), nn.BatchNorm2d(16)

    def forward(self, x: Tensor) -> Tensor:
        x = gelu(self.norm(self.first(x)) + x)
        return relu(self.last_norm(self.second(x)) + x)


@pytest.mark.parametrize(
    "device",
    [
        pytest.param("cpu", marks=pytest.mark.thorough),
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
            ],
        ),
    ],
)
def test_a_compiler_makes_one_kernel_of_all_that_follows_a_product(device: str) -> None:
    """So kernels of GPUs need no activation functions in their own epilogues."""
    torch._dynamo.reset()
    packed = pc.pack(pc.binarize(Block(), keep=None).eval()).to(device)
    x = torch.randn(2, 16, 8, 8, device=device).to(memory_format=torch.channels_last)
    metrics.reset()
    with torch.no_grad(), torch._inductor.config.patch(force_disable_caches=True):
        torch.testing.assert_close(torch.compile(packed, fullgraph=True)(x), packed(x))
    assert metrics.generated_kernel_count == 2


def test_an_exported_program_runs_in_a_fresh_process(image: Tensor, tmp_path: Path) -> None:
    packed = pc.pack(binary())
    torch.export.save(torch.export.export(packed, (image,)), tmp_path / "net.pt2")
    torch.save({"image": image, "answer": packed(image)}, tmp_path / "example.pt")
    code = """
import sys, torch, proxconnect
program = torch.export.load(sys.argv[1] + "/net.pt2").module()
example = torch.load(sys.argv[1] + "/example.pt")
assert torch.equal(program(example["image"]), example["answer"])
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=300)


class Floats(nn.Module):
    """Layers with float inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Conv2d(32, 64, 3, padding=1, groups=2)
        self.line = nn.Conv1d(64, 48, 3, padding=1, padding_mode="reflect")
        self.attention = nn.MultiheadAttention(48, 2, batch_first=True)
        self.dense = nn.Linear(48, 9)

    def forward(self, x: Tensor) -> Tensor:
        x = self.line(self.image(x).flatten(2)).transpose(1, 2)
        return self.dense(self.attention(x, x, 0.5 * x, need_weights=False)[0].mean(1))


@built
def test_float_inputs_are_exact_or_rounded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = pc.binarize(Floats(), keep=None).eval().requires_grad_(False)
    x = torch.randn(2, 32, 8, 8)
    exact, rounded = pc.pack(model), pc.pack(model, inputs="int8")
    torch.testing.assert_close(exact(x), model(x))
    assert all(layer.prepacked is not None for layer in kernel_layers(exact).values())
    assert not torch.allclose(rounded(x), model(x))
    torch.testing.assert_close(rounded(x), model(x), rtol=0.1, atol=0.05)
    pc.save(rounded, tmp_path / "net")
    assert torch.equal(pc.load(tmp_path / "net", Floats())(x), exact(x))
    assert torch.equal(pc.load(tmp_path / "net", Floats(), inputs="int8")(x), rounded(x))
    assert torch.equal(copy.deepcopy(rounded)(x), rounded(x))
    assert torch.equal(torch.compile(rounded, fullgraph=True, backend="aot_eager")(x), rounded(x))


@built
def test_few_floats_go_by_torch() -> None:
    depthwise = pc.BinaryConv2d(64, 64, 3, groups=64).eval().requires_grad_(False)
    packed, x = pc.pack(nn.Sequential(depthwise)), torch.randn(2, 64, 8, 8)
    assert kernel_layers(packed)["0"].prepacked is None
    with layer_by_layer(packed):
        assert torch.equal(packed(x), depthwise(x))


@built
def test_a_rounded_layer_keeps_its_bound() -> None:
    layer = pc.BinaryLinear(300, 7, bias=False).eval().requires_grad_(False)
    x = torch.randn(5, 300)
    error = (pc.pack(nn.Sequential(layer), inputs="int8")(x) - layer(x)).abs()
    bound = layer.binary_weight.abs()[:, 0] * 300 * x.abs().amax(1, keepdim=True) / 127 / 2
    assert bool((error <= bound).all())


def test_other_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="inputs must be 'exact' or 'int8'"):
        pc.pack(binary(), inputs="int4")  # type: ignore[arg-type]  # as a user may


@built
def test_under_autocast_float_inputs_go_by_torch() -> None:
    packed = pc.pack(nn.Sequential(pc.BinaryLinear(8, 4)))
    with torch.autocast("cpu", torch.bfloat16):
        assert packed(torch.randn(2, 8)).dtype == torch.bfloat16


@built
@pytest.mark.parametrize("activations", [None, "bnn"])
@pytest.mark.parametrize("shape", [(2, 9), (2, 11), (2, 70), (2, 0), ()])
def test_an_input_of_another_size_is_refused(activations: Any, shape: tuple[int, ...]) -> None:
    packed = pc.pack(pc.binarize(nn.Linear(10, 4), activations=activations, keep=None)).requires_grad_(False)
    with pytest.raises(ValueError, match=r"input must be \(…, 10\)"):
        packed(torch.zeros(shape))


@built
def test_an_attended_input_of_another_size_is_refused() -> None:
    attention = nn.MultiheadAttention(16, 2, batch_first=True)
    packed = pc.pack(pc.binarize(attention, keep=None)).eval().requires_grad_(False)
    with pytest.raises(ValueError, match=r"input must be \(…, 16\)"):
        packed(torch.zeros(1, 3, 16), torch.zeros(1, 5, 19), torch.zeros(1, 5, 19))


@built
def test_derivatives_forwards_are_those_of_the_weight() -> None:
    packed = pc.pack(pc.binarize(nn.Linear(10, 4), keep=None)).requires_grad_(False)
    x = torch.randn(10)
    assert torch.allclose(torch.func.jacfwd(packed)(x), packed.weight)
    assert torch.allclose(torch.func.jacrev(packed)(x), packed.weight)


@built
@pytest.mark.parametrize("activations", [None, "bnn"])
def test_images_that_are_cut_or_turned_come_out_in_order(activations: Any) -> None:
    float_conv = nn.Conv2d(32, 32, 3)
    packed = pc.pack(pc.binarize(float_conv, activations=activations, keep=None)).requires_grad_(False)
    whole = torch.randn(2, 32, 8, 9)
    for image in (whole[..., 1:], whole[:, :, ::2], whole.transpose(2, 3), whole[:, :1].expand(2, 32, 8, 9)):
        output = packed(image)
        assert output.is_contiguous()
        assert float_conv(image).is_contiguous()
        assert torch.allclose(output, packed(image.contiguous()), atol=1e-5)
    assert packed(whole.to(memory_format=torch.channels_last)).is_contiguous(memory_format=torch.channels_last)
