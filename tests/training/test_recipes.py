"""Every recipe, with every overlay that may go over it, on small pictures in the file formats of its data set."""

import functools
import io
import re
import shlex
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from rich.console import Console
from torchvision.models import vision_transformer

from proxconnect.conversion import binarize
from proxconnect.training import commands
from proxconnect.training.configuration import Configured
from proxconnect.training.models import names
from proxconnect.training.module import grouped
from training.data.generated import write_cifar10, write_fashion_mnist, write_imagenet_folder

pytestmark = pytest.mark.filterwarnings("ignore:::lightning")

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes"
RECIPES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
OVERLAYS = sorted(path.stem for path in (FOLDER / "overlays").glob("*.yaml"))
README, MANUAL = (FOLDER / "README.md").read_text(), (ROOT / "docs" / "training.md").read_text()
DATA = {"digits": (1, 8), "fashion_mnist": (1, 28), "cifar10": (3, 32), "imagenet": (3, 224)}
"""Channels and size of the pictures."""

COMMANDS = re.findall(r"`proxconnect (fit --config [^`]*)`", README)
MORE_COMMANDS = re.findall(r"^proxconnect (fit .*?)(?: {2}|$)", re.sub(r"\\\n *", "", MANUAL), re.MULTILINE)


def parts(recipe):
    """The names of its network and of its data."""
    data = next(data for data in DATA if recipe.endswith(data))
    return recipe.removesuffix(f"_{data}"), data


def modes(recipe):
    """The overlay that makes its inputs binary, and what may go over that."""
    own = f"bwa_{parts(recipe)[0]}"
    bwa = own if own in OVERLAYS else "bwa"
    first_step = (bwa, "weights_first", "ft", "teacher")
    return [(bwa,), (bwa, "bwaa", "thresholds"), (bwa, "two_step"), (bwa, "ft"), first_step]


def chains(recipe):
    """The overlays that may go over a recipe, in the order of the command line."""
    yield from [(), ("fp",), *modes(recipe), ("ft",), ("ft", "teacher"), ("ft", "proxquant"), ("ft_float_phase",)]
    yield from [("ft_float_phase", "teacher"), ("reverse_proxconnect",), ("ptq",)]
    if recipe.startswith(("resnet", "small_cnn")):  # batch norm behind each layer
        yield from [("unscaled",), ("bop",)]
    if recipe.endswith("_imagenet"):
        yield ("ft_pretrained",)
    if recipe.startswith("resnet18_"):
        yield ("react_resnet18",)


def longest(recipe):
    """Those chains that no other one begins with."""
    given = list(chains(recipe))
    return [chain for chain in given if not any(chain != other and chain == other[: len(chain)] for other in given)]


def files(recipe, overlays):
    paths = [FOLDER / f"{recipe}.yaml", *(FOLDER / "overlays" / f"{name}.yaml" for name in overlays)]
    return [word for path in paths for word in ("--config", str(path))]


@functools.cache
def read(recipe):
    return yaml.safe_load((FOLDER / f"{recipe}.yaml").read_text())


@pytest.fixture(scope="module")
def parser():
    """The one of `proxconnect fit`, for all that is parsed and not run."""
    return Configured(["--data", "Digits", "--trainer.accelerator", "cpu", "--trainer.logger", "false"]).parser


ALIKE = {
    "resnet56_cifar10": "resnet20_cifar10",
    "resnet50_imagenet": "resnet18_imagenet",
    "deit_s_imagenet": "deit_t_imagenet",
    "deit_b_imagenet": "deit_t_imagenet",
}
"""Recipes that say other names and numbers alone, so that what may go over one may go over the other."""

LARGER = ("resnet20_cifar10", "deit_t_imagenet")
"""Recipes of which others have the layers, only more of them or wider ones."""


def classes(recipe):
    """Those of the parts of the model that overlays may change."""
    model = read(recipe)["model"]
    return model["optimizer"]["class_path"], model["schedule"]["class_path"]


def untried():
    """By recipe, the overlays that no recipe of the same classes comes before it with."""
    tried, chosen = set(), {}
    for recipe in RECIPES:
        if recipe not in ALIKE:
            chosen[recipe] = [chain for chain in longest(recipe) if (classes(recipe), chain) not in tried]
            tried |= {(classes(recipe), chain) for chain in chosen[recipe]}
    return chosen


@pytest.mark.parametrize(("recipe", "chains"), [pair for pair in untried().items() if pair[1]])
def test_parses_with_what_may_go_over_it(parser, recipe, chains):
    """Parsing takes a fifth of a second; each recipe by itself is parsed below."""
    for overlays in chains:
        parsed = parser.parse_args(files(recipe, overlays))
        assert parsed.trainer.default_root_dir == f"runs/{recipe}"
        assert (parsed.model.binary is None) == (overlays == ("fp",))


def test_no_overlay_changes_the_data():
    """So recipes whose models are of the same classes take the same ones."""
    assert all(set(read(f"overlays/{overlay}")) <= {"model", "trainer"} for overlay in OVERLAYS)


