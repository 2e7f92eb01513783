"""Raw parameters made binary: the tensor that their module finds, its gradient, and all that must still know them."""

import copy
import math
import pickle
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.utils.checkpoint import checkpoint

import proxconnect as pc
from proxconnect import PAIRS
from proxconnect.layers import BinaryLinear, BinaryMultiheadAttention, BinaryParameter, binarize_parameter
from shipping import assert_ships

EXPERTS, HIDDEN, WIDTH = 2, 4, 3


class Experts(nn.Module):
    """A mixture that stacks the weights of its experts, and asks for the first twice."""

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.randn(EXPERTS, HIDDEN, WIDTH, dtype=dtype))
        self.down = nn.Parameter(torch.randn(EXPERTS, WIDTH, HIDDEN, dtype=dtype))
        self.bias = nn.Parameter(torch.randn(EXPERTS, WIDTH, dtype=dtype))

    def forward(self, x: Tensor, fail: bool = False) -> Tensor:
        hidden = torch.einsum("nw,ehw->neh", x, self.up).tanh()
        if fail:
            raise RuntimeError("as asked")
        return (torch.einsum("neh,ewh->new", hidden, self.down) + self.bias + self.up.mean()).sum(1)


class Twice(nn.Module):
    """Experts under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Experts()
        self.second = self.first

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


class Tied(nn.Module):
    """One parameter that two modules own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Experts(), Experts()
        self.second.up = self.first.up

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def binary_experts(dtype: torch.dtype | None = None, **options: Any) -> Experts:
    experts = Experts(dtype)
    for name in ("up", "down"):
        binarize_parameter(experts, name, **({"channel_dims": (0, 1)} | options))
    return experts


def example(dtype: torch.dtype | None = None) -> Tensor:
    return torch.randn(5, WIDTH, dtype=dtype)


def twin(latent: Tensor, name: str, scale: str | None, dims: tuple[int, ...], mu: float) -> Tensor:
    """α·F(w*/ᾱ) with the gradient (α/ᾱ)·B, one group of entries that share a scale after the other."""
    weight, pair = torch.zeros_like(latent), PAIRS[name]
    ranges = [range(size) if scale == "channel" and d in dims else [slice(None)] for d, size in enumerate(latent.shape)]
    for index in product(*ranges):
        values = latent[index].detach()
        magnitude = values.abs().mean() if scale else torch.ones((), dtype=latent.dtype)
        f, b = pair.forward(values / magnitude, mu), pair.backward(values / magnitude, mu)
        alpha = (values * f).sum() / (f * f).sum() if scale else magnitude
        weight[index] = alpha * f + alpha / magnitude * b * (latent[index] - values)
    return weight


def test_the_module_finds_the_quantised_tensor_and_its_parameter_is_the_latent() -> None:
    experts = Experts()
    latent = experts.up
    child = binarize_parameter(experts, "up", channel_dims=(0, 1))
    assert isinstance(child, BinaryParameter)
    assert experts.up_binary is child
    assert child.latent is latent
    assert torch.equal(experts.up, child.weight)
    assert torch.equal(experts.eval().up, child.binary_weight)
    assert not isinstance(experts.up, nn.Parameter)
    assert isinstance(experts, Experts)
    assert type(experts).__name__ == "Experts"
    assert sorted(name for name, _ in experts.named_parameters()) == ["bias", "down", "up_binary.latent"]
    assert torch.equal(child(), child.weight)


