"""Faults that are planted in a packed model or in its graph: the proof finds each one and says where it is."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from nets import Block, binary, folds_norms
from torch import Tensor, nn
from torch.nn import functional

import proxconnect as pc
from proxconnect.deploy.fusion import binary_products, passes, remainder, segments, steps
from proxconnect.deploy.fusion import graph_forward as running
from proxconnect.deploy.fusion.binary_products import output_bits
from proxconnect.deploy.fusion.graph_modules import graph_forward
from proxconnect.deploy.fusion.proof import Proof, prove
from proxconnect.deploy.fusion.remainder import FloatConv, ImageNorm
from proxconnect.deploy.fusion.steps import norm_affine
from proxconnect.deploy.packed.layers.int8 import Int8Layer
from proxconnect.kernels.library import has_vectors
from proxconnect.kernels.steps import Affine, Clamp, Slope
from proxconnect.layers.react import Shift

pytestmark = [pytest.mark.skipif(not pc.kernels.is_built(), reason="the kernels were not built"), folds_norms]

Plant = Callable[[Callable[..., None]], Any]
"""Takes `monkeypatch.setattr` and gives a packed model that is wrong."""


class Net(nn.Module):
    """Images, then rows, with every kind of fused operation that this machine has."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm, self.stem_act = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.PReLU(16)
        self.pool = nn.MaxPool2d(2)
        self.a, self.a_norm, self.a_act = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.PReLU(16)
        self.b, self.b_norm = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.c, self.c_act = nn.Conv2d(16, 24, (3, 2), stride=(1, 2), padding=(1, 0)), nn.Hardtanh()
        self.mean, self.skip, self.skip_norm = nn.AvgPool2d(2), nn.Conv2d(16, 24, 1), nn.BatchNorm2d(24)
        self.mixed, self.mixed_norm = nn.Conv2d(24, 24, 3), nn.BatchNorm2d(24)
        self.drop, self.up, self.act, self.down = nn.Dropout(), nn.Linear(24, 40), nn.GELU(), nn.Linear(40, 24)
        self.row_norm = nn.LayerNorm(24)
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.pool(self.stem_act(self.stem_norm(self.stem(x))))
        y = self.a_act(self.a_norm(self.a(x)) + x)
        z = functional.relu(self.mixed_norm(self.mixed(self.skip_norm(self.skip(self.mean(y))))))
        x = self.c_act(self.c(self.b_norm(self.b(y))))
        rows = self.drop(x.mean((-2, -1))) + z.mean((-2, -1))
        return self.head(rows), rows + self.down(self.act(self.up(self.row_norm(rows))))


class Centred(nn.Module):
    """No image of its batch is apart from the others."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return self.b(x - x.mean(0, keepdim=True))


KEPT = {Net: ("stem", "skip", "mixed", "head"), Centred: ()}


@cache
def hard(net: type[nn.Module] = Net) -> Any:
    """A binary network with learned shifts, a border of +1 and accumulators that wrap."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = binary(net(), keep=KEPT[net], accumulator=pc.Accumulator(bits=5, overflow="wrap"))
        if net is Net:
            model.b.set_padding_value(1)
            model.c.latent.mul_(8)  # so that its activation clamps
            for layer in (model.a, model.c):
                layer.input_shift = Shift(16, -3)
                nn.init.normal_(layer.input_shift.shift)
    return model.eval().requires_grad_(False)


def image(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 18, 18, generator=torch.Generator().manual_seed(1))


def packed(**options: Any) -> Any:
    return pc.pack(hard(), **options)


def nodes_of(model: nn.Module) -> list[Any]:
    fused: Any = graph_forward(model)
    return [*fused.work.graph.nodes]


def node_of(model: Any, layer: str) -> Any:
    """The node of the fused graph that computes a module."""
    module = model.get_submodule(layer)

    def computes(operation: Any) -> bool:
        modules = [getattr(operation, "layer", None), *(step.module for step in getattr(operation, "steps", ()))]
        return any(one is module for one in modules)

    if isinstance(module, Int8Layer) and "avx2" not in pc.kernels.instruction_sets():
        pytest.skip("8-bit layers have no fast kernels here")
    if isinstance(module, nn.LayerNorm) and not has_vectors():
        pytest.skip("layer norms have no fast kernels here")
    return next(node for node in nodes_of(model) if computes(node.target))


