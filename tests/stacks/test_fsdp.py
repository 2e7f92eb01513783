"""FSDP2 on two processes, against one process with the whole batch; its checkpoints, and the way to what ships."""

from functools import partial

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.functional import cross_entropy

from proxconnect import Accumulator, Bop, Sharpening, clip_latents, hard_state_dict, pack, summary
from stacks.nets import (
    OPTIMIZERS,
    STEPS,
    batches,
    distance,
    float_net,
    net,
    net_and_optimizer,
    scheduled,
    sharpnesses,
    state,
    train,
    whole,
)
from stacks.worlds import FSDP_ON_CPUS, results_of, share

SETTINGS = [
    ("AdamW", {"scale": "channel"}),
    ("SGD", {"scale": "tensor"}),
    ("SGD", {"scale": "channel", "activations": "poly"}),
    ("SGD", {"scale": "learned", "activations": "poly", "accumulator": Accumulator(4, derivative="clamp")}),
]
BOUND = 0.05


def sharded(name="AdamW", seed=0, policy=None, **choices):
    """Each binary layer sharded by itself, then the rest."""
    model = net(seed, **choices)
    arguments = {} if policy is None else {"mp_policy": policy}
    for part in (model[2], model[5], model):
        fully_shard(part, **arguments)
    optimizer = OPTIMIZERS[name](model.parameters())
    return model, optimizer, Sharpening(optimizer, model, steps=STEPS)


def trained(name, choices):
    model, optimizer, _ = sharded(name, **choices)
    train(model, optimizer, share(batches()))
    return {
        "state": state(model),
        "sharded": all(isinstance(layer.latent, DTensor) for layer in (model[2], model[5])),
        "binary weight": whole(model[5].binary_weight),
        "answers": model.eval()(batches(1)[0][0]).detach(),
    }


def clipped():
    """A step whose gradients are clipped, and the latents too."""
    model, optimizer, _ = sharded("SGD")
    clip_latents(optimizer, model, BOUND)
    [(images, labels)] = share(batches(1))
    cross_entropy(model(images), labels).backward()
    norm = whole(nn.utils.clip_grad_norm_(model.parameters(), 0.1))
    optimizer.step()
    return float(norm), state(model)


def in_mixed_precision():
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    model, optimizer, _ = sharded(policy=policy)
    seen = []
    model[5].weight_quantizer.register_forward_pre_hook(lambda quantizer, latent: seen.append(latent[0].dtype))
    losses = train(model, optimizer, share(batches(1)) * 20)
    return {"seen": seen, "losses": losses, "latents": model[5].latent.dtype, "mu": sharpnesses(model)}


def resumed(folder):
    """Saved after two steps, loaded into a fresh net with other numbers and continued."""
    data = share(batches())
    model, optimizer, _ = sharded()
    train(model, optimizer, data[:2])
    weights, steps = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": steps}, checkpoint_id=folder / "checkpoint")

    model, optimizer, sharpening = sharded(seed=1)
    weights, steps = get_state_dict(model, optimizer)
    dcp.load({"model": weights, "optimizer": steps}, checkpoint_id=folder / "checkpoint")
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=steps)
    at_load = sharpening.step_count, sharpnesses(model)
    train(model, optimizer, data[2:])
    return *at_load, state(model)


def flipped(folder=None, parts=(fully_shard,)):
    """By Bop, sharded by `parts`; where there is a folder, saved after two steps and loaded into a fresh net."""

    def start(seed):
        model = net(seed, weights="bc")
        for shard in parts:
            shard(model)
        return model, Bop(model.parameters(), partial(torch.optim.AdamW, lr=0.01), gamma=0.1, threshold=1e-3)

    data = share(batches()) if parts else batches()
    model, optimizer = start(0)
    train(model, optimizer, data[:2])
    if folder is not None:
        weights, steps = get_state_dict(model, optimizer)
        dcp.save({"model": weights, "optimizer": steps}, checkpoint_id=folder / "flipped")
        model, optimizer = start(1)
        weights, steps = get_state_dict(model, optimizer)
        dcp.load({"model": weights, "optimizer": steps}, checkpoint_id=folder / "flipped")
        set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=steps)
    train(model, optimizer, data[2:])
    return state(model)


def gathered():
    model, optimizer, _ = sharded()
    train(model, optimizer, share(batches()))
    return get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def refusal_of_an_optimizer_made_before():
    model = net()
    optimizer = OPTIMIZERS["AdamW"](model.parameters())
    fully_shard(model)
    try:
        Sharpening(optimizer, model, steps=STEPS)
    except ValueError as error:
        return str(error)
    return "no refusal"


