"""Binary attention against torch's own on quantised weights and inputs, and torch's transformer modules around it."""

import copy
import math
import pickle
import warnings
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

import proxconnect as pc
from proxconnect.layers import Accumulator, BinaryLayer, BinaryLinear, BinaryMultiheadAttention

EMBED, HEADS, TARGET, SOURCE, BATCH = 8, 2, 4, 5, 3
KINDS: list[dict[str, Any]] = [
    {},
    {"bias": False},
    {"kdim": 6, "vdim": 7},
    {"kdim": 6, "vdim": 7, "bias": False},
    {"add_bias_kv": True},
    {"add_zero_attn": True},
    {"add_bias_kv": True, "add_zero_attn": True, "kdim": 6},
]
MASKS = (None, "bool 2d", "float 2d", "bool 3d", "float 3d")
PADDINGS = (None, "bool", "float")
every_mode = pytest.mark.parametrize("training", [True, False])


def binary_attention(**options: Any) -> BinaryMultiheadAttention:
    attention = BinaryMultiheadAttention(EMBED, HEADS, dtype=torch.float64, **options)
    with torch.no_grad():
        for name, parameter in attention.named_parameters():
            if "bias" in name:
                parameter.normal_()
    return attention


def torch_s_answer(binary: BinaryMultiheadAttention, options: dict[str, Any], *inputs: Tensor, **call: Any) -> Any:
    """By `nn.MultiheadAttention` with the weights of `binary` in the place of its own, gradients included."""
    with torch.random.fork_rng():
        plain = nn.MultiheadAttention(EMBED, HEADS, dtype=torch.float64, **options).train(binary.training)
    tensors = {name: getattr(binary, name) for name, _ in plain.named_parameters(recurse=False)}
    tensors |= {"out_proj.weight": binary.out_proj.weight}
    if binary.out_proj.bias is not None:
        tensors |= {"out_proj.bias": binary.out_proj.bias}
    return torch.func.functional_call(plain, tensors, inputs, call)


