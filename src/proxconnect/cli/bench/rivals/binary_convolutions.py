"""Networks with binary weights and inputs for OpenVINO, with `BinaryConvolution`.

OpenVINO converts a float network whose weights are ±α. Its convolutions are then replaced: they quantise the input to
one bit, and multiply the product by α. OpenVINO's compiler fuses the batch norms and sums that follow.
"""

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from proxconnect.cli.bench.rivals.rival import CannotRunError, Task
from proxconnect.deploy.hardening import hard_state_dict
from proxconnect.export.openvino import binary_convolution
from proxconnect.layers import BinaryConv2d, BinaryLayer


def twin_of(task: Task) -> tuple[nn.Module, int]:
    """Give the float network the weights ±α; return it and how many are binary, or raise CannotRunError."""
    layers = [module for module in task.binary.modules() if isinstance(module, BinaryLayer)]
    if not all(map(_fits, layers)):
        raise CannotRunError("it is for mode BWA if all binary layers are 2-d convolutions, padded by zeros, of one "
                             "group")  # fmt: skip
    twin = copy.deepcopy(task.model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the float network has no binary activations; `make_binary` adds them
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
    if not is_binary(weight):
        return False
    product = binary_convolution(node, (weight > 0).to(torch.uint8))
    scale = weight[:, 0, 0, 0].abs().view(1, -1, 1, 1)
    scaled = opset1.multiply(product, opset1.constant(scale.numpy()))
    node.output(0).replace(scaled.output(0))
    return True


def is_binary(weight: Tensor) -> bool:
    """Return whether a weight (out, in, height, width) is ±α with one α per output channel."""
    magnitude = weight.abs().flatten(1)
    return bool((magnitude == magnitude[:, :1]).all())
