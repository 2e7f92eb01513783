"""Processes that train together, as torchrun would start them."""

import gc
import os
import socket
from multiprocessing.connection import wait

import torch

from training.forks import processes

RANKS = 2


def run_on_ranks(job, *arguments):
    """Call `job`, a function of a module, on each rank; AssertionError where one fails, which ends the others."""
    ranks = start_ranks(job, *arguments)
    while all(process.exitcode in (None, 0) for process in ranks) and any(process.is_alive() for process in ranks):
        wait([process.sentinel for process in ranks if process.is_alive()])
    for process in ranks:
        process.kill()
        process.join()
    assert [process.exitcode for process in ranks] == [0] * RANKS


def start_ranks(job, *arguments):
    """The processes, started."""
    port = free_port()
    ranks = [processes.Process(target=_run, args=(rank, port, job, arguments)) for rank in range(RANKS)]
    for process in ranks:
        process.start()
    return ranks


def _run(rank, port, job, arguments):
    gc.freeze()  # `pack` collects garbage, which else goes through all imports
    torch.set_num_threads(1)
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "RANK": str(rank),
        "LOCAL_RANK": str(rank), "WORLD_SIZE": str(RANKS), "LOCAL_WORLD_SIZE": str(RANKS), "GROUP_RANK": "0",
    }  # fmt: skip
    job(*arguments)
    os._exit(0)  # at once: threads of torch's may outlive what they use, and abort a process that has done its work


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]
