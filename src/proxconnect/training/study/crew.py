"""Who runs rows: a few processes here, or a cluster."""

from typing import Protocol

from proxconnect.training.study.orders import Event, Order


class Crew(Protocol):
    """Workers that take orders and answer with events."""

    @property
    def size(self) -> int:
        """How many rows run at once."""
        ...

    @property
    def room(self) -> int:
        """How many more rows can be given now."""
        ...

    def give(self, order: Order) -> None:
        """Let a worker run a row."""
        ...

    def events(self) -> list[Event]:
        """What happened since, after a wait of a second at most; each row given ends in one Finished or Failed."""
        ...
