"""A recorded run is the run: latents, sharpness, learning rates and gradients, whatever hooks do to the latents."""

import math

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.distributed import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.functional import mse_loss

import proxconnect as pc
from proxconnect.pairs import PAIRS
from proxconnect.theory.certificates.recorder import Recorder

_random = torch.Generator().manual_seed(0)
INPUTS, TARGETS, START = (torch.randn(*n, dtype=torch.float64, generator=_random) for n in ((16, 6), (16, 4), (4, 6)))
STEPS = 20


def layer(pair: str, **options: object) -> pc.BinaryLinear:
    made = pc.BinaryLinear(6, 4, bias=False, dtype=torch.float64, weights=pair, scale=None, **options)
    made.weight = START
    return made


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = STEPS) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        mse_loss(model(INPUTS), TARGETS).backward()
        optimizer.step()


def naive(pair: str, rates: list[float], mus: list[float]) -> dict[str, Tensor]:
    """The recursion, with the gradient of the mean squared error on paper."""
    latent, rows = START, {"latents": [START], "weights": [], "gradients": [], "updates": []}
    for rate, mu in zip(rates, mus, strict=True):
        weight = PAIRS[pair].forward(latent, mu)
        gradient = 2 * (INPUTS @ weight.T - TARGETS).T @ INPUTS / TARGETS.numel()
        update = PAIRS[pair].backward(latent, mu) * gradient
        latent = latent - rate * update
        for name, value in (("latents", latent), ("weights", weight), ("gradients", gradient), ("updates", update)):
            rows[name].append(value)
    return {name: torch.stack(values).flatten(1) for name, values in rows.items()}


@pytest.mark.parametrize("pair", ["fp", "bc", "pc", "parq", "md", "bnn", "bnn++", "bnn+"])
@pytest.mark.parametrize("recorder_first", [True, False])
def test_equals_the_naive_recursion_while_mu_and_the_learning_rate_move(pair: str, recorder_first: bool) -> None:
    model = layer(pair)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    recorder = Recorder(optimizer, model) if recorder_first else None
    pc.Sharpening(optimizer, model, steps=STEPS, start=1.0, end=4.0, shape="linear")
    recorder = recorder or Recorder(optimizer, model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 / math.sqrt(t + 1))
    for _ in range(STEPS):
        train(model, optimizer, 1)
        model.eval()
        model(INPUTS)  # validation sees hard weights and counts for nothing
        model.train()
        schedule.step()
    run = recorder.trajectories()[""]
    rates = [0.3 / math.sqrt(t + 1) for t in range(STEPS)]
    mus = [1 + 3 * t / STEPS for t in range(STEPS + 1)] if PAIRS[pair].sharpness else [1.0] * (STEPS + 1)
    assert torch.allclose(run.learning_rates, torch.tensor(rates, dtype=torch.float64), rtol=1e-14, atol=0)
    assert torch.allclose(run.mu, torch.tensor(mus, dtype=torch.float64), rtol=1e-6, atol=0)
    for name, expected in naive(pair, rates, run.mu[:-1].tolist()).items():
        assert torch.allclose(getattr(run, name), expected, rtol=0, atol=1e-12), name


def test_the_last_steps_and_a_choice_of_entries_are_kept() -> None:
    whole, part = layer("pc"), layer("pc")
    runs = []
    for model, bounds in ((whole, {}), (part, {"entries": 7, "steps": 5})):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
        with Recorder(optimizer, model, **bounds) as recorder:
            train(model, optimizer)
            runs.append(recorder.trajectories()[""])
            chosen = recorder.entries()[""]
    full, window = runs
    assert (window.steps, window.entries) == (5, 7)
    assert len(set(chosen.tolist())) == 7
    assert torch.equal(window.latents, full.latents[-6:, chosen])
    for name in ("updates", "gradients", "weights"):
        assert torch.equal(getattr(window, name), getattr(full, name)[-5:, chosen]), name


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = layer("md")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    recorder = Recorder(optimizer, model, entries=3, steps=4)

    def held() -> int:
        """The numbers in every tensor that the recorder reaches, but for the model's own."""
        seen, stack, count = set(), [recorder], 0
        while stack:
            item = stack.pop()
            if id(item) in seen or isinstance(item, nn.Module | nn.Parameter | torch.optim.Optimizer):
                continue
            seen.add(id(item))
            if isinstance(item, Tensor):
                count += item.untyped_storage().nbytes() // item.element_size()
            elif isinstance(item, dict):
                stack += item.values()
            elif hasattr(item, "__iter__") and not isinstance(item, str):
                stack += list(item)
            else:
                stack += getattr(item, "__dict__", {}).values()
        return count

    train(model, optimizer, 6)
    after_six = held()
    train(model, optimizer, 30)
    assert 0 < after_six == held() <= 3 * (5 + 2 * 4 + 4) + 3


