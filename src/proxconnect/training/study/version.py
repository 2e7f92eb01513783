"""The version of the results of rows, which is a part of their addresses."""

from proxconnect.version import __version__

RESULTS = 1
"""Raise it by one with each change after which a configuration that ran before gives other accuracies.

Examples are other initial values, another order of the data, or another formula of a pair, a rule or a schedule. A
faster kernel that rounds differently, a new option or new words are none. A raised version gives each row another
address, so that all run again.
"""


def results_version() -> str:
    """Return the version of the package and that of its results, as in "0.1.0+1"."""
    return f"{__version__}+{RESULTS}"
