"""NaN and infinity in a network, at each stage: NaN comes out where it went in, or an error says where it is.

An infinite input of a layer of signs counts by its sign, as a large one does.
"""

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import proxconnect as pc
from layer_kinds import KINDS
from spoiled import BAD, CHANNELS, INPUTS, LARGE, NAN, PACKED_PLACES, PLACES, Net, net, places, spoiled

SAYS_WHERE = "has NaN or infinite entries: go back to a checkpoint before it diverged"
FILE_SAYS_WHERE = r"layer '.*(scale is infinite or NaN|has NaN or infinite)"

Stage = Callable[[Tensor], Tensor]

each_kind = pytest.mark.parametrize("kind", KINDS)
each_input = pytest.mark.parametrize("inputs", INPUTS)


def two_examples(kind: str) -> Tensor:
    return KINDS[kind].input(CHANNELS)


def second_spoiled(x: Tensor, number: float) -> Tensor:
    """The same, but for the first entry of the second example."""
    x = x.clone()
    x[1].view(-1)[0] = number
    return x


def stages(packed: nn.Sequential) -> dict[str, Stage]:
    """The ways a packed network runs here."""
    layers = nn.Sequential(*packed)

    def by_torch(x: Tensor) -> Tensor:
        with torch.enable_grad():  # which kernels do not have
            answer: Tensor = layers(x.clone().requires_grad_())
        return answer.detach()

    return {"graph": packed, "layers": layers, "torch": by_torch}


def loaded(packed: nn.Module, kind: str, folder: Path) -> nn.Module:
    pc.save(packed, folder / "net.safetensors")
    return pc.load(folder / "net.safetensors", Net(kind))


@each_kind
@each_input
@torch.no_grad()
def test_an_input_reaches_all_of_the_answer_to_its_example_and_no_other(kind, inputs, tmp_path):
    model = net(kind, inputs).eval()
    packed, x = pc.pack(model), two_examples(kind)
    for stage, run in {"eval": model, **stages(packed), "loaded": loaded(packed, kind, tmp_path)}.items():
        clean = run(x)
        for name, number in BAD.items():
            answer = run(second_spoiled(x, number))
            torch.testing.assert_close(answer[0], clean[0], msg=f"{stage}, {name}")
            if name == "nan":
                assert answer[1].isnan().all(), stage
            elif inputs == "floats":
                assert not answer[1].isfinite().any(), (stage, name)
            else:
                assert torch.equal(answer, run(second_spoiled(x, LARGE if number > 0 else -LARGE))), (stage, name)


@each_kind
@each_input
def test_nan_in_a_batch_that_trains_reaches_every_answer_and_gradient(kind, inputs):
    model = net(kind, inputs)
    answer = model(second_spoiled(two_examples(kind), NAN))
    assert answer.isnan().all()
    answer.sum().backward()
    for layer in (model[0], model[3]):
        assert layer.latent.grad.isnan().any()


@each_kind
@each_input
@torch.no_grad()
def test_nan_that_a_model_holds_reaches_every_answer(kind, inputs):
    model, x = net(kind, inputs), two_examples(kind)
    for place, its_tensor in places(PLACES, inputs).items():
        for is_training in (True, False):
            if is_training and place in ("norm's mean", "norm's variance"):  # which eval() alone uses
                continue
            with spoiled(its_tensor(model.train(is_training)), NAN):
                assert model(x).isnan().any(1).all(), (place, is_training)
            model[1].reset_running_stats()  # of which training makes NaN
        assert model.eval()(x).isfinite().all(), place


@each_kind
@each_input
def test_what_a_model_holds_is_not_shipped(kind, inputs):
    model = net(kind, inputs, scale=None)
    for its_tensor in places(PLACES, inputs).values():
        for number in BAD.values():
            with spoiled(its_tensor(model), number):
                for ship in (pc.pack, pc.hard_state_dict):
                    with pytest.raises(ValueError, match=SAYS_WHERE):
                        ship(model)


@pytest.mark.parametrize("kind", ["linear", "conv2d", "conv_transpose2d"])
@each_input
@torch.no_grad()
def test_nan_that_a_packed_model_holds_reaches_every_answer(kind, inputs, tmp_path):
    packed, x = pc.pack(net(kind, inputs)), two_examples(kind)
    for place, its_tensor in places(PACKED_PLACES, inputs).items():
        with spoiled(its_tensor(packed), NAN):
            for stage, run in stages(packed).items():
                assert run(x).isnan().any(1).all(), (place, stage)


@pytest.mark.parametrize("kind", ["linear", "conv2d", "conv_transpose2d"])
@each_input
@torch.no_grad()
def test_what_pack_refuses_is_not_loaded(kind, inputs, tmp_path):
    packed = pc.pack(net(kind, inputs))
    for its_tensor in places(PACKED_PLACES, inputs).values():
        for number in BAD.values():
            with spoiled(its_tensor(packed), number), pytest.raises(pc.PackedFileError, match=FILE_SAYS_WHERE):
                loaded(packed, kind, tmp_path)


@torch.no_grad()
def test_a_graph_that_saw_nan_alone_is_compared_again():
    packed, x = pc.pack(net("conv2d", "signs")), two_examples("conv2d")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            assert packed(torch.full_like(x, NAN)).isnan().all()
        assert torch.equal(packed(x), nn.Sequential(*packed)(x))
        with spoiled(packed[0].bias, NAN):
            assert packed(second_spoiled(x, NAN)).isnan().any(1).all()
        assert torch.equal(packed(x), nn.Sequential(*packed)(x))
