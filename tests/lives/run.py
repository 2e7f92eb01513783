"""Lives of binary models by chance: how many there were, and of how many rules; the first that breaks is shown small.

Run from tests/: python -m lives.run [--lives 2000] [--rules 30] [--seed 0]. A life that breaks the law is printed as
the shortest program that shows it, and the exit status is 1.
"""

import argparse
import time
import warnings

import torch
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from lives.living import Living
from lives.storing import Shipping


def main() -> None:
    """What the head of this file says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lives", type=int, default=2000)
    parser.add_argument("--rules", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    begun = time.perf_counter()
    usual = settings(max_examples=options.lives, stateful_step_count=options.rules, deadline=None, database=None,
                     phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck))  # fmt: skip
    try:
        run_state_machine_as_test(seed(options.seed)(Shipping), settings=usual)
    finally:
        seconds = time.perf_counter() - begun
        print(f"{Living.lives:,} lives of {Living.rules_run:,} rules in {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
