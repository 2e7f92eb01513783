"""`proxconnect demo`: train, compare and ship binary networks on real data."""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console

from proxconnect._support.extras import require
from proxconnect.cli.answer import JSON_HELP, Answer, print_answer
from proxconnect.cli.parser import Exit, Parser, accumulator, epilog, pair_name, positive

_ABOUT = """
fashion-mnist trains ResNet-20 (stem stride 2, 14 x 14) for 6 epochs a run; an
epoch takes one to two minutes on a core, all 31 runs four to five hours on two.

Writes into DIR: results.json, which --json prints too, curves.png, weights.png,
pairs.png and best.safetensors. Ctrl-C and SIGTERM keep what is done: the table
is printed and results.json says "complete": false.
"""
_EXAMPLES = """
proxconnect demo        # digits, all pairs, 3 seeds: two minutes on two cores
proxconnect demo --pairs bnn+ bnn++ --modes BW --seeds 5
proxconnect demo --pairs md poly+ --starts FT --out runs/soft
proxconnect demo --pairs bnn++ --modes BWA BWAA --accumulator 5:saturate
proxconnect demo --data fashion-mnist --pairs bnn++ --modes BW --starts E2E
proxconnect demo --data fashion-mnist --root ~/fashion-mnist
"""
_EXITS = {
    Exit.DONE: "trained, and the file answers as the network",
    Exit.NO: "the file answers otherwise, or a run failed",
    Exit.INTERRUPTED: "Ctrl-C",
    Exit.TERMINATED: "SIGTERM",
}


def add_to(commands: "argparse._SubParsersAction[Parser]") -> None:
    """Add `demo` to the subcommands of the parser."""
    command = commands.add_parser(
        "demo",
        help="train, compare and ship binary networks on real data",
        description="Train a float network and binary ones by several forward-backward pairs, print a\n"
        "table of their accuracies, draw them, and prove that the packed file of the best\ngives the same answers.",
        epilog=epilog(_EXAMPLES, _EXITS, _ABOUT),
    )
    add = command.add_argument_group("what is trained").add_argument
    add("--data", choices=("digits", "fashion-mnist"), default="digits", help="default: digits, 8 x 8, from sklearn")
    add("--root", type=Path, metavar="DIR", help="folder of the IDX files of Fashion-MNIST")
    add(
        "--pairs",
        nargs="+",
        type=pair_name,
        metavar="PAIR",
        help="pairs to train; default: bc pc bnn bnn+ bnn++; fp always is",
    )
    add("--modes", nargs="+", choices=("BW", "BWA", "BWAA"), help="binary weights; activations too; and the sums of "
        "their products in a narrow accumulator; default: all")  # fmt: skip
    add("--starts", nargs="+", choices=("E2E", "FT"), help="from scratch, or fine-tuned from fp; default: both")
    add("--accumulator", type=accumulator, metavar="BITS[:OVERFLOW]", help="accumulator of BWAA; OVERFLOW is wrap, "
        "saturate or cyclic; default: 8:wrap")  # fmt: skip
    add("--seeds", type=positive, metavar="N", help="number of seeds; default: 3; 1 for fashion-mnist")
    add("--epochs", type=positive, metavar="N", help="epochs of every run; default: 10; 6 for fashion-mnist")
    add = command.add_argument_group("how and where").add_argument
    add("--workers", type=positive, metavar="N", help="processes, of one thread each; default: one a core, at most 8")
    add("--out", type=Path, default=Path("runs/demo"), metavar="DIR", help="folder for the results; default: runs/demo")
    add("--json", action="store_true", help=JSON_HELP)
    command.set_defaults(run=lambda parsed: print_answer(parsed, _demo))


def _demo(parsed: argparse.Namespace) -> Answer:
    for package in ("sklearn", "matplotlib"):  # which bring numpy and PIL
        require(package, "demo")
    from proxconnect.cli.demo.demo import Options, demo

    given = {name: getattr(parsed, name) for name in Options.__dataclass_fields__ if getattr(parsed, name) is not None}
    given |= {name: tuple(dict.fromkeys(words)) for name, words in given.items() if isinstance(words, list)}
    if "accumulator" in given and "BWAA" not in given.get("modes", ("BWAA",)):
        raise ValueError("--accumulator is of mode BWAA: add that to --modes")
    status = Exit(demo(Options(**given), Console(stderr=parsed.json)))
    if status not in (Exit.DONE, Exit.NO):
        sys.exit(status)
    return Answer(json.loads((parsed.out / "results.json").read_text(encoding="utf-8")), (), status)