def inputs_of(options: dict[str, Any], unbatched: bool = False, same: bool = False) -> list[Tensor]:
    batch, batch_first = (() if unbatched else (BATCH,)), options.get("batch_first", False)
    shapes = [(TARGET, EMBED), (SOURCE, options.get("kdim", EMBED)), (SOURCE, options.get("vdim", EMBED))]
    if same:
        return [torch.randn(*batch, TARGET, EMBED, dtype=torch.float64, requires_grad=True).transpose(0, -2)] * 3
    xs = [torch.randn(*batch, *shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    return xs if batch_first or unbatched else [x.transpose(0, 1) for x in xs]


def masks_of(mask: str | None, padding: str | None, unbatched: bool) -> dict[str, Tensor]:
    """Masks that leave the first source entry to all."""
    batch = 1 if unbatched else BATCH
    masks: dict[str, Tensor] = {}
    if mask is not None:
        shape = (TARGET, SOURCE) if mask.endswith("2d") else (batch * HEADS, TARGET, SOURCE)
        masks["attn_mask"] = torch.rand(shape) < 0.4
        masks["attn_mask"][..., 0] = False
    if padding is not None:
        masks["key_padding_mask"] = torch.arange(SOURCE) > torch.randint(1, SOURCE, (batch, 1))
        if unbatched:
            masks["key_padding_mask"] = masks["key_padding_mask"][0]
    as_float = {"attn_mask": (mask or "").startswith("float"), "key_padding_mask": padding == "float"}
    return {name: added(m) if as_float[name] else m for name, m in masks.items()}


def added(mask: Tensor) -> Tensor:
    return torch.randn(mask.shape, dtype=torch.float64).masked_fill(mask, -math.inf)


def agree(binary: BinaryMultiheadAttention, inputs: list[Tensor], ours: Any, theirs: Any) -> None:
    """Outputs, weights, and the gradients of every parameter and input."""
    assert (ours[1] is None) == (theirs[1] is None)
    losses = []
    g = torch.randn_like(ours[0])
    for output, weights in (ours, theirs):
        losses.append((output * g).sum() + (0 if weights is None else weights.square().sum()))
    for a, b in zip(ours, theirs, strict=True):
        assert a is b is None or torch.allclose(a, b, rtol=1e-12, atol=1e-12)
        assert a is None or a.shape == b.shape
    wanted = [*binary.parameters(), *dict.fromkeys(inputs)]
    grads = [torch.autograd.grad(loss, wanted, retain_graph=True) for loss in losses]
    assert all(torch.allclose(a, b, rtol=1e-11, atol=1e-12) for a, b in zip(*grads, strict=True))


@pytest.mark.covering
@pytest.mark.filterwarnings("ignore:Support for mismatched")
@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("layout", ["batch_first", "sequence_first", "unbatched"])
@pytest.mark.parametrize("need", [(False, True), (True, True), (True, False)], ids=["none", "mean", "heads"])
def test_every_option_mask_and_layout_is_torch_s(options: dict[str, Any], layout: str, need: tuple[bool, bool]) -> None:
    options, unbatched = options | {"batch_first": layout == "batch_first"}, layout == "unbatched"
    binary = binary_attention(**options)
    for (mask, padding), training in zip(product(MASKS, PADDINGS), [True, False] * 8, strict=False):
        binary.train(training)
        inputs = inputs_of(options, unbatched)
        call = masks_of(mask, padding, unbatched) | {"need_weights": need[0], "average_attn_weights": need[1]}
        agree(binary, inputs, binary(*inputs, **call), torch_s_answer(binary, options, *inputs, **call))


@pytest.mark.covering
@every_mode
@pytest.mark.parametrize("scale", ["channel", "tensor", "learned", None])
@pytest.mark.parametrize("batch_first", [True, False])
def test_self_attention_is_torch_s(training: bool, scale: Any, batch_first: bool) -> None:
    binary = binary_attention(scale=scale, batch_first=batch_first).train(training)
    x = inputs_of({}, same=True)
    for need in (True, False):
        ours = binary(*x, need_weights=need)
        agree(binary, x, ours, torch_s_answer(binary, {"batch_first": batch_first}, *x, need_weights=need))


@pytest.mark.parametrize("options", [{}, {"kdim": EMBED + 1, "vdim": EMBED + 1}], ids=str)
def test_key_and_value_may_be_one_tensor(options: dict[str, Any]) -> None:
    binary = binary_attention(**options)
    query, key, _ = inputs_of(options)
    inputs = [query, key, key]
    agree(binary, inputs, binary(*inputs), torch_s_answer(binary, options, *inputs))


@pytest.mark.parametrize("need_weights", [True, False])
def test_a_causal_hint_beside_its_mask_is_torch_s(need_weights: bool) -> None:
    binary = binary_attention()
    x = inputs_of({}, same=True)
    mask = nn.Transformer.generate_square_subsequent_mask(len(x[0]), dtype=torch.float64)
    call = {"attn_mask": mask, "is_causal": True, "need_weights": need_weights}
    agree(binary, x, binary(*x, **call), torch_s_answer(binary, {}, *x, **call))
    with pytest.raises(RuntimeError, match="hint"):
        binary(*x, is_causal=True)


@pytest.mark.parametrize("layout", ["batch_first", "unbatched"])
def test_no_source_entry_left_gives_what_torch_gives(layout: str) -> None:
    options = {"batch_first": layout == "batch_first"}
    binary, inputs = binary_attention(**options), inputs_of(options, layout == "unbatched")
    mask = torch.zeros(TARGET, SOURCE, dtype=torch.bool)
    mask[1] = True
    for need in (True, False):
        ours = binary(*inputs, attn_mask=mask, need_weights=need)[0]
        theirs = torch_s_answer(binary, options, *inputs, attn_mask=mask, need_weights=need)[0]
        assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-12, equal_nan=True)


def signs(x: Tensor) -> Tensor:
    """The sign with the gradient of bnn."""
    value = torch.where(x < 0, -1.0, 1.0).to(x.dtype)
    return value.detach() + (x - x.detach()) * (x.abs() <= 1)


def attended(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Scaled-dot-product attention of (N, L, E), head by head, concatenated."""
    heads = []
    for qh, kh, vh in zip(q.chunk(HEADS, -1), k.chunk(HEADS, -1), v.chunk(HEADS, -1), strict=True):
        scores = qh @ kh.transpose(1, 2) / math.sqrt(EMBED // HEADS)
        heads.append((scores if mask is None else scores + mask).softmax(-1) @ vh)
    return torch.cat(heads, -1)


def projected(binary: nn.MultiheadAttention, inputs: list[Tensor]) -> list[Tensor]:
    """Inputs through the in-projections by the weights that `binary` has."""
    names = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
    fused = binary._qkv_same_embed_dim
    weights = binary.in_proj_weight.chunk(3) if fused else [getattr(binary, name) for name in names]
    return [x @ w.T + b for x, w, b in zip(inputs, weights, binary.in_proj_bias.chunk(3), strict=True)]


@pytest.mark.covering
@every_mode
@pytest.mark.parametrize("options", [{}, {"kdim": 6, "vdim": 7}], ids=str)
@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("weights", ["bnn++", "bc"])
def test_binary_activations_are_the_signs_of_what_goes_into_each_projection(
    training: bool, options: dict[str, Any], need_weights: bool, weights: str
) -> None:
    binary = binary_attention(**options, batch_first=True, activations="bnn", weights=weights).train(training)
    inputs = inputs_of(options | {"batch_first": True})
    answer = attended(*projected(binary, [signs(x) for x in inputs]))
    expected = functional.linear(signs(answer), binary.out_proj.weight, binary.out_proj.bias)
    ours = binary(*inputs, need_weights=need_weights)[0]
    agree(binary, inputs, (ours, None), (expected, None))


@every_mode
@pytest.mark.parametrize("out_is_binary", [True, False])
@pytest.mark.parametrize("fused", [True, False])
def test_one_of_in_and_out_projection_may_stay_float(training: bool, out_is_binary: bool, fused: bool) -> None:
    options: dict[str, Any] = {"batch_first": True} | ({} if fused else {"kdim": 6, "vdim": 7})
    model = nn.Sequential(nn.MultiheadAttention(EMBED, HEADS, dtype=torch.float64, **options))
    kept = ["0"] if out_is_binary else ["0.out_proj"]
    pc.binarize(model, "bc", "bnn", keep=kept)
    attention: Any = model.train(training)[0]
    assert isinstance(attention.out_proj, BinaryLinear) == out_is_binary
    inputs = inputs_of(options)
    before, after = ((lambda x: x), signs) if out_is_binary else (signs, (lambda x: x))
    answer = attended(*projected(attention, [before(x) for x in inputs]))
    expected = functional.linear(after(answer), attention.out_proj.weight, attention.out_proj.bias)
    assert torch.allclose(attention(*inputs)[0], expected, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        assert torch.allclose(attention(*inputs, need_weights=False)[0], expected, rtol=1e-12, atol=1e-12)
        packed = pc.pack(model)[0]
        assert torch.equal(packed(*inputs)[0], model.eval()[0](*inputs)[0])


@pytest.mark.parametrize("need_weights", [True, False])
def test_dropout_acts_in_train_alone(need_weights: bool) -> None:
    binary = binary_attention(dropout=0.5)
    x = inputs_of({}, same=True)
    first, second = (binary(*x, need_weights=need_weights)[0] for _ in range(2))
    assert first.shape == second.shape
    assert not torch.equal(first, second)
    first, second = (binary.eval()(*x, need_weights=need_weights)[0] for _ in range(2))
    assert torch.equal(first, second)


@every_mode
def test_dropout_is_torch_s_with_the_same_random_numbers(training: bool) -> None:
    binary = binary_attention(dropout=0.3).train(training)
    x = inputs_of({}, same=True)
    torch.manual_seed(1)
    ours = binary(*x)[0]
    torch.manual_seed(1)
    assert torch.allclose(ours, torch_s_answer(binary, {"dropout": 0.3}, *x)[0], rtol=1e-12, atol=1e-12)


def encoder(norm_first: bool, layers: int = 2, activations: str | None = "bnn") -> nn.TransformerEncoder:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nested tensors are a prototype
        layer = nn.TransformerEncoderLayer(EMBED, HEADS, 12, 0.0, batch_first=True, norm_first=norm_first)
        model = nn.TransformerEncoder(layer, layers, enable_nested_tensor=True)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return pc.binarize(model, "bnn", activations, keep=None).double()


def stepwise(layer: Any, x: Tensor, mask: Tensor | None, norm_first: bool) -> Tensor:
    """A hard encoder layer by hand, its inputs as signs."""

    def attend(x: Tensor) -> Tensor:
        answer = attended(*projected(layer.self_attn, [signs(x)] * 3), mask)
        return functional.linear(signs(answer), layer.self_attn.out_proj.binary_weight, layer.self_attn.out_proj.bias)

    def feed(x: Tensor) -> Tensor:
        hidden = functional.linear(signs(x), layer.linear1.binary_weight, layer.linear1.bias).relu()
        return functional.linear(signs(hidden), layer.linear2.binary_weight, layer.linear2.bias)

    if norm_first:
        x = x + attend(layer.norm1(x))
        return x + feed(layer.norm2(x))
    x = layer.norm1(x + attend(x))
    return layer.norm2(x + feed(x))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("hooked", [True, False])
def test_an_encoder_calls_every_binary_layer_in_eval(
    norm_first: bool, padded: bool, packed: bool, hooked: bool
) -> None:
    """Torch's fast path would multiply by float inputs, and hooks switch it off, so both ways are compared."""
    model = encoder(norm_first).eval()
    x = torch.randn(BATCH, SOURCE, EMBED, dtype=torch.float64)
    padding = torch.arange(SOURCE) >= torch.tensor([[3], [5], [2]]) if padded else None
    mask = None if padding is None else torch.zeros(BATCH, 1, SOURCE).double().masked_fill(padding[:, None], -math.inf)
    expected = x
    for layer in model.layers:
        expected = stepwise(layer, expected, mask, norm_first)
    run, calls = pc.pack(model) if packed else model, []
    form = pc.deploy.packed.PackedLayer if packed else BinaryLayer
    layers = [name for name, m in run.named_modules() if isinstance(m, form)]
    for name in layers if hooked else []:
        run.get_submodule(name).register_forward_hook(lambda *_, name=name: calls.append(name))
    with torch.no_grad():
        answer = run(x, src_key_padding_mask=padding)
        again = run.layers[0](x, src_key_padding_mask=padding)
    assert torch.allclose(answer, expected, rtol=1e-10, atol=1e-10)
    assert torch.allclose(again, stepwise(model.layers[0], x, mask, norm_first), rtol=1e-10, atol=1e-10)
    assert len(layers) == 8
    first = [name for name in layers if name.startswith("layers.0")]
    assert sorted(calls) == (sorted(layers + first) if hooked else [])


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("norm_first", [True, False])
def test_with_float_inputs_the_fast_path_may_be_taken_and_gives_the_same(norm_first: bool) -> None:
    model = encoder(norm_first, activations=None).eval()
    plain = encoder(norm_first, activations=None)
    plain.load_state_dict(model.state_dict())
    plain.train()  # takes no fast path; hard by the context, without dropout
    x = torch.randn(BATCH, SOURCE, EMBED, dtype=torch.float64)
    padding = torch.arange(SOURCE) >= torch.tensor([[5], [5], [2]])
    with torch.no_grad(), pc.hard(plain):
        expected = plain(x, src_key_padding_mask=padding)
        answer = model(x, src_key_padding_mask=padding)
    kept = ~padding
    assert torch.allclose(answer[kept], expected[kept], rtol=1e-10, atol=1e-10)


@every_mode
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_decoder_is_torch_s_on_the_quantised_weights(norm_first: bool, training: bool) -> None:
    layer = nn.TransformerDecoderLayer(EMBED, HEADS, 12, 0.0, batch_first=True, norm_first=norm_first)
    plain = nn.TransformerDecoder(layer, 2).double().train(training)
    binary: Any = pc.binarize(copy.deepcopy(plain), keep=None)
    hard = pc.hard_state_dict(binary)
    weights = hard if not training else {
        name: t for owner, module in binary.named_modules() for name, t in weights_of(owner, module)
    }  # fmt: skip
    plain.load_state_dict(dict(plain.state_dict()) | {name: t.detach() for name, t in weights.items()})
    target, memory = (torch.randn(BATCH, n, EMBED, dtype=torch.float64) for n in (TARGET, SOURCE))
    mask = nn.Transformer.generate_square_subsequent_mask(TARGET, dtype=torch.float64)
    ours, theirs = (m(target, memory, tgt_mask=mask, tgt_is_causal=True) for m in (binary, plain))
    assert torch.allclose(ours, theirs, rtol=1e-11, atol=1e-11)


def weights_of(name: str, module: nn.Module) -> list[tuple[str, Tensor]]:
    return [(module.float_key(name), module.weight)] if isinstance(module, BinaryLayer) else []


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_decoder_with_binary_inputs_calls_every_layer() -> None:
    layer = nn.TransformerDecoderLayer(EMBED, HEADS, 12, batch_first=True)
    model = pc.binarize(nn.TransformerDecoder(layer, 2), activations="bnn", keep=None).eval()
    calls: list[str] = []
    layers = [name for name, m in model.named_modules() if isinstance(m, BinaryLayer)]
    for name in layers:
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: calls.append(name))
    with torch.no_grad():
        model(torch.randn(BATCH, TARGET, EMBED), torch.randn(BATCH, SOURCE, EMBED))
    assert sorted(calls) == sorted(layers)
    assert len(layers) == 12


@pytest.mark.parametrize(
    ("backend", "options", "training"),
    [
        pytest.param("eager", {}, True, marks=pytest.mark.thorough),
        ("eager", {"activations": "bnn"}, False),
        ("aot_eager", {"activations": "bnn"}, True),
        pytest.param("aot_eager", {"kdim": EMBED, "vdim": 6}, False, marks=pytest.mark.thorough),
    ],
)
def test_it_compiles_to_one_graph(backend: str, options: dict[str, Any], training: bool) -> None:
    torch._dynamo.reset()
    binary = binary_attention(**options).train(training)
    inputs = inputs_of(options)
    compiled = torch.compile(binary, fullgraph=True, backend=backend)
    agree(binary, inputs, compiled(*inputs, need_weights=training), binary(*inputs, need_weights=training))


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda model: pickle.loads(pickle.dumps(model))}