def keys(plain, path=""):
    """The paths of all values, and whose options they are."""
    if not isinstance(plain, dict):
        return {path}
    return {plain.get("class_path", "")}.union(*(keys(value, f"{path}.{key}") for key, value in plain.items()))


@pytest.mark.parametrize("recipe", ALIKE)
def test_is_like_another(recipe):
    assert keys(read(recipe)) == keys(read(ALIKE[recipe]))


def test_every_overlay_goes_over_some_recipe():
    assert {name for recipe in RECIPES for overlays in chains(recipe) for name in overlays} == set(OVERLAYS)


WHOLE = [
    pytest.param(recipe, overlays, marks=[pytest.mark.thorough] * (ALIKE.get(recipe) in LARGER))
    for recipe in RECIPES
    for overlays in [(), modes(recipe)[0]]
]


@pytest.mark.parametrize(("recipe", "overlays"), [*WHOLE, ("resnet18_imagenet", ("react_resnet18",))])
def test_the_whole_network_takes_its_binarization(parser, recipe, overlays):
    """In full size, on the meta device, which holds no numbers: patterns fit its layers, and no sign sees a ReLU."""
    model = parser.parse_args(files(recipe, overlays)).model
    channels, size = DATA[parts(recipe)[1]]
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("error")  # binarize warns of inputs of one sign
        named = names.find(model.network.name)
        network = named.build(classes=10, in_channels=channels, image_size=size, **model.network.options)
        images = torch.zeros(2, channels, size, size)
        binary = model.binary
        binarize(network, binary.weights, binary.activations, keep=list(binary.keep), example=images)
    assert sum(len(group["params"]) for group in grouped(network, model.undecayed)) == len(list(network.parameters()))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder for each data set."""
    root = tmp_path_factory.mktemp("pictures")
    writers = {"cifar10": write_cifar10, "fashion_mnist": write_fashion_mnist, "imagenet": write_imagenet_folder}
    for name, write in writers.items():
        (root / name).mkdir()
        write(root / name)
    return root


@pytest.fixture
def small_torchvision(monkeypatch):
    """torchvision's vision transformers have no options for their sizes."""
    whole = vision_transformer._vision_transformer
    sizes = {"num_layers": 1, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 64}
    monkeypatch.setattr(vision_transformer, "_vision_transformer", lambda **given: whole(**given | sizes))


SMALLER = {
    "resnet20": "width: 4",
    "resnet56": "width: 4",
    "small_vit": "depth: 1",
    "deit_t": "depth: 1, embed_dim: 24, drop_path_rate: 0.1",
    "deit_s": "depth: 1, embed_dim: 24, drop_path_rate: 0.1",
    "deit_b": "depth: 1, embed_dim: 24, drop_path_rate: 0.1",
    "bwa_resnet18": "width: 8",
    "react_resnet18": "width: 8",
    "resnet50": "width_per_group: 4",
    "bwa_resnet50": "layers: [1, 1, 1, 1], channels: [8, 8, 16, 16], act_layer: prelu",
}
"""Options of the networks of recipes, and of those of overlays."""

PHASES = {"two_step": "activation_epochs", "ft_float_phase": "float_epochs", "react_resnet18": "activation_epochs"}


def run(recipe, overlays, pictures, folder, *more):
    """Three steps, a validation of two batches, and what is shipped."""
    network, data = parts(recipe)
    options = next((SMALLER[name] for name in (*overlays, network) if name in SMALLER), "")
    words = [
        *files(recipe, overlays), "--trainer.max_epochs=1", "--trainer.limit_train_batches=3",
        "--trainer.limit_val_batches=2", "--trainer.accumulate_grad_batches=1", "--model.calibration=1",
        "--data.batch_size=4", "--data.eval_batch_size=4", "--data.workers=0", "--trainer.accelerator=cpu",
        "--trainer.devices=1", "--trainer.logger=false", "--trainer.enable_progress_bar=false",
        f"--trainer.default_root_dir={folder}", f"--model.network.options={{{options}}}",
    ]  # fmt: skip
    words += [f"--data.root={pictures / data}"] if data != "digits" else []
    words += ["--data.transform.image_size=32"] if data == "imagenet" else []
    words += [f"--model.start.{PHASES[name]}=1" for name in overlays if name in PHASES]
    commands.run("fit", [*words, *more], Console(file=io.StringIO()))


def shipped(folder):
    """The steps that were taken, and whether there is a packed file."""
    return torch.load(folder / "last.ckpt", weights_only=True)["global_step"], (folder / "network.safetensors").exists()


@pytest.mark.parametrize(
    "recipe", [pytest.param(recipe, marks=[pytest.mark.thorough] * (recipe in ALIKE)) for recipe in RECIPES]
)
def test_runs(recipe, pictures, tmp_path, small_torchvision):
    run(recipe, (), pictures, tmp_path)
    assert shipped(tmp_path) == (3, True)


