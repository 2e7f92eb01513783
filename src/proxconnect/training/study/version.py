"""The version of what rows measure, which is a part of their addresses."""

from proxconnect.version import __version__

RESULTS = 1
"""Raise it by one with each change after which a configuration that ran before gives other accuracies.

Such are other initial values, another order of the data, another formula of a pair, a rule or a schedule; not a faster
kernel that rounds otherwise, new options, or words. A raised version gives each row another address: all run again.
"""


def results_version() -> str:
    """The version of the package and that of its results, as in "0.1.0+1"."""
    return f"{__version__}+{RESULTS}"
