"""Import of optional packages, with an error that prints the installation line."""

from importlib import import_module
from typing import Any

DISTRIBUTIONS = {"sklearn": "scikit-learn", "yaml": "PyYAML"}
"""Names of distributions where they differ from the name of the package."""


class MissingExtraError(ImportError):
    """An optional package is not installed; the message says how to install it."""


def require(module: str, extra: str) -> Any:
    """The imported `module`; MissingExtraError with the `pip install` line of `extra` where its package is absent.

    An ImportError from inside a package that is installed passes through unchanged.
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingExtraError(
            f"{DISTRIBUTIONS.get(package, package)} is not installed; run: pip install 'proxconnect[{extra}]'",
            name=package,
        ) from error
