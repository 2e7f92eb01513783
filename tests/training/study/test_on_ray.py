"""Rows on a Ray cluster of two workers are those of this machine."""

import os

import pytest
from grids import GRID, InTurn
from test_running import no_pictures, results, run, study_of  # noqa: F401  # a fixture is used by its name

from proxconnect.training.study.running import RayCluster


@pytest.fixture(scope="module")
def cluster():
    ray = pytest.importorskip("ray", reason="ray is in the extra `ray`")
    with pytest.MonkeyPatch.context() as patch:
        # Its workers find the rows of this folder, as they would code that is installed everywhere.
        patch.setenv("PYTHONPATH", os.path.dirname(__file__))
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_four_rows_are_the_same_and_a_fifth_fails_alone(tmp_path, cluster):
    pairs = GRID["axes"]["pair"] | {"bc": {"fails": True}}
    blocks = [*GRID["blocks"], {"pair": "bc", "mode": "BW", "start": "E2E"}]
    changes = {"axes": GRID["axes"] | {"pair": pairs}, "blocks": blocks}
    here, there = (study_of(tmp_path / name, {"seed": ["0"]}, **changes) for name in ("here", "there"))
    run(here, InTurn)
    code, printed = run(there, lambda: RayCluster(None, threads=1))
    assert code == 1
    assert "bc BW E2E: failed: RuntimeError: no such data set" in printed
    assert len(results(there)) == 4
    assert results(there) == results(here)


def test_without_a_cluster_the_error_says_how_to_start_one(monkeypatch):
    ray = pytest.importorskip("ray", reason="ray is in the extra `ray`")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)

    def absent(**_):
        raise ConnectionError("Could not find any running Ray instance")

    monkeypatch.setattr(ray, "init", absent)
    with pytest.raises(ConnectionError, match="start one with `ray start --head`"):
        RayCluster(None, threads=1)