def answers(layer: str, change: Callable[..., Any], **options: Any) -> Any:
    """What the kernel of a layer answers is changed."""
    model = packed(**options)
    operation = node_of(model, layer).target
    kernel = operation.kernel
    operation.kernel = lambda *args, **kwargs: change(kernel(*args, **kwargs))
    return model


def reads(layer: str, change: Callable[..., Any], **options: Any) -> Any:
    """What the kernel of a layer reads is changed."""
    model = packed(**options)
    operation = node_of(model, layer).target
    kernel = operation.kernel
    operation.kernel = lambda *args, **kwargs: kernel(*change(*args), **kwargs)
    return model


def made_of(layer: str, place: int, change: Callable[[Any], Any], **options: Any) -> Any:
    """A kernel is made of something else, the argument at a place."""
    model = packed(**options)
    operation = node_of(model, layer).target
    arguments = [*operation.kernel._made_of]
    arguments[place] = change(arguments[place])
    operation.kernel = type(operation.kernel)(*arguments)
    return model


def holds(change: Callable[[Any], Any], **options: Any) -> Any:
    """A buffer of the packed model is changed."""
    model = packed(**options)
    change(model)
    return model


def patched(patch: Callable[..., None], owner: Any, name: str, value: Any, **options: Any) -> Any:
    """A function of the library is wrong while the model is packed."""
    patch(owner, name, value)
    return packed(**options)


def reads_other(layer: str, place: int, other: str) -> Any:
    """An operation reads the output of another one."""
    model = packed()
    node_of(model, layer).update_arg(place, next(node for node in nodes_of(model) if node.name == other))
    return model


def in_parts(patch: Callable[..., None], net: type[nn.Module], **faults: Any) -> Any:
    """Batches run image by image, with functions of `graph_forward.py` and `segments` in the place of their own."""
    patch("proxconnect.deploy.fusion.images._BYTES", 1)
    for name, value in faults.items():
        for module in (running, segments):
            if hasattr(module, name):
                patch(module, name, value)
    return pc.pack(hard(net))


def fast(patch: Callable[..., None], call: Callable[..., Tensor]) -> Any:
    """Float convolutions by a kernel, on whatever machine."""
    patch(remainder, "can_convolve_floats", lambda *_: True)
    patch(remainder, "FusedFloatConv2d", lambda *_, **__: None)
    patch(FloatConv, "__call__", call)
    return packed(floats="fast")


def without_the_last_digit(self: FloatConv, input: Tensor, *others: Tensor) -> Tensor:
    coarse = copy.copy(self)
    coarse.layer = copy.deepcopy(self.layer)
    coarse.layer.weight.copy_(self.layer.weight.bfloat16())
    return coarse.by_layers(input, *others)


def of_unshifted_mean(norm: nn.Module) -> Affine | None:
    step = norm_affine(norm)  # type: ignore[arg-type]  # it is a batch norm
    return step and Affine(step.a, torch.zeros_like(step.b))


def flip_one_bit(model: Any) -> None:
    model.a.bits[5] ^= 8
    model.a.prepacked = None


def intervals(change: Callable[[Any], Any]) -> Any:
    """The sums of `b` whose sign is +1 are others."""
    return made_of("b", 10, change)


def with_low(signs: Any, low: Tensor) -> Any:
    return type(signs)(low.to(torch.int32), signs.width, signs.flip)