@pytest.mark.parametrize("again", COPIES)
@pytest.mark.parametrize("options", [{}, {"kdim": 6}, {"activations": "bnn", "scale": "learned"}], ids=str)
@every_mode
def test_a_copy_is_equal_and_apart(again: str, options: dict[str, Any], training: bool) -> None:
    binary = binary_attention(**options).train(training)
    other = COPIES[again](binary)
    inputs = inputs_of(options)
    before = binary(*inputs)[0]
    assert torch.equal(other(*inputs)[0], before)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.neg_()
    assert torch.equal(binary(*inputs)[0], before)
    assert not torch.equal(other(*inputs)[0], before)


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_float_checkpoints_load_strictly_and_binary_ones_go_round(options: dict[str, Any]) -> None:
    plain, binary = nn.MultiheadAttention(EMBED, HEADS, **options), BinaryMultiheadAttention(EMBED, HEADS, **options)
    binary.load_state_dict(plain.state_dict(), strict=True)
    for name, parameter in plain.named_parameters():
        assert torch.equal(binary.get_parameter(latent_name(binary, name)), parameter)
    other = BinaryMultiheadAttention(EMBED, HEADS, **options)
    other.load_state_dict(binary.state_dict(), strict=True)
    assert all(torch.equal(a, b) for a, b in zip(other.parameters(), binary.parameters(), strict=True))
    hard = nn.MultiheadAttention(EMBED, HEADS, **options)
    hard.load_state_dict(pc.hard_state_dict(binary), strict=True)
    inputs = [x.float() for x in inputs_of(options)]
    assert torch.allclose(hard(*inputs)[0], binary.eval()(*inputs)[0], rtol=1e-5, atol=1e-6)


