"""How fast and how small packed networks are on this machine, beside float ones and other engines."""

from proxconnect.cli.bench.measure import measure
from proxconnect.cli.bench.networks import Network, named
from proxconnect.cli.bench.results import MODES, Bench, Contender, Mode, Options

__all__ = ["MODES", "Bench", "Contender", "Mode", "Network", "Options", "measure", "named"]
