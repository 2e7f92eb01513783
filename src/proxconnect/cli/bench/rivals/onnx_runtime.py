"""The task that every engine gets, and ONNX Runtime: the ONNX files that it runs, in float and quantised to 8 bits."""

import logging
import platform
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from proxconnect.inspection.macs import count

Run = Callable[[], Iterable[Any]]
"""A function that runs the network once on a fixed input, and returns its outputs as numpy arrays."""


_Convolution = nn.Conv1d | nn.Conv2d


class CannotRunError(Exception):
    """An engine cannot run this network; the message says why."""


@dataclass(frozen=True)
class Task:
    """The network that other engines run, its input, the number of threads, and a folder for their files."""

    model: nn.Module
    """The float network."""
    binary: nn.Module
    """The same network, binarized."""
    inputs: tuple[Tensor, ...]
    threads: int
    folder: Path

    @cached_property
    def is_convolutional(self) -> bool:
        """True if more than half of the multiply-adds are those of 1-d and 2-d convolutions."""
        convolutions = sum(amount for module, amount in self._macs.items() if isinstance(module, _Convolution))
        return 2 * convolutions > sum(self._macs.values())

    @cached_property
    def has_attention(self) -> bool:
        """True if some multiply-adds are those of no linear layer and no convolution, as in attention."""
        return any(amount and not isinstance(module, _Convolution | nn.Linear) for module, amount in self._macs.items())

    @cached_property
    def _macs(self) -> Mapping[nn.Module, int]:
        return count(self.model, self.inputs).macs

    @cached_property
    def onnx_file(self) -> Path:
        """The float network as an ONNX file in `folder`, written at the first access."""
        return write_floats(self.model, self.inputs, self.folder / "float.onnx")

    @cached_property
    def static_int8_file(self) -> Path:
        """An ONNX file in `folder` of the float network in 8 bits, with the ranges of its activations on `inputs`."""
        return write_static_int8(self.onnx_file, [self.inputs], self.folder / "static.onnx")


def floats(task: Task) -> Run:
    """Convert the float network for ONNX Runtime, and return the function that runs it on the inputs of the task."""
    return _run(task.onnx_file, task)


def int8(task: Task) -> Run:
    """Quantize the float network to 8 bits, and return the function that runs it in ONNX Runtime.

    If `task.is_convolutional`, activations get the fixed ranges that they have on `task.inputs`. If not, only linear
    layers become 8-bit, and they quantize their inputs in each run.
    """
    if task.is_convolutional:
        return _run(task.static_int8_file, task)
    return _run(write_dynamic_int8(task.onnx_file, task.folder / "dynamic.onnx"), task)


def _run(file: Path, task: Task) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = task.threads, 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    inputs = feed(session, task.inputs)
    return lambda: session.run(None, inputs)


def write_floats(model: nn.Module, inputs: tuple[Tensor, ...], file: Path, varies: Sequence[int] = ()) -> Path:
    """Export a network to an ONNX file, for positional arguments with the shapes of `inputs`, and return `file`.

    The file takes inputs of any size in the dimensions `varies`.
    """
    free = tuple(dict.fromkeys(varies, torch.export.Dim.DYNAMIC) for _ in inputs) if varies else None
    with redirect_stdout(sys.stderr):  # the exporter prints
        torch.onnx.export(model, inputs, file, dynamo=True, external_data=False, verbose=False, dynamic_shapes=free)
    return file


def write_dynamic_int8(source: Path, file: Path) -> Path:
    """Quantize the matrix products of an ONNX file to 8 bits, with ranges of their inputs that each run finds.

    Writes and returns `file`, and writes shapeless.onnx and folded.onnx beside it. On x86 processors without VNNI
    weights have 7 bits.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    model = onnx.load(source)
    del model.graph.value_info[:]  # torch 2.7 names shapes of weights that contradict their quantised forms
    shapeless, folded = (file.with_name(f"{name}.onnx") for name in ("shapeless", "folded"))
    onnx.save(model, shapeless)
    with _silent_log():
        quant_pre_process(shapeless, folded, skip_symbolic_shape=True)
        quantize_dynamic(
            folded, file, op_types_to_quantize=["MatMul", "Gemm"], weight_type=QuantType.QInt8,
            reduce_range=_saturates(),
        )  # fmt: skip
    return file


def write_static_int8(
    source: Path, calibration: Iterable[tuple[Tensor, ...]], file: Path, spared: Callable[[Tensor], bool] | None = None
) -> Path:
    """Quantize an ONNX file to 8 bits: weights by channel, activations in the ranges that they have on `calibration`.

    Each entry of `calibration` is one input of the network. Writes and returns `file`, and writes folded.onnx beside
    it. If `spared` is given, only convolutions and matrix products are quantized, and convolutions stay float if
    `spared` returns True for their weight. On x86 processors without VNNI weights have 7 bits.
    """
    import onnxruntime
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    folded = file.with_name("folded.onnx")
    with _silent_log():
        quant_pre_process(source, folded, skip_symbolic_shape=True)
        session = onnxruntime.InferenceSession(folded, providers=["CPUExecutionProvider"])
        reader = SimpleNamespace(get_next=partial(next, (feed(session, inputs) for inputs in calibration), None))
        quantize_static(
            folded, file, reader, quant_format=QuantFormat.QDQ, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, reduce_range=_saturates(),
            nodes_to_exclude=[] if spared is None else _convolutions(folded, spared),
            op_types_to_quantize=None if spared is None else ["Conv", "MatMul", "Gemm"],  # sums stay float too
        )  # fmt: skip
    return file


def _saturates() -> bool:
    """Return True if engines here add two products of bytes in 16 bits, which weights of 8 bits overflow."""
    return platform.machine().lower() in ("x86_64", "amd64") and not torch.cpu._is_vnni_supported()


def feed(session: Any, inputs: tuple[Tensor, ...]) -> dict[str, Any]:
    """Return the tensors as numpy arrays, by the names of the inputs of an ONNX Runtime session, in its order."""
    return {taken.name: given.numpy() for taken, given in zip(session.get_inputs(), inputs, strict=True)}


def _convolutions(file: Path, chosen: Callable[[Tensor], bool]) -> list[str]:
    """Return the names of the convolutions whose weights are `chosen`."""
    import onnx

    graph = onnx.load(file).graph
    weights = {tensor.name: torch.tensor(onnx.numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    nodes = (node for node in graph.node if node.op_type == "Conv" and node.input[1] in weights)
    return [node.name for node in nodes if chosen(weights[node.input[1]])]


@contextmanager
def _silent_log() -> Iterator[None]:
    """Hide the warnings of the quantiser, one per node, in the root's log."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
