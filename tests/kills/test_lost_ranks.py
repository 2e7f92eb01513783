"""What is said where another process of a run has ended, and that it is said soon."""

import os
import re
import signal
from types import SimpleNamespace

import pytest

from kills.stopping import Broken
from proxconnect.training.checkpoints import LAST, read_run
from proxconnect.training.lost_ranks import LostRankError, noticing_lost_ranks
from training.ranks import RANKS, start_ranks
from training.small_runs import configuration, finish

TORCHRUN = SimpleNamespace(cluster_environment=None)
TWO = SimpleNamespace(world_size=2, global_rank=1, _accelerator_connector=TORCHRUN)
GLOO = "[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:36755."


@pytest.mark.parametrize(("is_there", "says"), [(True, "go on by --ckpt_path last"), (False, "start it again")])
def test_from_where_the_run_goes_on(is_there, says, tmp_path):
    checkpoint = tmp_path / "last.ckpt"
    if is_there:
        checkpoint.touch()
    expected = pytest.raises(LostRankError, match=rf"another of the 2 processes .* rank 1 ends too; {says}")
    with expected, noticing_lost_ranks(TWO, checkpoint):
        raise RuntimeError(GLOO)


@pytest.mark.parametrize(
    ("trainer", "message"), [(SimpleNamespace(world_size=1), GLOO), (TWO, "mat1 and mat2 cannot be multiplied")]
)
def test_other_errors_stay_what_they_are(trainer, message, tmp_path):
    with pytest.raises(RuntimeError, match=r"pair\.cc|mat1"), noticing_lost_ranks(trainer, tmp_path):
        raise RuntimeError(message)


def one_breaks(folder, breaks, kind):
    """Rank `breaks` raises or dies at its second batch of the second epoch; what each says is in a file."""
    rank = int(os.environ["RANK"])
    os.dup2(os.open(folder / f"said by {rank}", os.O_CREAT | os.O_WRONLY), 2)
    options = {"broken": str(folder if rank == breaks else folder / "nothing"), "kind": kind}
    two = {"strategy": "ddp", "devices": RANKS}
    plain = configuration(trainer=two, data=options | {"batch_size": 16}, checkpoint={"every_steps": 1})
    plain["data"]["class_path"] = f"{Broken.__module__}.{Broken.__name__}"
    finish(folder / "run", plain=plain)


@pytest.mark.parametrize(
    ("breaks", "kind", "status", "says"),
    [(0, "raises", 1, r"OSError: picture \d+ cannot be read"), (1, "dies", -signal.SIGKILL, "")],
    ids=["the first raises", "the second is killed"],
)
def test_where_one_of_two_ranks_breaks_the_other_ends(breaks, kind, status, says, tmp_path):
    ranks = start_ranks(one_breaks, tmp_path, breaks, kind)
    for process in ranks:
        process.join(120)
        process.kill()
    other = 1 - breaks
    assert (ranks[breaks].exitcode, ranks[other].exitcode) == (status, 1)
    assert re.search(says, (tmp_path / f"said by {breaks}").read_text())
    lost = f"LostRankError: another of the 2 processes .* rank {other} ends too; go on by --ckpt_path last"
    assert re.search(lost, (tmp_path / f"said by {other}").read_text())
    assert read_run(tmp_path / "run" / LAST)["global_step"] == 4
