"""How fast and how small packed networks are on this machine, beside float ones and other engines."""

from proxconnect.bench.measure import MODES, Bench, Contender, Mode, Options, measure
from proxconnect.bench.networks import Network, named

__all__ = ["MODES", "Bench", "Contender", "Mode", "Network", "Options", "measure", "named"]
