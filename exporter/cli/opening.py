"""Opens the ledger that the settings name: a SQLite file or a PostgreSQL database."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from exporter.cli.postgres import open_postgres
from exporter.ledger.sqlite.database import in_use
from exporter.ledger.sqlite.ledger import SqliteLedger
from exporter.sqs.names import is_prefix, queue_name_of

if TYPE_CHECKING:
    from pathlib import Path

    from exporter.ledger.postgres.ledger import PostgresLedger
    from exporter.settings import Settings

LOCK_TIMEOUT_SECONDS = 10.0
"""How long a start waits for the process before it to give the ledger up."""

log = logging.getLogger("exporter")


def open_ledger(settings: Settings) -> SqliteLedger | PostgresLedger:
    """Open the ledger that the settings name; one in PostgreSQL connects when it is polled. Raises ExporterError."""
    if settings.ledger.url:
        return open_postgres(settings, settings.ledger.url)
    path = str(settings.ledger.path)
    with contextlib.suppress(OSError):  # opening it says what is wrong
        if in_use(path):
            log.warning(
                "another process has the ledger: waiting for it to end",
                extra={"ledger": path, "at_most_seconds": LOCK_TIMEOUT_SECONDS},
            )
    return SqliteLedger(
        str(settings.ledger.path),
        name=settings.ledger.name,
        queues=[queue_name_of(queue) for queue in settings.queue if not is_prefix(queue)],
        types=settings.events.types,
        max_types=settings.events.max_types,
        label_names=settings.label_names,
        max_series=settings.events.max_series,
        window_seconds=settings.ledger.window_seconds,
        id_window_seconds=settings.events.id_window_seconds,
        max_ids=settings.ledger.max_ids,
        lock_timeout_seconds=LOCK_TIMEOUT_SECONDS,
        opened_late=lambda ledger: _say_opened(ledger, settings.ledger.path),
    )


def say_if_new(ledger: SqliteLedger | PostgresLedger, path: Path) -> None:
    """Warn where the ledger's file was made by this process."""
    if isinstance(ledger, SqliteLedger) and ledger.is_new:
        log.warning(
            "the ledger is new: counts start at 0, and messages that were counted elsewhere are not recognised",
            extra={"ledger": str(path.absolute())},
        )


def _say_opened(ledger: SqliteLedger, path: Path) -> None:
    """Say of a ledger that could not be opened at the start what the first line of the log says of others."""
    log.info("ledger opened", extra={"ledger": str(path.absolute()), "ledger_name": ledger.name, **taken_up(ledger)})
    say_if_new(ledger, path)


def taken_up(ledger: SqliteLedger | PostgresLedger) -> dict[str, int]:
    """Return for the log what the ledger held when it was opened; nothing of one that is only being connected to."""
    if not isinstance(ledger, SqliteLedger):
        return {}
    snapshots = ledger.snapshots.values()
    return {
        "events_taken_up": sum(snapshot.counted for snapshot in snapshots),
        "types_taken_up": len({name for one in snapshots for name, totals in one.types.items() if totals.count}),
        "messages_remembered": sum(snapshot.messages for snapshot in snapshots),
    }
