"""What the machine of lives holds: a binary model, its optimizer, and the table of what must be true of them."""

import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from torch import Tensor, nn
from torch.optim import Optimizer

import proxconnect as pc
from lives import reference
from lives.facts import Facts, differences, facts, of
from lives.small_networks import NETWORKS, Way, binary, floats, ways
from proxconnect import Quantizer
from proxconnect.layers.parameter import BinaryParameter

CONTEXTS = {"hard": pc.hard, "soft": pc.soft, "full_precision": pc.full_precision}


class InterruptionError(Exception):
    """What a user's own code may raise anywhere."""


class Seen:
    """A hook that counts its calls, and can be copied and pickled."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *args: Any) -> None:
        self.calls += 1


class Living(RuleBasedStateMachine):
    """Birth, modes, contexts and hooks; after each rule, all that it did not change on purpose must be as it was."""

    model: nn.Module
    optimizer: Optimizer | None = None
    lives = rules_run = 0
    """How many machines there were, and of how many rules."""

    @initialize(name=st.sampled_from(list(NETWORKS)), way=ways(), seed=st.integers(0, 3))
    def birth(self, name: str, way: Way, seed: int) -> None:
        Living.lives += 1
        self.network, self.way, self.seed, self.dtype = NETWORKS[name], way, seed, torch.float32
        self.contexts: list[tuple[str, AbstractContextManager[Any]]] = []
        self.handles: dict[str, tuple[Any, Seen]] = {}
        weights = [p.clone() for p in floats(self.network, seed).parameters()]
        generator = torch.get_rng_state()
        self.model = binary(self.network, way, seed)
        assert torch.equal(torch.get_rng_state(), generator)
        kept = [p for n, p in self.model.named_parameters() if not n.endswith((".alpha", ".shift"))]
        assert sorted(p.sum().item() for p in kept) == sorted(w.sum().item() for w in weights)
        self.expected = facts(self.model)

    @invariant()
    def all_else_is_as_it_was(self) -> None:
        if not hasattr(self, "expected"):
            return
        Living.rules_run += 1
        wrong = differences(self.expected, self.found())
        assert not wrong, "\n".join(wrong)

    @invariant()
    def weights_are_what_the_mode_says(self) -> None:
        if not hasattr(self, "expected"):
            return
        generous = 1e-2 if self.dtype == torch.bfloat16 else 1e-4
        for layer in reference.layers_of(self.model).values():
            hard = layer.binary_weight
            torch.testing.assert_close(hard, reference.hard_weight(layer), rtol=generous, atol=1e-7)
            kind, weight = self.kind_of(layer.weight_quantizer), layer.weight.detach()
            if kind != "soft":
                assert torch.equal(weight, hard if kind == "hard" else layer.latent)
            elif self.dtype != torch.bfloat16:  # F may jump, and rounding may be on the other side
                error = (weight - reference.soft_weight(layer)).abs()
                assert (error > generous * (1 + weight.abs())).float().mean() < 0.1

    def found(self) -> Facts:
        return facts(self.model, self.optimizer)

    def see(self, *kinds: str) -> None:
        """Take facts of these kinds as they are, since what was called is meant to change them."""
        self.expected = {k: v for k, v in self.expected.items() if k[0] not in kinds} | of(kinds, self.found())

    def see_norms(self) -> None:
        """Take the statistics of batch norms in `train()` as they are."""
        norms = [n for n, m in self.model.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        found, moving = self.found(), {n for n in norms if self.expected["mode", n]}
        for key in self.expected:
            owner, _, name = str(key[-1]).rpartition(".")
            if key[0] == "value" and owner in moving and name.startswith(("running_", "num_batches")):
                self.expected[key] = found[key]

    def kind_of(self, quantizer: Quantizer) -> str:
        """By which of "hard", "soft" and "float" a quantizer must answer, as the table has it."""
        name = next(name for name, module in self.model.named_modules() if module is quantizer)
        override = self.expected["override", name]
        kind = override or ("soft" if self.expected["mode", name] else "hard")
        if kind == "hard":
            return "float" if override is None and quantizer.pair.is_identity else "hard"
        is_float = kind == "full_precision" or quantizer.pair.is_identity or self.expected["trains_latent", name]
        return "float" if is_float else "soft"

    def example(self, seed: int) -> Tensor:
        return self.network.example(seed, self.dtype)

    def fresh(self) -> nn.Module:
        """Another binary model of the same architecture, from other values."""
        return binary(self.network, self.way, self.seed + 100).to(self.dtype)

    @contextmanager
    def shipping(self) -> Iterator[None]:
        """In the state that ships, and back again."""
        modes = [(module, module.training) for module in self.model.modules()]
        self.model.eval()
        with pc.hard(self.model), torch.no_grad():
            yield
        for module, mode in modes:
            module.training = mode

    def hard_answer(self, example: Tensor) -> Tensor:
        with self.shipping():
            answer: Tensor = self.model(example)
            return answer

    @rule(is_training=st.booleans())
    def set_mode(self, is_training: bool) -> None:
        self.model.train(is_training)
        for key in of(["mode"], self.expected):
            self.expected[key] = is_training

    @rule(is_training=st.booleans(), data=st.data())
    def set_mode_of_a_part(self, is_training: bool, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([name for name, _ in self.model.named_children()]))
        self.model.get_submodule(name).train(is_training)
        part = {id(module) for module in self.model.get_submodule(name).modules()}
        for inner, module in self.model.named_modules():
            if id(module) in part:
                self.expected["mode", inner] = is_training

    @precondition(lambda self: len(self.contexts) < 3)
    @rule(name=st.sampled_from(list(CONTEXTS)))
    def enter(self, name: str) -> None:
        context = CONTEXTS[name](self.model)
        context.__enter__()
        self.contexts.append((name, context))
        self.expect_override()

    @precondition(lambda self: self.contexts)
    @rule(by_exception=st.booleans())
    def leave(self, by_exception: bool) -> None:
        _, context = self.contexts.pop()
        if by_exception:
            error = InterruptionError()
            assert not context.__exit__(InterruptionError, error, error.__traceback__)
        else:
            context.__exit__(None, None, None)
        self.expect_override()

    def expect_override(self) -> None:
        for key in of(["override"], self.expected):
            self.expected[key] = self.contexts[-1][0] if self.contexts else None

    @rule(seed=st.integers(0, 9), name=st.sampled_from(list(CONTEXTS)))
    def a_forward_raises_in_a_context(self, seed: int, name: str) -> None:
        def interrupt(module: nn.Module, args: Any) -> None:
            raise InterruptionError

        *_, last = [child for child in self.model.children() if not isinstance(child, BinaryParameter)]
        handle = last.register_forward_pre_hook(interrupt)
        with pytest.raises(InterruptionError), CONTEXTS[name](self.model):
            self.model(self.example(seed))
        handle.remove()
        self.see_norms()

    @rule(seed=st.integers(0, 9))
    def look_forward(self, seed: int) -> None:
        with torch.no_grad():
            self.model(self.example(seed))
        self.see_norms()

    @rule(data=st.data(), wants_grad=st.booleans())
    def freeze(self, data: st.DataObject, wants_grad: bool) -> None:
        part = data.draw(st.sampled_from(["", *(name for name, _ in self.model.named_children())]))
        self.model.get_submodule(part).requires_grad_(wants_grad)
        inside = {id(p) for p in self.model.get_submodule(part).parameters()}
        for name, parameter in self.model.named_parameters():
            if id(parameter) in inside:
                self.expected["requires_grad", name] = wants_grad

    @rule(data=st.data(), share=st.floats(0, 1))
    def move_mu(self, data: st.DataObject, share: float) -> None:
        quantizers = {n: m for n, m in self.model.named_modules() if isinstance(m, Quantizer)}
        name = data.draw(st.sampled_from(list(quantizers)))
        usual = quantizers[name].sharpness
        if usual is None:
            return
        quantizers[name].mu.fill_(usual.start + share * (usual.end - usual.start))
        same = [n for n, m in self.model.named_modules(remove_duplicate=False) if m is quantizers[name]]
        for alias in same:
            self.expected["value", f"{alias}.mu"] = quantizers[name].mu.clone()

    @precondition(lambda self: not self.handles)
    @rule(seed=st.integers(0, 9))
    def add_hooks(self, seed: int) -> None:
        for name, layer in reference.layers_of(self.model).items():
            hook = Seen()
            self.handles[name] = (layer.register_forward_hook(hook), hook)
            count = self.expected["hooks", name]
            self.expected["hooks", name] = (count[0] + 1, *count[1:])
        with torch.no_grad():
            self.model(self.example(seed))
        self.see_norms()
        if self.network.is_exact:  # attention takes the weights of others
            assert any(hook.calls for _, hook in self.handles.values())

    @precondition(lambda self: self.handles)
    @rule()
    def remove_hooks(self) -> None:
        for name, (handle, _) in self.handles.items():
            handle.remove()
            count = self.expected["hooks", name]
            self.expected["hooks", name] = (count[0] - 1, *count[1:])
        self.handles = {}

    @precondition(lambda self: self.optimizer is None)
    @rule(dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
    def change_dtype(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        values = of(["value", "gradient"], self.expected)
        self.model.to(dtype)
        for key, value in values.items():
            if isinstance(value, Tensor) and value.is_floating_point():
                self.expected[key] = value.to(dtype)

    def teardown(self) -> None:
        for _, context in reversed(getattr(self, "contexts", [])):
            context.__exit__(None, None, None)

    def kept_state(self) -> dict[str, Any]:
        return copy.deepcopy(self.model.state_dict())