def test_the_update_is_what_moved_the_latents_whatever_the_optimizer() -> None:
    for optimize in (
        lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=0.1),
    ):
        model = layer("bc")
        optimizer = optimize(model.parameters())
        recorder, latents = Recorder(optimizer, model), [model.latent.detach().clone()]
        for _ in range(4):
            train(model, optimizer, 1)
            latents.append(model.latent.detach().clone())
        run = recorder.trajectories()[""]
        assert torch.equal(run.latents, torch.stack(latents).flatten(1))
        assert torch.allclose(run.latents[:-1] - 0.1 * run.updates, run.latents[1:], rtol=0, atol=1e-15)
        assert not torch.allclose(run.updates, run.gradients)


@pytest.mark.parametrize("hook_first", [True, False])
def test_latents_that_a_hook_overwrites_are_those_that_the_forward_pass_saw(hook_first: bool) -> None:
    """The step then starts from P(w*), and g holds (w* - P(w*))/η."""
    model = layer("parq")
    model.weight_quantizer.mu.fill_(2.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def overwrite(*_: object) -> None:
        with torch.no_grad():
            model.latent.copy_(PAIRS["parq"].forward(model.latent, 2.0))

    def register() -> object:
        return optimizer.register_step_pre_hook(overwrite)

    hook = register() if hook_first else None
    recorder = Recorder(optimizer, model)
    hook = hook or register()
    train(model, optimizer, 3)
    run = recorder.trajectories()[""]
    latent = START.flatten()
    for t in range(3):
        weight = (2 * latent).clamp(-1, 1)
        gradient = (2 * (INPUTS @ weight.reshape(4, 6).T - TARGETS).T @ INPUTS / TARGETS.numel()).flatten()
        assert torch.allclose(run.latents[t], latent, rtol=0, atol=1e-14)
        assert torch.allclose(run.weights[t], weight, rtol=0, atol=1e-14)
        assert torch.allclose(run.gradients[t], gradient, rtol=0, atol=1e-14)
        assert torch.allclose(run.updates[t], gradient + (latent - weight) / 0.1, rtol=0, atol=1e-12)
        latent = weight - 0.1 * gradient


@pytest.mark.parametrize("clip_first", [True, False])
def test_a_clip_counts_as_part_of_its_step(clip_first: bool) -> None:
    model = layer("bc")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    if clip_first:
        pc.clip_latents(optimizer, model)
    recorder = Recorder(optimizer, model)
    if not clip_first:
        pc.clip_latents(optimizer, model)
    train(model, optimizer)
    run = recorder.trajectories()[""]
    assert (run.latents[1:].abs() <= 1).all()
    assert (run.latents[1:].abs() == 1).any()
    assert torch.allclose(run.latents[:-1] - 0.5 * run.updates, run.latents[1:], rtol=0, atol=1e-14)


def test_accumulated_batches_sum_and_closures_are_seen() -> None:
    halves, whole, closed = layer("md"), layer("md"), layer("md")
    runs = []
    for model in (halves, whole, closed):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        recorder = Recorder(optimizer, model)

        def closure(model: nn.Module = model, optimizer: torch.optim.Optimizer = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = mse_loss(model(INPUTS), TARGETS)
            loss.backward()
            return loss

        for _ in range(3):
            if model is halves:
                optimizer.zero_grad()
                for part in (slice(0, 8), slice(8, 16)):
                    (mse_loss(model(INPUTS[part]), TARGETS[part]) / 2).backward()
                optimizer.step()
            else:
                optimizer.step(closure)
        runs.append(recorder.trajectories()[""])
    for name in ("latents", "updates", "gradients", "weights"):
        one, *others = (getattr(run, name) for run in runs)
        assert all(torch.allclose(one, other, rtol=0, atol=1e-13) for other in others), name


def test_a_closure_called_at_several_weights_leaves_gradients_unknown() -> None:
    model = layer("md")
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
    recorder = Recorder(optimizer, model)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = mse_loss(model(INPUTS), TARGETS)
        loss.backward()
        return loss

    optimizer.step(closure)
    run = recorder.trajectories()[""]
    assert run.gradients is None
    assert torch.equal(run.latents[0], START.flatten())
    assert torch.equal(run.latents[1], model.latent.detach().flatten())


def test_without_a_pass_through_the_quantizer_the_latents_are_those_before_the_step() -> None:
    model = layer("md", activations="bc", accumulator=pc.Accumulator(8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = Recorder(optimizer, model)
    train(model, optimizer, 3)
    run = recorder.trajectories()[""]
    assert torch.equal(run.latents[0], START.flatten())
    assert torch.equal(run.latents[-1], model.latent.detach().flatten())
    assert run.gradients is None
    assert run.weights is None


def test_layers_are_recorded_apart_and_remove_leaves_nothing() -> None:
    model = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 4), nn.Linear(4, 4))
    pc.binarize(model, weights="bnn++", scale=None, keep=())
    names = [name for name, module in model.named_modules() if isinstance(module, pc.BinaryLinear)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = Recorder(optimizer, model)
    other = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        mse_loss(model(INPUTS.float()), TARGETS.float()).backward()
        optimizer.step()
        other.step()
    runs = recorder.trajectories()
    assert list(runs) == names
    for name, run in runs.items():
        latent = model.get_submodule(name).latent.detach()
        assert torch.equal(run.latents[-1], latent.double().flatten())
        assert (run.steps, run.resolution) == (3, torch.finfo(torch.float32).eps)
    recorder.remove()
    optimizer.step()
    assert all(run.steps == 3 for run in recorder.trajectories().values())
    assert not any(module._forward_hooks for module in model.modules())


def test_full_precision_leaves_no_hook_on_the_latent() -> None:
    model = layer("fp")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    Recorder(optimizer, model)
    train(model, optimizer, 3)
    assert not model.latent._backward_hooks


@pytest.mark.parametrize("scale", ["channel", "tensor", "learned"])
def test_a_scale_is_refused(scale: str) -> None:
    model = pc.BinaryLinear(6, 4, weights="bc", scale=scale)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"have a scale α .* call binarize\(model, \.\.\., scale=None\)"):
        Recorder(optimizer, model)


def test_nothing_recorded_yet() -> None:
    model = layer("bc")
    recorder = Recorder(torch.optim.SGD(model.parameters(), lr=0.1), model)
    with pytest.raises(RuntimeError, match=r"after optimizer\.step"):
        recorder.trajectories()
    with pytest.raises(ValueError, match="at least 1"):
        Recorder(torch.optim.SGD(model.parameters(), lr=0.1), model, steps=0)


def backward(model: nn.Module, inputs: Tensor = INPUTS, targets: Tensor = TARGETS) -> None:
    mse_loss(model(inputs), targets).backward()


@pytest.mark.parametrize("pair", ["fp", "md"])
def test_gradients_of_several_passes_before_a_step_sum(pair: str) -> None:
    runs = []
    for parts in ((INPUTS,), (INPUTS[:4], INPUTS[4:])):
        model = layer(pair)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        recorder = Recorder(optimizer, model)
        for _ in range(2):
            optimizer.zero_grad()
            for part in parts:
                (model(part).square().sum() / 64).backward()
            optimizer.step()
        runs.append(recorder.trajectories()[""])
    assert torch.allclose(runs[0].gradients, runs[1].gradients, rtol=0, atol=1e-13)


@pytest.mark.parametrize("to_none", [True, False])
@pytest.mark.parametrize("pair", ["fp", "md"])
def test_a_pass_whose_gradient_was_zeroed_counts_for_nothing(pair: str, to_none: bool) -> None:
    """As after a trial of the loop, or where GradScaler skipped the step."""
    plain, tried = layer(pair), layer(pair)
    runs = []
    for model in (plain, tried):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        recorder = Recorder(optimizer, model)
        train(model, optimizer, 1)
        if model is tried:
            optimizer.zero_grad(to_none)
            backward(model, torch.inf * INPUTS)
            optimizer.zero_grad(to_none)
            backward(model, 2 * INPUTS)
        optimizer.zero_grad(to_none)
        backward(model)
        optimizer.step()
        train(model, optimizer, 1)
        runs.append(recorder.trajectories()[""])
    for name in ("latents", "weights", "gradients", "updates"):
        assert torch.equal(getattr(runs[0], name), getattr(runs[1], name)), name


@pytest.mark.parametrize("fused", [True, False])
def test_a_step_that_a_scaler_skips_is_none(fused: bool) -> None:
    """A fused optimizer is called for it all the same, and skips it by itself."""
    model = layer("md").float()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    recorder = Recorder(optimizer, model)
    for factor in (1.0, torch.inf, 1.0):
        optimizer.zero_grad()
        scaler.scale(mse_loss(model(factor * INPUTS.float()), TARGETS.float())).backward()
        scaler.step(optimizer)
        scaler.update()
    run = recorder.trajectories()[""]
    assert run.steps == 2
    assert run.gradients is not None
    assert torch.equal(run.latents[-1], model.latent.detach().double().flatten())


def test_a_second_backward_pass_after_the_step_changes_nothing() -> None:
    model = layer("md")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = Recorder(optimizer, model)
    loss = mse_loss(model(INPUTS), TARGETS)
    loss.backward(retain_graph=True)
    optimizer.step()
    before = recorder.trajectories()[""].gradients
    loss.backward()
    assert torch.equal(recorder.trajectories()[""].gradients, before)


def test_the_learning_rate_is_followed_through_a_load() -> None:
    """An optimizer has other groups after it, which its scheduler moves."""
    model = layer("md")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = Recorder(optimizer, model)
    optimizer.load_state_dict(torch.optim.SGD([nn.Parameter(START)], lr=0.2).state_dict())
    train(model, optimizer, 1)
    optimizer.param_groups[0]["lr"] = 0.3
    train(model, optimizer, 1)
    run = recorder.trajectories()[""]
    assert run.learning_rates.tolist() == [0.2, 0.3]
    assert torch.allclose(run.updates, PAIRS["md"].backward(run.latents[:-1], 1.0) * run.gradients, rtol=1e-12, atol=0)


def test_sharded_latents_are_refused() -> None:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        model = fully_shard(nn.Sequential(layer("bc")), mesh=init_device_mesh("cpu", (1,)))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with pytest.raises(ValueError, match="the latents of 0 are sharded"):
            Recorder(optimizer, model)
    finally:
        distributed.destroy_process_group()
