"""Proposals of candidates by Optuna's tree-structured Parzen estimator (Watanabe 2023, arXiv 2304.11127)."""

import warnings
import zlib
from collections.abc import Sequence
from typing import Any

from proxconnect._support import extras
from proxconnect.training.discovery.space import Choice, Parameter, Range, Space, Values

_RANDOM = 8
"""The candidates of a space that are drawn by chance before the estimator proposes any."""


def propose(space: Space, tried: Sequence[Values], ranks: Sequence[float], count: int, seed: int) -> list[Values]:
    """Return `count` new values for `space`, after those of its `first` that are not `tried` yet.

    `ranks` are the fitness of `tried`, where less is better. The same arguments give the same values on one version of
    Optuna. MissingExtraError without it.
    """
    waiting = [values for values in space.first if values not in tried][:count]
    if len(waiting) == count:
        return waiting
    optuna = extras.require("optuna", "discover")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    kinds = {name: _distribution(optuna, parameter) for name, parameter in space.parameters.items()}
    mixed = zlib.crc32(f"{seed} {space.name} {len(tried)}".encode())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=mixed, multivariate=True, constant_liar=True, n_startup_trials=_RANDOM
        )
    study = optuna.create_study(sampler=sampler, direction="minimize")
    for values, rank in zip(tried, ranks, strict=True):
        study.add_trial(optuna.trial.create_trial(params=values, distributions=kinds, value=rank))
    found = [study.ask(kinds).params for _ in range(count - len(waiting))]
    return waiting + [_rounded(space, values) for values in found]


def _distribution(optuna: Any, parameter: Parameter) -> Any:
    if isinstance(parameter, Choice):
        return optuna.distributions.CategoricalDistribution(parameter.choices)
    return optuna.distributions.FloatDistribution(parameter.low, parameter.high, log=parameter.log)


def _rounded(space: Space, values: Values) -> Values:
    return {
        name: parameter.rounded(float(values[name])) if isinstance(parameter, Range) else values[name]
        for name, parameter in space.parameters.items()
    }
