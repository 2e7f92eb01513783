"""Processes that are forked from one that has imported what a run needs, and nothing else."""

import multiprocessing

METHOD = "forkserver"
processes = multiprocessing.get_context(METHOD)
processes.set_forkserver_preload(
    [
        "proxconnect.training.row",
        "proxconnect.training.data.modules",
        "proxconnect.training.study.study",
        "torch._dynamo",
    ]
)
