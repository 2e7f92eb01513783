"""A trajectory by hand, and what is refused as none."""

from typing import Any

import pytest
import torch
from torch import Tensor

from proxconnect.theory.certificates.trajectory import Trajectory


def test_by_hand_from_any_shape() -> None:
    latents = [torch.full((2, 3), 1.0 - 0.5 * t) for t in range(4)]
    run = Trajectory.from_latents(latents, learning_rates=[0.5, 0.25, 0.5], mu=2.0)
    assert (run.steps, run.entries) == (3, 6)
    assert run.mu.tolist() == [2.0] * 4
    assert run.updates[:, 0].tolist() == [1.0, 2.0, 1.0]
    numpy = Trajectory.from_latents(torch.stack(latents).numpy(), 0.5, [1.0, 2.0, 3.0, 4.0])
    assert torch.equal(numpy.latents, run.latents)
    still = Trajectory.from_latents(torch.tensor([1.0, 1.0, 0.5]), [0.0, 0.5])  # a warm-up that begins at 0
    assert still.updates.flatten().tolist() == [0.0, 1.0]


FINE = {
    "latents": torch.zeros(3, 2, dtype=torch.float64), "mu": torch.ones(3, dtype=torch.float64),
    "learning_rates": torch.ones(2, dtype=torch.float64), "updates": torch.zeros(2, 2, dtype=torch.float64),
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mu": torch.ones(2, dtype=torch.float64)}, r"mu of 2 steps of 2 entries have shape \(3,\); got \(2,\)"),
        ({"gradients": torch.zeros(3, 2, dtype=torch.float64)}, r"gradients of 2 steps"),
        ({"updates": torch.zeros(2, 2)}, r"updates must be a float64 tensor .*from_latents converts"),
        ({"latents": FINE["latents"].log()}, "latents are NaN or infinite from step 1 on"),
        ({"mu": -FINE["mu"]}, "mu must be positive"),
        ({"learning_rates": 0 * FINE["learning_rates"]}, "every learning rate is 0"),
        ({"latents": FINE["latents"][:, :0]}, "at least one step"),
    ],
)
def test_what_is_no_run_is_refused(change: dict[str, Tensor], message: str) -> None:
    assert Trajectory(**FINE).steps == 2
    with pytest.raises(ValueError, match=message):
        Trajectory(**(FINE | change))


def test_latents_that_do_not_fit_their_learning_rates_are_refused() -> None:
    with pytest.raises(ValueError, match="3 latents are 2 steps; got 3"):
        Trajectory.from_latents(torch.zeros(3, 2), [0.1, 0.1, 0.1])
    with pytest.raises(ValueError, match="move at step 2, whose learning rate is 0"):
        Trajectory.from_latents(torch.tensor([[0.0], [1.0], [2.0]]), [0.1, 0.0])
    with pytest.raises(ValueError, match="one latent is no run"):
        Trajectory.from_latents(torch.tensor(1.0), 0.1)
    with pytest.raises(ValueError, match="3 latents are 2 steps; got 2 × 1 learning rates"):
        Trajectory.from_latents(torch.zeros(3, 2), torch.ones(2, 1))
    with pytest.raises(TypeError, match="latents takes a tensor, or a list of them of one shape"):
        Trajectory.from_latents([torch.zeros(2), torch.zeros(3)], 0.1)


@pytest.mark.parametrize("empty", [[], torch.zeros(0, 2)])
def test_no_latents_or_gradients_at_all_are_refused(empty: Any) -> None:
    with pytest.raises(ValueError, match="latents are empty: a Trajectory needs at least one step"):
        Trajectory.from_latents(empty, 0.1)
    with pytest.raises(ValueError, match="gradients are empty"):
        Trajectory.from_latents(torch.zeros(3, 2), 0.1, gradients=empty)