def refusal_to_pack_shards():
    model, _, _ = sharded()
    sizes = summary(model)
    try:
        pack(model)
    except ValueError as error:
        return str(error), sizes.binary_parameters
    return "no refusal", sizes.binary_parameters


def job(folder):
    return {
        "trained": [trained(name, choices) for name, choices in SETTINGS],
        "clipped": clipped(),
        "mixed precision": in_mixed_precision(),
        "resumed": resumed(folder),
        "flipped": flipped(folder),
        "gathered": gathered(),
        "refusal": refusal_of_an_optimizer_made_before(),
        "packing": refusal_to_pack_shards(),
    }


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    if not FSDP_ON_CPUS:
        pytest.skip("FSDP2 of this torch does not train on CPUs")
    return results_of(job, tmp_path_factory.mktemp("fsdp"))


def in_one_process(name="AdamW", **choices):
    model, optimizer, _ = net_and_optimizer(name, **choices)
    train(model, optimizer, batches())
    return model


@pytest.mark.parametrize("setting", range(len(SETTINGS)))
def test_sharded_latents_train_as_one_process_with_the_whole_batch(ranks, setting):
    name, choices = SETTINGS[setting]
    model = in_one_process(name, **choices)
    for result in (rank["trained"][setting] for rank in ranks):
        assert result["sharded"]
        assert distance(result["state"], state(model)) < 1e-6
        torch.testing.assert_close(result["binary weight"], model[5].binary_weight)


@pytest.mark.parametrize("setting", range(len(SETTINGS)))
def test_a_sharded_net_in_eval_answers_as_one_process(ranks, setting):
    name, choices = SETTINGS[setting]
    answers = in_one_process(name, **choices).eval()(batches(1)[0][0]).detach()
    for rank in ranks:
        torch.testing.assert_close(rank["trained"][setting]["answers"], answers)


def test_gradients_and_latents_are_clipped_across_ranks(ranks):
    model, optimizer, _ = net_and_optimizer("SGD")
    clip_latents(optimizer, model, BOUND)
    [(images, labels)] = batches(1)
    cross_entropy(model(images), labels).backward()
    norm = float(nn.utils.clip_grad_norm_(model.parameters(), 0.1))
    optimizer.step()
    assert model[5].latent.abs().max().item() == pytest.approx(BOUND)
    for its_norm, weights in (rank["clipped"] for rank in ranks):
        assert its_norm == pytest.approx(norm, rel=1e-6)
        assert distance(weights, state(model)) < 1e-6


def test_mixed_precision_computes_in_bfloat16_and_keeps_latents_and_mu_in_float32(ranks):
    for result in (rank["mixed precision"] for rank in ranks):
        assert set(result["seen"]) == {torch.bfloat16}
        assert result["latents"] == torch.float32
        assert result["mu"] == pytest.approx([scheduled(20)] * 2)
        assert result["losses"][-1] < 0.8 * result["losses"][0]


def test_a_distributed_checkpoint_brings_mu_back_and_goes_on_as_unbroken(ranks):
    unbroken = state(in_one_process())
    for count, sharpness, weights in (rank["resumed"] for rank in ranks):
        assert count == 2
        assert sharpness == pytest.approx([scheduled(2)] * 2)
        assert distance(weights, unbroken) < 1e-6


def test_bop_flips_sharded_latents_also_from_a_distributed_checkpoint(ranks):
    unbroken = flipped(parts=())
    assert not torch.equal(unbroken["2.latent"].sign(), state(net(weights="bc"))["2.latent"].sign())
    assert all(distance(rank["flipped"], unbroken) < 1e-6 for rank in ranks)


def test_the_gathered_state_loads_into_a_plain_binary_net_which_ships(ranks):
    expected = in_one_process().eval()
    model = net(seed=1)
    model.load_state_dict(ranks[0]["gathered"])
    [(images, _)] = batches(1)
    answers = pack(model)(images)
    torch.testing.assert_close(answers, expected(images))
    shipped = float_net()
    shipped.load_state_dict(hard_state_dict(model))
    torch.testing.assert_close(shipped(images), answers)


def test_an_optimizer_made_before_sharding_is_refused(ranks):
    assert all("holds none of the 2 latents" in rank["refusal"] for rank in ranks)


def test_shards_are_summed_up_whole_and_not_packed(ranks):
    for words, binary_parameters in (rank["packing"] for rank in ranks):
        assert "sharded. Gather the state dict with torch.distributed.checkpoint" in words
        assert binary_parameters == summary(net()).binary_parameters
