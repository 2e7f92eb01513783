"""Call the C++ kernels for CPUs, with the best instruction set of the machine.

The kernels multiply signs, 8-bit numbers and floats by prepacked weights, and compute attention. ctypes loads the
library, which depends on no version of Python or torch. If it was not built, `is_built()` is False and calls raise.
"""

from proxconnect.kernels.arguments import WORD
from proxconnect.kernels.epilogue import Bits, group_scales
from proxconnect.kernels.finish import Finish
from proxconnect.kernels.float_attention import attention, attention_of_rows
from proxconnect.kernels.fused_conv import FusedConv2d
from proxconnect.kernels.fused_image_conv import FusedFloatConv2d, FusedInt8Conv2d, FusedWeightOnlyConv2d
from proxconnect.kernels.fused_linear import FusedFloatLinear, FusedInt8Linear, FusedLinear
from proxconnect.kernels.library import has_float_kernels, instruction_sets, is_built
from proxconnect.kernels.prepacked import PANEL, conv_panels, int8_panels, panels, patch_panels
from proxconnect.kernels.products import (
    binary_conv2d,
    binary_linear,
    dynamic_int8_conv2d,
    dynamic_int8_linear,
    int8_conv2d,
    int8_linear,
    weight_only_conv2d,
    weight_only_linear,
)
from proxconnect.kernels.steps import Add, Affine, Clamp, Gelu, Signs, Slope

__all__ = [
    "PANEL",
    "WORD",
    "Add",
    "Affine",
    "Bits",
    "Clamp",
    "Finish",
    "FusedConv2d",
    "FusedFloatConv2d",
    "FusedFloatLinear",
    "FusedInt8Conv2d",
    "FusedInt8Linear",
    "FusedLinear",
    "FusedWeightOnlyConv2d",
    "Gelu",
    "Signs",
    "Slope",
    "attention",
    "attention_of_rows",
    "binary_conv2d",
    "binary_linear",
    "conv_panels",
    "dynamic_int8_conv2d",
    "dynamic_int8_linear",
    "group_scales",
    "has_float_kernels",
    "instruction_sets",
    "int8_conv2d",
    "int8_linear",
    "int8_panels",
    "is_built",
    "panels",
    "patch_panels",
    "weight_only_conv2d",
    "weight_only_linear",
]
