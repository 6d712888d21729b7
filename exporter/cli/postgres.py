"""The ledger in PostgreSQL as the commands ask for it: its driver is an extra that not everybody has."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from exporter.errors import WrongSettingError
from exporter.ledger.sqlite.queue_row import Identity
from exporter.ledger.sqlite.transfer import export_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from exporter.ledger import Snapshot
    from exporter.ledger.postgres.ledger import PostgresLedger
    from exporter.ledger.sqlite.stopped import StoppedLedger
    from exporter.settings import Settings


def open_postgres(settings: Settings, url: str) -> PostgresLedger:
    """Return the ledger at the URL; it connects when it is polled. Raises WrongSettingError."""
    with _driver():
        from exporter.ledger.postgres.ledger import PostgresLedger  # noqa: PLC0415 - an extra
    return PostgresLedger(
        url,
        name=settings.ledger.name,
        types=settings.events.types,
        max_types=settings.events.max_types,
        label_names=settings.label_names,
        max_series=settings.events.max_series,
        window_seconds=settings.ledger.window_seconds,
        id_window_seconds=settings.events.id_window_seconds,
        max_ids=settings.ledger.max_ids,
    )


def inspect_postgres(settings: Settings, url: str) -> str:
    """Return a sentence on the ledger at the URL, without a change to it. Raises WrongSettingError and LedgerError."""
    with _driver():
        from exporter.ledger.postgres.inspection import inspect  # noqa: PLC0415 - an extra
    return inspect(url, settings.ledger.name)


def read_postgres(settings: Settings, url: str) -> tuple[str, Identity, Mapping[str, Snapshot]]:
    """Return where the URL leads, the ledger's own row, and what was committed. Raises LedgerError."""
    with _driver():
        from exporter.ledger.postgres.inspection import read  # noqa: PLC0415 - an extra
    where, ledger, snapshots = read(url, settings.ledger.name, settings.label_names)
    return where, Identity(ledger.instance_id, ledger.name, ledger.created_seconds), snapshots


def export_postgres(settings: Settings, url: str) -> Iterator[str]:
    """Yield the ledger at the URL as lines. Raises LedgerError, also while replicas use it."""
    with _driver():
        from exporter.ledger.postgres.exporting import exporting  # noqa: PLC0415 - an extra
    with exporting(url, settings.ledger.name) as (identity, rows):
        yield from export_lines(identity, rows)


def import_postgres(url: str, ledger: StoppedLedger) -> str:
    """Make the ledger at the URL, where none of its name may be; returns where that leads. Raises LedgerError."""
    with _driver():
        from exporter.ledger.postgres.importing import import_ledger  # noqa: PLC0415 - an extra
    return import_ledger(url, ledger)


@contextmanager
def _driver() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise WrongSettingError(
            f"--ledger.url needs psycopg, which is not here ({error}): pip install 'sqs-event-exporter[postgres]'"
        ) from None
