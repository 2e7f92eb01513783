"""What is said where another process of a run has ended."""

from types import SimpleNamespace

import pytest

from proxconnect.training.lost_ranks import LostRankError, telling

TWO = SimpleNamespace(world_size=2, global_rank=1)
GLOO = "[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:36755."


@pytest.mark.parametrize(("is_there", "says"), [(True, "go on by --ckpt_path last"), (False, "start it again")])
def test_from_where_the_run_goes_on(is_there, says, tmp_path):
    checkpoint = tmp_path / "last.ckpt"
    if is_there:
        checkpoint.touch()
    expected = pytest.raises(LostRankError, match=rf"another of the 2 processes .* rank 1 ends too; {says}")
    with expected, telling(TWO, checkpoint):
        raise RuntimeError(GLOO)


@pytest.mark.parametrize(
    ("trainer", "message"), [(SimpleNamespace(world_size=1), GLOO), (TWO, "mat1 and mat2 cannot be multiplied")]
)
def test_other_errors_stay_what_they_are(trainer, message, tmp_path):
    with pytest.raises(RuntimeError, match=r"pair\.cc|mat1"), telling(trainer, tmp_path):
        raise RuntimeError(message)
