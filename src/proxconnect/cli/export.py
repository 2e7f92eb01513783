"""`proxconnect export`: from a packed file to the files of other runtimes."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

import proxconnect
from proxconnect import extras
from proxconnect.bench.answers import difference, require_runs, run
from proxconnect.bench.examples import of_shapes
from proxconnect.cli.network import network
from proxconnect.cli.parser import USAGE_ERROR, Parser, complain, positive
from proxconnect.example import tensors_in
from proxconnect.export.formats import FORMATS, Format
from proxconnect.loading import importable_folder


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add the command to those of the parser."""
    command = commands.add_parser(
        "export",
        help="from a packed file to the files of other runtimes",
        description="Write the network of a packed file for another runtime, and have that runtime\n"
        "answer, where it is installed.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="""FILE is what `proxconnect pack` or `pc.save` wrote. MODEL is code, for a file
never builds an architecture: a name as of `proxconnect bench`, or
MODULE:CALLABLE.

  onnx      operators of the standard, 1 bit a weight on disk; any batch
  qonnx     BipolarQuant, for FINN and hls4ml; one batch
  openvino  BinaryConvolution where inputs are binary; one batch

examples:
  proxconnect export r18.safetensors --model bireal_resnet18 --to onnx \\
      -o r18.onnx
  proxconnect export net.safetensors --model my_module:net --to openvino \\
      -o net.xml --input 1 3 64 64

exit status:
  0  written
  2  bad input (one line on stderr)""",
    )
    add = command.add_argument
    add("file", type=Path, metavar="FILE", help="the packed file")
    add("--model", required=True, metavar="MODEL", help="what builds its architecture")
    add("--to", required=True, choices=FORMATS, help="the format")
    add("-o", "--out", type=Path, required=True, metavar="FILE", help="the file to write")
    add("--input", nargs="+", type=positive, action="append", metavar="N", help="shape of an input, the batch first;\n"
        "again for a second one; default: the network's own")  # fmt: skip
    command.set_defaults(run=_run)


def _run(parsed: argparse.Namespace) -> int:
    from rich.console import Console

    try:
        with importable_folder():
            lines = list(_export(parsed))
    except (ValueError, TypeError, OSError, extras.MissingExtraError) as error:
        return complain(error, USAGE_ERROR)
    console = Console(highlight=False, soft_wrap=True)
    for line in lines:
        console.print(line, markup=False)
    return 0


def _export(parsed: argparse.Namespace) -> Iterator[str]:
    """Write, and say what there is to say."""
    subject, target = network(parsed.model), FORMATS[parsed.to]
    model = proxconnect.load(parsed.file, subject.build())
    if not parsed.input and subject.example is None:
        raise ValueError(f"give the shape of what {parsed.model} takes, as --input 1 3 224 224")
    example = of_shapes(parsed.input) if parsed.input else subject.example(model)  # type: ignore[misc]  # it is there
    with torch.no_grad():
        require_runs(subject.title, model, example)
        target.write(model, example, parsed.out)
        size, packed = target.size(parsed.out), parsed.file.stat().st_size
        yield f"{parsed.out}: {size:,} bytes, {size / packed:.2f} times the packed file"
        yield _answer(target, parsed.out, model, example)


def _answer(target: Format, path: Path, model: nn.Module, example: Any) -> str:
    """How far the runtime's answer is from the model's."""
    try:
        runtime = target.run(path)
    except extras.MissingExtraError as error:
        return f"not run: {error}"
    apart = difference(tensors_in(run(model, example)), runtime(example))
    return f"{target.runtime} answers within {apart:.1g} of the packed network"
