"""What the C functions return, and what is raised for it."""

from typing import Any

DONE, LACKS_INSTRUCTIONS, NOT_TAKEN, OUT_OF_MEMORY = range(4)
"""Statuses, as `csrc/proxconnect.h` numbers them; NOT_TAKEN is for inputs that a function leaves to its caller."""


def checked(status: int, function: Any, arguments: tuple[Any, ...]) -> int:
    """Return DONE or NOT_TAKEN, and raise for every other status; an `errcheck` of ctypes.

    Raises:
        MemoryError: the function found no memory for its scratch. RuntimeError: this machine lacks the instruction set.
    """
    if status in (DONE, NOT_TAKEN):
        return status
    if status == OUT_OF_MEMORY:
        raise MemoryError(
            f"{function.__name__} found no memory to work in: call with a smaller batch, or with fewer threads "
            "(torch.set_num_threads)"
        )
    raise RuntimeError(
        f"{function.__name__} cannot run instruction set {arguments[0]} on this machine: use one of "
        "proxconnect.kernels.instruction_sets()"
    )
