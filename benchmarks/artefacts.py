"""The file of a network in one engine, opened with one thread. A process imports only the engine that it opens.

Run: python benchmarks/artefacts.py FOLDER ARTEFACT INPUTS.npz: open an artefact, given as JSON, run it twice, and print
as JSON how many bytes of main memory the process then holds ("process"), how many more that is than after its imports
("held"), and how many more it had at most ("peak").
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy

Inputs = tuple[Any, ...]
"""The positional inputs of a network, as numpy arrays, the batch first."""
Answer = Callable[[Inputs], Any]
"""A function from inputs to logits, a numpy array (N, classes)."""

IMPORTS = {
    "torch": ["torch"],
    "packed": ["torch", "proxconnect"],
    "onnxruntime": ["onnxruntime"],
    "openvino": ["openvino"],
}


@dataclass(frozen=True)
class Artefact:
    """A network as one engine takes it: `title` for tables, `engine` (a key of `IMPORTS`), and its `file` in a folder.

    The engines "torch" and "packed" build the network from `architecture`, a pickle in the same folder without weights.
    `mode` says what is binary in it: "float" (nothing), "BW" or "BWA". `inputs` and `floats` are options of `pc.load`.
    """

    title: str
    engine: str
    file: str
    mode: str = "float"
    inputs: str = "exact"
    floats: str | None = None

    @property
    def architecture(self) -> str:
        """The file of the float network without its weights."""
        return f"architecture-{self.mode}.pt"

    def bytes(self, folder: Path) -> int:
        """Return the bytes on the disk; OpenVINO has two files."""
        files = [folder / self.file]
        if self.engine == "openvino":
            files.append(files[0].with_suffix(".bin"))
        return sum(file.stat().st_size for file in files)

    def opened(self, folder: Path) -> Answer:
        """Open the file in its engine, with one thread."""
        return OPEN[self.engine](self, folder)

    def imports(self, folder: Path) -> None:
        """Import all that `opened` needs."""
        for name in IMPORTS[self.engine]:
            import_module(name)
        if self.engine in ("torch", "packed"):
            _architecture(self, folder)


def accuracy(answer: Answer, test: Sequence[tuple[Inputs, int]]) -> float:
    """Return the share of the inputs whose largest logit is that of their label; ValueError if one is not finite."""
    right = 0
    for inputs, label in test:
        logits = answer(inputs)
        if logits.ndim != 2 or len(logits) != 1 or not numpy.isfinite(logits).all():
            raise ValueError(f"logits must be finite and of shape (1, classes); got {logits.shape}: {logits}")
        right += int(logits[0].argmax()) == label
    return right / len(test)


def _architecture(artefact: Artefact, folder: Path) -> Any:
    import torch

    return torch.load(folder / artefact.architecture, weights_only=False)  # this program wrote it


def _torch(artefact: Artefact, folder: Path) -> Answer:
    import torch

    model = _architecture(artefact, folder)
    model.load_state_dict(torch.load(folder / artefact.file, mmap=True, weights_only=True), assign=True)
    return _of_module(model.eval().requires_grad_(False))


def _packed(artefact: Artefact, folder: Path) -> Answer:
    import proxconnect

    model = _architecture(artefact, folder)
    return _of_module(proxconnect.load(folder / artefact.file, model, inputs=artefact.inputs, floats=artefact.floats))


def _of_module(model: Any) -> Answer:
    import torch

    torch.set_num_threads(1)

    @torch.inference_mode()
    def answer(inputs: Inputs) -> Any:
        found = model(*map(torch.from_numpy, inputs))
        return getattr(found, "logits", found).numpy()  # networks of transformers return an object

    return answer


def _onnxruntime(artefact: Artefact, folder: Path) -> Answer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / artefact.file, options, providers=["CPUExecutionProvider"])
    names = [taken.name for taken in session.get_inputs()]
    return lambda inputs: session.run(None, dict(zip(names, inputs, strict=True)))[0]


@cache
def _core() -> Any:
    """Return a core that lives as long as the process: deleting two of them can kill it at its next signal."""
    import openvino

    return openvino.Core()


def _openvino(artefact: Artefact, folder: Path) -> Answer:
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    request = _core().compile_model(folder / artefact.file, "CPU", options).create_infer_request()
    return lambda inputs: request.infer(inputs)[0]


OPEN: Mapping[str, Callable[[Artefact, Path], Answer]] = {
    "torch": _torch, "packed": _packed, "onnxruntime": _onnxruntime, "openvino": _openvino,
}  # fmt: skip


def _status(key: str) -> int:
    """Bytes of memory of this process, now ("VmRSS") or at most ("VmHWM")."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key))


def main(folder: Path, artefact: Artefact, inputs: Inputs) -> None:
    artefact.imports(folder)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
    before = _status("VmRSS")
    answer = artefact.opened(folder)
    for _ in range(2):
        answer(inputs)
    held, peak = _status("VmRSS"), _status("VmHWM")
    print(json.dumps({"held": held - before, "peak": peak - before, "process": held}))


if __name__ == "__main__":
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # it would start a process
    with numpy.load(sys.argv[3]) as given:
        main(Path(sys.argv[1]), Artefact(**json.loads(sys.argv[2])), tuple(given.values()))