THIRD = (torch.arange(16) == 3)[:, None, None]
SWAPPED = [1, 0, *range(2, 16)]
FAULTS: dict[str, tuple[str, Plant]] = {
    "a wrong scale": ("a, a_norm, add, a_act", lambda _: answers("a", lambda y: y * 1.001)),
    "a wrong scale of one channel": ("a, a_norm", lambda _: answers("a", lambda y: torch.where(THIRD, y * 1.01, y))),
    "swapped channels": ("a, a_norm", lambda _: answers("a", lambda y: y[:, SWAPPED])),
    "a pixel that is left out": ("a, a_norm", lambda _: answers("a", lambda y: y.index_fill(3, torch.tensor(0), 0))),
    "the last step dropped": ("a, a_norm", lambda _: made_of("a", 10, lambda then: then[:-1])),
    "a clamp dropped": ("c, c_act", lambda _: made_of("c", 10, lambda then: then[:-1])),
    "a clamp at another value": ("c, c_act", lambda _: made_of("c", 10, lambda _: (Clamp(-1.0, 1.001),))),
    "an addition dropped": ("a, a_norm", lambda _: reads("a", lambda x, y: (x, torch.zeros_like(y)))),
    "steps in another order": ("a, a_norm", lambda _: made_of("a", 10, lambda then: (*then[1:], then[0]))),
    "a slope without its sign": (
        "a, a_norm", lambda _: made_of("a", 10, lambda then: (*then[:-1], Slope(-then[-1].a))),
    ),
    "a scale without its bias": ("a, a_norm", lambda _: made_of("a", 8, torch.zeros_like)),
    "a residual from another node": ("down, add", lambda _: reads_other("down", 1, "fused_mean_1")),
    "an input from another node": ("b, b_norm", lambda _: reads_other("b", 0, "with_channels_last")),
    "a wrong addend": ("a, a_norm", lambda _: reads("a", lambda x, y: (x, y.flip(0)))),
    "a wrong border": ("b, b_norm", lambda _: made_of("b", 6, lambda value: -value)),
    "no border": ("a, a_norm", lambda _: made_of("a", 6, lambda value: 1)),
    "a lost shift": ("a, a_norm", lambda _: made_of("a", 12, lambda _: None)),
    "a shift of the layer behind lost": (
        "b, b_norm, c.shifted", lambda patch: patched(patch, binary_products, "output_bits", without_shift),
    ),
    "an interval that begins later by one": ("b, b_norm", lambda _: intervals(lambda s: with_low(s, s.low + 1))),
    "one interval that begins later": (
        "b, b_norm", lambda _: intervals(lambda s: with_low(s, s.low + 2 * (torch.arange(16) == 3))),
    ),
    "a flipped interval": ("b, b_norm", lambda _: intervals(lambda s: type(s)(s.low, s.width, ~s.flip))),
    "a wrong accumulator": ("a, a_norm", lambda _: made_of("a", 9, lambda _: pc.Accumulator(6, overflow="wrap"))),
    "an accumulator that saturates": ("c, c_act", lambda _: made_of("c", 9, lambda _: pc.Accumulator(5, "saturate"))),
    "rows and columns exchanged": ("a, a_norm", lambda _: reads("a", lambda x, y: (x.mT, y))),
    "a wrong stride": ("c, c_act", lambda _: made_of("c", 3, lambda padding: (0, 0))),
    "a norm folded without its mean": (
        "stem_norm", lambda patch: patched(patch, steps, "norm_affine", of_unshifted_mean),
    ),
    "a pool before instead of behind": (
        "stem_norm, stem_act, pool",
        lambda patch: patched(patch, ImageNorm, "__call__", lambda self, x: pool_first(self, x)),
    ),
    "a pool of the mean": (
        "stem_norm, stem_act, pool",
        lambda patch: patched(patch, ImageNorm, "__call__", lambda self, x: mean_pool(self, x)),
    ),
    "an activation left out as nothing": (
        "act", lambda patch: patched(patch, passes, "is_identity", lambda m: isinstance(m, nn.Dropout | nn.GELU)),
    ),
    "an input written into that others read": (
        "b, b_norm", lambda _: overwritten("b"),
    ),
    "a batch whose parts change places": ("the parts of the batch", lambda patch: in_parts(
        patch, Centred, are_apart=lambda *_: True, in_parts=lambda run, x: torch.cat([run(x[1:]), run(x[:1])]),
    )),
    "a batch in parts whose images know each other": (
        "mean", lambda patch: in_parts(patch, Centred, are_apart=lambda *_: True),
    ),
    "a digit of a fast convolution lost": ("stem", lambda patch: fast(patch, without_the_last_digit)),
    "a fast layer norm with another weight": (
        "layers row_norm", lambda _: made_of("row_norm", 1, lambda weight: weight * 1.001, floats="fast"),
    ),
    "a mean of images that leaves out a row": (
        "layers mean_1", lambda _: with_kernel("fused_mean_1", lambda kernel: lambda x: x[..., 1:, :].mean((-2, -1))),
    ),
    "8-bit weights of one output": (
        "layer 'stem' in 8 bits", lambda _: holds(lambda m: m.stem.levels[3].neg_(), remainder="int8"),
    ),
    "8-bit panels that are not those of the weight": (
        "mixed, mixed_norm", lambda _: made_of("mixed", 0, lambda panels: panels.roll(1, 0), remainder="int8"),
    ),
    "an 8-bit layer without its bias": ("layers head", lambda _: made_of("head", 4, lambda _: None, remainder="int8")),
    "8-bit rounding by another step": (
        "skip", lambda _: reads("skip", lambda x: (x * 1.02,), remainder="int8"),
    ),
    "a mean before an 8-bit layer dropped": (
        "mean, skip", lambda _: reads("skip", lambda x: (x[..., ::2, ::2].repeat_interleave(2, -1)
                                                         .repeat_interleave(2, -2),), remainder="int8"),
    ),
    "one wrong bit of a weight": ("layer 'a'", lambda _: holds(flip_one_bit)),
    "the last bit of a scale": ("layer 'up'", lambda _: holds(lambda m: m.up.scale.copy_(next_of(m.up.scale)))),
    "a bias of a packed layer lost": ("layer 'down'", lambda _: holds(lambda m: m.down.bias.zero_())),
    "a border of a packed layer": ("layer 'b'", lambda _: holds(other_border)),
    "a bias of a float layer lost": ("bias of head", lambda _: holds(lambda m: m.head.bias.zero_())),
    "a norm with another variance": ("running_var of a_norm", lambda _: holds(lambda m: m.a_norm.running_var.add_(1))),
    "rows by another scale": ("down, add", lambda _: answers("down", lambda y: y * 1.001)),
    "a residual of rows lost": ("down, add", lambda _: reads("down", lambda x, y: (x, torch.zeros_like(y)))),
    "outputs in another order": ("output", lambda _: turned_output()),
}  # fmt: skip


