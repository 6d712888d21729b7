"""Housekeeping at work for a test, and what it logs meanwhile."""

from __future__ import annotations

import logging
import queue as queues
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from exporter.sqs.aws import connect
from exporter.sqs.housekeeping import Housekeeping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exporter.sqs import QueueState


PATIENCE_SECONDS = 60.0
"""A deadline: where all is well it is not waited for."""


class Events(logging.Handler):
    """Keeps what housekeeping logs, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.told: queues.Queue[logging.LogRecord] = queues.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.told.put(record)

    def next(self, expected: str) -> dict[str, Any]:
        """Wait for the next line, which has to hold this; return all that it says."""
        record = self.told.get(timeout=PATIENCE_SECONDS)
        assert expected in record.getMessage()
        return vars(record)


class Running:
    """Housekeeping at work, and what it logs."""

    def __init__(self, keeper: Housekeeping, events: Events) -> None:
        self.keeper = keeper
        self.events = events

    @property
    def state(self) -> QueueState:
        """Return what is known now of its only queue."""
        (state,) = self.keeper.queues.values()
        return state


@contextmanager
def housekeeping(
    endpoint_url: str,
    *names: str,
    interval_seconds: float = 0.05,
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[Running]:
    """Look after the queues of these names (`events`) until the context ends."""
    events = Events()
    logger = logging.getLogger("exporter")
    logger.addHandler(events)
    logger.setLevel(logging.INFO)
    names = names or ("events",)
    connection = connect(endpoint_url=endpoint_url)
    keeper = Housekeeping(
        connection,
        names,
        interval_seconds=interval_seconds,
        prefix_seconds=0.05,
        monotonic=monotonic,
    )
    keeper.start()
    try:
        yield Running(keeper, events)
    finally:
        keeper.stop()
        logger.removeHandler(events)
        connection.client.close()


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
