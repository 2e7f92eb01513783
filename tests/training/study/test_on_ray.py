"""Rows on Ray are those of this machine: by default on a stand-in of a few lines, with `--full` on two workers."""

import os
import sys
from types import ModuleType, SimpleNamespace

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


class SimpleTask:
    def __init__(self, result):
        self.result = result


class StandIn(ModuleType):
    """What `RayCluster` calls of Ray: tasks run at once, in this process, and are given back one after the other."""

    exceptions = SimpleNamespace(RayError=ArithmeticError)

    class Queue(list):
        def __init__(self, actor_options):
            assert actor_options == {"num_cpus": 0}

        put, size = list.append, list.__len__

        def get_nowait_batch(self, count):
            first, self[:count] = self[:count], []
            return first

        def shutdown(self, force):
            assert force

    def is_initialized(self):
        return True

    def cluster_resources(self):
        return {"CPU": 2.0}

    def remote(self, function):
        def run(order, *arguments):
            result = function(order, *arguments)
            return SimpleTask(self.exceptions.RayError("out of memory") if order.row.labels["pair"] == "pc" else result)

        return SimpleNamespace(options=lambda num_cpus, max_retries: SimpleNamespace(remote=run))

    def wait(self, tasks, num_returns, timeout):
        return tasks[:num_returns], tasks[num_returns:]

    def get(self, task):
        if isinstance(task.result, self.exceptions.RayError):
            raise task.result
        return task.result


@pytest.fixture
def stand_in(monkeypatch):
    ray = StandIn("ray")
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.util.queue", ray)
    return ray


def test_a_task_that_ray_ends_is_a_row_that_failed(tmp_path, stand_in):
    pairs = GRID["axes"]["pair"] | {"pc": {}}
    study = study_of(tmp_path, axes=GRID["axes"] | {"pair": pairs}, blocks=[{"pair": "pc", "seed": 0, "start": "E2E"}])
    _, printed = run(study, lambda: RayCluster(None, threads=1))
    assert "failed: its Ray task ended: out of memory" in printed


@pytest.mark.parametrize("place", ["stand_in", pytest.param("cluster", marks=pytest.mark.thorough)])
def test_four_rows_are_the_same_and_a_fifth_fails_alone(tmp_path, place, request):
    request.getfixturevalue(place)
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
