"""OpenVINO: the float network, the 8-bit one of ONNX Runtime, and both with binary convolutions."""

import copy
from typing import Any

from torch import nn

from proxconnect.cli.bench.rivals import onnx_files
from proxconnect.cli.bench.rivals.binary_convolutions import is_binary, make_binary, twin_of
from proxconnect.cli.bench.rivals.rival import Run, Task
from proxconnect.export.openvino_runtime import compiled, openvino_package


def floats(task: Task) -> Run:
    """Run the float network."""
    return _run(_converted(task.model, task), task)


def int8(task: Task) -> Run:
    """Run the network in 8 bits, with fixed ranges of activations."""
    return _run(openvino_package().Core().read_model(task.static_int8_file), task)


def binary(task: Task) -> Run:
    """Run the binary network, its convolutions as `BinaryConvolution`."""
    twin, count = twin_of(task)
    return _run(make_binary(_converted(twin, task), count), task)


def binary_in_int8(task: Task) -> Run:
    """Run the binary network, its convolutions as `BinaryConvolution` and its float layers in 8 bits."""
    twin, count = twin_of(task)
    floats = onnx_files.write_floats(twin, task.inputs, task.folder / "twin.onnx")
    file = onnx_files.write_static_int8(floats, task.inputs, task.folder / "binary.onnx", is_binary)
    return _run(make_binary(openvino_package().Core().read_model(file), count), task)


def _converted(model: nn.Module, task: Task) -> Any:
    converted = openvino_package().convert_model(
        copy.deepcopy(model), example_input=task.inputs
    )  # a copy, since it may patch the model
    converted.reshape({index: list(tensor.shape) for index, tensor in enumerate(task.inputs)})
    return converted


def _run(network: Any, task: Task) -> Run:
    request = compiled(network, INFERENCE_NUM_THREADS=task.threads, NUM_STREAMS=1).create_infer_request()
    for index, tensor in enumerate(task.inputs):
        request.set_input_tensor(index, openvino_package().Tensor(tensor.numpy()))
    return lambda: request.infer().values()
