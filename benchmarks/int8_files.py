"""The files of one network that why_not_int8.py compares: float, 8-bit and packed ones."""

import copy
import hashlib
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import proxconnect as pc
from artefacts import Artefact, Inputs
from proxconnect.cli.bench.rivals import onnx_runtime, openvino
from proxconnect.export.openvino import core, openvino_package

SMALLEST: Mapping[str, Any] = {"remainder": "int8", "vectors": "float16"}

FLOAT = Artefact("torch float32", "torch", "float.pt")
ONNX_FLOAT = Artefact("ONNX Runtime float32", "onnxruntime", "float.onnx")
ONNX_STATIC = Artefact("ONNX Runtime int8", "onnxruntime", "static.onnx")
ONNX_DYNAMIC = Artefact("ONNX Runtime int8, dynamic", "onnxruntime", "dynamic.onnx")
OPENVINO_FLOAT = Artefact("OpenVINO float32", "openvino", "float.xml")
OPENVINO_INT8 = Artefact("OpenVINO int8", "openvino", "int8.xml")
PACKED: Mapping[Artefact, Mapping[str, Any]] = {
    Artefact("packed BW", "packed", "BW.safetensors", "BW"): {},
    Artefact("packed BW, int8", "packed", "BW-int8.safetensors", "BW", inputs="int8"): SMALLEST,
    Artefact("packed BWA", "packed", "BWA.safetensors", "BWA"): {},
    Artefact("packed BWA, int8", "packed", "BWA-int8.safetensors", "BWA", floats="fast"): SMALLEST,
}
"""The packed forms, with the arguments of `pc.pack`."""


@dataclass(frozen=True)
class Network:
    """The network of one mode in `eval()`, and the float architecture that it was made from."""

    network: nn.Module
    architecture: nn.Module


@dataclass(frozen=True)
class Subject:
    """A network in all modes that are there, and the data that it is calibrated and tested on.

    Inputs are tuples of arrays of batch 1. `test` has one entry for each input of the test set, with its label; it is
    empty for an untrained network. `varies` are the dimensions in which inputs differ in size.
    """

    title: str
    networks: Mapping[str, Network]
    calibration: Sequence[Inputs]
    test: Sequence[tuple[Inputs, int]]
    is_transformer: bool
    varies: tuple[int, ...] = ()

    @property
    def example(self) -> Inputs:
        """The test input of the median size, which is timed, or one for calibration."""
        inputs = [given for given, _ in self.test] or list(self.calibration)
        return sorted(inputs, key=lambda arrays: arrays[0].size)[len(inputs) // 2]


def artefacts(subject: Subject) -> list[Artefact]:
    """List what is compared: 8-bit matrix products with ranges found in each run are usual for transformers alone."""
    dynamic = [ONNX_DYNAMIC] if subject.is_transformer else []
    packed = [artefact for artefact in PACKED if artefact.mode in subject.networks]
    return [FLOAT, ONNX_FLOAT, OPENVINO_FLOAT, ONNX_STATIC, *dynamic, OPENVINO_INT8, *packed]


def written(subject: Subject, place: Path) -> Path:
    """Return the folder in `place` with the files of exactly these networks; write them if there is none."""
    folder = place / fingerprint(subject)
    if folder.exists():
        return folder
    unfinished = folder.with_suffix(".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for mode, network in subject.networks.items():
        torch.save(without_weights(network.architecture), unfinished / f"architecture-{mode}.pt")
    for artefact in artefacts(subject):
        print(f"writing {artefact.title}", file=sys.stderr, flush=True)
        WRITERS[artefact](subject, unfinished)
    return unfinished.rename(folder)


def fingerprint(subject: Subject) -> str:
    """Return a hash of the values of all networks, in 16 hexadecimal digits."""
    found = hashlib.sha256()
    for mode, network in subject.networks.items():
        for name, value in network.network.state_dict().items():
            found.update(f"{mode} {name} {tuple(value.shape)}".encode())
            found.update(value.contiguous().view(-1).view(torch.uint8).numpy())
    return found.hexdigest()[:16]


def without_weights(model: nn.Module) -> nn.Module:
    """Return a copy whose parameters have no memory; buffers keep their values, since no file may have them."""
    kept: dict[int, Any] = {
        id(parameter): nn.Parameter(parameter.to("meta"), False) for parameter in model.parameters()
    }
    return copy.deepcopy(model, kept)


def _tensors(subject: Subject) -> Iterator[tuple[Tensor, ...]]:
    return (tuple(map(torch.from_numpy, inputs)) for inputs in subject.calibration)


def _float(subject: Subject, folder: Path) -> None:
    torch.save(subject.networks["float"].network.state_dict(), folder / FLOAT.file)


def _onnx_float(subject: Subject, folder: Path) -> None:
    model = copy.deepcopy(subject.networks["float"].network)
    onnx_runtime.write_floats(model, next(_tensors(subject)), folder / ONNX_FLOAT.file, subject.varies)


def _onnx_static(subject: Subject, folder: Path) -> None:
    products = (lambda _: False) if subject.is_transformer else None  # 8-bit norms and softmax lose too much
    onnx_runtime.write_static_int8(folder / ONNX_FLOAT.file, _tensors(subject), folder / ONNX_STATIC.file, products)


def _onnx_dynamic(subject: Subject, folder: Path) -> None:
    onnx_runtime.write_dynamic_int8(folder / ONNX_FLOAT.file, folder / ONNX_DYNAMIC.file)


def _openvino_float(subject: Subject, folder: Path) -> None:
    openvino_package().save_model(_converted(subject), folder / OPENVINO_FLOAT.file, compress_to_fp16=False)


def _openvino_int8(subject: Subject, folder: Path) -> None:
    # At equal speed, NNCF's correction of biases took 0.9 points from a ResNet-20 that ONNX Runtime's file keeps. In
    # transformers its file is 1.3 times as fast.
    if subject.is_transformer:
        quantized = openvino.by_nncf(_converted(subject), [*_tensors(subject)])
    else:
        quantized = core().read_model(folder / ONNX_STATIC.file)
    openvino_package().save_model(quantized, folder / OPENVINO_INT8.file)


def _converted(subject: Subject) -> Any:
    model, example = copy.deepcopy(subject.networks["float"].network), next(_tensors(subject))
    converted = openvino_package().convert_model(model, example_input=example)
    shapes = [[-1 if n in subject.varies else size for n, size in enumerate(tensor.shape)] for tensor in example]
    converted.reshape(dict(enumerate(shapes)))
    return converted


def _packed(artefact: Artefact) -> Callable[[Subject, Path], None]:
    def write(subject: Subject, folder: Path) -> None:
        pc.save(pc.pack(subject.networks[artefact.mode].network, **PACKED[artefact]), folder / artefact.file)

    return write


WRITERS: Mapping[Artefact, Callable[[Subject, Path], None]] = {
    FLOAT: _float,
    ONNX_FLOAT: _onnx_float,
    ONNX_STATIC: _onnx_static,
    ONNX_DYNAMIC: _onnx_dynamic,
    OPENVINO_FLOAT: _openvino_float,
    OPENVINO_INT8: _openvino_int8,
    **{artefact: _packed(artefact) for artefact in PACKED},
}
