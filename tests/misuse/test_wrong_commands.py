"""Wrong command lines: one line that says what is wrong, exit status 2, never a traceback."""

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import proxconnect as pc
from proxconnect.cli.command import main

RECIPE = str(Path(__file__).parents[2] / "recipes" / "small_cnn_digits.yaml")
CODE = """
from torch import nn

constant = 3

def network():
    return nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4))

def other():
    return nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 12), nn.Linear(12, 4))

def raising():
    raise RuntimeError("no licence")

def needing(width):
    return nn.Linear(width, width)

def listing():
    return [1]

def total(x):
    return x.sum()
"""

PACK = "pack last.ckpt --model theirs:network -o out.safetensors"
EXPORT = "export network.safetensors --model theirs:network -o out.onnx --to"
FIT = f"fit --config {RECIPE} --trainer.default_root_dir run --trainer.logger false"

CORE = {
    "": "required: COMMAND",
    "frobnicate": "invalid choice: 'frobnicate' (choose from 'check'",
    "chekc": "proxconnect: 'chekc' is no command: did you mean 'check'? (see proxconnect --help)",
    "summary --config x": "unrecognized arguments: --config (see proxconnect summary --help)",
    "check": "name a pair to check, or give --all",
    "check bnn-": "did you mean 'bnn'",
    "check bnn++ --mu -1": "μ > 0; got μ = -1",
    "check bnn++ --mu a": "a number is needed, got 'a'",
    "check bc --domain 5 -5": "(low, high) with low < high",
    "check bc --domain 1": "expected 2 arguments",
    "check bnn bnn+ poly": "give one pair, or F and B as MODULE:F MODULE:B",
    "check theirs:totl": "did you mean 'total'?",
    "check theirs:constant": "is of type int: give a Pair",
    "check theirs.py:total": "is no MODULE:NAME",
    "check theirs:total": "must keep the shape of its input",
    "check nowhere:f": "no module 'nowhere' in",
    "check bc --plot x.pdf": "ends in .png or .svg",
    "check theirs:total --mu 2": "a callable has its sharpness in itself",
    "demo --pairs bnn-": "did you mean 'bnn'",
    "demo --modes BXW": "choose from 'BW', 'BWA', 'BWAA'",
    "demo --data mnist": "choose from 'digits', 'fashion-mnist'",
    "demo --epochs 0": "a positive whole number is needed, got '0'",
    "demo --accumulator 99": "an integer from 2 to 24; got 99",
    "demo --modes BW --accumulator 8": "add that to --modes",
    "demo --data fashion-mnist --root nowhere": "Give their folder as root",
    "demo --out text.txt --epochs 1": "give a folder with --out",
    "demo --out text.txt/demo": "no file can be written into text.txt/demo (Not a directory)",
    "demo --out d\udcff": "its name is not valid UTF-8: rename it",
    "demo --out taken": "it is a directory: give the name of a file in it: 'taken/results.json'",
    "check bnn --plot d\udcff.png": "its name is not valid UTF-8: rename it",
    "check bnn --domain 1e3 -1e3": "(low, high) with low < high",
    "check bnn++ --mu -1e-3": "μ > 0; got μ = -0.001",
    "check bnn --domain -inf 1": "finite",
    "summary d\udcff.safetensors": "its name is not valid UTF-8: rename it",
    "pack": "required: CHECKPOINT, --model, -o/--out",
    "pack nowhere.ckpt --model theirs:network -o out": "No such file or directory: 'nowhere.ckpt'",
    "pack text.txt --model theirs:network -o out": "it is no checkpoint of torch",
    "pack network.safetensors --model theirs:network -o out": "it is packed already",
    "pack last.ckpt --model theirs:other -o out": "name the architecture that was trained",
    "pack last.ckpt --model theirs:constant -o out": "name a callable without arguments",
    "pack last.ckpt --model theirs:raising -o out": "raised RuntimeError: no licence",
    "pack last.ckpt --model theirs:needing -o out": "must be callable without arguments",
    "pack last.ckpt --model theirs:listing -o out": "it returned list",
    "pack last.ckpt --model theirs:network -o no/such/out": "its directory must exist and be writable",
    "pack last.ckpt --model theirs:network -o last.ckpt": "write to another file",
    f"{PACK} --weights bnn": "leave out --weights",
    f"{PACK} --accumulator 8": "for binary inputs, which the checkpoint has not",
    f"{PACK} --prefix foo.": "no tensor of the network under 'foo.'",
    f"{PACK} --remainder int4": "choose from 'float', 'int8'",
    f"{PACK} --example 1 9": "does not take 1×9",
    "summary nowhere.safetensors": "No such file or directory",
    "summary text.txt": "it is no checkpoint of torch",
    "summary folder": "Is a directory",
    "summary network.safetensors --model theirs:other": "pass the architecture that was packed",
    "summary network.safetensors --model theirs:network --input 1 9": "does not take 1×9",
    "bench theirs:constant": "name a callable without arguments",
    "bench theirs:network": "with --input, as --input 1 3 224 224",
    "bench theirs:network --input 1 9": "does not take 1×9",
    "bench theirs:network --threads 100000": "more than the",
    "bench theirs:network --input 1 8 --keep nothing": "the pattern 'nothing' fits no layer",
    "bench theirs:network --input 1 8 --plot no/x.png": "its directory must exist and be writable, got 'no/x.png'",
    f"{EXPORT} tflite": "choose from 'onnx', 'qonnx', 'openvino', 'float', 'gguf'",
    f"{EXPORT} gguf": "give the folder of one, as --tokenizer FOLDER",
    f"{EXPORT} gguf --tokenizer folder": "Sequential is no architecture that is written as GGUF",
    f"{EXPORT} float --tokenizer folder": "--tokenizer is for --to gguf alone: leave it out with --to float",
    f"{EXPORT} onnx": "give the shape of what theirs:network takes",
    f"{EXPORT} openvino --input 1 8": "NAME.xml and NAME.bin",
    "export last.ckpt --model theirs:network --to float -o out": "as torch.save writes, and no packed model",
    "export network.safetensors --model theirs:network --to float -o folder": "give the name of a file in it",
}

