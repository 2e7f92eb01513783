"""Packed layers and operators on a GPU that this machine lacks: fake tensors, and kernels interpreted on the CPU."""

import copy
from contextlib import nullcontext
from unittest import mock

import pytest
import torch
from product_twins import drawn
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import proxconnect as pc
from proxconnect import kernels
from proxconnect.deploy.packed.layers import one_bit
from proxconnect.deploy.packed.packing import pack_layers
from proxconnect.gpu import availability
from proxconnect.gpu import operators as gpu
from proxconnect.kernels.bits import pack_bits
from proxconnect.kernels.operators import OPERATORS
from proxconnect.kernels.prepacked import _panels_by_torch, conv_panels, patch_panels

NAMES = "weight_only_linear", "binary_linear", "weight_only_conv2d", "binary_conv2d"
built = pytest.mark.skipif(not kernels.is_built(), reason="the kernels are not built")


class Attention(nn.Module):
    """A network with an in-projection, whose blocks of rows are multiplied one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x.flip(0), x.flip(1), need_weights=False)[0]


def packed(network: nn.Module, **options) -> nn.Module:
    return pack_layers(pc.binarize(network, keep=[], **options).eval())


def linear(**options) -> nn.Module:
    return packed(nn.Sequential(nn.Linear(130, 20)), **options)


def conv(*args, activations=None, **options) -> nn.Module:
    return packed(nn.Sequential(nn.Conv2d(5, 9, *args, **options)), activations=activations)


@pytest.fixture(autouse=True)
def no_guards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch without CUDA copy fake tensors on a GPU: this method looks for the device itself."""
    if torch.backends.cuda.is_built():
        return

    def copied(self: Tensor, memory_format: torch.memory_format = torch.contiguous_format) -> Tensor:
        is_so = self.is_contiguous(memory_format=memory_format)
        return self if is_so else self.clone(memory_format=memory_format)

    monkeypatch.setattr(Tensor, "contiguous", copied)


