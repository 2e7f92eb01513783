"""Speed and size of packed networks on this machine, beside float ones and other engines."""

from proxconnect.cli.bench.benchmark import measure
from proxconnect.cli.bench.results import MODES, Bench, Contender, Mode, Options

__all__ = ["MODES", "Bench", "Contender", "Mode", "Options", "measure"]
