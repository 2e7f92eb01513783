"""A training step never waits for its device: nothing of it brings the value of a tensor to Python.

Counted on the CPU, in a dispatch mode, where the quantizer computes by torch.
`tests/gpu/test_gpu_quantizer_paths.py` counts for the kernels of GPUs.
"""

from collections import Counter
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import TorchDispatchMode

import proxconnect as pc
from stacks.nets import batches

WAITING = {
    "aten::_local_scalar_dense", "aten::equal", "aten::is_nonzero", "aten::masked_select", "aten::nonzero",
    "aten::unique_dim", "aten::_unique2", "aten::repeat_interleave",
}  # fmt: skip
READING = {f"torch.Tensor.{name}" for name in ("tolist", "numpy", "cpu", "__array__")}


class Waits(TorchDispatchMode):
    """Counts the operations that a GPU would have to finish before Python goes on, by name."""

    def __init__(self):
        super().__init__()
        self.counts, self._reads = Counter(), Reads()
        self._reads.counts = self.counts

    def __enter__(self):
        self._reads.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self._reads.__exit__(*error)

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation._schema.name
        by_mask = name in ("aten::index", "aten::index_put_") and any(
            index is not None and index.dtype is torch.bool for index in args[1]
        )
        self.counts[name] += name in WAITING or by_mask
        return operation(*args, **(kwargs or {}))


class Reads(TorchFunctionMode):
    """Counts what copies a tensor to the memory of the processor, which no dispatched operation shows."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = resolve_name(function)
        to_cpu = name == "torch.Tensor.to" and args[1] == "cpu"
        self.counts[name] += name in READING or to_cpu
        return function(*args, **(kwargs or {}))


def net(weights="bnn++", **options):
    layers = (
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8), nn.Flatten(), nn.LazyLinear(16), nn.LazyLinear(3),
    )  # fmt: skip
    model = nn.Sequential(*layers)
    [(images, _)] = batches(1)
    model(images)
    return pc.binarize(model, weights, **options)


def waits_of_a_step(model, attach=lambda optimizer, model: None, optimizer=None):
    """What the third step waits for; the first ones look whether the signs of binary inputs vary."""
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    kept = attach(optimizer, model)
    for images, labels in batches(2):
        step(model, optimizer, images, labels)
    [(images, labels)] = batches(1)
    with Waits() as waits:
        step(model, optimizer, images, labels)
    del kept
    return +waits.counts


def step(model, optimizer, images, labels):
    cross_entropy(model(images), labels).backward()
    optimizer.step()
    optimizer.zero_grad()


def sharpened(optimizer, model, **options):
    return pc.Sharpening(optimizer, model, **({"steps": 10} | options))


@pytest.mark.parametrize("pair", [name for name in pc.PAIRS if name != "fp"])
def test_no_pair_waits(pair):
    attach = sharpened if pc.PAIRS[pair].sharpness else lambda *_: None
    assert not waits_of_a_step(net(pair), attach)


@pytest.mark.parametrize("scale", ["channel", "tensor", "learned", None])
def test_no_scale_waits(scale):
    assert not waits_of_a_step(net(scale=scale), sharpened)


def test_groups_do_not_wait():
    model = pc.binarize(
        nn.Sequential(nn.Flatten(), nn.Linear(36, 72), nn.Linear(72, 3)), "bnn++", keep=None, group_size=18
    )
    assert not waits_of_a_step(model, sharpened)


@pytest.mark.parametrize("accumulator", [None, pc.Accumulator(bits=8, overflow="wrap")])
def test_binary_inputs_do_not_wait(accumulator):
    model = net(activations="bnn+", accumulator=accumulator)
    assert not waits_of_a_step(model, partial(sharpened, part="both"))


@pytest.mark.parametrize("shape", ["exponential", "linear", "cosine", "cumulative", "constant"])
def test_no_schedule_waits(shape):
    options = {"steps": None} if shape in ("cumulative", "constant") else {}
    assert not waits_of_a_step(net(), partial(sharpened, shape=shape, **options))


@pytest.mark.parametrize("rule", [pc.proxquant, pc.reverse_proxconnect, pc.post_training])
def test_no_update_rule_waits(rule):
    assert not waits_of_a_step(net("pc"), lambda *both: (rule(*both), sharpened(*both)))


@pytest.mark.parametrize("rule", [pc.proxquant, pc.reverse_proxconnect, pc.post_training])
def test_grad_scaler_does_not_make_fused_optimizers_wait(rule):
    def attach(optimizer, model):
        kept = rule(optimizer, model), sharpened(optimizer, model)
        optimizer.grad_scale, optimizer.found_inf = torch.tensor(1.0), torch.tensor(0.0)  # as GradScaler does
        return kept

    model = net("pc")
    assert not waits_of_a_step(model, attach, torch.optim.AdamW(model.parameters(), fused=True))


@pytest.mark.parametrize("attach", [pc.clip_latents, lambda optimizer, model: pc.Meters(model)])
def test_clipping_and_meters_do_not_wait(attach):
    assert not waits_of_a_step(net(), lambda *both: (attach(*both), sharpened(*both)))


READS = [
    torch.Tensor.item,
    torch.Tensor.tolist,
    torch.Tensor.cpu,
    torch.Tensor.numpy,
    lambda loss: loss.to("cpu"),
    bool,
]


@pytest.mark.parametrize("read", READS)
def test_a_step_that_reads_a_value_is_counted(read):
    def hook(module, inputs, output):
        read(output.detach().sum())

    model = net()
    model.register_forward_hook(hook)
    assert waits_of_a_step(model).total() == 1
