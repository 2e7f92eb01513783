"""The quantizer's kernels compile for a GPU, which the interpreter does not show: it takes all of Python."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import re, torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction, mangle_type
from proxconnect.gpu import quantizer

def compile_only(kernel, *args, grid, warmup, **options):
    given = dict(zip(kernel.arg_names, args)) | {n: options.pop(n) for n in kernel.arg_names if n in options}
    fixed = {n: v for n, v in given.items() if v is None or n.isupper()}
    signature = {n: "constexpr" if n in fixed else mangle_type(v) for n, v in given.items()}
    places = {n: (i,) for i, n in enumerate(kernel.arg_names)}
    source = ASTSource(kernel, signature, {places[n]: v for n, v in fixed.items()})
    ptx = triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options).asm["ptx"]
    seen = {*re.findall("cvt.rn.bf16|atom|red.global|ex2.approx|[.]ftz|fma.rn.f32|div.full", ptx)}
    if fixed.get("CURVE") in (3, 4, 5):  # which divide entries, where an ulp does not matter
        seen.discard("div.full")
    print(kernel.fn.__name__, *sorted(seen))

JITFunction.run = compile_only
quantizer.TILE, quantizer.STEP, quantizer.WIDEST = 128, 128, 256  # smaller blocks compile faster
mu, short, long = torch.ones(()), torch.ones(4, 9), torch.ones(2, 600).bfloat16()
for curve in (1, 2, 3, 4, 6, 7):
    quantizer.quantize(short.flatten(), curve, None, mu, 0, False, None, torch.empty(1))
for curve in (1, 2, 3, 5):
    quantizer.multiply(short, short, None, torch.empty(9), curve, None, 4)
quantizer.quantize(short, 5, None, mu, 4, True, None, torch.empty(9))
quantizer.quantize(short, 0, 1.0, None, 4, False, short.bool(), torch.empty(9))
quantizer.quantize(long, 5, 2.0, None, 2, True, long.bool(), torch.empty(5))
quantizer.quantize(long, 0, 1.0, mu, 2, False, None, torch.empty(5))
quantizer.multiply(long, None, long.bool(), None, 0, 1.0, 0)
"""


def test_each_kernel_compiles(tmp_path: Path) -> None:
    """Without atomics, whose order would differ from run to run, and with exact exponentials.

    bfloat16 values and means of rows are correctly rounded.
    """
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    ran = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = [line.split() for line in ran.stdout.splitlines()]
    assert {name for name, *_ in found} == {
        "quantize_entries", "quantize_rows", "sum_magnitudes", "correlate", "quantize_parts", "multiply",
    }  # fmt: skip
    instructions = {word for _, *words in found for word in words}
    assert instructions == {"cvt.rn.bf16", "fma.rn.f32"}
