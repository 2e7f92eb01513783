"""Speed and size of packed networks on this machine, beside float ones and other engines."""

from proxconnect.cli.bench.benchmark import MODES, Mode, Options, measure

__all__ = ["MODES", "Mode", "Options", "measure"]
