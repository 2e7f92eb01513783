"""The command `proxconnect`."""

import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress

from proxconnect._support.termination import interruptible, raising
from proxconnect.cli import streams
from proxconnect.cli.parser import MEANINGS, Exit, Parser, complain, epilog
from proxconnect.cli.verbs import bench, check, completion, demo, discover, export, pack, study, summary, train
from proxconnect.cli.warning_lines import warning_lines
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
    streams.prepare()
    try:
        with interruptible(), raising(), warning_lines():
            code = _run(list(sys.argv[1:] if arguments is None else arguments))
    except BrokenPipeError:
        code = Exit.UNREAD
    except KeyboardInterrupt:
        code = Exit.INTERRUPTED
    except SystemExit as stop:  # of argparse after --help, --version or an error, or of rich at a closed pipe
        code = _code_of(stop)
    except streams.OutputError as error:
        code = complain(error, Exit.MISUSE)
    except Exception:
        code = Exit.CRASHED
        with suppress(OSError):
            traceback.print_exc()
    streams.abandon()
    return code


def _run(words: list[str]) -> int:
    if words and words[0] in train.VERBS:
        return train.run(words[0], words[1:])
    parsed = _parser().parse_args(words)
    code: int = parsed.run(parsed)
    return code


def _code_of(stop: SystemExit) -> int:
    """Return the exit code of a SystemExit; that of rich or Lightning may hide a closed pipe or Ctrl-C."""
    if isinstance(stop.__context__, BrokenPipeError):
        return Exit.UNREAD
    if isinstance(stop.__context__, KeyboardInterrupt):
        return Exit.INTERRUPTED
    if isinstance(stop.code, str):
        return complain(stop, Exit.CRASHED)
    return stop.code or Exit.DONE


def _parser() -> Parser:
    parser = Parser(
        prog="proxconnect",
        description="Binarize PyTorch networks by ProxConnect++, and ship them with 1 bit a weight.",
        epilog=epilog(_EXAMPLES, MEANINGS, _ABOUT),
    )
    parser.add_argument("--version", action="version", version=f"proxconnect {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for verb in (check, demo, train, study, discover, pack, summary, export, bench):
        verb.add_to(commands)
    completion.add_to(commands, parser)
    return parser