def latent_name(binary: nn.Module, name: str) -> str:
    if name == "out_proj.weight":
        return "out_proj.latent"
    return f"{name}_binary.latent" if f"{name}_binary" in dict(binary.named_children()) else name


@pytest.mark.parametrize("options", [{}, {"kdim": 6}], ids=str)
def test_it_initialises_as_torch_s_does(options: dict[str, Any]) -> None:
    torch.manual_seed(3)
    plain = nn.MultiheadAttention(EMBED, HEADS, **options)
    torch.manual_seed(3)
    binary = BinaryMultiheadAttention(EMBED, HEADS, **options)
    for name, parameter in plain.named_parameters():
        assert torch.equal(binary.get_parameter(latent_name(binary, name)), parameter)


@pytest.mark.parametrize("options", [{}, {"kdim": 6}], ids=str)
def test_resetting_the_parameters_gives_torch_s_distribution(options: dict[str, Any]) -> None:
    """The latents get it, not the weights that are computed from them."""
    plain, binary = nn.MultiheadAttention(EMBED, HEADS, **options), BinaryMultiheadAttention(EMBED, HEADS, **options)
    for module in (plain, binary):
        torch.manual_seed(4)
        module._reset_parameters()
    for name, parameter in plain.named_parameters():
        if name != "out_proj.weight":
            assert torch.equal(binary.get_parameter(latent_name(binary, name)), parameter)