@pytest.mark.covering
@pytest.mark.parametrize("dims", [(0, 1), (0,), (1,), (-1,), (0, 1, 2), (2, 0)])
@pytest.mark.parametrize("scale", ["channel", "tensor", None])
@pytest.mark.parametrize("name", ["bnn++", "bnn", "poly", "pc"])
def test_value_and_gradient_are_the_twin_s(dims: tuple[int, ...], scale: Any, name: str) -> None:
    plain = Experts(torch.float64)
    experts = copy.deepcopy(plain)
    child = binarize_parameter(experts, "up", name, scale=scale, channel_dims=dims)
    mu, x = float(child.weight_quantizer.mu), example(torch.float64)
    up = plain.up.detach().clone().requires_grad_()
    weight = twin(up, name, scale, tuple(d % 3 for d in dims), mu)
    expected = torch.func.functional_call(plain, {"up": weight}, (x,))
    output, g = experts(x), torch.randn(5, WIDTH, dtype=torch.float64)
    assert torch.allclose(output, expected, rtol=1e-12, atol=1e-12)
    (ours,), (theirs,) = torch.autograd.grad(output, child.latent, g), torch.autograd.grad(expected, up, g)
    assert torch.allclose(ours, theirs, rtol=1e-11, atol=1e-12)


def test_it_is_computed_once_in_each_forward() -> None:
    experts, calls = binary_experts(), []
    for name in ("up", "down"):
        quantizer = experts.get_submodule(f"{name}_binary.weight_quantizer")
        quantizer.register_forward_hook(lambda *_, name=name: calls.append(name))
    experts(example())
    assert sorted(calls) == ["down", "up"]
    experts(example())
    assert len(calls) == 4
    assert experts.up is not experts.up
    assert len(calls) == 6, "outside forward it is computed as often as it is asked for"


def test_an_exception_in_forward_leaves_no_weight_behind() -> None:
    experts = binary_experts()
    with pytest.raises(RuntimeError, match="as asked"):
        experts(example(), fail=True)
    with torch.no_grad():
        experts.up_binary.latent.neg_()
    assert torch.equal(experts.up, experts.up_binary.weight)
    before = experts(example())
    assert before.isfinite().all()
    assert copy.deepcopy(experts).__dict__.get("_held") is None


def test_a_step_changes_the_next_forward() -> None:
    experts, x = binary_experts(scale=None, weights="bc"), example()
    before = experts(x)
    with torch.no_grad():
        experts.up_binary.latent.neg_()
    assert not torch.equal(experts(x), before)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_changes_no_gradient(use_reentrant: bool) -> None:
    experts, x = binary_experts(), example().requires_grad_()
    wanted = [experts.up_binary.latent, experts.down_binary.latent, x]
    grads = []
    for run in (experts, lambda x: checkpoint(experts, x, use_reentrant=use_reentrant)):
        run(x).square().sum().backward()
        grads.append([t.grad.clone() for t in wanted])
        for t in wanted:
            t.grad = None
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_assigning_a_tensor_writes_the_latent_and_a_parameter_is_refused() -> None:
    experts = binary_experts()
    latent, values = experts.up_binary.latent, torch.randn(EXPERTS, HIDDEN, WIDTH)
    experts.up = values
    assert experts.up_binary.latent is latent
    assert torch.equal(latent, values)
    with pytest.raises(TypeError, match=r"up is computed from up_binary\.latent"):
        experts.register_parameter("up", nn.Parameter(values))
    with pytest.raises(ValueError, match="shape"):
        experts.up = torch.zeros(2)


def test_assigning_a_parameter_as_an_attribute_is_refused() -> None:
    """It would look like tying, and the optimizer would hold another tensor than the module multiplies by."""
    experts = binary_experts()
    with pytest.raises(TypeError, match=r"up is computed from up_binary\.latent"):
        experts.up = nn.Parameter(torch.zeros(EXPERTS, HIDDEN, WIDTH))
    assert "up" not in experts._parameters
    assert not torch.equal(experts.up_binary.latent, torch.zeros(EXPERTS, HIDDEN, WIDTH))


AGAIN = {"deepcopy": copy.deepcopy, "pickle": lambda model: pickle.loads(pickle.dumps(model))}


