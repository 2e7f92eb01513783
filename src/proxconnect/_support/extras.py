"""Imports of optional packages; the error prints the installation line."""

from importlib import import_module
from typing import Any

from proxconnect._support.installation import pip_install

DISTRIBUTIONS = {"sklearn": "scikit-learn", "yaml": "PyYAML"}
"""Names of distributions that differ from the name of their package."""


class MissingExtraError(ImportError):
    """The error for an optional package that is not installed; the message says how to install it."""


def require(module: str, extra: str) -> Any:
    """Import and return `module`; MissingExtraError, which names the extra to install, if its package is missing."""
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:  # an error inside an installed package
            raise
        raise MissingExtraError(
            f"{DISTRIBUTIONS.get(package, package)} is not installed; run: {pip_install(extra)}",
            name=package,
        ) from error
