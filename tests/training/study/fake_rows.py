"""Rows that train nothing: what they measure follows from their configuration, whatever stopped them meanwhile."""

import hashlib
import json
import os
import time
from pathlib import Path

STEPS = 6


def run_row(configuration, folder: Path, on_progress):
    """Steps that each leave their count and a chain of hashes in a checkpoint, from which a stopped run goes on."""
    checkpoint = folder / "last.ckpt"
    text = json.dumps({**configuration, "start": None}, sort_keys=True)
    begin = configuration.get("start")
    state = {"done": 0, "chain": Path(begin).read_text() if begin else ""}
    if checkpoint.exists():
        state = json.loads(checkpoint.read_text())
    if configuration.get("fails"):
        raise RuntimeError("no such data set")
    if configuration.get("dies"):
        os._exit(9)
    on_progress((state["done"], STEPS))
    while state["done"] < STEPS:
        time.sleep(configuration.get("pause", 0.0))
        chain = hashlib.sha256(f"{state}{text}".encode()).hexdigest()
        state = {"done": state["done"] + 1, "chain": chain}
        aside = checkpoint.with_suffix(".aside")
        aside.write_text(json.dumps(state))
        aside.replace(checkpoint)
        on_progress((state["done"], STEPS))
    return measured(state["chain"], configuration)


def measured(chain: str, configuration) -> dict:
    """Numbers that look like those of a row: an accuracy about the pair's, which the seed moves a little."""
    noise = int(chain[:4], 16) / 0xFFFF - 0.5
    reestimated = configuration.get("level", 0.8) + 0.01 * noise
    return {
        "accuracy": {"soft": reestimated + 0.002, "hard": reestimated - 0.05, "reestimated": reestimated},
        "curve": [{"epoch": i, "loss": 1 / (i + 1), "accuracy": reestimated - 0.1 / (i + 1)} for i in range(3)],
        "seconds": 10.0 * configuration.get("level", 0.8), "peak_memory_bytes": 2**28, "packed_bytes": 1000,
        "float_bytes": 32000, "stays_float": ["stem", "head"], "steps": STEPS,
    }  # fmt: skip
