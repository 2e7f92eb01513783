"""The command `proxconnect`."""

from collections.abc import Sequence

from proxconnect import __version__
from proxconnect.cli import check, demo
from proxconnect.cli.parser import Parser

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with `arguments` (default: those of the process) and return its exit code.

    0: done; 1: a check failed; 2: wrong arguments, an absent file or package, in one line on stderr; 130: Ctrl-C.
    """
    parser = _parser()
    try:
        parsed = parser.parse_args(arguments)
        code: int = parsed.run(parsed)
    except SystemExit as stop:  # argparse's, after --help, --version or an error
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


def _parser() -> Parser:
    parser = Parser(prog="proxconnect", description="Binarize PyTorch networks by ProxConnect++.")
    parser.add_argument("--version", action="version", version=f"proxconnect {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    check.add_to(commands)
    demo.add_to(commands)
    return parser
