"""OpenVINO: the float network, the 8-bit one of NNCF or ONNX Runtime, and both with `BinaryConvolution`."""

import copy
import logging
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

import torch
from torch import Tensor, nn

from proxconnect.cli.bench.rivals import onnx_runtime
from proxconnect.cli.bench.rivals.onnx_runtime import CannotRunError, Run, Task
from proxconnect.deploy.hardening import hard_state_dict
from proxconnect.export.openvino import binary_convolution, compiled, core, openvino_package
from proxconnect.layers import BinaryConv2d, BinaryLayer


def floats(task: Task) -> Run:
    """Convert the float network for OpenVINO, and return the function that runs it on the inputs of the task."""
    return _run(_converted(task.model, task), task)


def int8(task: Task) -> Run:
    """Return the function that runs the float network in OpenVINO in 8 bits, with fixed ranges of activations.

    NNCF quantizes networks with attention, which then run faster than from the file of ONNX Runtime. Others run from
    that file as fast as from NNCF.
    """
    if not task.has_attention:
        return _run(core().read_model(task.static_int8_file), task)
    return _run(by_nncf(_converted(task.model, task), [task.inputs]), task)


def by_nncf(network: Any, calibration: Sequence[tuple[Tensor, ...]]) -> Any:
    """Return an `openvino.Model` of a transformer in 8 bits, with the ranges of its activations on `calibration`.

    Each entry of `calibration` is one input of the network. Import OpenVINO by `openvino_package` before, else NNCF
    imports its telemetry.
    """
    with redirect_stdout(sys.stderr):  # NNCF prints
        import nncf

        nncf.set_log_level(logging.WARNING)
        data = nncf.Dataset([[tensor.numpy() for tensor in inputs] for inputs in calibration])
        return nncf.quantize(network, data, subset_size=len(calibration), model_type=nncf.ModelType.TRANSFORMER)


def binary(task: Task) -> Run:
    """Convert the binary network to `BinaryConvolution`s; return the function that runs it, or raise CannotRunError."""
    twin, count = _twin_of(task)
    return _run(_make_binary(_converted(twin, task), count), task)


def binary_in_int8(task: Task) -> Run:
    """Convert the network as `binary` does, with its float products in 8 bits, and return the function that runs it."""
    twin, count = _twin_of(task)
    floats = onnx_runtime.write_floats(twin, task.inputs, task.folder / "twin.onnx")
    file = onnx_runtime.write_static_int8(floats, [task.inputs], task.folder / "binary.onnx", _is_binary)
    return _run(_make_binary(core().read_model(file), count), task)


def _converted(model: nn.Module, task: Task) -> Any:
    own = copy.deepcopy(model)  # since the conversion may patch it
    converted = openvino_package().convert_model(own, example_input=task.inputs)
    converted.reshape({index: list(tensor.shape) for index, tensor in enumerate(task.inputs)})
    return converted


def _run(network: Any, task: Task) -> Run:
    request = compiled(network, INFERENCE_NUM_THREADS=task.threads, NUM_STREAMS=1).create_infer_request()
    for index, tensor in enumerate(task.inputs):
        request.set_input_tensor(index, openvino_package().Tensor(tensor.numpy()))
    return lambda: request.infer().values()


def _twin_of(task: Task) -> tuple[nn.Module, int]:
    """Give the float network the weights ±α; return it and how many are binary, or raise CannotRunError."""
    layers = [module for module in task.binary.modules() if isinstance(module, BinaryLayer)]
    if not all(map(_fits, layers)):
        raise CannotRunError("it is for mode BWA if all binary layers are 2-d convolutions, padded by zeros, of one "
                             "group")  # fmt: skip
    twin = copy.deepcopy(task.model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the float network has no binary activations; `_make_binary` adds them
        twin.load_state_dict(hard_state_dict(task.binary))
    return twin, len(layers)


def _fits(layer: BinaryLayer) -> bool:
    return (
        isinstance(layer, BinaryConv2d) and layer.input_quantizer is not None and layer.input_shift is None
        and layer.accumulator is None
        and layer.groups == 1 and layer.padding_mode == "zeros" and layer.padding_value == 0
        and layer.latent.numel() % 8 == 0
    )  # fmt: skip


def _make_binary(network: Any, count: int) -> Any:
    """Replace the `count` convolutions by ±α of `network` with binary ones."""
    made = sum(_replace(node) for node in network.get_ordered_ops() if node.get_type_name() == "Convolution")
    if made != count:
        raise CannotRunError(f"of the {count} binary convolutions it shows {made}")
    network.validate_nodes_and_infer_types()
    return network


def _replace(node: Any) -> bool:
    """Make a convolution binary if its weight is ±α with one α per output channel; return whether it is."""
    from openvino import opset1

    constant = node.input_value(1).get_node()
    if constant.get_type_name() != "Constant":
        return False
    weight = torch.tensor(constant.data)
    if not _is_binary(weight):
        return False
    product = binary_convolution(node, (weight > 0).to(torch.uint8))
    scale = weight[:, 0, 0, 0].abs().view(1, -1, 1, 1)
    scaled = opset1.multiply(product, opset1.constant(scale.numpy()))
    node.output(0).replace(scaled.output(0))
    return True


def _is_binary(weight: Tensor) -> bool:
    """Return whether a weight (out, in, height, width) is ±α with one α per output channel."""
    magnitude = weight.abs().flatten(1)
    return bool((magnitude == magnitude[:, :1]).all())
