"""The networks of why_not_int8.py: trained ones with their test sets, and untrained ones, which are only timed."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

import proxconnect as pc
from artefacts import Inputs
from int8_files import Network, Subject
from proxconnect._support.user_code import importable_folder
from proxconnect.cli.networks import named
from proxconnect.training.checkpoints import LAST, read_run
from proxconnect.training.configuration import Configured
from proxconnect.training.runs import CONFIGURATION
from runtime import binary_of

CALIBRATION = 300
"""The most inputs from the training set that ranges of 8-bit activations are measured on."""

MODES = ("float", "BW", "BWA")


def resnet20(runs: Path) -> Subject:
    """ResNet-20 as `proxconnect fit` or a study trained it: `runs` has the folders of the runs, named by mode."""
    networks, configured = {}, None
    for mode in MODES:
        if (runs / mode).is_dir():
            configured = Configured(["--config", str(runs / mode / CONFIGURATION)])
            networks[mode] = _trained(configured, runs / mode / LAST)
    if configured is None or "float" not in networks:
        raise SystemExit(f"{runs} has no folder float with a run of proxconnect fit")
    data = configured.datamodule
    calibration = [inputs for inputs, _ in islice(_singles(data.calibration_batches(CALIBRATION)), CALIBRATION)]
    test = list(_singles(data.test_dataloader()))
    return Subject(f"ResNet-20, {data.name}", networks, calibration, test, False)


def _trained(run: Configured, checkpoint: Path) -> Network:
    """Build what a run trained, with batch norm re-estimated if it is binary."""
    module, data = run.model, run.datamodule
    network, architecture = module.float_network.build(data), module.float_network.build(data)
    if module.binary is not None:
        module.binary.apply(network, torch.randn(2, data.in_channels, data.image_size, data.image_size))
    values = read_run(checkpoint)["state_dict"]
    network.load_state_dict({name.removeprefix("network."): value for name, value in values.items()})
    if module.binary is not None:
        pc.reestimate_batchnorm(network, (images for images, _ in data.calibration_batches(module.calibration)))
    return Network(network.eval().requires_grad_(False), architecture.eval())


def _singles(batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Inputs, int]]:
    for images, labels in batches:
        for image, label in zip(images, labels.tolist(), strict=True):
            yield (image[None].contiguous().numpy(),), label


def minilm(runs: Path) -> Subject:
    """MiniLM as the study in studies/sst2 trained it: `runs` has the folders of its rows, named by mode."""
    with importable_folder():
        from studies.sst2 import networks as sst2
        from studies.sst2.sentences import Sentences
    folder = Path("runs", "data", "sst2")
    networks = {
        mode: Network(sst2.trained(runs / mode / LAST), sst2.pretrained().eval())
        for mode in MODES
        if (runs / mode).is_dir()
    }
    if "float" not in networks:
        raise SystemExit(f"{runs} has no folder float with a row of studies/sst2")
    train, test = (Sentences(folder / f"{part}.tsv") for part in ("train", "test"))
    inputs = [[(torch.tensor([ids]).numpy(),) for ids in part.tokens] for part in (train, test)]
    labelled = list(zip(inputs[1], test.labels, strict=True))
    return Subject("MiniLM, SST-2", networks, inputs[0][:CALIBRATION], labelled, True, varies=(1,))


def untrained(name: str, title: str, is_transformer: bool) -> Subject:
    """A network of a library with random weights; its binary inputs are those of `poly`, as in runtime.py."""
    torch.manual_seed(0)
    found = named(name)
    model = found.build().eval().requires_grad_(False)
    networks = {"float": Network(model, model)}
    for mode, activations in {"BW": None, "BWA": "poly"}.items():
        networks[mode] = Network(binary_of(found, model, activations), model)
    assert found.example is not None
    calibration = [tuple(tensor.numpy() for tensor in found.example(model)) for _ in range(8)]
    return Subject(f"{title}, untrained", networks, calibration, [], is_transformer)


SUBJECTS: Mapping[str, Callable[[Path], Subject]] = {
    "resnet20": resnet20,
    "minilm": minilm,
    "resnet20-untrained": lambda _: untrained("resnet20", "ResNet-20", False),
    "resnet18": lambda _: untrained("torchvision/resnet18", "ResNet-18", False),
    "deit": lambda _: untrained("deit_tiny_patch16_224", "DeiT-tiny", True),
}
"""Functions from the folder of a subject's runs to the subject."""
