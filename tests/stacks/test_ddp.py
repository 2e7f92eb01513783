"""DistributedDataParallel on two processes, against one process with the whole batch."""

from functools import partial

import pytest
import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from proxconnect import Sharpening
from stacks.nets import (
    OPTIMIZERS,
    STEPS,
    batches,
    distance,
    net,
    net_and_optimizer,
    scheduled,
    sharpnesses,
    state,
    train,
)
from stacks.worlds import results_of, share


def wrapped(make_optimizer, handed="wrapper"):
    """A net with other numbers on each rank, of which DDP takes rank 0's; `handed` says what Sharpening is given."""
    model = DistributedDataParallel(net(seed=dist.get_rank()))
    optimizer = make_optimizer(model.parameters())
    sharpening = Sharpening(optimizer, model if handed == "wrapper" else model.module, steps=STEPS)
    return model, optimizer, sharpening


def trained(name, handed):
    model, optimizer, _ = wrapped(OPTIMIZERS[name], handed)
    train(model, optimizer, share(batches()))
    return state(model.module), sharpnesses(model)


def accumulated():
    """The gradients of two micro-batches, of which the first is not communicated."""
    model, optimizer, sharpening = wrapped(OPTIMIZERS["AdamW"])
    [(images, labels)] = share(batches(1))
    first, second = zip(images.chunk(2), labels.chunk(2), strict=True)
    with model.no_sync():
        (cross_entropy(model(first[0]), first[1]) / 2).backward()
    (cross_entropy(model(second[0]), second[1]) / 2).backward()
    optimizer.step()
    return state(model.module), sharpening.step_count


def mu_after_a_forward_pass_of_ranks_that_disagree():
    model, _, _ = wrapped(OPTIMIZERS["AdamW"])
    for layer in (model.module[2], model.module[5]):
        layer.weight_quantizer.mu.fill_(3.0 + dist.get_rank())
    model(share(batches(1))[0][0])
    return sharpnesses(model)


def sharded_optimizer(resumed_after=None):
    """ZeroRedundancyOptimizer, saved and loaded into a fresh one on the way if wished."""
    from torch.distributed.optim import ZeroRedundancyOptimizer  # in the processes alone: it warns of torch itself

    make = partial(ZeroRedundancyOptimizer, optimizer_class=torch.optim.AdamW, lr=0.01, weight_decay=0.1)
    model, optimizer, _ = wrapped(make)
    data = share(batches())
    if resumed_after is not None:
        train(model, optimizer, data[:resumed_after])
        data = data[resumed_after:]
        optimizer.consolidate_state_dict(0)
        saved = [optimizer.state_dict() if dist.get_rank() == 0 else None]
        dist.broadcast_object_list(saved)
        weights = state(model.module)
        model, optimizer, _ = wrapped(make)
        model.module.load_state_dict(weights)
        optimizer.load_state_dict(saved[0])
    train(model, optimizer, data)
    return state(model.module), sharpnesses(model)


def job(folder):
    return {
        **{(name, handed): trained(name, handed) for name in OPTIMIZERS for handed in ("wrapper", "module")},
        "accumulated": accumulated(),
        "disagreeing": mu_after_a_forward_pass_of_ranks_that_disagree(),
        "sharded optimizer": sharded_optimizer(),
        "sharded optimizer, resumed": sharded_optimizer(resumed_after=2),
    }


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return results_of(job, tmp_path_factory.mktemp("ddp"))


def in_one_process(name="AdamW", steps=5):
    model, optimizer, _ = net_and_optimizer(name)
    train(model, optimizer, batches(steps))
    return state(model)


@pytest.mark.parametrize("handed", ["wrapper", "module"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_two_ranks_train_as_one_process_with_the_whole_batch(ranks, name, handed):
    for weights, sharpness in (rank[name, handed] for rank in ranks):
        assert distance(weights, in_one_process(name)) < 1e-6
        assert sharpness == pytest.approx([scheduled(5)] * 2)


def test_accumulation_without_synchronisation_counts_one_step(ranks):
    for weights, count in (rank["accumulated"] for rank in ranks):
        assert distance(weights, in_one_process(steps=1)) < 1e-6
        assert count == 1


def test_mu_is_among_the_buffers_that_rank_0_broadcasts(ranks):
    assert [rank["disagreeing"] for rank in ranks] == [[3.0, 3.0]] * 2


@pytest.mark.parametrize("how", ["sharded optimizer", "sharded optimizer, resumed"])
def test_an_optimizer_whose_state_is_sharded_trains_as_one_process(ranks, how):
    for weights, sharpness in (rank[how] for rank in ranks):
        assert distance(weights, in_one_process()) < 1e-6
        assert sharpness == pytest.approx([scheduled(5)] * 2)
