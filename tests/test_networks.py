"""Real networks through the whole flow: binarize, step, hard state dict, pack, save, load."""

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import proxconnect as pc
from networks import NETWORKS, Network
from proxconnect._support.example import arguments
from proxconnect.deploy.fusion import prove
from proxconnect.layers import BinaryLayer
from sweep.flow import layers_of, shaken

MODES: dict[str, dict[str, Any]] = {
    "BW": {},
    "BWA": {"activations": "poly"},
    "BWAA": {"activations": "bnn", "accumulator": pc.Accumulator(8)},
}
ACCUMULATED = (("ViT", "BWAA"), ("R3D-18", "BWAA"))
RUNS = (*((name, mode) for name in NETWORKS for mode in ("BW", "BWA")), *ACCUMULATED)
IN_TURN = {name: ("BW", "BWA")[place % 2] for place, name in enumerate(NETWORKS) if name != "Mixtral, batched"}
"""The mode of each network in a fast run; another test compares the three codes of Mixtral."""
FAST = {*IN_TURN.items(), *ACCUMULATED}
MIXTRALS = tuple(name for name in NETWORKS if name.startswith("Mixtral"))


@dataclass(frozen=True, repr=False)
class Run:
    """A network after one step, in `eval()` and frozen."""

    network: Network
    mode: str
    example: Any
    model: nn.Module
    sharpening: pc.Sharpening
    gradients: dict[str, Tensor | None]
    """Those of the latents in that step."""
    answer: Tensor

    def fresh(self) -> nn.Module:
        """The float network with other weights."""
        return built(self.network, self.mode)


def built(network: Network, mode: str) -> nn.Module:
    return network.build() if mode == "BW" else network.signed(network.build())


