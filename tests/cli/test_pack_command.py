"""`proxconnect pack`: forms of checkpoints, the layers that become binary, and one line for each error of a user."""

import pytest
import torch
from checkpoints import CODE, namespace, packed_equals, touched
from torch import nn

import proxconnect as pc
from proxconnect.cli.command import main
from proxconnect.deploy.packed.file import tensor_file
from proxconnect.layers import BinaryLinear


@pytest.fixture
def theirs(folder):
    (folder / "theirs.py").write_text(CODE)
    return namespace()


def packed(*arguments: str) -> int:
    return main(["pack", *arguments, "-o", "packed.safetensors"])


def wrapped(state: dict, form: str) -> dict:
    """Wrap a state dict as training loops do."""
    under_model = {f"model.{name}": tensor for name, tensor in state.items()}
    by_ddp = {f"module.{name}": tensor for name, tensor in state.items()}
    return {
        "bare": state,
        "torch": {"model_state_dict": state, "epoch": 4, "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}}},
        "lightning": {"state_dict": under_model | {"loss.weight": torch.ones(2)}, "hparams": {"lr": [0.1]}},
        "ddp": {"model": by_ddp, "args": None},
    }[form]


@pytest.mark.parametrize("form", ["bare", "torch", "lightning", "ddp"])
def test_latents_say_what_is_binary(theirs, form, folder, capsys):
    binary = touched(pc.binarize(theirs["net"](), "bnn++", "poly", keep=["edges", "2"]))
    torch.save(wrapped(binary.state_dict(), form), "last.ckpt")
    assert packed("last.ckpt", "--model", "theirs:net") == 0
    said = capsys.readouterr().out
    assert "1 binary layer with 576 of" in said
    assert "binary as its latents say, with a scale per output channel; the checkpoint does not record scales" in said
    assert "a run takes" in said
    assert ("epoch 4" in said) == (form == "torch")
    assert packed_equals("packed.safetensors", theirs["net"](), binary, theirs["net"].example)


def test_thresholds_are_found(theirs, folder):
    binary = touched(pc.add_thresholds(pc.binarize(theirs["net"](), "bnn++", "poly")))
    torch.save(binary.state_dict(), "last.ckpt")
    assert packed("last.ckpt", "--model", "theirs:net") == 0
    assert packed_equals("packed.safetensors", theirs["net"](), binary, theirs["net"].example)


def test_safetensors_are_read(theirs, folder):
    binary = touched(pc.binarize(theirs["net"](), "bc"))
    tensor_file.write(folder / "model.safetensors", binary.state_dict(), {})
    assert packed("model.safetensors", "--model", "theirs:net") == 0
    assert packed_equals("packed.safetensors", theirs["net"](), binary, theirs["net"].example)


def test_an_old_file_of_torch_is_read(theirs, folder):
    binary = touched(pc.binarize(theirs["net"](), "bc"))
    torch.save(binary.state_dict(), "old.pt", _use_new_zipfile_serialization=False)
    assert packed("old.pt", "--model", "theirs:net") == 0


@pytest.mark.parametrize("scale", ["learned", "tensor", None])
def test_projections_and_scales_are_found_or_told(theirs, folder, scale):
    binary = touched(pc.binarize(theirs["attending"](), "bnn++", "poly", scale=scale))
    torch.save(binary.state_dict(), "last.pt")
    told = [] if scale == "learned" else ["--scale", str(scale).lower()]
    assert packed("last.pt", "--model", "theirs:attending", *told) == 0
    assert packed_equals("packed.safetensors", theirs["attending"](), binary, torch.randn(2, 6, 4))


@pytest.mark.parametrize("scale", ["learned", "channel"])
def test_groups_are_found_or_told(theirs, folder, scale, capsys):
    """Learned scales say how many inputs share one. Others are in no file."""
    binary = touched(pc.binarize(theirs["attending"](), "bnn++", scale=scale, group_size=4))
    torch.save(binary.state_dict(), "last.pt")
    told = [] if scale == "learned" else ["--group-size", "4"]
    assert packed("last.pt", "--model", "theirs:attending", *told) == 0
    words = "with the learned scales of the checkpoint" if scale == "learned" else "with a scale per 4 inputs of linear"
    assert words in capsys.readouterr().out
    assert packed_equals("packed.safetensors", theirs["attending"](), binary, torch.randn(2, 6, 4))


def test_learned_scales_of_different_groups_are_refused(theirs, folder, capsys):
    model = theirs["attending"]()
    state = {}
    for name, size in (("1.linear1", 4), ("1.linear2", 8)):
        BinaryLinear.convert(model.get_submodule(name), scale="learned", group_size=size)
        state |= {f"{name}.{key}": value for key, value in model.get_submodule(name).state_dict().items()}
    torch.save(theirs["attending"]().state_dict() | state, "last.pt")
    assert packed("last.pt", "--model", "theirs:attending") == 2
    assert "(learned scales of groups of 4, 8 inputs): name a MODULE:CALLABLE" in capsys.readouterr().err


@pytest.mark.parametrize("tied", [True, False])
def test_binary_embeddings_and_tied_heads_are_found_or_told(theirs, folder, tied):
    ids = torch.arange(9)[None]
    theirs_too = "theirs:Words" if tied else "theirs:untied"
    with open("theirs.py", "a") as code:
        code.write("\n\ndef untied():\n    return Words(tied=False)\n")
    binary = touched(pc.binarize(theirs["Words"](tied), "bnn++", keep=None, embeddings=True))
    state = binary.state_dict()
    torch.save(state, "last.pt")
    torch.save({name.replace("latent", "weight"): t for name, t in state.items() if ".mu" not in name}, "float.pt")
    for arguments in (["last.pt"], ["float.pt", "--embeddings", "--keep"]):
        assert packed(*arguments, "--model", theirs_too) == 0
        assert packed_equals("packed.safetensors", theirs["Words"](tied), binary, ids)


def test_float_weights_are_made_binary_as_told(theirs, folder, capsys):
    model = touched(theirs["net"]())
    torch.save(model.state_dict(), "float.pt")
    told = ["--activations", "poly", "--keep", "edges", "2", "--accumulator", "5:saturate"]
    assert packed("float.pt", "--model", "theirs:net", *told) == 0
    assert "its weights are float" in capsys.readouterr().out
    binary = pc.binarize(
        model, "bnn++", "poly", keep=["edges", "2"], accumulator=pc.Accumulator(5, "saturate")
    )  # fmt: skip
    assert packed_equals("packed.safetensors", theirs["net"](), binary, theirs["net"].example)


def test_hard_weights_are_packed_as_they_are(theirs, folder):
    binary = touched(pc.binarize(theirs["net"](), "bnn++"))
    torch.save(pc.hard_state_dict(binary), "hard.pt")
    assert packed("hard.pt", "--model", "theirs:net") == 0
    assert packed_equals("packed.safetensors", theirs["net"](), binary, theirs["net"].example)


def test_a_network_may_be_binary_as_it_is_built(theirs, folder, capsys):
    binary = touched(theirs["binary"]())
    torch.save({"state_dict": binary.state_dict()}, "last.pt")
    assert packed("last.pt", "--model", "theirs:binary") == 0
    assert "binary as it is built" in capsys.readouterr().out
    assert packed_equals("packed.safetensors", theirs["net"](), binary, theirs["net"].example)


class Proved:
    proof = None

    def __str__(self) -> str:
        return "proved\nall of it"


def test_pack_is_told_the_options_and_the_example(theirs, folder, capsys, monkeypatch):
    told: list[dict] = []
    pack = pc.pack

    def recording(model, *, inputs, **more):
        told.append({"inputs": inputs, **more})
        small = pack(model, inputs=inputs)
        vars(small)["packing"] = Proved()
        return small

    monkeypatch.setattr("proxconnect.pack", recording)
    torch.save(theirs["net"]().state_dict(), "float.pt")
    options = ["--inputs", "int8", "--remainder", "int8", "--vectors", "float16", "--floats", "fast", "--example"]
    assert packed("float.pt", "--model", "theirs:net", *options) == 0
    assert "\nproved\nall of it\n" in capsys.readouterr().out
    assert packed("float.pt", "--model", "theirs:net", "--example", "1", "3", "8", "8") == 0
    first, second = told
    assert first.pop("example").shape == theirs["net"].example.shape
    assert first == {"inputs": "int8", "remainder": "int8", "vectors": "float16", "floats": "fast"}
    assert [t.shape for t in second["example"]] == [(1, 3, 8, 8)]


def test_a_proof_that_fails_leaves_no_file(theirs, folder, capsys, monkeypatch):
    def failing(model, **_):
        raise pc.ProofError("layer '2' is apart")

    monkeypatch.setattr("proxconnect.pack", failing)
    torch.save(theirs["net"]().state_dict(), "float.pt")
    assert packed("float.pt", "--model", "theirs:net", "--example") == 1
    assert capsys.readouterr().err == "proxconnect: layer '2' is apart\n"
    assert not (folder / "packed.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.pt", "--model", "theirs:net"], "No such file"),
        (["theirs.py", "--model", "theirs:net"], "cannot read theirs.py: it is no checkpoint"),
        (["empty.pt", "--model", "theirs:net"], "it holds no tensor"),
        (["objects.pt", "--model", "theirs:net"], "which could run code and are not read: save the state dict alone"),
        (["cut.pt", "--model", "theirs:net"], "cannot read cut.pt: it is no checkpoint of torch, or damaged"),
        (["packed_one.safetensors", "--model", "theirs:net"], "it is packed already"),
        (["float.pt", "--model", "theirs:other"], "0.weight is of shape (8, 3, 3, 3) in float.pt, but (8, 3, 5, 5)"),
        (["float.pt", "--model", "theirs:net", "--keep", "*"], "no layer would become binary: keep fewer"),
        (["latents.pt", "--model", "theirs:named"], "has no tensor of the network: it has '0.weight'"),
        (["part.pt", "--model", "theirs:net"], "is of another network: it lacks '6.weight', '6.bias'"),
        (["renamed.pt", "--model", "theirs:net"], "(is '6.bias' its '6.bais'?), and it has '6.bais'"),
        (["more.pt", "--model", "theirs:net"], "it has '9.weight', which the network lacks"),
        (["twice.pt", "--model", "theirs:net"], "has the network under 'model.' and 'ema.': say which with --prefix"),
        (["twice.pt", "--model", "theirs:net", "--prefix", "emma."], "'emma.'; it has some under 'model.', 'ema.'"),
        (["latents.pt", "--model", "theirs:net", "--keep", "2"], "the checkpoint has latents, which say it: leave out"),
        (["latents.pt", "--model", "theirs:binary", "--scale", "tensor", "--activations", "poly"], "leave out --activ"),
        (["latents.pt", "--model", "theirs:net", "--embeddings"], "which say it: leave out --embeddings"),
        (["float.pt", "--model", "theirs:net", "--embeddings"], "with an nn.Embedding, and this one has none"),
        (["latents.pt", "--model", "theirs:net", "--accumulator", "8"], "is for binary inputs, which the checkpoint"),
        (["float.pt", "--model", "theirs:net", "--keep", "tail"], "the pattern 'tail' fits no layer"),
        (["float.pt", "--model", "theirs:mesh"], "has no 'mesh'"),
        (["float.pt", "--model", "theirs:net", "--example", "1", "4", "8", "8"], "theirs:net does not take 1×4×8×8"),
        (["float.pt", "--model", "theirs:misfit"], "theirs:misfit does not take 2×4×8×8"),
        (["nan.pt", "--model", "theirs:net"], "`latent` has NaN or infinite entries"),
        (["mixed.pt", "--model", "theirs:net"], "some scales in mixed.pt are learned and some are not"),
    ],
)  # fmt: skip
def test_errors_of_a_user_are_one_line(theirs, folder, capsys, arguments, message):
    _write_all(theirs["net"])
    assert packed(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not (folder / "packed.safetensors").exists()


def _write_all(net) -> None:
    state = net().state_dict()
    latents = pc.binarize(net(), "bnn++")
    pc.save(pc.pack(latents), "packed_one.safetensors")
    for name, content in {
        "empty": {"epoch": 3},
        "objects": {"model": nn.Linear(2, 2)},
        "latents": latents.state_dict(),
        "float": state,
        "part": {name: tensor for name, tensor in state.items() if not name.startswith("6.")},
        "renamed": {name.replace("6.bias", "6.bais"): tensor for name, tensor in state.items()},
        "more": state | {"9.weight": torch.ones(2)},
        "twice": {"model": state, "ema": state},
        "nan": {name: tensor * torch.nan for name, tensor in state.items()},
        "mixed": latents.state_dict() | {"2.weight_quantizer.alpha": torch.ones(8)},
    }.items():
        torch.save(content, f"{name}.pt")
    with open("float.pt", "rb") as whole, open("cut.pt", "wb") as cut:
        cut.write(whole.read()[:1000])


def test_the_checkpoint_is_never_overwritten(theirs, folder, capsys):
    tensor_file.write(folder / "packed.safetensors", theirs["net"]().state_dict(), {})
    before = (folder / "packed.safetensors").read_bytes()
    assert packed("packed.safetensors", "--model", "theirs:net") == 2
    assert "is the checkpoint itself" in capsys.readouterr().err
    assert (folder / "packed.safetensors").read_bytes() == before
