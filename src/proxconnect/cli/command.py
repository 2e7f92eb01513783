"""The command `proxconnect`."""

import io
import os
import sys
from collections.abc import Sequence

from proxconnect._support.termination import raising
from proxconnect.cli.parser import MEANINGS, Exit, Parser, epilog
from proxconnect.cli.verbs import bench, check, completion, demo, export, pack, study, summary, train
from proxconnect.version import __version__

_ABOUT = """
`proxconnect COMMAND --help` has the options of each, with examples. With --json
stdout is one JSON document; docs/command-line.md says what is in it.
"""
_EXAMPLES = """
proxconnect demo
proxconnect check bnn+
proxconnect fit --config recipes/small_cnn_digits.yaml
proxconnect bench bireal_resnet18 --mode BWA
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command `proxconnect` with `arguments`, by default those of this process, and return the exit code."""
    parser, words = _parser(), list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # few encodings beside UTF-8 have μ and ∘
    try:
        with raising():
            if words and words[0] in train.VERBS:
                code: int = train.run(words[0], words[1:])
            else:
                parsed = parser.parse_args(words)
                code = parsed.run(parsed)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that Python's last flush does not fail
        return Exit.UNREAD
    except SystemExit as stop:  # of argparse after --help, --version or an error, or of rich at a closed pipe
        if isinstance(stop.__context__, BrokenPipeError):
            return Exit.UNREAD
        if isinstance(stop.__context__, KeyboardInterrupt):  # Lightning's status for it is 1
            return Exit.INTERRUPTED
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


def _parser() -> Parser:
    parser = Parser(
        prog="proxconnect",
        description="Binarize PyTorch networks by ProxConnect++, and ship them with 1 bit a weight.",
        epilog=epilog(_EXAMPLES, MEANINGS, _ABOUT),
    )
    parser.add_argument("--version", action="version", version=f"proxconnect {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for verb in (check, demo, train, study, pack, summary, export, bench):
        verb.add_to(commands)
    completion.add_to(commands, parser)
    return parser
