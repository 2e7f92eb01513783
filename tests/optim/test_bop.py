"""Bop against a twin of a few lines and against Adam on what is no latent; what it saves, schedules and refuses."""

import copy
import pickle
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adagrad, Adam, AdamW
from torch.optim.lr_scheduler import LambdaLR

from proxconnect import Bop, Sharpening, binarize
from proxconnect.optim.latents import owners

SETTINGS = {"gamma": 0.05, "threshold": 1e-3}


def net(**choices) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 8), nn.PReLU(), nn.Linear(8, 3))
    return binarize(model, **{"weights": "bc", **choices})


def batches(count: int):
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(16, 6, generator=generator), torch.randint(3, (16,), generator=generator))
            for _ in range(count)]  # fmt: skip


def train(model, optimizer, data, scheduler=None) -> None:
    for x, y in data:
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


def assert_same(model: nn.Module, twin: nn.Module) -> None:
    for key, value in model.state_dict().items():
        assert torch.equal(value, twin.state_dict()[key]), key


@pytest.mark.parametrize("scale", ["channel", "tensor", None, "learned"])
def test_latents_flip_as_published_and_the_rest_goes_by_adam(scale):
    model = net(scale=scale)
    twin = copy.deepcopy(model)
    latent, others = twin[2].latent, [p for p in twin.parameters() if p is not twin[2].latent]
    adam, average, flips = Adam(others, lr=3e-3), torch.zeros(8, 8), 0
    data = batches(50)
    for x, y in data:
        twin.zero_grad()
        cross_entropy(twin(x), y).backward()
        average = (1 - 0.05) * average + 0.05 * latent.grad
        flipped = (average.abs() > 1e-3) & (average.sign() == latent.sign())
        flips += int(flipped.sum())
        latent.data[flipped] *= -1
        adam.step()
    magnitude = model[2].latent.detach().abs()
    train(model, Bop(model.parameters(), partial(Adam, lr=3e-3), **SETTINGS), data)
    assert flips > 20
    assert_same(model, twin)
    assert torch.equal(model[2].latent.detach().abs(), magnitude)


def test_it_learns_to_tell_two_clusters():
    x = torch.randn(200, 6) + 2 * torch.sign(torch.arange(200) - 99.5).unsqueeze(1) * torch.randn(6)
    data = [(x, (torch.arange(200) > 99).long())] * 60
    model = nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32), nn.Linear(32, 32), nn.BatchNorm1d(32), nn.Linear(32, 2))
    binarize(model, weights="bc")
    train(model, Bop(model.parameters(), gamma=1e-2, threshold=1e-5), data)
    assert (model.eval()(x).argmax(1) == data[0][1]).double().mean() > 0.95


def test_groups_are_split_and_keep_what_they_say():
    model = net()
    named = list(model.named_parameters())
    optimizer = Bop(
        [{"params": named[:3], "lr": 0.5, "weight_decay": 0.1}, {"params": named[3:], "gamma": 0.25}],
        partial(AdamW, lr=0.125), threshold=0.0,
    )  # fmt: skip
    shown = [(group["param_names"], group["lr"]) for group in optimizer.param_groups]
    names = [name for name, _ in named]
    rest = [name for name in names[3:] if name != "2.latent"]
    assert shown == [(names[:3], 0.5), (["2.latent"], 0.25), (rest, 0.125)]
    assert [group.get("threshold") for group in optimizer.param_groups] == [None, 0.0, None]
    assert [group.get("weight_decay") for group in optimizer.param_groups] == [0.1, None, 0.01]


def test_weight_decay_and_an_absent_gradient_leave_latents_alone():
    model = net()
    before = model[2].latent.detach().clone()
    optimizer = Bop([{"params": model.parameters(), "weight_decay": 0.5}], partial(SGD, lr=0.1))
    model[0].weight.grad = torch.zeros(8, 6)
    weight = model[0].weight.detach().clone()
    optimizer.step()
    assert torch.equal(model[2].latent, before)
    assert torch.allclose(model[0].weight, 0.95 * weight)


def test_schedules_of_learning_rates_move_gamma_too():
    model = net()
    optimizer = Bop(model.parameters(), partial(Adam, lr=0.5), gamma=0.25)
    scheduler = LambdaLR(optimizer, lambda step: 0.5**step)
    train(model, optimizer, batches(2), scheduler)
    assert [group["lr"] for group in optimizer.param_groups] == [0.0625, 0.125]
    assert optimizer.others.param_groups[0] is optimizer.param_groups[1]


