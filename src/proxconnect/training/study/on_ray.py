"""Rows on a Ray cluster. The folders of rows must be ones that all its machines share, and its code the same."""

from typing import Any, Self

from proxconnect._support import extras
from proxconnect.training.study.orders import Event, Failed, Finished, Order, Progressed, perform
from proxconnect.training.study.provenance import sources


class RayCluster:
    """Rows as tasks of an existing cluster, as many at once as it has cores for.

    A context manager: rows that still run when it is left are cancelled. A row whose machine is lost goes on elsewhere.

    Args:
        address: of the cluster; None for that of this machine, or of RAY_ADDRESS.
        threads: cores of each row.

    Raises ConnectionError where there is no cluster, MissingExtraError without Ray.
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
        self._task = self._ray.remote(_perform).options(num_cpus=threads, max_retries=2)
        self._progress = extras.require("ray.util.queue", "ray").Queue(actor_options={"num_cpus": 0})
        self._running: dict[Any, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._progress.shutdown(force=True)

    @property
    def room(self) -> int:
        """How many more rows can be given now."""
        return self.size - len(self._running)

    def give(self, order: Order) -> None:
        """Let the cluster run a row."""
        self._running[self._task.remote(order, self._progress)] = order.key

    def events(self) -> list[Event]:
        """What happened since, after a wait of a second at most."""
        ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=1.0)
        progress: list[Event] = self._progress.get_nowait_batch(self._progress.size())
        return [*progress, *(self._end(reference) for reference in ended)]

    def _end(self, reference: Any) -> Event:
        key = self._running.pop(reference)
        try:
            event: Finished | Failed = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            return Failed(key, f"its Ray task ended: {error}")
        if isinstance(event, Finished) and event.versions["sources"] != sources():
            return Failed(key, "a machine of the cluster has other sources of proxconnect: install the same everywhere")
        return event


def _perform(order: Order, progress: Any) -> Finished | Failed:
    """A row as a task."""
    last = 0.0

    def send(progressed: Progressed) -> None:
        import time

        nonlocal last
        if time.monotonic() - last >= 1.0:
            last = time.monotonic()
            progress.put(progressed)

    return perform(order, send)