def test_assigning_a_parameter_is_refused_and_a_tensor_written_to_the_latent() -> None:
    binary = BinaryMultiheadAttention(EMBED, HEADS)
    with pytest.raises(TypeError, match=r"in_proj_weight_binary\.latent"):
        binary.register_parameter("in_proj_weight", nn.Parameter(torch.zeros(3 * EMBED, EMBED)))
    with pytest.raises(TypeError, match=r"in_proj_weight_binary\.latent"):
        binary.in_proj_weight = nn.Parameter(torch.zeros(3 * EMBED, EMBED))
    binary.in_proj_weight = torch.ones(3 * EMBED, EMBED)
    assert torch.equal(binary.in_proj_weight_binary.latent, torch.ones(3 * EMBED, EMBED))


def test_convert_takes_plain_attention_alone_and_is_in_place() -> None:
    plain = nn.MultiheadAttention(EMBED, HEADS)
    weight = plain.in_proj_weight
    binary = BinaryMultiheadAttention.convert(plain)
    assert binary is plain
    assert binary.in_proj_weight_binary.latent is weight
    for wrong in (nn.Linear(2, 2), binary, weight_norm(nn.MultiheadAttention(EMBED, HEADS), "in_proj_weight")):
        with pytest.raises(TypeError, match="whose in-projections are plain parameters"):
            BinaryMultiheadAttention.convert(wrong)