@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("training", [True, False])
def test_a_copy_is_equal_and_apart(again: str, training: bool) -> None:
    experts, x = binary_experts(scale="learned").train(training), example()
    other = AGAIN[again](experts)
    assert type(other) is type(experts)
    before = experts(x)
    assert torch.equal(other(x), before)
    with torch.no_grad():
        other.up_binary.latent.neg_()
        other.down = torch.zeros_like(other.down)
    assert torch.equal(experts(x), before)
    assert not torch.equal(other(x), before)


def test_it_compiles_to_one_graph() -> None:
    torch._dynamo.reset()
    experts, x = binary_experts(torch.float64), example(torch.float64)  # float32 has kernels of its own in eager mode
    wanted = [experts.up_binary.latent, experts.down_binary.latent]
    compiled = torch.compile(experts, fullgraph=True, backend="aot_eager")
    ours, theirs = compiled(x), experts(x)
    assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    grads = [torch.autograd.grad(output.square().sum(), wanted) for output in (ours, theirs)]
    assert all(torch.allclose(a, b, rtol=1e-5, atol=1e-6) for a, b in zip(*grads, strict=True))
    with torch.no_grad():
        experts.up_binary.latent.mul_(-2)
    assert torch.allclose(compiled(x), experts(x), rtol=1e-5, atol=1e-6)


