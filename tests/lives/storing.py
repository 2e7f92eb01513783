"""The rules of a life by which it is copied, stored, looked at and shipped."""

import copy
import io
import pickle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from torch import Tensor, nn

import proxconnect as pc
from lives import reference
from lives.facts import Facts, differences, facts, memory, of, same
from lives.small_networks import NETWORKS, floats
from lives.stepping import RULES, Training


class Uncopyable:
    """What no copy can be made of, as a lock or an open file."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "Uncopyable":
        raise TypeError("cannot be copied")


def by_pickle(model: nn.Module) -> nn.Module:
    copied: nn.Module = pickle.loads(pickle.dumps(model))
    return copied


def by_torch(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    copied: nn.Module = torch.load(file, weights_only=False)
    return copied


COPIES = {"deepcopy": copy.deepcopy, "pickle": by_pickle, "torch.save": by_torch}


class Shipping(Training):
    """A life that is copied, stored, packed, saved and loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        self.path = Path(self.folder.name) / "model.safetensors"
        self.states: list[dict[str, Tensor]] = []
        self.shipped: list[tuple[nn.Module, Tensor, Tensor]] = []

    def teardown(self) -> None:
        super().teardown()
        self.folder.cleanup()

    @rule(kind=st.sampled_from(list(COPIES)), goes_on=st.booleans())
    def copy_it(self, kind: str, goes_on: bool) -> None:
        copied = COPIES[kind](self.model)
        assert not memory(copied) & memory(self.model)
        wrong = differences(self.expected_of_copy(), {k: v for k, v in facts(copied).items() if k[0] != "parameter"})
        assert not wrong, "\n".join(wrong)
        if not goes_on:
            return
        while self.contexts:
            self.leave(by_exception=False)
        if self.optimizer is not None:
            self.drop_optimizer()
        self.all_else_is_as_it_was()
        self.model, self.expected = copied, facts(copied)
        self.handles = {}

    def expected_of_copy(self) -> Facts:
        """The same facts, but free of contexts, rules, schedules and gradients."""
        free = {"override": None, "scheduled": False, "trains_latent": False, "gradient": None}
        left_out = ("parameter", "group", "state")
        return {k: free.get(k[0], v) for k, v in self.expected.items() if k[0] not in left_out}

    @rule()
    def a_copy_fails(self) -> None:
        *_, last = self.model.children()
        last.lock = Uncopyable()
        for call in (copy.deepcopy, pc.pack):
            with pytest.raises(TypeError, match="cannot be copied"):
                call(self.model)
        del last.lock

    @rule()
    def keep_state(self) -> None:
        self.states = [*self.states, self.kept_state()][-2:]

    @precondition(lambda self: self.states)
    @rule(which=st.integers(0, 1))
    def load_kept_state(self, which: int) -> None:
        state = self.states[which % len(self.states)]
        assert self.model.load_state_dict(state).missing_keys == []
        for name, value in state.items():
            self.expected["value", name] = value.to(self.expected["value", name].dtype)

    @rule()
    def load_own_state(self) -> None:
        self.model.load_state_dict(self.model.state_dict())

    @rule(seed=st.integers(0, 9))
    def load_into_another(self, seed: int) -> None:
        other = self.fresh()
        other.load_state_dict(self.model.state_dict())
        assert not differences(of(["value"], self.expected), of(["value"], facts(other)))
        example = self.example(seed)
        with pc.hard(other.eval()), torch.no_grad():
            is_exact = self.network.is_exact or self.way.activations is not None  # hooks turn fast attention off
            self.require_same(other(example), self.hard_answer(example), is_exact=is_exact)

    def require_same(self, answer: Tensor, expected: Tensor, *, is_exact: bool) -> None:
        """Equal to the bit, or up to the order of sums, which may be larger within than at the end."""
        coarse = 0.03 if self.dtype == torch.bfloat16 else 1e-4
        largest = 1 + float(expected.abs().max())
        torch.testing.assert_close(answer, expected, rtol=0.0, atol=0.0 if is_exact else coarse * largest)

    @rule(data=st.data(), mu=st.sampled_from([-1.0, 0.0, 1e12, float("nan")]))
    def load_a_wrong_mu(self, data: st.DataObject, mu: float) -> None:
        state = self.kept_state()
        key = data.draw(st.sampled_from([key for key in state if key.endswith(".mu")]))
        state[key] = torch.full_like(state[key], mu)
        with pytest.raises(RuntimeError, match="sharpness"):
            self.model.load_state_dict(state)

    @rule()
    def binarize_again(self) -> None:
        with pytest.raises(ValueError, match="binary"):
            pc.binarize(self.model)

    @rule(seed=st.integers(0, 9))
    def hard_state(self, seed: int) -> None:
        state = pc.hard_state_dict(self.model)
        for name, layer in reference.layers_of(self.model).items():
            assert torch.equal(state[layer.float_key(name)], layer.binary_weight)
        network = floats(self.network, self.seed + 1).to(self.dtype)
        network.load_state_dict(state)
        if self.way.activations is None:
            example = self.example(seed)
            with torch.no_grad():
                self.require_same(network.eval()(example), self.hard_answer(example), is_exact=False)

    @rule(seed=st.integers(0, 9))
    def look(self, seed: int) -> None:
        meters = pc.Meters(self.model)
        meters.read()
        with torch.no_grad():
            self.model(self.example(seed))
        self.see_norms()
        meters.read()
        pc.diagnose(meters.layers(), loss=1.0, progress=0.5)
        meters.remove()
        assert str(pc.summary(self.model, self.example(seed)))

    @rule(seed=st.integers(0, 9), remainder=st.sampled_from(["float", "int8"]), on_meta=st.booleans())
    def ship(self, seed: int, remainder: Any, on_meta: bool) -> None:
        example = self.example(seed)
        has_signs = self.way.activations is not None
        is_compared = remainder == "float" and (self.network.is_exact or not has_signs)
        packed = pc.pack(self.model, remainder=remainder, example=None if is_compared else example)
        assert not memory(packed) & memory(self.model)
        answer = packed(example)
        if is_compared:
            self.require_same(answer, self.hard_answer(example), is_exact=has_signs)
        pc.save(packed, self.path)
        with torch.device("meta" if on_meta else "cpu"):
            network = floats(self.network, self.seed + 1).to(self.dtype)
        loaded = pc.load(self.path, network)
        assert torch.equal(loaded(example), answer)
        assert not differences(of(["value"], facts(packed)), of(["value"], facts(loaded)))
        self.shipped = [*self.shipped, (packed, example, answer), (loaded, example, answer)][-4:]

    @precondition(lambda self: self.shipped)
    @rule()
    def the_shipped_answer_as_they_did(self) -> None:
        for packed, example, answer in self.shipped:
            assert same(packed(example), answer)
            assert same(copy.deepcopy(packed)(example), answer)

    @rule()
    def a_save_fails(self) -> None:
        with pytest.raises(ValueError, match="not packed"):
            pc.save(self.model, self.path)
        packed, before = pc.pack(self.model), self.path.read_bytes() if self.path.exists() else None
        known = facts(packed)
        for path in (self.path.parent, self.path / "below", self.path.with_name("nowhere") / "model"):
            with pytest.raises(OSError, match=r"."):
                pc.save(packed, path)
        assert not differences(known, facts(packed))
        assert before == (self.path.read_bytes() if self.path.exists() else None)

    @precondition(lambda self: self.shipped)
    @rule(share=st.floats(0, 0.999), other=st.sampled_from(list(NETWORKS)))
    def a_load_fails(self, share: float, other: str) -> None:
        network = floats(NETWORKS[other], 0)
        known = facts(network)
        if NETWORKS[other] is not self.network:
            with pytest.raises(pc.PackedFileError):
                pc.load(self.path, network)
        data = self.path.read_bytes()
        cut = self.path.with_name("cut")
        cut.write_bytes(data[: int(share * len(data))])
        with pytest.raises(pc.PackedFileError):
            pc.load(cut, network)
        assert not differences(known, facts(network))

    @rule(seed=st.integers(0, 9), is_empty=st.booleans())
    def estimate_norms(self, seed: int, is_empty: bool) -> None:
        has_norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in self.model.modules())
        if is_empty and has_norms:
            with pytest.raises(ValueError, match="empty"):
                pc.reestimate_batchnorm(self.model, [])
            return
        pc.reestimate_batchnorm(self.model, [] if is_empty else [self.example(seed)])
        found = self.found()
        for key in of(["value"], self.expected):
            if key[1].rpartition(".")[2].startswith(("running_", "num_batches")):
                self.expected[key] = found[key]

    @precondition(lambda self: self.optimizer is not None and not self.contexts and not self.handles)
    @rule()
    def resume(self) -> None:
        """A killed run: model and optimizer are built anew and load what was saved."""
        file = io.BytesIO()
        torch.save({"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}, file)
        file.seek(0)
        saved, last = torch.load(file), self.model
        self.model = self.fresh()
        self.model.load_state_dict(saved["model"])
        self.optimizer = self.new_optimizer(self.kind)
        self.attach_again()
        self.optimizer.load_state_dict(saved["optimizer"])
        for module, old_module in zip(self.model.modules(), last.modules(), strict=True):
            module.train(old_module.training)
        for parameter, old_parameter in zip(self.model.parameters(), last.parameters(), strict=True):
            parameter.requires_grad_(old_parameter.requires_grad)
        self.see("parameter", "gradient", "hooks")
        if self.sharpening:
            self.expect_mu()

    def attach_again(self) -> None:
        """Rule, schedule and clamp on the new optimizer, as a script that starts again has them."""
        if self.update:
            self.update = (self.update[0], RULES[self.update[0]](self.optimizer, self.model))
        if self.sharpening:
            old = self.sharpening
            self.sharpening = pc.Sharpening(
                self.optimizer, self.model, shape=old.shape, part=old.part, steps=old.steps, hold=old.hold
            )
        if self.clip:
            self.clip = pc.clip_latents(self.optimizer, self.model, reference.CLIP)