def with_kernel(name: str, change: Callable[..., Any]) -> Any:
    model = packed()
    operation = next(node.target for node in nodes_of(model) if node.name == name)
    operation.kernel = change(operation.kernel)
    return model


def next_of(values: Tensor) -> Tensor:
    return torch.nextafter(values, torch.tensor(torch.inf))


def pool_first(self: Any, x: Tensor) -> Tensor:
    return steps.run(self.steps, self.pool(x), ())


def mean_pool(self: Any, x: Tensor) -> Tensor:
    return functional.avg_pool2d(steps.run(self.steps, x, ()), 2)


def other_border(model: Any) -> None:
    model.b._spec = replace(model.b._spec, padding_value=-1)


def overwritten(layer: str) -> Any:
    model = packed()
    operation = node_of(model, layer).target
    kernel = operation.kernel

    def overwriting(x: Tensor, *others: Tensor) -> Tensor:
        answer = kernel(x, *others)
        x.zero_()
        return answer

    operation.kernel = overwriting
    return model


def without_shift(layer: Any, chain: list[Any]) -> Any:
    return output_bits(layer, [step for step in chain if not isinstance(step.module, Shift)])


def turned_output() -> Any:
    model = packed()
    *_, output = nodes_of(model)
    output.args = (output.args[0][::-1],)
    return model


def test_the_right_model_is_proved() -> None:
    for options in ({}, {"remainder": "int8"}, {"vectors": "float16"}):
        proof: Any = prove(hard(), packed(**options), image())
        assert isinstance(proof, Proof)
        assert proof.operations > 6
        assert proof.operations_gap < 1e-5


@pytest.mark.parametrize("fault", FAULTS)
def test_the_proof_finds(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, plant = FAULTS[fault]
    model = plant(monkeypatch.setattr)
    with pytest.raises(pc.ProofError) as caught:
        prove(hard(Centred) if isinstance(model, Centred) else hard(), model, image())
    assert where in str(caught.value)


class Parts(nn.Module):
    """No graph as a whole, for it decides by values, but its blocks are."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, 16, 3), nn.ModuleList([Block(16, nn.PReLU()), Block(16, nn.PReLU())])

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks if x.sum() > -torch.inf else ():
            x = block(x)
        return x


def test_the_proof_says_in_which_part_a_fault_is() -> None:
    model: Any = binary(Parts(), keep=("stem",))
    small: Any = pc.pack(model, example=image())
    assert small.packing.proof.operations == 2
    found = node_of(small.blocks[1], "conv").target
    kernel = found.kernel
    found.kernel = lambda *args: kernel(*args) * 1.001
    with pytest.raises(pc.ProofError, match=r"in the graph of blocks\.1, the fused operation of the layers conv, "):
        prove(model, small, image())
