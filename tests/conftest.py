"""What every test starts from: one thread, a fixed seed, deterministic properties."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

from proxconnect import fused

torch.set_num_threads(1)
settings.register_profile("proxconnect", derandomize=True, deadline=None, max_examples=30)
settings.load_profile("proxconnect")


@pytest.fixture(autouse=True)
def fixed_seed() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quantizers go by torch alone, not by kernels, whose answers are a pair's own only up to rounding."""
    monkeypatch.setattr(fused, "is_plain", lambda _: False)
