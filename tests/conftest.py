"""What every test starts from: one thread, a fixed seed, deterministic properties."""

import gc
import os
import sys
from collections.abc import Generator, Iterator
from itertools import chain

import pytest
import torch
from hypothesis import settings

from covering import left_out
from proxconnect.quantizer import compiled

gc.disable()  # imports leave no garbage, and looking for it takes a quarter of their time
torch.set_num_threads(1)
settings.register_profile("proxconnect", derandomize=True, deadline=None, max_examples=30)
settings.load_profile("proxconnect")


LONGEST = (
    "kernels/test_in_cpp", "kills/test_kills", "docs/", "export/test_runtimes", "misuse/", "test_examples",
    "test_sweep", "training/", "test_ships", "test_machines", "test_networks", "test_fuzzing", "writing/", "cli/",
    "theory/", "test_wheel",
)  # fmt: skip
"""Files that would keep one worker busy when the other is done: they come first."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run every case, and thorough tests too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the covering sets without thorough tests, and put the longest files in front; others stay in their order."""
    if not config.getoption("full"):
        out = [*{*left_out(items), *(item for item in items if item.get_closest_marker("thorough"))}]
        config.hook.pytest_deselected(items=out)
        kept = set(items) - set(out)
        items[:] = [item for item in items if item in kept]

    def place(item: pytest.Item) -> int:
        name = item.nodeid.removeprefix("tests/")
        return next((index for index, start in enumerate(LONGEST) if name.startswith(start)), len(LONGEST))

    items.sort(key=place)


def pytest_xdist_auto_num_workers() -> int:
    """One more than processors: tests also wait, for subprocesses, disks, browsers and moments to kill."""
    return 1 + (os.cpu_count() or 1)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for garbage again, but not through all that was imported."""
    result = yield
    gc.freeze()
    gc.enable()
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which C++ programs ran, and which did not and why: dots do not tell."""
    for report in chain.from_iterable(terminalreporter.stats.values()):
        if getattr(report, "when", None) == "call":
            for name, value in report.user_properties:
                terminalreporter.write_line(f"{name}: {value}")


frozen = {"file": "", "modules": 0}
"""The file whose tests ran when garbage was last frozen, and how many modules there were."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Freeze what earlier files and imports left behind: `pack` and studies collect garbage, which else takes long."""
    now = {"file": item.nodeid.partition("::")[0], "modules": len(sys.modules) // 50}
    if now != frozen:
        gc.collect()
        gc.freeze()
        frozen.update(now)


@pytest.fixture(autouse=True)
def fixed_seed() -> Iterator[None]:
    """By the generator of the CPU itself: `torch.manual_seed` costs a millisecond, for it keeps a stack for CUDA."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(0)
    yield
    torch.set_rng_state(state)


@pytest.fixture
def by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantizers go by torch alone, not by kernels, whose answers are a pair's own only up to rounding."""
    monkeypatch.setattr(compiled, "is_plain", lambda _: False)
