"""What the C functions return, and what is raised for it."""

from typing import Any

DONE, LACKING, LEFT, NO_MEMORY = range(4)
"""Statuses, as `csrc/proxconnect.h` numbers them; LEFT is what a function does not take as it was called."""


def checked(status: int, function: Any, arguments: tuple[Any, ...]) -> int:
    """Return DONE or LEFT, and raise for every other status; an `errcheck` of ctypes.

    Raises:
        MemoryError: the function found no memory for its scratch. RuntimeError: this machine lacks the instruction set.
    """
    if status in (DONE, LEFT):
        return status
    if status == NO_MEMORY:
        raise MemoryError(
            f"{function.__name__} found no memory to work in: call with a smaller batch, or with fewer threads "
            "(torch.set_num_threads)"
        )
    raise RuntimeError(
        f"{function.__name__} cannot run instruction set {arguments[0]} on this machine: use one of "
        "proxconnect.kernels.instruction_sets()"
    )
