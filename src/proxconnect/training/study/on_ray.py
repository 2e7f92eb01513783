"""Rows as tasks of a Ray cluster."""

from contextlib import AbstractContextManager
from typing import Any

from proxconnect._support import extras
from proxconnect.training.study.ledger import Entry
from proxconnect.training.study.provenance import sources
from proxconnect.training.study.running import Event, Failed, Order, perform


class RayCluster(AbstractContextManager["RayCluster"]):
    """`Workers` that run rows as tasks of an existing Ray cluster, as many at once as its cores allow.

    Leaving the context cancels rows that still run. A row whose machine is lost is run on another one.

    Args:
        address: of the cluster, as 10.0.0.1:6379; None for that of RAY_ADDRESS or else of this machine.
        threads: the cores that each row takes.

    Raises:
        ConnectionError: there is no cluster at the address.
    """

    def __init__(self, address: str | None, threads: int) -> None:
        self._ray = extras.require("ray", "ray")
        if not self._ray.is_initialized():
            try:
                self._ray.init(address=address or "auto", log_to_driver=False)
            except ConnectionError as error:
                raise ConnectionError(
                    f"no Ray cluster at {address or 'this machine'}: start one with `ray start --head`, "
                    "or name it, as in --on ray:10.0.0.1:6379"
                ) from error
        self.size = max(1, int(self._ray.cluster_resources().get("CPU", 1)) // threads)
        self._task = self._ray.remote(_perform_on_ray).options(num_cpus=threads, max_retries=2)
        self._progress = extras.require("ray.util.queue", "ray").Queue(actor_options={"num_cpus": 0})
        self._running: dict[Any, str] = {}

    def __exit__(self, *_: object) -> None:
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._progress.shutdown(force=True)

    def give(self, order: Order) -> None:
        """Start to run a row on the cluster, without waiting."""
        self._running[self._task.remote(order, sources(), self._progress)] = order.row.key

    def events(self) -> list[Event]:
        """Wait a second at most, and return the reports since the last call; a lost Ray task gives a Failed."""
        ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=1.0)
        events: list[Event] = self._progress.get_nowait_batch(self._progress.size())
        for reference in ended:
            key = self._running.pop(reference)
            try:
                events.append(self._ray.get(reference))
            except self._ray.exceptions.RayError as error:
                events.append(Failed(key, f"its Ray task ended: {error}"))
        return events


def _perform_on_ray(order: Order, expected: str, progress: Any) -> Entry | Failed:
    """Run a row as a task, on a machine whose sources have the digest `expected`."""
    if sources() != expected:
        reason = "a machine of the cluster has other sources of proxconnect: install the same everywhere"
        return Failed(order.row.key, reason)
    return perform(order, progress.put)
