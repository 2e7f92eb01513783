"""Theory that runs: verdicts on pairs, corrections, new pairs, certificates.

The folders, and their files, in reading order:

- `functions`: a `blackbox` is a checked callable, a `mesh` holds its smooth leaves, an `interpolant` is a fast table;
- `verdicts`: `sampling` of F and B, then the `rules`, P, T and r as `curves`, and the test of a pair's own
  `declaration`; `decomposition` joins them to a verdict, with its `words` and its `picture`;
- `new_pairs`: `composition` from parts, `correction`, and `argmin`, which makes a prox of its regulariser;
- `certificates`: a `trajectory` and its recorder, `potentials`, and the `checks` of the account of a run;
  `certificate` joins and prints them.
"""

from proxconnect.theory.certificates.certificate import Certificate, certificate
from proxconnect.theory.certificates.potentials import potential
from proxconnect.theory.certificates.trajectory import Recorder, Trajectory
from proxconnect.theory.functions.blackbox import ProbeError, autograd_derivative
from proxconnect.theory.new_pairs.argmin import prox_of
from proxconnect.theory.new_pairs.composition import average, compose, rescale, synthesize
from proxconnect.theory.new_pairs.correction import UnboundedForwardWarning, correct
from proxconnect.theory.verdicts.decomposition import Verdict, decompose
from proxconnect.theory.verdicts.picture import plot_verdict

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
