"""What tests of Accelerate, and of what is built on it, leave as they found it."""

from collections.abc import Iterator

import pytest


@pytest.fixture
def fresh_accelerate() -> Iterator[None]:
    """Forgets the settings that Accelerate keeps for the whole process."""
    from accelerate.state import AcceleratorState, GradientState, PartialState  # other stacks do without it

    yield
    for kept in (AcceleratorState, GradientState, PartialState):
        kept._reset_state()