def test_an_accumulator_of_two_bits_acts_in_all_four_projections() -> None:
    free = binary_attention(activations="bnn", batch_first=True).eval()
    narrow = binary_attention(activations="bnn", batch_first=True, accumulator=Accumulator(2, "saturate")).eval()
    narrow.load_state_dict(free.state_dict())
    inputs = inputs_of({"batch_first": True})

    def product_of(x: Tensor, latent: Tensor, bias: Tensor) -> Tensor:
        sums = (signs(x) @ torch.where(latent < 0, -1.0, 1.0).double().T).clamp(-2, 1)
        return sums * latent.abs().mean(1) + bias

    latents, biases = narrow.in_proj_weight_binary.latent.chunk(3), narrow.in_proj_bias.chunk(3)
    q, k, v = map(product_of, inputs, latents, biases)
    expected = product_of(attended(q, k, v), narrow.out_proj.latent, narrow.out_proj.bias)
    assert torch.allclose(narrow(*inputs)[0], expected, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(narrow(*inputs)[0], free(*inputs)[0])


@pytest.mark.parametrize("options", [{}, {"activations": "bnn"}, {"kdim": 6, "vdim": 6}], ids=str)
def test_a_packed_attention_exports(options: dict[str, Any]) -> None:
    packed = pc.pack(binary_attention(**options))
    inputs = tuple(x.detach() for x in inputs_of(options))
    exported = torch.export.export(packed, inputs)
    for ours, theirs in zip(exported.module()(*inputs), packed(*inputs), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("activations", [None, "bnn"])
@pytest.mark.parametrize("need_weights", [True, False])
def test_it_runs_under_autocast_with_masks(dtype: torch.dtype, activations: str | None, need_weights: bool) -> None:
    binary = BinaryMultiheadAttention(EMBED, HEADS, activations=activations, weights="bc")
    x = torch.randn(TARGET, BATCH, EMBED)
    masks = {"attn_mask": torch.ones(TARGET, TARGET, dtype=torch.bool).triu(1),
             "key_padding_mask": torch.zeros(BATCH, TARGET)}  # fmt: skip
    with torch.autocast("cpu", dtype):
        output = binary(x, x, x, need_weights=need_weights, **masks)[0]
        later = torch.cat([x[:1], x[1:] + 1])
        of_the_first = binary(later, later, later, need_weights=need_weights, **masks)[0][0]
    assert output.dtype == dtype
    assert torch.equal(of_the_first, output[0])
    if activations is None:  # signs of rounded inputs make other answers
        expected = binary(x, x, x, need_weights=need_weights, **masks)[0]
        assert torch.allclose(output.float(), expected, atol=0.1)
    output.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in binary.parameters())


@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("activations", [None, "bnn"])
def test_packed_and_loaded_attention_equals_eval(
    options: dict[str, Any], activations: str | None, tmp_path: Path
) -> None:
    model = nn.ModuleList([binary_attention(**options, activations=activations)]).eval()
    pc.save(pc.pack(model), tmp_path / "a")
    with torch.device("meta"):
        skeleton = nn.ModuleList([nn.MultiheadAttention(EMBED, HEADS, **options)]).double()
    loaded = pc.load(tmp_path / "a", skeleton)
    inputs = inputs_of(options)
    with torch.no_grad():
        for ours, theirs in zip(model[0](*inputs), loaded[0](*inputs), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        ({"attn_mask": torch.zeros(1, 5)}, "attn_mask must be"),
        ({"attn_mask": torch.zeros(2, 1, 1)}, "attn_mask must be"),
        ({"key_padding_mask": torch.zeros(2, 1)}, "key_padding_mask must be"),
        ({"key_padding_mask": torch.zeros(5, 2)}, "key_padding_mask must be"),
        ({"key_padding_mask": torch.zeros(10)}, "key_padding_mask must be"),
    ],
)
def test_masks_that_torch_would_refuse_are_refused(masks: dict[str, Tensor], words: str) -> None:
    x = torch.randn(2, 5, EMBED)
    binary = BinaryMultiheadAttention(EMBED, HEADS, batch_first=True)
    with pytest.raises(ValueError, match=words):
        binary(x, x, x, **masks)
    with pytest.raises(ValueError, match="query has a batch of 2, key and value one of 1"):
        binary(x, x[:1], x[:1])
    with pytest.raises(ValueError, match=r"key has \(batch, length\) \(2, 5\), value \(1, 5\)"):
        binary(x, x, x[:1])
    with pytest.raises(ValueError, match="have 2, 3 and 3 dimensions"):
        binary(x[0], x, x)


@pytest.mark.parametrize(("name", "shape"), [("attn_mask", (5, 5)), ("key_padding_mask", (2, 5))])
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_integer_masks_which_would_be_added_to_the_scores_are_refused(
    name: str, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    x = torch.randn(2, 5, EMBED)
    binary = BinaryMultiheadAttention(EMBED, HEADS, batch_first=True)
    with pytest.raises(TypeError, match=f"{name} must be boolean"):
        binary(x, x, x, **{name: torch.ones(shape, dtype=dtype)})
