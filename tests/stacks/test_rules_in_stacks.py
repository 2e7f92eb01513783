"""Update rules under GradScaler, Lightning, torch.compile and FSDP2, each against the plain loop of one process."""

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch._dynamo.testing import CompileCounterWithBackend
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import cross_entropy

from proxconnect import Sharpening, clip_latents, post_training, proxquant, reverse_proxconnect
from proxconnect.layers.living import RULE
from stacks.nets import OPTIMIZERS, STEPS, batches, distance, net, state, train
from stacks.worlds import FSDP_ON_CPUS, results_of, share

RULES = {"proxquant": proxquant, "reverse_proxconnect": reverse_proxconnect, "post_training": post_training}
every_rule = pytest.mark.parametrize("rule", RULES)


def ruled_optimizer(rule, model, name="AdamW", **arguments):
    optimizer = OPTIMIZERS[name](model.parameters(), **arguments)
    RULES[rule](optimizer, model)
    Sharpening(optimizer, model, steps=STEPS, start=2.0)
    return optimizer


def ruled(rule, optimizer="AdamW", seed=0, shard=False, **arguments):
    model = net(seed, weights="binaryrelax")
    if shard:
        for part in (model[2], model[5], model):
            fully_shard(part)
    return model, ruled_optimizer(rule, model, optimizer, **arguments)


def in_plain_loop(rule, optimizer="AdamW", data=None):
    model, stepper = ruled(rule, optimizer)
    train(model, stepper, batches() if data is None else data)
    return model


def test_the_rules_train_to_different_nets():
    """Else nothing below would tell one from another."""
    first, second, third = (state(in_plain_loop(rule)) for rule in RULES)
    assert min(distance(first, second), distance(second, third), distance(third, first)) > 1e-3


@every_rule
@pytest.mark.parametrize("fused", [False, True])
def test_steps_that_grad_scaler_skips_are_as_if_they_had_not_been(rule, fused):
    model, optimizer = ruled(rule, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    data = batches()
    for i, (images, labels) in enumerate(data):
        optimizer.zero_grad()
        loss = cross_entropy(model(images), labels) * (torch.inf if i in (1, 3) else 1.0)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    twin, its_optimizer = ruled(rule, fused=fused)
    train(twin, its_optimizer, data[::2])
    assert distance(state(model), state(twin)) == 0


@pytest.mark.parametrize("rule", ["proxquant", *(pytest.param(r, marks=pytest.mark.thorough) for r in list(RULES)[1:])])
def test_compiled_training_is_eager_training_and_eval_is_hard(rule):
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    model, optimizer = ruled(rule)
    compiled = torch.compile(model, backend=counter, fullgraph=True)
    train(compiled, optimizer, batches())
    eager = in_plain_loop(rule)
    assert distance(state(model), state(eager)) < 1e-6
    assert counter.frame_count == 1
    [(images, _)] = batches(1)
    torch.testing.assert_close(compiled.eval()(images), eager.eval()(images))
    torch._dynamo.reset()


def lightning_module(rule, automatic=True):
    import lightning  # not above: the processes of FSDP2 import this file too, and do without it

    class Module(lightning.LightningModule):
        closures = 0

        def __init__(self):
            super().__init__()
            self.automatic_optimization = automatic
            self.net = net(weights="binaryrelax")

        def configure_optimizers(self):
            return ruled_optimizer(rule, self.net)

        def training_step(self, batch):
            self.closures += 1
            loss = cross_entropy(self.net(batch[0]), batch[1])
            if not automatic:
                optimizer = self.optimizers()
                optimizer.zero_grad()
                self.manual_backward(loss)
                optimizer.step()
            return loss

    return Module()


@pytest.fixture
def fit(tmp_path):
    """Train a module for some epochs of four batches in Lightning, from a checkpoint if wished."""
    import lightning  # as above

    def fit(module, epochs, ckpt_path=None, **arguments):
        trainer = lightning.Trainer(
            accelerator="cpu", max_epochs=epochs, default_root_dir=tmp_path, logger=False,
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, **arguments,
        )  # fmt: skip
        trainer.fit(module, torch.utils.data.DataLoader(batches(4), batch_size=None), ckpt_path=ckpt_path)
        return trainer

    return fit


quiet = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*does not have many workers")


@quiet
@every_rule
@pytest.mark.parametrize("automatic", [True, False])
def test_lightning_trains_as_the_plain_loop(rule, automatic, fit):
    module = lightning_module(rule, automatic)
    fit(module, 2)
    assert module.closures == 8
    assert distance(state(module.net), state(in_plain_loop(rule, data=batches(4) * 2))) == 0


@quiet
@pytest.mark.parametrize("rule", ["proxquant", "reverse_proxconnect"])
def test_lightning_accumulates_gradients_of_latents_that_nothing_overwrites_between(rule, fit):
    module = lightning_module(rule)
    fit(module, 2, accumulate_grad_batches=2)
    model, optimizer = ruled(rule)
    for first, second in (batches(4)[:2], batches(4)[2:]) * 2:
        optimizer.zero_grad()
        for images, labels in (first, second):
            (cross_entropy(model(images), labels) / 2).backward()
        optimizer.step()
    assert distance(state(module.net), state(model)) == 0


@quiet
def test_lightning_resumes_by_the_same_rule_and_by_no_other(fit, tmp_path):
    fit(lightning_module("proxquant"), 1).save_checkpoint(tmp_path / "broken.ckpt")
    resumed = lightning_module("proxquant")
    fit(resumed, 2, ckpt_path=tmp_path / "broken.ckpt")
    assert resumed.closures == 4
    assert distance(state(resumed.net), state(in_plain_loop("proxquant", data=batches(4) * 2))) == 0
    with pytest.raises(ValueError, match="made by proxquant"):
        fit(lightning_module("post_training"), 2, ckpt_path=tmp_path / "broken.ckpt")


def resumed_in_shards(rule, folder):
    """Trained for two steps, saved, loaded into a fresh net with other numbers and trained on."""
    data = share(batches())
    model, optimizer = ruled(rule, shard=True)
    train(model, optimizer, data[:2])
    weights, steps = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": steps}, checkpoint_id=folder / rule)

    model, optimizer = ruled(rule, seed=1, shard=True)
    weights, steps = get_state_dict(model, optimizer)
    dcp.load({"model": weights, "optimizer": steps}, checkpoint_id=folder / rule)
    set_state_dict(model, optimizer, model_state_dict=weights, optim_state_dict=steps)
    train(model, optimizer, data[2:])
    return state(model), optimizer.param_groups[0][RULE]


def trained_in_shards(rule):
    model, optimizer = ruled(rule, "SGD", shard=True)
    clip_latents(optimizer, model)
    train(model, optimizer, share(batches()))
    return state(model)


def job(folder):
    return {rule: (*resumed_in_shards(rule, folder), trained_in_shards(rule)) for rule in RULES}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    if not FSDP_ON_CPUS:
        pytest.skip("FSDP2 of this torch does not train on CPUs")
    return results_of(job, tmp_path_factory.mktemp("rules"))


@every_rule
def test_shards_train_as_one_process_also_over_a_distributed_checkpoint(ranks, rule):
    unbroken, by_sgd = state(in_plain_loop(rule)), state(in_plain_loop(rule, "SGD"))
    for resumed, name, trained in (rank[rule] for rank in ranks):
        assert name == rule
        assert distance(resumed, unbroken) < 1e-6
        assert distance(trained, by_sgd) < 1e-6
