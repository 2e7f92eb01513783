"""Theory that runs: verdicts on pairs, corrections, new pairs, certificates.

The files in the order to read them:

- verdicts: `blackbox`, `mesh`, `sampling`, then the rules in `findings`, `plateaus`, `jumps` and `divergence`, then
  `reconstruction`, `curves`, `declaration`; `decomposition` joins them to a `verdict`, which `words` puts in words;
- new pairs: `synthesis`, `composition`, `correction` and `argmin`, the last two with tables of `interpolant`;
- certificates: `trajectory` and its `recorder` (a `tape` a layer), `potential`, `account`, `composite`, the conditions
  in `checks` and `proximality`; `certificate` joins them, and `statement` prints them.
"""

from proxconnect.theory.argmin import prox_of
from proxconnect.theory.blackbox import ProbeError, autograd_derivative
from proxconnect.theory.certificate import Certificate, certificate
from proxconnect.theory.composition import average, compose, rescale
from proxconnect.theory.correction import UnboundedForwardWarning, correct
from proxconnect.theory.decomposition import decompose
from proxconnect.theory.potential import potential
from proxconnect.theory.recorder import Recorder
from proxconnect.theory.synthesis import synthesize
from proxconnect.theory.trajectory import Trajectory
from proxconnect.theory.verdict import Verdict
from proxconnect.theory.verdict_plot import plot_verdict

__all__ = [
    "Certificate",
    "ProbeError",
    "Recorder",
    "Trajectory",
    "UnboundedForwardWarning",
    "Verdict",
    "autograd_derivative",
    "average",
    "certificate",
    "compose",
    "correct",
    "decompose",
    "plot_verdict",
    "potential",
    "prox_of",
    "rescale",
    "synthesize",
]