@pytest.mark.parametrize("others", [AdamW, partial(SGD, lr=0.01, momentum=0.9), partial(Adagrad, lr=0.01)])
def test_a_resumed_run_is_the_unbroken_one(others, tmp_path):
    data = batches(20)

    def start():
        torch.manual_seed(3)
        model = net()
        optimizer = Bop(model.parameters(), others, **SETTINGS)
        return model, optimizer, LambdaLR(optimizer, lambda step: 0.9**step), Sharpening(optimizer, model, steps=20)

    unbroken, optimizer, scheduler, _ = start()
    train(unbroken, optimizer, data, scheduler)
    broken = start()
    train(broken[0], broken[1], data[:10], broken[2])
    torch.save([part.state_dict() for part in broken[:3]], tmp_path / "state")
    resumed, optimizer, scheduler, sharpening = start()
    for part, state in zip((resumed, optimizer, scheduler), torch.load(tmp_path / "state"), strict=True):
        part.load_state_dict(state)
    train(resumed, optimizer, data[10:], scheduler)
    assert sharpening.step_count == 20
    assert_same(resumed, unbroken)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies_of_model_and_optimizer_train_alike(copied):
    model, data = net(), batches(20)
    optimizer = Bop(model.parameters(), **SETTINGS)
    train(model, optimizer, data[:10])
    twin, its_optimizer = copied((model, optimizer))
    train(model, optimizer, data[10:])
    train(twin, its_optimizer, data[10:])
    assert_same(model, twin)
    train(twin, Bop(twin.parameters(), **SETTINGS), data)


def test_a_closure_is_evaluated_once_with_gradients():
    model, losses = net(), []
    optimizer = Bop(model.parameters(), **SETTINGS)
    ((x, y),) = batches(1)

    def closure():
        optimizer.zero_grad()
        losses.append(cross_entropy(model(x), y))
        losses[-1].backward()
        return losses[-1]

    assert optimizer.step(closure) is losses[0]
    assert len(losses) == 1


def test_a_scaler_unscales_for_latents_and_a_fused_optimizer_alike():
    model, data = net(), batches(10)
    twin = copy.deepcopy(model)
    fused = partial(Adam, fused=True)
    train(twin, Bop(twin.parameters(), fused, **SETTINGS), data[1:])
    optimizer, scaler = Bop(model.parameters(), fused, **SETTINGS), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for i, (x, y) in enumerate(data):
        optimizer.zero_grad()
        scaler.scale(cross_entropy(model(x), y) * (float("inf") if i == 0 else 1)).backward()
        scaler.step(optimizer)
        scaler.update()
    for parameter, expected in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(parameter, expected)


def test_a_latent_of_zero_counts_as_positive_and_flips():
    model = net()
    optimizer = Bop(model.parameters())
    model[2].latent.data.zero_()
    model[2].latent.grad = torch.ones(8, 8)
    optimizer.step()
    assert (model[2].latent < 0).all()
    optimizer.step()
    assert (model[2].latent < 0).all()


def test_a_network_of_latents_alone_needs_no_other_optimizer():
    model = binarize(nn.Sequential(nn.Linear(4, 4, bias=False)), weights="bc", keep=None)
    optimizer = Bop(model.parameters(), gamma=1.0)
    before = model[0].binary_weight
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    assert optimizer.others is None
    assert torch.equal(model[0].binary_weight.sign(), -torch.ones(4, 4))
    assert torch.equal(model[0].binary_weight.abs(), before.abs())


def test_layers_are_found_while_they_live():
    model = net()
    latent = model[2].latent
    assert owners(model.parameters()) == {latent: model[2]}
    del model
    assert owners([latent]) == {}


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (nn.Linear(2, 2), {}, "call proxconnect.binarize"),
        (net(weights="bnn++"), {}, "quantised by 'bnn\\+\\+'"),
        (net(weights="bnn"), {}, "weights='bc'"),
        (net().bfloat16(), {}, "torch.autocast"),
        (net(), {"gamma": 0.0}, "gamma must be"),
        (net(), {"threshold": -1.0}, "threshold must be"),
        (nn.ReLU(), {}, "empty parameter list"),
    ],
)
def test_what_cannot_be_is_refused(model, settings, message):
    with pytest.raises(ValueError, match=message):
        Bop(model.parameters(), **settings)