TRAINING = {
    "fit": "give a recipe by --config",
    f"fit {RECIPE}": f"stands without an option: give it as --config {RECIPE}",
    "validate last.ckpt": "stands without an option: give it as --ckpt_path last.ckpt",
    "fit --config itself.yaml": "itself.yaml has a YAML alias inside the value that it stands for",
    "fit --config latin.yaml": "cannot read latin.yaml: 'utf-8' codec can't decode",
    "fit --config nowhere.yaml": "there is no recipe nowhere.yaml: did you mean",
    "fit --config text.txt": "--config takes a YAML file of options",
    "fit --config damaged.yaml": "--config takes a YAML file of options",
    f"{FIT} --model.weights bnn": "did you mean model.binary.weights",
    f"{FIT} --model.binary.weights bnn-": "unknown pair 'bnn-': did you mean 'bnn'",
    f"{FIT} --model.binary.scale layer": "Expected a typing.Literal['channel', 'tensor', 'learned']",
    f"{FIT} --trainer.max_epochs many": "\"trainer.max_epochs\": Expected a <class 'int'>",
    f"{FIT} --trainer.accelerator tpu": "Say what this machine has by --trainer.accelerator",
    f"{FIT} --data.init_args.batch_size 0": "batch_size=0 and eval_batch_size=500 must be at least 1",
    f"{FIT} --model.network.name resnet_20x": "no network 'resnet_20x' in",
    f"{FIT} --ckpt_path nowhere.ckpt": "there is no checkpoint nowhere.ckpt",
    f"{FIT} --ckpt_path last.ckpt": "fit did not write it; a run starts from the tensors of any file",
    f"fit --config {RECIPE} --trainer.default_root_dir text.txt": "text.txt is a file: give a folder",
    f"validate --config {RECIPE}": "validate needs a trained network: give --ckpt_path",
    f"test --config {RECIPE} --ckpt_path text.txt": "it is no checkpoint of torch",
    "study nowhere.yaml": "cannot read nowhere.yaml",
    "study text.txt": "must hold a mapping, as `base: recipe.yaml`",
    "study damaged.yaml": "is no YAML that can be read",
    f"{FIT} --trainer.default_root_dir text.txt": "text.txt is a file: give a folder",
    f"{FIT} --trainer.default_root_dir text.txt/run": "no file can be written into text.txt/run (Not a directory)",
    f"{FIT} --trainer.default_root_dir taken": "it is a directory: give the name of a file in it: 'taken/last.ckpt'",
    "study itself.yaml": "itself.yaml: model: network: network: network:",
    "study grid.yaml": "axes must be a mapping",
    "study grid.yaml --only pair": "is no AXIS=LABEL",
    "discover nowhere.yaml": "cannot read nowhere.yaml",
    "discover grid.yaml": "needs `spaces:` and `rounds:`, as in docs/discover.md",
    "study grid.yaml --on slurm": "rows run on `processes`, `ray`",
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Change to a folder with a network, its checkpoint, its packed file, and other files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    model = pc.binarize(nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4)))
    torch.save(model.state_dict(), "last.ckpt")
    pc.save(pc.pack(model), "network.safetensors")
    Path("latin.yaml").write_bytes(b"data: \xe9\n")
    Path("itself.yaml").write_text("model: &model\n  network: *model\n")
    texts = {"theirs.py": CODE, "text.txt": "hello hello", "grid.yaml": "run: fake:run\n", "damaged.yaml": "a: [1\n"}
    for name, text in texts.items():
        Path(name).write_text(text)
    Path("folder").mkdir()
    for name in ("last.ckpt", "results.json"):
        Path("taken", name).mkdir(parents=True)
    yield
    sys.modules.pop("theirs", None)


@pytest.mark.parametrize("command", CORE, ids=lambda command: command or "nothing")
def test_a_wrong_command_is_refused(command, place, capsys):
    assert main(command.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith("proxconnect")
    assert said.count("\n") == 1
    assert CORE[command] in said


@pytest.mark.filterwarnings("ignore")  # Lightning's, of a machine without accelerator
@pytest.mark.parametrize("command", TRAINING, ids=lambda command: command.replace(RECIPE, "RECIPE"))
def test_a_wrong_command_of_training_is_refused(command, place, capsys):
    pytest.importorskip("lightning")
    assert main(command.split()) == 2
    said = capsys.readouterr().err.splitlines()[-1]  # above it stands what Lightning says of the machine
    assert said.startswith("proxconnect")
    assert TRAINING[command] in said


def test_a_network_of_an_absent_library_is_refused(place, capsys, monkeypatch):
    from proxconnect._support.extras import MissingExtraError
    from proxconnect.training.models import names

    def absent(_):
        raise MissingExtraError("timm is not installed; run: pip install 'proxconnect[bench]'", name="timm")

    monkeypatch.setattr(names, "LIBRARIES", {"timm": absent})
    assert main(f"{FIT} --model.network.name resnet18".split()) == 2
    assert "pip install 'proxconnect[bench]'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["check bnn-", "demo --pairs bnn-"])
def test_on_a_terminal_a_line_is_broken_at_80_columns(command, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(command.split()) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) > 1
    assert max(map(len, said)) <= 80
