"""What a run needs of its process: what signals do, and threads that must not end."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from exporter.errors import ExporterError, one_line
from exporter.ledger.sqlite.ledger import SqliteLedger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from exporter.cli.demo_show import DemoShow
    from exporter.consumer.loop import Consumer
    from exporter.errors import LedgerError
    from exporter.ledger.postgres.ledger import PostgresLedger

log = logging.getLogger("exporter")


def handle_first_signals() -> None:
    """Let SIGTERM end the process and SIGUSR1 do nothing, until there is a loop to stop and a ledger to back up."""
    # As a container's first process it would not be ended by a signal that it does not handle.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


@contextmanager
def signals(consumer: Consumer, ledger: SqliteLedger | PostgresLedger, show: DemoShow | None) -> Iterator[None]:
    """Let the first SIGTERM or SIGINT stop the loop in order, the second end the process, and SIGUSR1 back up."""

    def handle(number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        log.info("stopping", extra={"signal": signal.Signals(number).name})
        if show is None:
            consumer.stop()
        else:
            show.stopping(consumer.stop)

    def back_up(_number: int, _frame: FrameType | None) -> None:
        if not isinstance(ledger, SqliteLedger):
            log.warning("no backup was begun: back the database up with PostgreSQL's own tools, such as pg_dump")
        elif not ledger.back_up(_say_backed_up):
            log.warning("no backup was begun: one is being written, or the ledger is not open now")

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, back_up)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def threads_that_must_live(consumer: Consumer) -> Iterator[None]:
    """End the process where one of its threads ends by an exception: half an exporter is worse than a restart."""

    def ended(what: threading.ExceptHookArgs) -> None:
        name = what.thread.name if what.thread is not None else "a"
        error = f"{what.exc_type.__name__}: {what.exc_value}"
        consumer.fail(ExporterError(f"the {name} thread ended, which is a fault of the exporter: {one_line(error)}"))

    before, threading.excepthook = threading.excepthook, ended
    try:
        yield
    finally:
        threading.excepthook = before


def _say_backed_up(path: str, error: LedgerError | None) -> None:
    if error is None:
        log.info("backup written", extra={"backup": path})
    else:
        log.error("no backup was written", extra={"backup": path, "error": str(error)})
