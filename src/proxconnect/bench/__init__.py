"""How fast and how small packed networks are on this machine, beside float ones and other engines."""

from proxconnect.bench.measure import measure
from proxconnect.bench.networks import Network, named
from proxconnect.bench.results import MODES, Bench, Contender, Mode, Options

__all__ = ["MODES", "Bench", "Contender", "Mode", "Network", "Options", "measure", "named"]
