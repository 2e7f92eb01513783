"""Compile every kernel that some products launch, for an H100 that need not be there; a program of its own.

It prints one line for each kernel: its name, its registers and the bytes that it spills.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from proxconnect import Accumulator
from proxconnect.gpu import launch
from proxconnect.kernels import group_scales
from proxconnect.kernels.arguments import overflow_of

TYPES = {torch.float32: "*fp32", torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.int64: "*i64",
         torch.int32: "*i32"}  # fmt: skip
TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"


def compiled(kernel, *args, grid, warmup, **named) -> None:
    """Compile a kernel for these arguments, as a launch does: whole numbers that are 1, and None, are constants."""
    arguments = dict(zip(kernel.arg_names, args, strict=False)) | {
        k: v for k, v in named.items() if k in kernel.arg_names
    }
    signature, constants, divisible = {}, {}, {}
    for place, (name, value) in enumerate(arguments.items()):
        is_constant = value is None or name.isupper() or (isinstance(value, int) and value == 1 and name != "row_count")
        if is_constant:
            signature[name], constants[name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[name] = TYPES[value.dtype]
        else:
            signature[name] = "fp32" if isinstance(value, float) else "i32"
        if isinstance(value, torch.Tensor) or (isinstance(value, int) and value % 16 == 0 and not is_constant):
            divisible[place,] = [["tt.divisibility", 16]]
    options = {"num_warps": named.get("num_warps", 4), "enable_fp_fusion": named["enable_fp_fusion"]}
    made = triton.compile(ASTSource(kernel, signature, constants, divisible), GPUTarget("cuda", 90, 32), options)
    with tempfile.NamedTemporaryFile() as file:
        file.write(made.asm["cubin"])
        file.flush()
        usage = subprocess.run([TOOLS / "cuobjdump", "-res-usage", file.name], capture_output=True, text=True).stdout
    registers, spilled = re.search(r"REG:(\d+) STACK:(\d+)", usage).groups()
    print(kernel.__module__.rpartition(".")[2], kernel.__name__, registers, spilled)


def weight(outputs: int, columns: int, groups: int = 0) -> launch.Weight:
    panels = torch.zeros(-(-outputs // 8), -(-columns // 64), 8, dtype=torch.int64)
    scale = group_scales(torch.ones(outputs, groups)) if groups else torch.ones(outputs)
    return launch.Weight(panels, outputs, columns, scale, torch.ones(outputs))


def run(case: str) -> None:
    held, image = launch.Held(*overflow_of(Accumulator(8, "cyclic"))), launch.Geometry((64, 48, 3, 3), *[(1, 1)] * 3)
    if case == "row":
        launch.multiply(torch.ones(1, 4096), weight(512, 4096, 32))
    elif case == "rows":
        launch.multiply(torch.ones(3000, 256, dtype=torch.float16), weight(512, 256))
    elif case == "few rows":
        launch.multiply(torch.ones(20, 4096, dtype=torch.bfloat16), weight(512, 4096, 32))
    elif case == "float32 rows":
        launch.multiply(torch.ones(700, 256), weight(512, 256))
    elif case == "images":
        launch.convolve(torch.ones(4, 48, 30, 30, dtype=torch.float16), weight(64, 432), image)
    elif case == "float32 images":
        launch.convolve(torch.ones(4, 48, 30, 30), weight(64, 432), image)
    elif case == "row of signs":
        launch.multiply_signs(torch.ones(1, 4096), weight(512, 4096), held)
    elif case == "rows of signs":
        launch.multiply_signs(torch.ones(3000, 256), weight(512, 256), held)
    elif case == "images of signs":
        launch.convolve_signs(torch.ones(4, 48, 30, 30), weight(64, 432), held, image, -1)


triton.JITFunction.run = compiled
for named_case in sys.argv[1:]:
    run(named_case)
