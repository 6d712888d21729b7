"""The ledger in PostgreSQL as the commands ask for it: its driver is an extra that not everybody has."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from exporter.errors import WrongSettingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.ledger.postgres.ledger import PostgresLedger
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


@contextmanager
def _driver() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise WrongSettingError(
            f"--ledger.url needs psycopg, which is not here ({error}): pip install 'sqs-event-exporter[postgres]'"
        ) from None