def stepped(name: str, mode: str) -> Run:
    network = NETWORKS[name]
    torch.manual_seed(0)
    model, example = shaken(built(network, mode)), network.example()
    pc.binarize(model.train(), example=example, **MODES[mode])
    network.binarize_more(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    sharpening = pc.Sharpening(optimizer, model, steps=2)
    output = answer(model, example)
    (output * torch.randn_like(output)).sum().backward()
    optimizer.step()
    gradients = {key: layer.latent.grad for key, layer in layers_of(model).items()}
    # Frozen as packed ones are: torch.matmul orders its sums by whether a weight requires a gradient, wanted or not.
    model.requires_grad_(False)
    return Run(network, mode, example, model, sharpening, gradients, hard_answer(model, example))


def answer(model: nn.Module, example: Any) -> Tensor:
    args, kwargs = arguments(model, example)
    output = model(*args, **kwargs)
    return getattr(output, "logits", output)


@torch.no_grad()
def hard_answer(model: nn.Module, example: Any) -> Tensor:
    return answer(model.eval(), example)


def size_of(model: nn.Module) -> int:
    """The bytes of the state dict, shared tensors once."""
    return sum({tensor.data_ptr(): tensor.nbytes for tensor in model.state_dict().values()}.values())


CASES = [pytest.param(run, marks=() if run in FAST else pytest.mark.thorough, id=", ".join(run)) for run in RUNS]


@pytest.fixture(scope="module", params=CASES)
def run(request):
    with torch.random.fork_rng(devices=[]):
        return stepped(*request.param)


def test_the_edges_stay_float(run):
    floats = run.model.binarization.floats
    edges = {name: reason for name, reason in floats.items() if reason.startswith("edge")}
    assert edges == run.network.edges
    assert set(floats) == {*edges, *run.network.without_form}


def test_inputs_stay_float_only_where_other_code_takes_the_weight(run):
    rows = [row for row in run.model.binarization.rows if row.weights is not None]
    expected = {row.name for row in rows} if run.mode == "BW" else set(run.network.bypassed)
    assert {row.name for row in rows if row.activations is None} == expected


def test_every_binary_layer_has_a_gradient(run):
    assert len(run.gradients) >= len(run.model.binarization.binary)
    for name, gradient in run.gradients.items():
        assert gradient is not None, name
        assert bool(gradient.isfinite().all()), name
        assert bool(gradient.any()), name


def test_the_step_is_counted_and_moves_mu(run):
    assert run.sharpening.step_count == 1
    for name, layer in layers_of(run.model).items():
        usual, mu = layer.weight_quantizer.sharpness, float(layer.weight_quantizer.mu)
        assert usual.start < mu < usual.end, name


def test_the_hard_state_dict_makes_the_float_network_answer_alike(run):
    twin = run.fresh()
    twin.load_state_dict(hard_state_dict(run), strict=True)
    for name, layer in layers_of(run.model).items():
        *owner, attribute = layer.float_key(name).split(".")
        assert two_valued(layer, getattr(twin.get_submodule(".".join(owner)), attribute)), name
    if has_twin(run):
        sum_signs(twin, run.model)
        # nn.MultiheadAttention in eval() is fused, or orders its products otherwise than ours; all else is the same.
        close = {"rtol": 1e-4, "atol": 1e-5} if run.network.attends_by_torch else {"rtol": 0, "atol": 0}
        torch.testing.assert_close(hard_answer(twin.requires_grad_(False), run.example), run.answer, **close)


def hard_state_dict(run: Run, packed: nn.Module | None = None) -> dict[str, Tensor]:
    """That of the binary network, or of what became of it."""
    model = run.model if packed is None else packed
    if run.mode == "BW":
        return dict(pc.hard_state_dict(model))
    with pytest.warns(UserWarning, match="quantises activations too"):
        return dict(pc.hard_state_dict(model))


def two_valued(layer: BinaryLayer, weight: Tensor) -> bool:
    """Whether each channel has one magnitude, which is not 0."""
    magnitudes = layer.by_channel(weight).abs()
    others = [d for d in range(magnitudes.dim()) if d not in layer.channel_dims]
    return torch.equal(magnitudes.amin(others), magnitudes.amax(others)) and bool(magnitudes.all())


def has_twin(run: Run) -> bool:
    """Whether a float network can be given the rest from outside: no accumulator, no signs before torch's out_proj."""
    return run.mode == "BW" or (run.mode == "BWA" and not run.network.attends_by_torch)


@torch.no_grad()
def sum_signs(twin: nn.Module, model: nn.Module) -> None:
    """Let layers of a float network sum the signs of their input and scale that, where those of `model` do."""

    def signs(layer: nn.Module, args: tuple[Tensor]) -> Tensor:
        return torch.where(args[0] < 0, -1.0, 1.0)

    for name, layer in layers_of(model).items():
        if layer.has_binary_input:
            plain: Any = twin.get_submodule(name)
            alpha = layer.by_channel(plain.weight).abs()
            alpha = alpha.amax([d for d in range(alpha.dim()) if d not in layer.channel_dims])
            plain.weight.copy_(plain.weight.sign())
            plain.register_forward_pre_hook(signs)
            plain.register_forward_hook(scaling(alpha, plain.bias, (1,) * (-1 - layer.output_axis)))
            if plain.bias is not None:
                plain.bias = nn.Parameter(torch.zeros_like(plain.bias))


def scaling(alpha: Tensor, bias: Tensor | None, after: tuple[int, ...]):
    """A hook that multiplies an output by one value for each channel, before `after` dimensions, and adds another."""

    def scale(layer: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
        scaled = output * alpha.reshape(-1, *after)
        return scaled if bias is None else scaled + bias.reshape(-1, *after)

    return scale


def test_packed_and_loaded_it_answers_the_same(run, tmp_path):
    """Layer by layer: where signs follow float layers, torch's rounding may turn one, and the whole answer with it."""
    packed, path, architecture = pc.pack(run.model), tmp_path / "network.safetensors", run.fresh()
    if run.mode == "BW":
        torch.testing.assert_close(hard_answer(packed, run.example), run.answer, rtol=1e-4, atol=1e-5)
    pc.save(packed, path)
    assert path.stat().st_size < size_of(architecture)
    loaded = pc.load(path, architecture)
    prove(run.model, loaded, run.example)
    torch.testing.assert_close(hard_state_dict(run, loaded), hard_state_dict(run), rtol=0, atol=0)
    with torch.device("meta"):
        blank = run.fresh()
    if run.network.has_unstored_buffers:
        with pytest.raises(pc.PackedFileError, match="is not persistent, so no file holds it"):
            pc.load(path, blank)
    else:
        same = hard_answer(pc.load(path, blank), run.example)  # whose weights lie in memory as those of the other
        assert torch.equal(same, hard_answer(loaded, run.example))


def test_the_summary_names_what_is_never_called(run):
    result = pc.summary(run.model, run.example)
    assert set(result.uncalled) == set(run.network.bypassed)
    assert result.one_signed == ()
    assert result.binary_parameters == sum(layer.latent.numel() for layer in layers_of(run.model).values())
    assert result.float_bytes == size_of(run.fresh())
    assert (result.binary_macs > 0) == (run.mode != "BW")


@pytest.mark.parametrize(
    ("run", "overflows"), [(ACCUMULATED[0], False), (ACCUMULATED[1], True)], indirect=["run"], ids=["ViT", "R3D-18"]
)
def test_accumulators_change_the_answer_where_sums_overflow(run, overflows):
    unlimited = copy.deepcopy(run.model)
    for layer in layers_of(unlimited).values():
        assert layer.accumulator == pc.Accumulator(8)
        layer.accumulator = None
    # No sum of this ViT has more than 32 terms, all of R3D-18 have 1728 or more.
    assert torch.allclose(hard_answer(unlimited, run.example), run.answer, atol=1e-5) != overflows


@pytest.mark.parametrize("name", MIXTRALS)
def test_every_expert_of_mixtral_has_a_gradient(name):
    experts = {key: grad for key, grad in stepped(name, "BW").gradients.items() if "experts" in key}
    assert len(experts) == 4
    for gradient in experts.values():
        assert bool(gradient.flatten(1).any(1).all())


def test_all_codes_of_mixtral_agree():
    looped, *others = (stepped(name, "BW") for name in MIXTRALS)
    for other in others:
        torch.testing.assert_close(other.answer, looped.answer, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(other.gradients, looped.gradients, rtol=1e-4, atol=1e-5)


@pytest.mark.skipif(not hasattr(torch, "_grouped_mm"), reason="this torch has no grouped product")
def test_all_codes_of_mixtral_count_the_same_multiply_adds():
    runs = [stepped(name, "BW") for name in MIXTRALS]
    looped, *others = (pc.summary(run.model, run.example) for run in runs)
    for other in others:
        assert other.float_macs + other.mixed_macs == looped.float_macs + looped.mixed_macs


def test_without_an_example_the_summary_tells_which_inputs_of_eva_stay_float():
    network = NETWORKS["EVA-02"]
    model, example = shaken(network.build()), network.example()
    pc.binarize(model, activations="poly")
    assert layers_of(model)["blocks.0.attn.qkv"].has_binary_input
    assert pc.summary(model, example).uncalled == network.bypassed
    model.requires_grad_(False)
    prove(model, pc.pack(model), example)
