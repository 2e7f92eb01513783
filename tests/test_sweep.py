"""A tenth of the sweep; `make test-sweep` runs all of it."""

import hashlib
from pathlib import Path

import pytest

from sweep.flow import MODES, go_through, started
from sweep.run import LIBRARIES, subjects
from sweep.torchvision_models import MODELS as TORCHVISION
from sweep.torchvision_models import module_names


def is_chosen(name: str) -> bool:
    """One in ten, always the same."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10 == 0


CHOSEN = [(library, name) for library in LIBRARIES for name in subjects(library) if is_chosen(name)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("library", "name"), CHOSEN, ids="-".join)
def test_a_network_goes_all_the_way(library: str, name: str, mode: str, tmp_path: Path) -> None:
    subject = subjects(library)[name]
    go_through(subject, started(subject), mode, tmp_path)


def test_all_of_torchvision_is_swept() -> None:
    assert set(TORCHVISION) == set(module_names())


def test_there_are_enough_of_each_library() -> None:
    assert len(subjects("timm")) >= 150
    assert len(subjects("transformers")) >= 25
