"""A network with binary weights and activations as one of OpenVINO, whose convolutions are `BinaryConvolution`.

OpenVINO converts a float network whose weights are ±α already, and these convolutions are then replaced: the input is
quantised to one bit, the product multiplied by α. What follows, batch norm and sums, its compiler fuses.
"""

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from proxconnect.bench.rivals.rival import CannotRunError, Task
from proxconnect.hardening import hard_state_dict
from proxconnect.layers import BinaryConv2d, BinaryLayer

_BELOW_ZERO = -float(torch.finfo(torch.float32).tiny)
"""The greatest normal number below 0: inputs above it are +1, both zeros too."""


def twin_of(task: Task) -> tuple[nn.Module, int]:
    """The float network with the weights ±α of the binary one, and how many are; CannotRunError for other networks."""
    layers = [module for module in task.binary.modules() if isinstance(module, BinaryLayer)]
    if not all(map(_fits, layers)):
        raise CannotRunError("it is for mode BWA where all binary layers are 2-d convolutions, padded by zeros, of one "
                             "group")  # fmt: skip
    twin = copy.deepcopy(task.model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the float network does not make its activations binary: this one will
        twin.load_state_dict(hard_state_dict(task.binary))
    return twin, len(layers)


def _fits(layer: BinaryLayer) -> bool:
    return (
        isinstance(layer, BinaryConv2d) and layer.input_quantizer is not None and layer.input_shift is None
        and layer.accumulator is None
        and layer.groups == 1 and layer.padding_mode == "zeros" and layer.padding_value == 0
        and layer.latent.numel() % 8 == 0
    )  # fmt: skip


def make_binary(network: Any, count: int) -> Any:
    """`network`, whose `count` convolutions by ±α have become binary ones."""
    made = sum(_replace(node) for node in network.get_ordered_ops() if node.get_type_name() == "Convolution")
    if made != count:
        raise CannotRunError(f"of the {count} binary convolutions it shows {made}")
    network.validate_nodes_and_infer_types()
    return network


def _replace(node: Any) -> bool:
    """Make a convolution binary if its weight is ±α, α one for each output channel; whether it was."""
    from openvino import opset1

    constant = node.input_value(1).get_node()
    if constant.get_type_name() != "Constant":
        return False
    weight = torch.tensor(constant.data)
    if not is_binary(weight):
        return False
    how = node.get_attributes()
    product = opset1.binary_convolution(
        _signs(node.input_value(0)), _bits(weight), how["strides"], how["pads_begin"], how["pads_end"],
        how["dilations"], "xnor-popcount", 0.0, "explicit",
    )  # fmt: skip
    scale = weight[:, 0, 0, 0].abs().view(1, -1, 1, 1)
    scaled = opset1.multiply(product, opset1.constant(scale.numpy()))
    node.output(0).replace(scaled.output(0))
    return True


def is_binary(weight: Tensor) -> bool:
    """Whether a weight (out, in, height, width) is ±α, α one for each output."""
    magnitude = weight.abs().flatten(1)
    return bool((magnitude == magnitude[:, :1]).all())


def _signs(values: Any) -> Any:
    """1 for +1 and 0 for -1: of -1 and +1 its compiler would make floats first."""
    from openvino import opset1

    threshold, zero, one = (_number(value) for value in (_BELOW_ZERO, 0.0, 1.0))
    return opset1.fake_quantize(values, threshold, threshold, zero, one, 2)


def _number(value: float) -> Any:
    from openvino import opset1

    return opset1.constant(torch.full((1, 1, 1, 1), value).numpy())


def _bits(weight: Tensor) -> Any:
    """A constant of bits, whose kernels read each byte from its lowest bit, where constants begin with the highest."""
    import openvino

    bits = (weight > 0).to(torch.uint8).view(-1, 8).flip(1).flatten().tolist()
    return openvino.op.Constant(openvino.Type.u1, openvino.Shape(list(weight.shape)), bits)
