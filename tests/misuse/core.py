"""The API and every verb with the packages alone that `pip install .` installs; `--hide` hides all others."""

import re
import sys
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr
from importlib import metadata
from importlib.machinery import ModuleSpec
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

CORE = ("torch", "safetensors", "rich")
EXTRA = 2, "is not installed; run: pip install "
COMMANDS = {
    "--version": (0, ""),
    "check bnn": (0, ""),
    "check --backward curves:smooth --json": (1, ""),
    "check bnn --plot bnn.png": EXTRA,
    "pack net.pt --model small_net:net -o net.safetensors --example 1 3 8 8": (0, ""),
    "summary net.pt": (0, ""),
    "summary net.safetensors --model small_net:net --input 1 3 8 8": (0, ""),
    "export net.safetensors --model small_net:net --to float -o floats.safetensors": (0, ""),
    "export net.safetensors --model small_net:net --to onnx -o net.onnx": EXTRA,
    "bench small_net:net --rounds 1 --batch 1": (0, ""),
    "bench resnet18": EXTRA,
    "completion bash": EXTRA,
    "demo": EXTRA,
    "study grid.yaml": EXTRA,
    "discover search.yaml": EXTRA,
    "fit --config recipe.yaml": EXTRA,
    "validate --config recipe.yaml": EXTRA,
    "test --config recipe.yaml": EXTRA,
}
"""The exit code of each command, and what it says on stderr."""


class Hiding:
    """All finders of modules in one, which finds no module of the given packages."""

    def __init__(self, packages: set[str]) -> None:
        self._packages, self._finders = packages, list(sys.meta_path)

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name.partition(".")[0] in self._packages:
            return None
        found = (finder.find_spec(name, path, target) for finder in self._finders)
        return next((spec for spec in found if spec is not None), None)


def needed(distribution: str) -> Iterator[str]:
    """A distribution and all that it requires without extras."""
    yield distribution
    try:
        requirements = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:  # of another platform
        return
    for requirement in requirements:
        if "extra ==" not in requirement:
            yield from needed(re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-"))


def hide() -> None:
    """Hide every installed package that the core does not require, and leave out what `bench` runs elsewhere."""
    core = {name for distribution in CORE for name in needed(distribution)}
    found = metadata.packages_distributions()
    hidden = {package for package, of in found.items() if core.isdisjoint(d.lower().replace("_", "-") for d in of)}
    sys.meta_path[:] = [Hiding(hidden - {"proxconnect"})]
    from proxconnect.cli.bench import peak_memory

    peak_memory.peaks = lambda *_: "not measured"  # type: ignore[assignment]  # where nothing is hidden


def use_the_api(folder: Path) -> None:
    import torch
    from short_flow import flow, network

    import proxconnect as pc
    from proxconnect import export, kernels, theory

    flow(folder)
    assert theory.decompose(pc.PAIRS["bnn"]).legitimate
    assert theory.decompose(theory.correct(pc.PAIRS["bnn+"]), mu=2.0).legitimate
    model = pc.binarize(network(), "bnn", "bnn")
    export.to_floats(pc.pack(model), folder / "floats.safetensors")
    pc.plan(network())
    kernels.instruction_sets()
    torch.testing.assert_close(pc.hard_state_dict(model)["2.bias"], model[2].bias)


def use_the_command() -> None:
    from every_command import prepare

    from proxconnect.cli.command import main

    prepare()
    Path("curves.py").write_text("def smooth(x):\n    return (-x * x).exp()\n")
    for command, (code, words) in COMMANDS.items():
        with redirect_stderr(StringIO()) as stderr:
            given = main(command.split())
        assert (given, words in stderr.getvalue()) == (code, True), f"{command}: {given}, {stderr.getvalue()}"


if __name__ == "__main__":
    if sys.argv[1:] == ["--hide"]:
        hide()
    with TemporaryDirectory() as place:
        use_the_api(Path(place))
        with chdir(place):
            use_the_command()
    print("done")
