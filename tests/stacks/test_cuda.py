"""On a CUDA device: float16 with GradScaler, fused optimizers, compiled graphs, NCCL."""

import copy
import math

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from proxconnect import Sharpening, load, pack, save
from stacks.nets import STEPS, batches, distance, float_net, net, scheduled, sharpnesses, state, train

DEVICE, COLLECTIVES = "cuda", "nccl"

pytestmark = [
    pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
]  # fmt: skip


def scheduled_net(fused=False, wrap=lambda model: model):
    model = wrap(net().to(DEVICE))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=fused)
    return model, optimizer, Sharpening(optimizer, model, steps=STEPS)


def on_device(data):
    return [(images.to(DEVICE), labels.to(DEVICE)) for images, labels in data]


def scaled_step(scaler, model, optimizer, batch, factor=1.0):
    optimizer.zero_grad()
    with torch.autocast(DEVICE, torch.float16):
        loss = cross_entropy(model(batch[0]), batch[1]) * factor
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    return loss.item()


@pytest.mark.parametrize("fused", [False, True])
def test_a_float16_step_that_overflows_moves_neither_latents_nor_mu(fused):
    model, optimizer, sharpening = scheduled_net(fused)
    scaler, counts = torch.amp.GradScaler(DEVICE, init_scale=2.0**10), []
    for i, batch in enumerate(on_device(batches())):
        before = state(model)
        scaled_step(scaler, model, optimizer, batch, math.inf if i in (1, 3) else 1.0)
        counts.append(sharpening.step_count)
        assert (distance(state(model), before) == 0) == (i in (1, 3))
    assert counts == [1, 1, 2, 2, 3]
    assert sharpnesses(model) == pytest.approx([scheduled(3)] * 2)


@pytest.mark.parametrize("fused", [False, True])
def test_float16_trains_with_latents_and_mu_in_float32(fused):
    model, optimizer, _ = scheduled_net(fused)
    scaler = torch.amp.GradScaler(DEVICE, init_scale=2.0**10)
    losses = [scaled_step(scaler, model, optimizer, batch) for batch in on_device(batches(1)) * 40]
    assert losses[-1] < 0.5 * losses[0]
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}


def test_the_device_trains_as_the_processor_does():
    model, optimizer, _ = scheduled_net()
    with torch.backends.cudnn.flags(allow_tf32=False):
        train(model, optimizer, on_device(batches()))
    expected = net()
    its_optimizer = torch.optim.AdamW(expected.parameters(), lr=0.01)
    Sharpening(its_optimizer, expected, steps=STEPS)
    train(expected, its_optimizer, batches())
    assert distance({name: tensor.cpu() for name, tensor in state(model).items()}, state(expected)) < 1e-4


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled_training_is_eager_training_and_compiles_once(mode):
    torch._dynamo.reset()
    eager, its_optimizer, _ = scheduled_net()
    expected = train(eager, its_optimizer, on_device(batches()))
    model, optimizer, _ = scheduled_net()
    with torch._dynamo.config.patch(error_on_recompile=True):
        losses = train(torch.compile(model, mode=mode, fullgraph=True), optimizer, on_device(batches()))
    assert losses == pytest.approx(expected, rel=1e-3)
    assert sharpnesses(model) == pytest.approx([scheduled(5)] * 2)


def pass_of(model, batch):
    loss = cross_entropy(model(batch[0]), batch[1])
    loss.backward()
    return loss


def test_a_captured_pass_sees_the_latents_and_the_mu_that_steps_move():
    model, optimizer, _ = scheduled_net()
    [batch] = on_device(batches(1))
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # what a first pass allocates and looks at must not be captured
        for _ in range(3):
            pass_of(model, batch)
    torch.cuda.current_stream().wait_stream(stream)
    optimizer.zero_grad(set_to_none=True)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = pass_of(model, batch)
    for _ in range(STEPS):
        eager = copy.deepcopy(model)
        eager.zero_grad(set_to_none=True)
        expected = pass_of(eager, batch)
        graph.replay()
        torch.testing.assert_close(loss, expected)
        for ours, theirs in zip(model.parameters(), eager.parameters(), strict=True):
            torch.testing.assert_close(ours.grad, theirs.grad)
        optimizer.step()
    assert sharpnesses(model) == pytest.approx([scheduled(STEPS)] * 2)


def test_a_captured_step_is_refused():
    model, optimizer, _ = scheduled_net(fused=True)
    [batch] = on_device(batches(1))
    train(model, optimizer, [batch])
    pass_of(model, batch)
    with pytest.raises(RuntimeError, match="would repeat one value of μ"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        optimizer.step()


def test_a_step_never_waits():
    model, optimizer, _ = scheduled_net(fused=True)
    data = on_device(batches())
    train(model, optimizer, data[:2])
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in data[2:]:
            pass_of(model, batch)
            optimizer.step()
            optimizer.zero_grad()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def sharded(model):
    for part in (model[2], model[5], model):
        fully_shard(part)
    return model


@pytest.mark.parametrize("wrap", [DistributedDataParallel, sharded])
def test_a_world_of_one_trains_as_no_world(wrap, tmp_path):
    plain, its_optimizer, _ = scheduled_net()
    train(plain, its_optimizer, on_device(batches()))
    dist.init_process_group(COLLECTIVES, init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model, optimizer, _ = scheduled_net(wrap=wrap)
        train(model, optimizer, on_device(batches()))
        weights = state(getattr(model, "module", model))
    finally:
        dist.destroy_process_group()
    assert distance(weights, state(plain)) < 1e-4


def test_a_net_trained_on_the_device_ships(tmp_path):
    model, optimizer, _ = scheduled_net()
    train(model, optimizer, on_device(batches()))
    save(pack(model), tmp_path / "net.safetensors")
    [(images, _)] = batches(1)
    loaded = load(tmp_path / "net.safetensors", float_net())
    with torch.backends.cudnn.flags(allow_tf32=False):
        torch.testing.assert_close(loaded(images), model.eval()(images.to(DEVICE)).cpu())
