"""What a packed network must answer."""

import torch
from torch import Tensor


def assert_ships(answer: Tensor, hard: Tensor, *, signs: bool) -> None:
    """`answer` equals that of the hard network: to the bit where layers multiply signs, else but for a sum's order."""
    torch.testing.assert_close(answer, hard, **({"rtol": 0.0, "atol": 0.0} if signs else {}))
