"""Processes that are forked from one that has imported what a run needs, and nothing else."""

import multiprocessing

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    ["proxconnect.training.row", "proxconnect.training.data.modules", "proxconnect.study.study", "torch._dynamo"]
)