OWN_NETWORKS = [
    pytest.param(f"resnet{depth}_{data}", (f"bwa_resnet{depth}",), marks=marks)
    for depth, data, marks in [
        (18, "imagenet", ()), (20, "cifar10", ()), (50, "imagenet", pytest.mark.thorough),
        (56, "cifar10", pytest.mark.thorough),
    ]
]  # fmt: skip
REPEATED = ("bwa", "bwaa", "thresholds"), ("bwa", "ft"), ("ft", "teacher")
"""Overlays of the transformer that run with other ones, or with another recipe, too."""

TRANSFORMER = [
    pytest.param("small_vit_fashion_mnist", overlays, marks=[pytest.mark.thorough] * (overlays in REPEATED))
    for overlays in longest("small_vit_fashion_mnist")
]
BATCH_NORM = [("small_cnn_digits", overlays) for overlays in [("bwa", "bwaa", "thresholds"), ("unscaled",), ("bop",)]]


@pytest.mark.parametrize(("recipe", "overlays"), [*OWN_NETWORKS, *TRANSFORMER, *BATCH_NORM])
def test_runs_with_an_overlay(recipe, overlays, pictures, tmp_path):
    more = []
    if "ft" in overlays:
        run(recipe, (*(name for name in overlays if name.startswith("bwa")), "fp"), pictures, tmp_path / "float")
        more = [f"--model.start.checkpoint={tmp_path}/float/last.ckpt"]
    run(recipe, overlays, pictures, tmp_path, *more)
    assert shipped(tmp_path) == (3, overlays != ("fp",))


@pytest.mark.parametrize(
    ("recipe", "overlay"), [("resnet18_imagenet", "react_resnet18"), ("deit_t_imagenet", "ft_pretrained")]
)
def test_runs_from_weights_of_others(recipe, overlay, pictures, tmp_path, monkeypatch):
    """As they would be downloaded, but for their values."""
    find, asked = names.find, []

    def undownloaded(name):
        def build(pretrained=False, **options):
            asked.extend([name] if pretrained else [])
            return find(name).build(**options)

        return replace(find(name), build=build)

    monkeypatch.setattr(names, "find", undownloaded)
    run(recipe, (overlay,), pictures, tmp_path)
    assert set(asked) == {"torchvision/resnet34" if overlay == "react_resnet18" else "timm/deit_tiny_patch16_224"}
    assert shipped(tmp_path) == (3, True)


def test_near_names(tmp_path):
    with pytest.raises(commands.UsageError, match=r"no recipe .*resnet20_cifar.yaml: did you mean .*resnet20_cifar10"):
        commands.run("fit", ["--config", str(FOLDER / "resnet20_cifar.yaml")], Console(file=io.StringIO()))
    with pytest.raises(commands.UsageError, match=r"no recipe .*bwa_resnet34.yaml: did you mean .*bwa_resnet50"):
        commands.run("fit", ["--config", str(FOLDER / "overlays" / "bwa_resnet34.yaml")], Console(file=io.StringIO()))
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("model: {label_smothing: 0.1}")
    with pytest.raises(commands.UsageError, match=r"no option label_smothing: did you mean model.label_smoothing"):
        commands.run("fit", [*files("small_cnn_digits", ()), "--config", str(wrong)], Console(file=io.StringIO()))


def test_devices_that_are_not_there():
    with pytest.raises(commands.UsageError, match=r"Say what this machine has by --trainer.accelerator"):
        commands.run("fit", [*files("deit_t_imagenet", ()), "--trainer.devices=999"], Console(file=io.StringIO()))


def test_the_table_names_every_file_and_no_other():
    assert set(re.findall(r"recipes/(\w+)\.yaml", README)) == set(RECIPES)
    assert set(re.findall(r"overlays/(\w+)\.yaml", README)) == set(OVERLAYS)


def test_the_commands_of_the_table_parse(parser, monkeypatch):
    """One of each kind, as parsing takes a tenth of a second: the same overlays and options with any recipe."""
    monkeypatch.chdir(ROOT)
    kinds = {}
    for command in COMMANDS:
        words = shlex.split(command)[1:]
        assert words[1].endswith(".yaml"), command
        kinds[tuple(word for word in words[2:] if word.startswith("--") or "overlays/" in word)] = words
    assert len(COMMANDS) >= 5 * len(RECIPES)
    for words in [*kinds.values(), *(shlex.split(command)[1:] for command in MORE_COMMANDS)]:
        parser.parse_args(words)


def test_expected_numbers_have_a_source():
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in README.splitlines() if "`proxconnect fit" in line
    ]
    sources = set(re.findall(r"^- \[(\w+)\]: ", README, re.MULTILINE))
    for row, expected, _ in rows:
        numbers, named = re.search(r"\d", expected), re.findall(r"\[(\w+)\]", expected)
        assert bool(numbers) == bool(named), row
        assert set(named) <= sources, row
