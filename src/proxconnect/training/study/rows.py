"""A row of a study: a configuration with labels, and an address that changes with anything a result depends on."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from proxconnect.training.study.overrides import Configuration
from proxconnect.training.study.version import results_version

Labels = dict[str, str]
"""A label for each axis."""


@dataclass(frozen=True, eq=False)
class Row:
    """One training run. It starts from the row `after`, whose last checkpoint goes under the key `checkpoint`."""

    labels: Labels
    configuration: Configuration
    run: str
    after: "Row | None" = None
    checkpoint: str | None = None

    @cached_property
    def key(self) -> str:
        """The address, 16 hex digits."""
        return address(self.configuration, self.run, self.origin, results_version())

    @property
    def origin(self) -> dict[str, str] | None:
        """The address of the row that this one starts from, whatever the path of its checkpoint."""
        if self.after is None or self.checkpoint is None:
            return None
        return {"row": self.after.key, "checkpoint": self.checkpoint}

    def __str__(self) -> str:
        return described(self.labels)


def described(labels: Mapping[str, str]) -> str:
    """Return labels in words: "bnn++ BW E2E seed 0"."""
    return " ".join(f"seed {label}" if axis == "seed" else label for axis, label in labels.items() if label)


def address(configuration: Configuration, run: str, origin: Mapping[str, str] | None, version: str) -> str:
    """Return the start of the SHA-256 of the arguments as JSON with sorted keys and no blanks."""
    whole = {"configuration": configuration, "run": run, "after": origin, "results": version}
    text = json.dumps(whole, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
