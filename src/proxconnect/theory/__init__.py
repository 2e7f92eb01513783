"""Theory that runs: verdicts on pairs, corrections, new pairs, certificates of runs."""

from proxconnect.pairs.probing import ProbeError
from proxconnect.theory.certificates.certificate import Certificate, certificate
from proxconnect.theory.certificates.potentials import potential
from proxconnect.theory.certificates.recorder import Recorder
from proxconnect.theory.certificates.trajectory import Trajectory
from proxconnect.theory.functions.blackbox import autograd_derivative
from proxconnect.theory.new_pairs.argmin import prox_of
from proxconnect.theory.new_pairs.composition import average, compose, rescale, synthesize
from proxconnect.theory.new_pairs.correction import UnboundedForwardWarning, correct
from proxconnect.theory.verdicts.decomposition import Verdict, decompose
from proxconnect.theory.verdicts.presentation import plot_verdict

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
