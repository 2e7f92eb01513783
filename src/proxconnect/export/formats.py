"""The export formats by name: how a file is written, and how its runtime runs it for comparison."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from proxconnect._support import extras
from proxconnect._support.atomic import replacing
from proxconnect._support.example import run, tensors_in
from proxconnect.deploy.hardening import hard_state_dict
from proxconnect.deploy.packed.file import tensor_file
from proxconnect.export.gguf import to_gguf
from proxconnect.export.onnx import to_onnx, to_qonnx
from proxconnect.export.openvino import compiled, to_openvino

File = str | os.PathLike[str]

Run = Callable[[Any], list[Tensor]]
"""A function that runs an exported file on an example, as for `to_onnx`, and returns the output tensors."""

Build = Callable[[], nn.Module]
"""A function that builds the float network, with any weights."""


def to_floats(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write `proxconnect.hard_state_dict(model)` as a safetensors file. If that fails, an existing file is unchanged.

    `safetensors.torch.load_file` reads the file, and the float network loads it with `strict=True`. A tensor under
    several names is there under each.

    Args:
        model: a packed or binary model.
        path: the file, such as "net.safetensors".

    Raises:
        ValueError: as for `hard_state_dict`, or the model holds state that is no tensor or has no values.
        TypeError: if an argument has another type, or a tensor a dtype that no file can hold.
        OSError: if `path` cannot be written.

    Warns:
        UserWarning, BinaryInputsWarning: as `hard_state_dict`.
    """
    tensors = {}
    for name, tensor in hard_state_dict(model).items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{name!r} is extra state, which a file of tensors cannot hold: remove it first")
        tensors[name] = tensor_file.storable(name, tensor)
    with replacing(path) as temporary:
        tensor_file.write(temporary, tensors, {"format": "pt"})  # transformers requires this entry


def by_onnx_runtime(path: File, build: Build | None = None) -> Run:
    """Return a function that runs an ONNX file by ONNX Runtime on one thread; `build` is not used."""
    runtime = extras.require("onnxruntime", "export")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
    names = [input.name for input in session.get_inputs()]
    return lambda example: _tensors(session.run(None, _feed(names, example)))


def by_qonnx(path: File, build: Build | None = None) -> Run:
    """Return a function that runs a QONNX file by the executor of the package `qonnx`; `build` is not used."""
    executor = extras.require("qonnx.core.onnx_exec", "export")
    wrapper = extras.require("qonnx.core.modelwrapper", "export").ModelWrapper(os.fspath(path))
    model = wrapper.transform(extras.require("qonnx.transformation.infer_shapes", "export").InferShapes())
    inputs, outputs = ([value.name for value in values] for values in (model.graph.input, model.graph.output))

    def compute(example: Any) -> list[Tensor]:
        found = executor.execute_onnx(model, _feed(inputs, example))
        return _tensors([found[name] for name in outputs])

    return compute


def by_openvino(path: File, build: Build | None = None) -> Run:
    """Return a function that runs an OpenVINO network in float32 on one thread; `build` is not used."""
    network = compiled(path, INFERENCE_NUM_THREADS=1)
    return lambda example: _tensors(list(network([t.numpy() for t in tensors_in(example)]).values()))


def by_torch(path: File, build: Build) -> Run:
    """Return a function that runs, with torch, the network of `build` with the weights in a file of `to_floats`."""
    from safetensors.torch import load_file

    model = build().eval()
    model.load_state_dict(load_file(path), strict=True)
    return lambda example: tensors_in(run(model, example))


@dataclass(frozen=True)
class Format:
    """An export format: the functions that write its files and run them."""

    write: Callable[..., None]
    """Write a packed model to a file: takes the model, an example of its input, the file, and `options` by name."""
    run: Callable[[File, Build], Run] | None
    """Return a function that runs a file; only files of weights use the float network of `Build`. None: not run."""
    runtime: str
    beside: str | None = None
    """The suffix of a second file, such as ".bin"; None if there is one file."""
    is_graph: bool = True
    """True if the file says how to compute; False if it holds weights alone, and needs no example."""
    options: tuple[str, ...] = ()
    """The names of further arguments of `write`."""

    def size(self, path: Path) -> int:
        """Return the size in bytes of the exported file at `path`, together with the file beside it if there is one."""
        return path.stat().st_size + (path.with_suffix(self.beside).stat().st_size if self.beside else 0)


FORMATS = {
    "onnx": Format(to_onnx, by_onnx_runtime, "ONNX Runtime"),
    "qonnx": Format(to_qonnx, by_qonnx, "qonnx"),
    "openvino": Format(to_openvino, by_openvino, "OpenVINO", ".bin"),
    "float": Format(lambda packed, _, path: to_floats(packed, path), by_torch, "the float network", is_graph=False),
    "gguf": Format(
        lambda packed, _, path, tokenizer=None, **options: to_gguf(packed, path, tokenizer=tokenizer, **options),
        None, "llama.cpp", is_graph=False, options=("tokenizer", "remainder"),
    ),
}  # fmt: skip


def _feed(names: list[str], example: Any) -> dict[str, Any]:
    return {name: tensor.numpy() for name, tensor in zip(names, tensors_in(example), strict=True)}


def _tensors(arrays: list[Any]) -> list[Tensor]:
    return [torch.from_numpy(array.copy()) for array in arrays]
