"""Files of other formats, run by what they are for, to hold the answers against those of the packed model."""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from proxconnect._support import extras
from proxconnect._support.example import arguments, tensors_in
from proxconnect.export.openvino_runtime import compiled

Runtime = Callable[[Any], list[Tensor]]
"""From an example, as `to_onnx` takes it, to the outputs."""

Build = Callable[[], nn.Module]
"""What makes the float network, with any weights."""


def by_onnx_runtime(path: str | os.PathLike[str]) -> Runtime:
    """An ONNX file by ONNX Runtime, on one thread."""
    runtime = extras.require("onnxruntime", "export")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    names = [input.name for input in session.get_inputs()]
    return lambda example: _tensors(session.run(None, _feed(names, example)))


def by_qonnx(path: str | os.PathLike[str]) -> Runtime:
    """A QONNX file by the executor of the package `qonnx`, which computes node by node."""
    executor = extras.require("qonnx.core.onnx_exec", "export")
    wrapper = extras.require("qonnx.core.modelwrapper", "export").ModelWrapper(os.fspath(path))
    shapes = extras.require("qonnx.transformation.infer_shapes", "export").InferShapes()
    model = wrapper.transform(shapes)
    inputs, outputs = ([value.name for value in values] for values in (model.graph.input, model.graph.output))

    def run(example: Any) -> list[Tensor]:
        found = executor.execute_onnx(model, _feed(inputs, example))
        return _tensors([found[name] for name in outputs])

    return run


def by_openvino(path: str | os.PathLike[str]) -> Runtime:
    """An OpenVINO network by its runtime, on one thread and in float32, where processors offer bfloat16 too."""
    network = compiled(path, INFERENCE_NUM_THREADS=1)
    return lambda example: _tensors(list(network([t.numpy() for t in tensors_in(example)]).values()))


def by_torch(path: str | os.PathLike[str], build: Build) -> Runtime:
    """A file of plain floats by torch, in a network that `build` makes and that takes all of its weights from it."""
    from safetensors.torch import load_file

    model = build().eval()
    model.load_state_dict(load_file(path), strict=True)

    def run(example: Any) -> list[Tensor]:
        args, kwargs = arguments(model, example)
        with torch.no_grad():
            return tensors_in(model(*args, **kwargs))

    return run


def _feed(names: list[str], example: Any) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in zip(names, tensors_in(example), strict=True)}


def _tensors(arrays: list[Any]) -> list[Tensor]:
    return [torch.from_numpy(array.copy()) for array in arrays]
