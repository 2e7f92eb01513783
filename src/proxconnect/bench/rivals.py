"""The float network in other engines, with the same number of threads."""

import copy
import sys
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

Run = Callable[[], Iterable[Any]]
"""One run on an input that is fixed; its answers as arrays of numpy."""

Inputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class Rival:
    """An engine that runs float networks."""

    name: str
    packages: tuple[str, ...]
    """What must be installed, the engine first."""
    prepare: Callable[[nn.Module, Inputs, int, Path], Run]
    """From a network, its inputs, the number of threads and a folder for files."""

    @property
    def version(self) -> str:
        """That of the engine."""
        return version(self.packages[0])

    @property
    def absence(self) -> str:
        """How to install what is missing; empty where nothing is."""
        missing = not all(map(_is_installed, self.packages))
        return f"pip install {' '.join(self.packages)}" if missing else ""


def answers(run: Run) -> list[Tensor]:
    """Those of one run."""
    return [torch.as_tensor(answer) for answer in run()]


def _onnx_runtime(model: nn.Module, inputs: Inputs, threads: int, folder: Path) -> Run:
    import onnxruntime

    file = folder / "float.onnx"
    with redirect_stdout(sys.stderr):  # the exporter talks
        torch.onnx.export(model, inputs, file, dynamo=True, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    feed = {taken.name: given.numpy() for taken, given in zip(session.get_inputs(), inputs, strict=True)}
    return lambda: session.run(None, feed)


def _openvino(model: nn.Module, inputs: Inputs, threads: int, folder: Path) -> Run:
    import openvino

    converted = openvino.convert_model(copy.deepcopy(model), example_input=inputs)  # it may patch the model
    converted.reshape({index: list(tensor.shape) for index, tensor in enumerate(inputs)})
    # Where the processor can, it would else compute in bfloat16.
    options = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(converted, "CPU", options).create_infer_request()
    for index, tensor in enumerate(inputs):
        request.set_input_tensor(index, openvino.Tensor(tensor.numpy()))
    return lambda: request.infer().values()


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ImportError:
        return False


RIVALS = (
    Rival("ONNX Runtime", ("onnxruntime", "onnx", "onnxscript"), _onnx_runtime),
    Rival("OpenVINO", ("openvino",), _openvino),
)
