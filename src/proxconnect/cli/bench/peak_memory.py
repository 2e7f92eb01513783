"""The memory of a network in a process that loads its file, runs once and does nothing else.

`python -m proxconnect.cli.bench.peak_memory MODEL KIND FOLDER THREADS` is that process. It writes into FOLDER how much
its peak grew after all imports. KIND is one of `FILES`.
"""

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

import proxconnect
from proxconnect._support.user_code import importable_folder
from proxconnect.cli.bench.benchmark import FILES, FLOAT
from proxconnect.cli.networks import network, run
from proxconnect.inspection.memory import own_peak

_EXAMPLE = "example.pt"


def peaks(model: str, example: Any, folder: Path, threads: int) -> dict[str, int] | str:
    """Run the float and the packed network once, each in a fresh process, and measure the memory that it takes.

    `model` is the text that `network` takes. `folder` has the files that `measure` wrote, and gets others. Returns the
    bytes by which the peak memory grew after all imports, under "float" and "packed"; or a sentence why they are
    unknown.
    """
    torch.save(dict(example) if isinstance(example, Mapping) else example, folder / _EXAMPLE)
    found = {}
    for kind in FILES:
        command = [sys.executable, "-m", __name__, model, kind, str(folder), str(threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return f"a fresh process failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
        written = (folder / f"{kind}.peak").read_text()
        if not written:
            return "this system does not say"
        found[kind] = int(written)
    return found


def _main(path: str, kind: str, place: str, threads: str) -> None:
    """Load the file, run once, and write how much the peak grew."""
    torch.set_num_threads(int(threads))
    folder = Path(place)
    with importable_folder():
        build = network(path).build
        model = _without_memory(build)  # may import more
        bare = own_peak()
        example = torch.load(folder / _EXAMPLE, weights_only=True)
        model = model or build()
        if kind == FLOAT:
            model.load_state_dict(torch.load(folder / FILES[kind], weights_only=True, mmap=True), assign=True)
            model.eval().requires_grad_(False)
        else:
            model = proxconnect.load(folder / FILES[kind], model)
        with torch.inference_mode():
            run(model, example)
    peak = own_peak()
    (folder / f"{kind}.peak").write_text("" if bare is None or peak is None else str(peak - bare))


def _without_memory(build: Callable[[], nn.Module]) -> nn.Module | None:
    """Build the network without memory for most of its tensors; None if that loses values that no file has."""
    for place in (torch.device("meta"), _EmptyOnMeta()):
        try:
            with place:
                model = build()
        except Exception:  # of code that reads values, whatever it raises
            continue
        unstored = (m._buffers[name] for m in model.modules() for name in m._non_persistent_buffers_set)
        if not any(buffer is not None and buffer.is_meta for buffer in unstored):
            return model
    return None


class _EmptyOnMeta(TorchFunctionMode):
    """Put tensors made without values, as weights, on the meta device; others, as frequencies of positions, stay."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


if __name__ == "__main__":
    _main(*sys.argv[1:])
