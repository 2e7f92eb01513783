"""Small grids of fake rows, and workers that run them in this process."""

from pathlib import Path

import yaml

from proxconnect.training.study.running import perform

GRID = {
    "run": "fake_rows:run_row",
    "base": {"trainer": {"max_epochs": 3}},
    "axes": {
        "seed": [0, 1],
        "pair": {"fp": {"model.weights": "fp"}, "bnn+": {"model.weights": "bnn+"}, "bnn++": {"model.weights": "bnn++"}},
        "mode": {"float": {"model.mode": "float"}, "BW": {"model.mode": "BW"}},
        "start": {
            "E2E": {},
            "FT": {"after": {"pair": "fp", "mode": "float", "start": "E2E"}, "checkpoint": "start", "rate": 2},
        },
    },
    "blocks": [
        {"pair": ["bnn+", "bnn++"], "mode": "BW", "exclude": [{"pair": "bnn+", "start": "FT"}]},
        {"pair": "fp", "mode": "float", "start": "E2E"},
    ],
    "compare": {"pair": [["bnn++", "bnn+"]]},
}  # fmt: skip
"""Eight rows: those that start from fp stand before it."""


def write_grid(folder: Path, **changes) -> Path:
    """The file of GRID with other keys."""
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(GRID | changes, sort_keys=False))
    return path


class InTurn:
    """One row at a time, in this process."""

    size = 1

    def __init__(self):
        self.given = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def give(self, order):
        self.given = order

    def events(self):
        progress = []
        order, self.given = self.given, None
        end = perform(order, progress.append)
        return [*progress, end]
