"""The meters against brute force in numpy: published formulas of F and B, channels by index, sums of signs."""

import copy
import math
import pickle
import re

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch._dynamo.testing import CompileCounter
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard
from torch.nn.functional import cross_entropy
from torch.testing._internal.distributed.fake_pg import FakeStore

from pairs.published import PUBLISHED
from proxconnect import Accumulator, BinaryLinear, Quantizer, binarize, pack
from proxconnect.inspection.meters import BINS, EDGES, Meters
from proxconnect.layers import BinaryLayer
from sweep.flow import layers_of

NARROW = Accumulator(bits=3)
NAMES = ["1", "3", "6"]


def net(**choices) -> nn.Sequential:
    """A grouped convolution "1", a grouped transposed one "3" and a linear layer "6", whose 65 weights fill no byte."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Conv2d(4, 6, 3, groups=2), nn.Tanh(), nn.ConvTranspose2d(6, 4, 2, groups=2),
        nn.Dropout(0.1), nn.Flatten(), nn.Linear(36, 5), nn.Linear(5, 3),
    )  # fmt: skip
    return binarize(model, **choices)


def images(size: int = 8) -> torch.Tensor:
    return 2 * torch.randn(size, 1, 6, 6)


def binary_input_net(**choices) -> nn.Sequential:
    return net(activations="poly+", accumulator=NARROW, **choices)


def output_channels(layer: BinaryLayer) -> np.ndarray:
    """The output channel of each weight, by its indices."""
    index = np.indices(layer.latent.shape)
    if not isinstance(layer, nn.ConvTranspose2d):
        return index[0]
    return index[0] // (layer.in_channels // layer.groups) * layer.latent.shape[1] + index[1]


def normalised(layer: BinaryLayer) -> np.ndarray:
    """latent/ᾱ, flat, in float64."""
    latent, scale = layer.latent.detach().double().numpy().ravel(), layer.weight_quantizer.scale
    if scale is None:
        return latent
    channels = np.zeros(latent.shape, int) if scale == "tensor" else output_channels(layer).ravel()
    return latent / (np.bincount(channels, np.abs(latent)) / np.bincount(channels))[channels]


def quality(quantizer: Quantizer, x: np.ndarray) -> tuple[float, float]:
    pair, mu = PUBLISHED[quantizer.pair.name], float(quantizer.mu)
    return float(np.mean(np.abs(np.abs(pair.forward(x, mu)) - 1))), float(np.mean(pair.backward(x, mu) == 0))


def train(model: nn.Module, steps: int, meters: Meters | None = None) -> list[dict[str, float]]:
    optimizer, log = torch.optim.SGD(model.parameters(), lr=0.1), []
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(model(images()), torch.randint(3, (8,))).backward()
        optimizer.step()
        log += [] if meters is None else [meters.read()]
    return log


def test_they_show_how_many_layers_they_measure():
    assert repr(Meters(net())) == f"<Meters of {len(layers_of(net()))} binary layers>"


@pytest.mark.parametrize("scale", ["channel", "tensor", "learned", None])
@pytest.mark.parametrize("pair", ["bnn++", "poly+", "bnn", "pc"])
def test_softness_dead_share_and_histogram_are_those_of_brute_force(pair, scale):
    model = net(weights=pair, scale=scale)
    for quantizer in model.modules():
        if isinstance(quantizer, Quantizer):
            quantizer.mu.fill_(1.3)
    meters = Meters(model)
    log = meters.read()
    assert list(meters.layers()) == NAMES
    expected = {}
    for name, layer in layers_of(model).items():
        x, health = normalised(layer), meters.layers()[name]
        expected[name] = quality(layer.weight_quantizer, x)
        assert health.weights == layer.latent.numel()
        assert (health.softness, health.dead_share) == pytest.approx(expected[name], rel=1e-5)
        shares = np.histogram(x, [-np.inf, *EDGES, np.inf])[0] / x.size
        assert health.histogram == pytest.approx(shares, abs=1e-6)
        assert [log[f"{name}/latents_{bin}"] for bin in BINS] == list(health.histogram)
        assert (log[f"{name}/softness"], log[f"{name}/dead_share"]) == (health.softness, health.dead_share)
        assert health.nonfinite_share == 0
    weights = [layer.latent.numel() for layer in layers_of(model).values()]
    means = np.average(list(expected.values()), axis=0, weights=weights)
    assert (log["all/softness"], log["all/dead_share"]) == pytest.approx(tuple(means), rel=1e-5)


def test_a_layer_of_several_pieces_is_measured_whole():
    model = nn.Sequential(BinaryLinear(700, 800, weights="poly+"))
    with torch.no_grad():
        model[0].latent.mul_(torch.linspace(0.1, 3, 800)[:, None]).add_(0.01)
    model[0].weight_quantizer.mu.fill_(0.8)
    meters = Meters(model)
    meters.read()
    health, x = meters.layers()["0"], normalised(model[0])
    assert (health.softness, health.dead_share) == pytest.approx(quality(model[0].weight_quantizer, x), rel=1e-5)
    assert health.histogram == pytest.approx(np.histogram(x, [-np.inf, *EDGES, np.inf])[0] / x.size, abs=1e-5)


def test_hard_pairs_have_no_softness_and_the_mode_changes_nothing():
    assert Meters(net(weights="bc")).read()["all/softness"] == 0
    model = net()
    meters = Meters(model)
    assert meters.read()["all/softness"] > 0.5
    training = meters.layers()
    model.eval()
    meters.read()
    assert {name: h.softness for name, h in meters.layers().items()} == {n: h.softness for n, h in training.items()}


def test_the_flip_rate_counts_the_signs_that_were_flipped_since_the_last_reading():
    model = net()
    meters = Meters(model)
    assert not [key for key in meters.read() if "flip_rate" in key]
    flipped = {"1": 5, "3": 0, "6": 180}
    for name, layer in layers_of(model).items():
        with torch.no_grad():
            layer.latent.view(-1)[torch.randperm(layer.latent.numel())[: flipped[name]]] *= -1
            layer.latent.mul_(1.5)
    log = meters.read()
    total = sum(layer.latent.numel() for layer in layers_of(model).values())
    for name, layer in layers_of(model).items():
        assert log[f"{name}/flip_rate"] == pytest.approx(flipped[name] / layer.latent.numel())
    assert log["all/flip_rate"] == pytest.approx(185 / total)
    assert meters.read()["all/flip_rate"] == 0


def test_a_latent_of_0_has_the_sign_of_a_positive_one():
    model = nn.Sequential(BinaryLinear(3, 1))
    meters = Meters(model)
    for values, flipped in (([1.0, -1.0, 1.0], None), ([0.0, -1.0, 2.0], 0), ([0.0, -0.0, -1.0], 2 / 3)):
        model[0].weight = torch.tensor([values])
        assert meters.read().get("0/flip_rate") == (None if flipped is None else pytest.approx(flipped))


def test_inputs_are_measured_at_the_first_batch_after_each_reading():
    model = binary_input_net()
    meters = Meters(model)
    assert not [key for key in meters.read() if "input" in key]
    inputs = []
    model[6].register_forward_pre_hook(lambda layer, args: inputs.append(args[0].detach().double().numpy()))
    model[6].input_quantizer.mu.fill_(4.0)
    for first in (0, 2):
        model(images()), model(3 * images())
        log = meters.read()
        expected = quality(model[6].input_quantizer, inputs[first])
        assert 0.1 < expected[1] < 0.9
        assert (log["6/input_softness"], log["6/input_dead_share"]) == pytest.approx(expected, rel=1e-5)
        assert log["6/input_positive_share"] == pytest.approx((inputs[first] >= 0).mean())


def test_the_overflow_share_is_that_of_sums_of_signs_since_the_last_reading():
    model = nn.Sequential(BinaryLinear(30, 7, activations="bnn", accumulator=NARROW)).eval()
    meters = Meters(model)
    signs = np.where(model[0].latent.detach().numpy() >= 0, 1, -1)

    def sums(x: torch.Tensor) -> np.ndarray:
        model(x)
        return np.where(x.numpy() >= 0, 1, -1) @ signs.T

    for batches in (2, 1):
        held = np.concatenate([sums(torch.randn(9, 30)) for _ in range(batches)])
        share = np.mean((held < -4) | (held > 3))
        assert 0.1 < share < 0.9
        assert meters.read()["0/overflow_share"] == pytest.approx(share)
    assert "0/overflow_share" not in meters.read()
    assert meters.layers()["0"].overflow_share is None


def test_meters_of_one_model_count_apart():
    layers = nn.Sequential(*[nn.Linear(8, 8) for _ in range(3)])
    model = binarize(layers, "bc", "poly", accumulator=Accumulator(2))
    first, second = Meters(model), Meters(model)
    model(torch.randn(4, 8))
    assert first.read() == second.read()
    first.remove()
    model(torch.randn(4, 8))
    assert second.read()["1/overflow_share"] > 0
    assert first.read() == {}


def test_a_plain_loop_logs_floats_under_names_that_loggers_take():
    model = binary_input_net()
    meters = Meters(model)
    log = train(model, 3, meters)
    assert {type(value) for step in log for value in step.values()} == {float}
    assert all(re.fullmatch(r"[-\w./]+", key) for step in log for key in step)
    assert log[0].keys() | {f"{name}/flip_rate" for name in [*NAMES, "all"]} == log[1].keys() == log[2].keys()
    assert {f"all/{n}" for n in ("flip_rate", "softness", "input_dead_share", "overflow_share")} < log[1].keys()


def test_training_with_meters_is_the_same_to_the_bit():
    torch.manual_seed(0)
    plain = binary_input_net()
    metered = copy.deepcopy(plain)
    meters = Meters(metered)
    for model, its_meters in ((plain, None), (metered, meters)):
        torch.manual_seed(1)
        train(model, 3, its_meters)
    state, expected = metered.state_dict(), plain.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in state)
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(metered.parameters(), plain.parameters(), strict=True))
    assert [m.training for m in metered.modules()] == [m.training for m in plain.modules()]


@pytest.mark.parametrize(("latent", "scale"), [(math.nan, "channel"), (math.inf, "channel"), (-math.inf, None)])
def test_latents_that_are_not_finite_are_counted_and_spoil_what_shares_their_scale(latent, scale):
    model = nn.Sequential(BinaryLinear(13, 4, scale=scale))
    meters = Meters(model)
    meters.read()
    with torch.no_grad():
        model[0].latent[1, 2] = latent
    meters.read()
    health = meters.layers()["0"]
    alone = 1 / 13 if math.isinf(latent) else 1  # finite latents are 0 beside an infinite ᾱ
    assert health.nonfinite_share == pytest.approx(1 / 52 if scale is None else alone / 4)
    assert sum(health.histogram) + health.nonfinite_share == pytest.approx(1)
    assert math.isnan(health.softness) == (scale is not None)


def test_a_dead_channel_has_x_0():
    model = nn.Sequential(BinaryLinear(13, 4, weights="poly+"))
    nn.init.zeros_(model[0].latent)
    meters = Meters(model)
    meters.read()
    health = meters.layers()["0"]
    assert (health.softness, health.dead_share) == (1, 0)
    assert health.histogram[BINS.index("0_to_0.5")] == 1


def test_a_layer_under_two_names_is_read_once_and_a_layer_alone_is_called_model():
    shared = BinaryLinear(4, 4)
    assert {key.split("/")[0] for key in Meters(nn.Sequential(shared, nn.Tanh(), shared)).read()} == {"0", "all"}
    meters = Meters(shared)
    assert {key.split("/")[0] for key in meters.read()} == {"model", "all"}
    assert list(meters.layers()) == [""]


def attachments(model: nn.Module) -> list[object]:
    hooks = [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules()]
    return [
        hooks,
        [name for name, _ in model.named_buffers()],
        [m._non_persistent_buffers_set for m in model.modules()],
    ]


def test_removed_meters_leave_no_hook_and_no_buffer():
    model = binary_input_net()
    before = copy.deepcopy(attachments(model))
    meters = Meters(model)
    assert attachments(model) != before
    meters.remove()
    meters.remove()
    assert attachments(model) == before
    assert meters.read() == {}


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_of_a_metered_model_runs_by_itself_and_takes_meters_of_its_own(copied):
    model = binary_input_net()
    meters = Meters(model)
    other = copied(model)
    train(other, 2)
    assert not [key for key in meters.read() if "input" in key or "overflow" in key]
    its_meters = Meters(other)
    assert not [key for key in its_meters.read() if "overflow" in key]
    train(other, 1)
    assert {"6/input_softness", "6/overflow_share"} < its_meters.read().keys()


def test_a_metered_model_packs_to_the_same_file_contents():
    model = binary_input_net()
    expected = pack(model).state_dict()
    Meters(model)
    packed = pack(model)
    state, x = packed.state_dict(), images()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in state)
    assert torch.equal(packed(x), model.eval()(x))


def test_transforms_of_torch_func_leave_the_meters_readable():
    model = nn.Sequential(BinaryLinear(6, 3, activations="poly"))
    meters = Meters(model)
    torch.func.vmap(model)(torch.randn(4, 6))
    torch.func.grad(lambda x: model(x).sum())(torch.randn(6))
    assert "0/input_softness" not in meters.read()


def test_meters_made_in_inference_mode_count_in_training():
    model = binary_input_net()
    with torch.inference_mode():
        meters = Meters(model)
        meters.read()
    [log] = train(model, 1, meters)
    assert {"6/overflow_share", "6/flip_rate"} < log.keys()


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch warns of itself
def test_a_compiled_model_is_compiled_once_and_reads_as_an_eager_one_but_for_inputs():
    torch._dynamo.reset()
    logs, counter = [], CompileCounter()
    for compiled in (False, True):
        torch.manual_seed(0)
        model = binary_input_net()
        model[4].p = 0.0
        meters = Meters(model)
        logs.append(train(torch.compile(model, backend=counter, fullgraph=True) if compiled else model, 3, meters))
    assert counter.frame_count == 1
    for eager, compiled in zip(*logs, strict=True):
        assert compiled == pytest.approx({key: value for key, value in eager.items() if "input" not in key})


def test_a_model_without_binary_layers_is_refused_with_what_to_call():
    with pytest.raises(ValueError, match=r"Sequential has no binary layer: call proxconnect\.binarize"):
        Meters(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(TypeError, match=r"Meters\(model\) takes an nn.Module as model; got Adam"):
        Meters(torch.optim.Adam(net().parameters()))
    with pytest.raises(ValueError, match="layer '1' is on the meta device"):
        Meters(net().to("meta"))


@pytest.fixture
def a_rank_of_two():
    """The first of two ranks, of which the second does not exist: what needs it would get nothing from it."""
    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    yield
    dist.destroy_process_group()


def test_a_rank_of_fsdp_reads_its_shard_alone(a_rank_of_two):
    model = nn.Sequential(BinaryLinear(40, 5, weights="poly+"), BinaryLinear(5, 1, weights="poly+"))
    whole = copy.deepcopy(model[0])
    meters = Meters(model)
    meters.read()
    for part in (*model, model):
        fully_shard(part)
    assert "0/flip_rate" not in meters.read()
    assert meters.layers()["0"].weights == 3 * 40
    with torch.no_grad():
        model[0].latent.to_local()[0] *= -1
        whole.latent[0] *= -1
    assert meters.read()["0/flip_rate"] == pytest.approx(1 / 3)
    x, health = normalised(whole)[: 3 * 40], meters.layers()["0"]
    assert (health.softness, health.dead_share) == pytest.approx(quality(whole.weight_quantizer, x), rel=1e-5)


def test_a_rank_without_any_row_of_a_layer_leaves_it_out(a_rank_of_two):
    model = nn.Sequential(BinaryLinear(40, 5), BinaryLinear(5, 1))
    for layer in model:
        latent = layer.latent.detach()
        mesh = init_device_mesh("cpu", (2,))
        layer.latent = nn.Parameter(DTensor.from_local(latent[2:], mesh, [Shard(0)], run_check=False))
    meters = Meters(model)
    assert {key.split("/")[0] for key in meters.read()} == {"0", "all"}
    assert list(meters.layers()) == ["0"]
