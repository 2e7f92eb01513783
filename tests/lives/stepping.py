"""The rules of a life by which it trains: optimizers, update rules, schedules, clamps, and steps that are refused."""

import copy
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from torch import Tensor

import proxconnect as pc
from lives import reference
from lives.facts import of, optimizer_facts
from lives.living import InterruptionError, Living
from lives.reference import CLIP, GAMMA, HOLD, LEARNING_RATE, STEPS, THRESHOLD
from proxconnect import Heuristic, Quantizer
from proxconnect.pairs import prox

KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "sgd": (torch.optim.SGD, {"lr": LEARNING_RATE, "momentum": 0.9}),
    "adam": (torch.optim.Adam, {"lr": LEARNING_RATE}),
    "adamw": (torch.optim.AdamW, {"lr": LEARNING_RATE, "weight_decay": 0.1}),
}
OTHERS = partial(torch.optim.SGD, lr=LEARNING_RATE, momentum=0.9)
RULES = {"proxquant": pc.proxquant, "reverse": pc.reverse_proxconnect, "post": pc.post_training}
SHAPES = ["exponential", "linear", "cosine", "cumulative"]
has_optimizer = precondition(lambda self: self.optimizer is not None)


class Training(Living):
    """A life with an optimizer, whose every step is made again by torch alone."""

    update: tuple[str, pc.UpdateRule] | None = None
    sharpening: pc.Sharpening | None = None
    clip: Any = None

    @precondition(lambda self: self.optimizer is None)
    @rule(kind=st.sampled_from([*KINDS, "bop"]))
    def make_optimizer(self, kind: str) -> None:
        if kind == "bop" and (self.way.weights != "bc" or self.dtype == torch.bfloat16):
            with pytest.raises(ValueError, match="Bop"):
                self.new_optimizer(kind)
            return
        self.kind, self.optimizer = kind, self.new_optimizer(kind)
        self.expected |= optimizer_facts(self.optimizer)

    def new_optimizer(self, kind: str) -> Any:
        if kind == "bop":
            return pc.Bop(self.model.parameters(), OTHERS, threshold=THRESHOLD, gamma=GAMMA)
        make, settings = KINDS[kind]
        return make(self.model.parameters(), **settings)

    @has_optimizer
    @rule()
    def drop_optimizer(self) -> None:
        self.end_rule()
        self.end_schedule()
        if self.clip:
            self.clip.remove()
        self.optimizer = self.clip = None
        self.expected = {k: v for k, v in self.expected.items() if k[0] not in ("group", "state")}

    @has_optimizer
    @rule(name=st.sampled_from(list(RULES)))
    def take_rule(self, name: str) -> None:
        pair, is_learned = pc.PAIRS[self.way.weights], self.way.scale == "learned"
        has_no_prox = name in ("proxquant", "reverse") and isinstance(pair, Heuristic)
        if self.update or has_no_prox or (is_learned and name != "proxquant"):
            with pytest.raises(ValueError, match=r"already has|no prox problem|learns nothing|was made by"):
                RULES[name](self.optimizer, self.model)
            return
        self.update = (name, RULES[name](self.optimizer, self.model))
        self.expected["group", 0, "update_rule"] = self.update[1].name
        for key in self.keys_of("trains_latent", ("weights",)):
            self.expected[key] = name != "proxquant"

    @precondition(lambda self: self.update)
    @rule()
    def end_rule(self) -> None:
        if self.update is None:
            return
        self.update[1].remove()
        self.update = None
        self.expected.pop(("group", 0, "update_rule"))
        for key in self.keys_of("trains_latent", ("weights",)):
            self.expected[key] = False

    @has_optimizer
    @rule(shape=st.sampled_from(SHAPES), part=st.sampled_from(["weights", "both"]))
    def take_schedule(self, shape: Any, part: Any) -> None:
        usual: dict[str, Any] = {} if shape == "cumulative" else {"steps": STEPS, "hold": HOLD}
        if self.sharpening:
            with pytest.raises(ValueError, match="already has a Sharpening"):
                pc.Sharpening(self.optimizer, self.model, shape=shape, part=part, **usual)
            return
        self.sharpening = pc.Sharpening(self.optimizer, self.model, shape=shape, part=part, **usual)
        self.expected["group", 0, f"sharpening_{part}"] = 0
        if shape == "cumulative":
            for group in range(len(self.optimizer.param_groups)):
                self.expected["group", group, f"sharpening_{part}_travelled"] = 0.0
        self.expect_mu()
        for name in self.scheduled():
            self.expected["scheduled", name] = True

    @precondition(lambda self: self.sharpening)
    @rule()
    def end_schedule(self) -> None:
        if self.sharpening is None:
            return
        for name in self.scheduled():
            self.expected["scheduled", name] = False
        self.sharpening.remove()
        self.sharpening = None
        for key in [k for k in self.expected if k[0] == "group" and str(k[2]).startswith("sharpening")]:
            del self.expected[key]

    @precondition(lambda self: self.optimizer is not None and self.clip is None)
    @rule()
    def clip_latents(self) -> None:
        self.clip = pc.clip_latents(self.optimizer, self.model, CLIP)

    @has_optimizer
    @rule(seed=st.integers(0, 9), has_closure=st.booleans())
    def step(self, seed: int, has_closure: bool) -> None:
        self.optimizer.zero_grad()
        closure = partial(self.backward, seed) if has_closure else None
        if closure is None:
            self.backward(seed)
        self.see("gradient")
        self.see_norms()
        if self.is_refused(has_closure):
            with pytest.raises(RuntimeError, match="would train the latents"):
                self.optimizer.step(closure)
            return
        values, points = self.values(), self.prox_points()
        state = copy.deepcopy(self.optimizer.state_dict())
        self.optimizer.step(closure)
        self.see("gradient")
        self.see_norms()
        self.expect_step(state, values, points)

    @has_optimizer
    @rule(seed=st.integers(0, 9))
    def a_closure_raises(self, seed: int) -> None:
        def interrupted() -> Tensor:
            self.backward(seed)
            raise InterruptionError

        self.optimizer.zero_grad()
        with pytest.raises(RuntimeError if self.is_refused(has_closure=True) else InterruptionError):
            self.optimizer.step(interrupted)
        self.see("gradient")
        self.see_norms()

    @has_optimizer
    @rule(other=st.sampled_from(["proxquant", "reverse_proxconnect", "post_training", None]))
    def load_the_state_of_another_rule(self, other: str | None) -> None:
        if self.update is None or other == self.update[1].name:
            return
        state = copy.deepcopy(self.optimizer.state_dict())
        state["param_groups"][0].pop("update_rule")
        if other:
            state["param_groups"][0]["update_rule"] = other
        with pytest.raises(ValueError, match="this state was made"):
            self.optimizer.load_state_dict(state)

    @has_optimizer
    @rule()
    def load_own_optimizer_state(self) -> None:
        self.optimizer.load_state_dict(copy.deepcopy(self.optimizer.state_dict()))
        if self.sharpening:
            self.expect_mu()

    def backward(self, seed: int) -> Tensor:
        loss: Tensor = (self.model(self.example(seed)).float() - 1).square().mean()
        if loss.requires_grad:
            loss.backward()
        return loss

    def is_refused(self, has_closure: bool) -> bool:
        for layer in reference.layers_of(self.model).values():
            is_hard = any(self.is_hard(quantizer) for quantizer in layer.quantizers.values())
            if is_hard and layer.latent.requires_grad and (has_closure or layer.latent.grad is not None):
                return True
        return False

    def is_hard(self, quantizer: Quantizer) -> bool:
        return self.kind_of(quantizer) == "hard"

    def parameters(self) -> list[Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def values(self) -> list[Tensor]:
        return [p.detach().clone() for p in self.parameters()]

    def prox_points(self) -> dict[int, Tensor]:
        """Where steps start by the present rule, for the latents that it overwrites, by the id of the latent."""
        if self.update is None or self.update[0] == "post" or pc.PAIRS[self.way.weights].prox == prox.identity:
            return {}
        layers = reference.layers_of(self.model).values()
        return {id(layer.latent): reference.prox_point(layer, layer.latent.detach()) for layer in layers}

    def expect_step(self, state: dict[str, Any], values: list[Tensor], points: dict[int, Tensor]) -> None:
        parameters = self.parameters()
        gradients = [p.grad for p in parameters]
        begun = [value if g is None else points.get(id(p), value)
                 for p, value, g in zip(parameters, values, gradients, strict=True)]  # fmt: skip
        step = self.step_of_bop if self.kind == "bop" else partial(reference.stepped, *KINDS[self.kind])
        ended, after = step(state, begun, gradients)
        latents = {id(layer.latent) for layer in reference.layers_of(self.model).values()}
        ended = [v.clamp(-CLIP, CLIP) if self.clip and id(p) in latents else v
                 for p, v in zip(parameters, ended, strict=True)]  # fmt: skip
        values_of = {id(p): v for p, v in zip(parameters, ended, strict=True)}
        for name, parameter in self.model.named_parameters(remove_duplicate=False):
            self.expected["value", name] = values_of[id(parameter)]
        self.expected = {k: v for k, v in self.expected.items() if k[0] != "state"}
        self.expected |= {("state", i, k): v for i, entries in after["state"].items() for k, v in entries.items()}
        if self.sharpening:
            self.count_step()

    def step_of_bop(
        self, state: dict[str, Any], values: list[Tensor], gradients: list[Tensor | None]
    ) -> tuple[list[Tensor], dict[str, Any]]:
        """Flips of the latents, which are the first group, and SGD with momentum for the rest."""
        flipped, after = len(state["param_groups"][0]["params"]), {}
        ended = values[:]
        for i, (value, gradient) in enumerate(zip(values, gradients, strict=True)):
            if gradient is None:
                after |= {i: state["state"][i]} if i in state["state"] else {}
            elif i < flipped:
                ended[i], average = reference.flipped(value, gradient, state["state"].get(i, {}).get("average"))
                after[i] = {"average": average}
            else:
                last = state["state"].get(i, {}).get("momentum_buffer")
                momentum = gradient.clone() if last is None else last * 0.9 + gradient
                ended[i], after[i] = torch.add(value, momentum, alpha=-LEARNING_RATE), {"momentum_buffer": momentum}
        return ended, {"state": after}

    def count_step(self) -> None:
        sharpening = self.sharpening
        assert sharpening
        self.expected["group", 0, f"sharpening_{sharpening.part}"] += 1
        if sharpening.shape == "cumulative":
            for i, group in enumerate(self.optimizer.param_groups):
                self.expected["group", i, f"sharpening_{sharpening.part}_travelled"] += group["lr"]
        self.expect_mu()

    def expect_mu(self) -> None:
        """μ of every quantizer of the schedule, as its formula has it after the steps that were counted."""
        sharpening = self.sharpening
        assert sharpening
        count = self.expected["group", 0, f"sharpening_{sharpening.part}"]
        travelled = self.expected.get(("group", 0, f"sharpening_{sharpening.part}_travelled"), 0.0)
        for name in self.scheduled():
            quantizer = self.model.get_submodule(name)
            assert isinstance(quantizer, Quantizer)
            for alias, module in self.model.named_modules(remove_duplicate=False):
                if module is quantizer:
                    mu = reference.scheduled_mu(sharpening.shape, quantizer, count, travelled)
                    self.expected["value", f"{alias}.mu"] = torch.full_like(quantizer.mu, mu)

    def scheduled(self) -> list[str]:
        """The names of the quantizers that the schedule moves."""
        sharpening = self.sharpening
        assert sharpening
        parts = ("weights", "activations") if sharpening.part == "both" else ("weights",)
        names = [key[1] for key in self.keys_of("scheduled", parts)]
        return [name for name in names if self.model.get_submodule(name).sharpness is not None]

    def keys_of(self, fact: str, parts: tuple[str, ...]) -> list[tuple[Any, ...]]:
        """The keys of a fact for the quantizers of these parts."""
        ids = {id(q) for layer in reference.layers_of(self.model).values()
               for part, q in layer.quantizers.items() if part in parts}  # fmt: skip
        return [key for key in of([fact], self.expected) if id(self.model.get_submodule(key[1])) in ids]
