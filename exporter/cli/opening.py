"""Which ledger the settings name: opened, or looked at."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from exporter.errors import WrongSettingError
from exporter.ledger.sqlite.ledger import SqliteLedger
from exporter.sqs.names import is_prefix, queue_name_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.ledger.postgres.ledger import PostgresLedger
    from exporter.settings import Settings


def open_ledger(settings: Settings) -> SqliteLedger | PostgresLedger:
    """Open the ledger that the settings name; one in PostgreSQL connects when it is polled. Raises ExporterError."""
    if settings.ledger.url:
        return _postgres_ledger(settings, settings.ledger.url)
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
    )


def inspect_postgres(settings: Settings, url: str) -> str:
    """Return a sentence on the ledger at the URL, without a change to it. Raises WrongSettingError and LedgerError."""
    with _postgres_driver():
        from exporter.ledger.postgres.inspection import inspect  # noqa: PLC0415 - an extra that not everybody has
    return inspect(url, settings.ledger.name)


@contextmanager
def _postgres_driver() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise WrongSettingError(
            f"--ledger.url needs psycopg, which is not here ({error}): pip install 'sqs-event-exporter[postgres]'"
        ) from None


def _postgres_ledger(settings: Settings, url: str) -> PostgresLedger:
    with _postgres_driver():
        from exporter.ledger.postgres.ledger import PostgresLedger  # noqa: PLC0415 - an extra that not everybody has
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