def on_gpu(model: nn.Module, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A copy of a model with fake tensors on a GPU; `to` would start CUDA."""
    moved = copy.deepcopy(model)
    with FakeTensorMode():
        for module in moved.modules():
            for tensors in (module._parameters, module._buffers):
                for name, t in tensors.items():
                    if t is not None:
                        made = torch.empty(t.shape, dtype=dtype if t.is_floating_point() else t.dtype, device="cuda")
                        tensors[name] = nn.Parameter(made, False) if tensors is module._parameters else made
            if isinstance(module, one_bit.KernelLayer):
                module.prepack()
    return moved


def input_of(model: nn.Module, *shape: int) -> Tensor:
    parameter = next(model.parameters())
    with parameter.fake_mode:
        return torch.empty(shape, dtype=parameter.dtype, device="cuda")


def runs_operators(model: nn.Module, input: Tensor) -> list[str]:
    """The operators of this package in the exported program of a model, which may ask for no entry of a tensor.

    Each must answer in the dtype of the model's input.
    """
    program = torch.export.export(model, (input,), strict=False)
    nodes = [node for node in program.graph.nodes if str(node.target).startswith("proxconnect.")]
    assert {node.meta["val"].dtype for node in nodes} <= {input.dtype}
    return [str(node.target).split(".")[1] for node in nodes]


def test_operators_have_an_implementation_for_cuda() -> None:
    for name in NAMES:
        assert torch._C._dispatch_has_kernel_for_dispatch_key(f"proxconnect::{name}", "CUDA")


@built
@pytest.mark.parametrize("shape", [(9, 70, 1, 1), (16, 64, 1, 1), (1, 1, 1, 1), (7, 5, 3, 2)], ids=str)
def test_a_device_prepacks_as_the_cpu_does(shape: tuple[int, ...]) -> None:
    bits = pack_bits(drawn(*shape))
    assert torch.equal(_panels_by_torch(bits, shape, 1), patch_panels(bits, shape))


@built
def test_a_device_prepacks_groups_as_the_cpu_does() -> None:
    bits = pack_bits(drawn(18, 70, 3, 1))
    assert torch.equal(_panels_by_torch(bits, (18, 70, 3, 1), 2), conv_panels(bits, (18, 70, 3, 1), 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("activations", [None, "poly"])
def test_packed_layers_on_a_gpu_call_the_operators(activations: str | None, dtype: torch.dtype) -> None:
    model = nn.Sequential(linear(activations=activations), nn.Unflatten(1, (5, 2, 2)), conv(1, activations=activations))
    moved = on_gpu(model, dtype)
    x = input_of(moved, 3, 130)
    assert runs_operators(moved, x) == [*(NAMES[1::2] if activations else NAMES[::2])]
    found = moved(x)
    assert (found.dtype, found.device.type, found.shape) == (dtype, "cuda", (3, 9, 2, 2))
    layers = [module for module in moved.modules() if isinstance(module, one_bit.KernelLayer)]
    assert [layer.prepacked.device.type for layer in layers] == ["cuda", "cuda"]


def test_compiled_layers_on_a_gpu_call_the_operators() -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]):
        graphs.append(graph)
        return graph.forward

    moved = on_gpu(linear())
    answer = torch.compile(moved, backend=backend, fullgraph=True)(input_of(moved, 3, 130))
    assert answer.shape == (3, 20)
    assert "proxconnect.weight_only_linear" in graphs[0].code


def test_without_triton_layers_on_a_gpu_unpack(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (availability, gpu):
        monkeypatch.setattr(module, "has_triton", lambda: False)
    availability.runs_on.cache_clear()
    with pytest.warns(UserWarning, match="triton is not installed"):
        moved = on_gpu(linear())
    assert moved[0].prepacked is None
    assert runs_operators(moved, input_of(moved, 3, 130)) == []
    with pytest.raises(RuntimeError, match="pip install"):
        gpu._require_triton()
    availability.runs_on.cache_clear()


@pytest.mark.parametrize("activations", [None, "poly"])
def test_a_convolution_in_groups_unpacks_on_a_gpu(activations: str | None) -> None:
    moved = on_gpu(packed(nn.Sequential(nn.Conv2d(6, 6, 3, groups=3)), activations=activations))
    assert runs_operators(moved, input_of(moved, 1, 6, 5, 5)) == []


@built
def test_to_a_gpu_and_back_computes_the_same() -> None:
    """Fake tensors have no values to move, so meta is the device between."""
    model, x = linear(), torch.randn(3, 130)
    before, prepacked = model(x), model[0].prepacked.clone()
    moved = copy.deepcopy(model).to("meta")
    assert moved[0].prepacked is None
    back = moved.to_empty(device="cpu")
    back.load_state_dict(model.state_dict())
    assert torch.equal(back[0].prepacked, prepacked)
    assert torch.equal(back(x), before)


@pytest.fixture
def by_interpreter(monkeypatch: pytest.MonkeyPatch):
    """Operators run as on a GPU, on tensors of the CPU, and note their names."""
    called = []

    def noted(name: str):
        def call(*args):
            called.append(name)
            return getattr(gpu, f"_{name}")(*args)

        return call

    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    for name in NAMES:
        monkeypatch.setitem(OPERATORS, name, noted(name))
    return called


@built
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (linear, (2, 3, 130)),
        (lambda: packed(nn.Sequential(nn.Linear(128, 20)), group_size=64), (3, 128)),
        (lambda: linear(activations="poly", accumulator=pc.Accumulator(4)), (3, 130)),
        (lambda: conv((3, 2), (2, 1), (1, 2), (1, 2), activations="poly"), (2, 5, 8, 7)),
        (lambda: conv((3, 2), (2, 1), (1, 2), (1, 2)), (2, 5, 8, 7)),
        (lambda: conv(3, padding="same", padding_mode="reflect"), (5, 8, 7)),
        (lambda: packed(nn.Sequential(nn.Conv1d(5, 9, 3, padding=1)), activations="poly"), (2, 5, 9)),
        (lambda: packed(Attention()), (2, 3, 16)),
    ],
    ids=["linear", "groups", "accumulator", "binary conv", "conv", "reflect", "conv1d", "attention"],
)
def test_packed_layers_give_the_same_by_kernels_for_gpus(make, shape: tuple[int, ...], by_interpreter) -> None:
    model, x = make(), torch.randn(shape)
    found = model(x)
    assert by_interpreter
    with mock.patch.object(one_bit.KernelLayer, "kernels_can", return_value=False):
        expected = model(x)
    torch.testing.assert_close(found, expected)
    assert found.stride() == expected.stride()


def called_wrong(**changes):
    """Call an operator for GPUs on 3 rows of 70 columns and 9 outputs, with some arguments changed."""
    arguments = {
        "input": torch.randn(3, 70), "panels": _panels_by_torch(pack_bits(drawn(9, 70)), (9, 70, 1, 1), 1),
        "out_features": 9, "scale": None, "bias": None, "instruction_set": None,
    }  # fmt: skip
    return gpu._weight_only_linear(**(arguments | changes))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"input": torch.ones(3, 70, dtype=torch.float64)}, TypeError, "float32, float16 or bfloat16"),
        ({"input": torch.ones(3, 0)}, ValueError, "must have entries"),
        ({"input": torch.ones(3, 129)}, ValueError, r"\(9, 129\) are \(2, 3, 8\)"),
        ({"out_features": 17}, ValueError, "make them by proxconnect.kernels.panels"),
        ({"panels": torch.zeros(2, 2, 8)}, TypeError, "contiguous int64"),
        ({"scale": torch.ones(8)}, ValueError, "scale must have 1 or 9 entries"),
        ({"scale": torch.ones(1, 2, 32)}, ValueError, "multiples of 64"),
        ({"scale": torch.ones(9, dtype=torch.int64)}, TypeError, "scale must be float32"),
        ({"bias": torch.ones(1)}, ValueError, "bias must have 9 entries"),
        ({"bias": torch.ones(9, device="meta")}, TypeError, "bias must be on cpu"),
        ({"instruction_set": "avx2"}, ValueError, "pass None on a GPU"),
    ],
)
def test_wrong_arguments_are_refused(changes, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        called_wrong(**changes)


def test_convolutions_in_groups_are_refused() -> None:
    image, panels = torch.ones(1, 4, 3, 3), torch.zeros(2, 1, 8, dtype=torch.int64)
    how = (panels, [2, 2, 1, 1], [1, 1], [0, 0], [1, 1], 2, None, None, None)
    with pytest.raises(ValueError, match="have one group; got 2"):
        gpu._weight_only_conv2d(image, *how)


def test_a_scale_of_any_shape_with_an_entry_an_output_multiplies(by_interpreter) -> None:
    weight = torch.randn(9, 65)
    made = kernels.panels(pack_bits(weight), 9, 65)
    x, scale = torch.randn(3, 65), torch.rand(9)
    found = gpu._weight_only_linear(x, made, 9, scale.reshape(9, 1, 1), None, None)
    torch.testing.assert_close(found, x @ weight.sign().T * scale)
