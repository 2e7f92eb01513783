"""The options of the commands that pack."""

import argparse
from typing import Any, get_args

from proxconnect.cli.parser import Parser
from proxconnect.deploy.fusion import Floats
from proxconnect.deploy.packed import Inputs, Remainder, Vectors


def add_to(command: Parser) -> None:
    """Add the options of `pc.pack`."""
    add = command.add_argument_group("what the packed network is").add_argument
    add("--inputs", choices=get_args(Inputs), default="exact", help="how the packed network multiplies float inputs: "
        "exact (default), or rounded to 8 bits row by row")  # fmt: skip
    add("--remainder", choices=get_args(Remainder), default="float", help="what layers that are not binary become; "
        "default: float")  # fmt: skip
    add("--vectors", choices=get_args(Vectors), default="float32", help="what scales, biases and norms are stored as; "
        "default: float32")  # fmt: skip
    add("--floats", choices=get_args(Floats), help="what computes float convolutions and attention here: torch, or "
        "kernels, fast; default: fast where no layer has binary inputs")  # fmt: skip


def options(parsed: argparse.Namespace) -> dict[str, Any]:
    """Return the options as keyword arguments of `pc.pack`."""
    return {name: getattr(parsed, name) for name in ("inputs", "remainder", "vectors", "floats")}