def test_functional_call_and_vmap_take_the_latents() -> None:
    experts, x = binary_experts(), example()
    latents = {"up_binary.latent": torch.randn(3, EXPERTS, HIDDEN, WIDTH)}
    together = torch.func.vmap(lambda up: torch.func.functional_call(experts, {"up_binary.latent": up}, (x,)))(
        latents["up_binary.latent"]
    )
    for up, answer in zip(latents["up_binary.latent"], together, strict=True):
        other = copy.deepcopy(experts)
        other.up = up
        assert torch.allclose(answer, other(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", ["channel", "learned"])
@pytest.mark.parametrize("assign", [True, False])
def test_float_checkpoints_and_hard_ones_load_strictly(scale: Any, assign: bool) -> None:
    plain, experts = Experts(), binary_experts(scale=scale)
    experts.load_state_dict(plain.state_dict(), strict=True, assign=assign)
    assert torch.equal(experts.up_binary.latent, plain.up)
    assert torch.equal(experts.down_binary.latent, plain.down)
    hard = pc.hard_state_dict(experts)
    assert set(hard) == set(plain.state_dict())
    plain.load_state_dict(hard, strict=True)
    x = example()
    assert torch.allclose(plain(x), experts.eval()(x), rtol=1e-5, atol=1e-6)
    other = binary_experts(scale=scale)
    other.load_state_dict(experts.state_dict(), strict=True)
    assert torch.equal(other.eval()(x), experts(x))


def test_a_missing_or_a_foreign_key_is_still_an_error() -> None:
    state = Experts().state_dict()
    del state["up"]
    with pytest.raises(RuntimeError, match=r"up_binary\.latent"):
        binary_experts().load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"Unexpected.*sideways"):
        binary_experts().load_state_dict(Experts().state_dict() | {"sideways": torch.zeros(1)})


@pytest.mark.parametrize("make", [Twice, Tied])
def test_shared_owners_and_tied_parameters(make: Any, tmp_path: Path) -> None:
    plain = make()
    model = copy.deepcopy(plain)
    binarize_parameter(model.first, "up", channel_dims=(0, 1))
    if make is Tied:
        binarize_parameter(model.second, "up", channel_dims=(0, 1))
        assert model.second.up_binary.latent is model.first.up_binary.latent
    x = example()
    model(x).square().sum().backward()
    assert model.first.up_binary.latent.grad is not None
    hard = pc.hard_state_dict(model)
    other = make()
    other.load_state_dict(hard, strict=True)
    with torch.no_grad():
        expected = model.eval()(x)
        assert torch.allclose(other(x), expected, rtol=1e-5, atol=1e-6)
        packed = pc.pack(model)
        pc.save(packed, tmp_path / "a")
        loaded = pc.load(tmp_path / "a", make())
        assert torch.equal(packed(x), expected)
        assert torch.equal(loaded(x), expected)
    if make is Twice:
        assert loaded.first is loaded.second


@pytest.mark.covering
@pytest.mark.parametrize("scale", ["channel", "tensor", "learned", None])
@pytest.mark.parametrize("dims", [(0, 1), (1,), (-1,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_and_loaded_equal_eval(scale: Any, dims: tuple[int, ...], dtype: torch.dtype, tmp_path: Path) -> None:
    experts = binary_experts(dtype, scale=scale, channel_dims=dims).eval()
    packed, x = pc.pack(experts), example(dtype)
    pc.save(packed, tmp_path / "a")
    with torch.device("meta"):
        skeleton = Experts(dtype)
    loaded = pc.load(tmp_path / "a", skeleton)
    with torch.no_grad():
        assert torch.equal(packed(x), experts(x))
        assert torch.equal(loaded(x), experts(x))
    assert torch.equal(loaded.up, experts.up_binary.binary_weight)
    assert isinstance(skeleton.up, nn.Parameter)


def test_the_optimizer_holds_the_latent_and_every_tool_finds_it() -> None:
    experts = Experts()
    optimizer = torch.optim.SGD(experts.parameters(), lr=10.0)
    for name in ("up", "down"):
        binarize_parameter(experts, name)
    schedule = pc.Sharpening(optimizer, experts, steps=4)
    pc.clip_latents(optimizer, experts, 0.5)
    before = float(experts.up_binary.weight_quantizer.mu)
    experts(example()).square().sum().backward()
    optimizer.step()
    assert experts.up_binary.latent.abs().max() <= 0.5
    assert experts.down_binary.latent.abs().max() <= 0.5
    assert float(experts.up_binary.weight_quantizer.mu) > before
    assert schedule.steps == 4
    experts.eval()(example()).square().sum().backward()
    with pytest.raises(RuntimeError, match="BinaryParameter that is in eval"):
        optimizer.step()


def test_hard_and_full_precision_reach_it() -> None:
    plain = Experts()
    experts = copy.deepcopy(plain)
    for name in ("up", "down"):
        binarize_parameter(experts, name)
    x = example()
    with pc.full_precision(experts):
        assert torch.equal(experts(x), plain(x))
    with pc.hard(experts):
        output = experts(x)
    assert torch.equal(output, experts.eval()(x))


class Negated(nn.Module):
    def forward(self, latent: Tensor) -> Tensor:
        return -latent


def test_parametrizing_the_child_s_latent_works_and_packing_says_what_stands_against_it() -> None:
    experts = binary_experts()
    before = experts.up.detach()
    parametrize.register_parametrization(experts.up_binary, "latent", Negated())
    assert torch.equal(experts.up, -before)
    experts(example()).sum().backward()
    assert experts.up_binary.parametrizations.latent.original.grad is not None
    with pytest.raises(ValueError, match="'up_binary': `latent` is no plain parameter"):
        pc.pack(experts)
    parametrize.remove_parametrizations(experts.up_binary, "latent")
    assert torch.equal(pc.pack(experts).up, experts.up_binary.binary_weight)


def test_pruning_the_child_s_latent_works_and_that_of_the_owner_is_refused() -> None:
    experts = binary_experts()
    prune.l1_unstructured(experts.up_binary, "latent", amount=0.5)
    experts(example()).sum().backward()
    assert experts.up_binary.latent_orig.grad is not None
    with pytest.raises(TypeError, match=r"up_binary\.latent"):
        prune.l1_unstructured(binary_experts(), "up", amount=0.5)


@pytest.mark.parametrize("weights", ["bnn++", "bc"])
def test_the_weight_of_a_linear_layer_so_is_a_binary_layer_s(weights: str) -> None:
    plain = nn.Linear(4, 3)
    layer = BinaryLinear.convert(copy.deepcopy(plain), weights=weights)
    binarize_parameter(plain, "weight", weights)
    x = torch.randn(2, 4)
    assert torch.equal(plain(x), layer(x))
    assert torch.equal(plain.eval()(x), layer.eval()(x))


@pytest.mark.parametrize(
    ("make", "name", "x"),
    [
        (lambda: nn.Embedding(7, 4), "weight", torch.tensor([1, 6])),
        (lambda: nn.GRUCell(3, 4), "weight_hh", torch.randn(2, 3)),
        (lambda: nn.Bilinear(3, 3, 2), "weight", None),
        (lambda: nn.MultiheadAttention(4, 2, batch_first=True), "in_proj_weight", None),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_torch_s_own_modules_multiply_by_the_binary_weight(make: Any, name: str, x: Any, training: bool) -> None:
    module = make()
    plain = copy.deepcopy(module)
    child = binarize_parameter(module, name)
    plain.load_state_dict(plain.state_dict() | {name: child.binary_weight})
    inputs = {nn.Bilinear: (torch.randn(2, 3),) * 2, nn.MultiheadAttention: (torch.randn(2, 5, 4),) * 3}
    arguments = inputs.get(type(plain), (x,))
    with pc.hard(module.train(training)):
        outputs = first_of(module(*arguments)), first_of(plain(*arguments))
    assert torch.allclose(*outputs, rtol=1e-5, atol=1e-6)


def test_a_recurrent_network_is_refused() -> None:
    """It reads its weights from a list of its own, which would hold one computed tensor for good."""
    module = nn.LSTM(3, 4)
    with pytest.raises(TypeError, match="LSTM keeps its weights in a list of its own"):
        binarize_parameter(module, "weight_hh_l0", "bc")
    assert type(module) is nn.LSTM


def first_of(output: Any) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def test_attention_with_binary_projections_may_have_other_binary_parameters(tmp_path: Path) -> None:
    def plain() -> nn.Module:
        return nn.ModuleList([nn.MultiheadAttention(4, 2, add_bias_kv=True)])

    model = plain()
    BinaryMultiheadAttention.convert(model[0])
    BinaryLinear.convert(model[0].out_proj)  # a float one rounds otherwise where its weight needs no gradient
    binarize_parameter(model[0], "bias_k")
    x = torch.randn(3, 2, 4)
    other = copy.deepcopy(model)
    assert torch.equal(model[0](x, x, x)[0], other[0](x, x, x)[0])
    pc.save(pc.pack(model), tmp_path / "a")
    loaded = pc.load(tmp_path / "a", plain())
    with torch.no_grad():
        assert_ships(loaded[0](x, x, x)[0], model.eval()[0](x, x, x)[0], signs=False)


class Odd(nn.Module):
    """Parameters that cannot be binary."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Parameter(torch.ones(2, 3))
        self.whole = nn.Parameter(torch.ones(2, 3, dtype=torch.int64), requires_grad=False)
        self.single = nn.Parameter(torch.ones(()))
        self.empty = nn.Parameter(torch.ones(0, 3))
        self.nothing = nn.Parameter(torch.ones(1))
        self.nothing = None
        self.lazy = nn.UninitializedParameter()
        self.inner = nn.Linear(2, 2)
        self.register_buffer("buffer", torch.ones(2, 3))
        self.negated = nn.Parameter(torch.ones(2, 3))
        parametrize.register_parametrization(self, "negated", Negated())


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("missing", {}, ValueError, "has no parameter 'missing' of its own: it has fine, whole"),
        ("inner.weight", {}, ValueError, "Pass the module that owns it"),
        ("buffer", {}, ValueError, "has no parameter 'buffer'"),
        ("nothing", {}, ValueError, "has no parameter 'nothing'"),
        ("whole", {}, ValueError, "int64 of shape"),
        ("single", {}, ValueError, "one dimension or more"),
        ("empty", {}, ValueError, r"shape \(0, 3\)"),
        ("lazy", {}, TypeError, "UninitializedParameter"),
        ("negated", {}, TypeError, "parametri"),
        ("fine", {"channel_dims": (2,)}, ValueError, r"channel_dims \(2,\)"),
        ("fine", {"channel_dims": (-3,)}, ValueError, "no distinct dimensions"),
        ("fine", {"channel_dims": (0, -2)}, ValueError, "no distinct dimensions"),
        ("fine", {"channel_dims": ()}, ValueError, "no distinct dimensions"),
        ("fine", {"weights": "bnnn"}, ValueError, "unknown pair 'bnnn'"),
        ("fine", {"scale": "row"}, ValueError, "scale must be"),
        ("fine", {"weights": "fp", "scale": "learned"}, ValueError, "learns no scale"),
    ],
)
def test_what_cannot_be_binary_is_refused_and_left_as_it_was(
    name: str, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    module = Odd()
    before = type(module), dict(module._parameters), dict(module._modules)
    with pytest.raises(error, match=words):
        binarize_parameter(module, name, **options)
    assert (type(module), dict(module._parameters), dict(module._modules)) == before


def test_twice_on_binary_layers_and_on_no_module_is_refused() -> None:
    experts = binary_experts()
    with pytest.raises(TypeError, match="'up' of Experts is binary already"):
        binarize_parameter(experts, "up")
    with pytest.raises(TypeError, match="is binary already"):
        binarize_parameter(BinaryLinear(2, 2), "latent")
    with pytest.raises(TypeError, match="module"):
        binarize_parameter(nn.Parameter(torch.ones(2)), "up")  # type: ignore[arg-type]


def test_conversion_keeps_the_mode_the_hooks_and_a_frozen_parameter() -> None:
    experts, calls = Experts().eval(), []
    experts.register_forward_hook(lambda *_: calls.append(1))
    experts.up.requires_grad_(False)
    child = binarize_parameter(experts, "up")
    assert not child.training
    assert not child.latent.requires_grad
    experts(example())
    assert calls == [1]
    assert math.isclose(float(experts.up.abs().mean()), float(child.latent.abs().mean()), rel_tol=1e-5)


class ReadsTwice(nn.Module):
    """Reads its parameter without gradients or hard first, as routers do, and then to train."""

    def __init__(self, first: Any) -> None:
        super().__init__()
        self.w, self.first, self.seen = nn.Parameter(torch.randn(4, 4)), first, torch.empty(0)

    def forward(self, x: Tensor) -> Tensor:
        with self.first(self):
            self.seen = self.w.detach()
        return x @ self.w


@pytest.mark.parametrize("first", [lambda m: torch.no_grad(), pc.hard, pc.full_precision])
def test_a_weight_read_in_another_mode_first_is_not_held_for_the_next(first: Any) -> None:
    module = ReadsTwice(first)
    child = binarize_parameter(module, "w")
    with first(module):
        expected = module.w
    module(torch.randn(2, 4)).sum().backward()
    assert torch.equal(module.seen, expected)
    assert child.latent.grad is not None


def test_a_weight_assigned_in_a_forward_is_used_there() -> None:
    class Assigns(ReadsTwice):
        def forward(self, x: Tensor) -> Tensor:
            before = self.w
            self.w = torch.full((4, 4), 2.0)
            return before - self.w

    module = Assigns(None)
    binarize_parameter(module, "w", "bc")
    module(torch.empty(0))
    assert torch.equal(module.w, torch.full((4, 4), 2.0))
    assert module._held is None


def test_a_child_s_name_that_is_taken_and_other_dimensions_are_refused() -> None:
    module = Experts()
    module.up_binary = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="has an attribute 'up_binary'"):
        binarize_parameter(module, "up")
    with pytest.raises(TypeError, match=r"channel_dims takes a tuple"):
        binarize_parameter(Experts(), "up", channel_dims=0)  # type: ignore[arg-type]


def test_resetting_all_parameters_passes_by_raw_ones() -> None:
    """The idiom asks each module whether it can; a raw parameter has no initialisation of its own."""
    assert not hasattr(binary_experts().up_binary, "reset_parameters")
