"""What `check` and `ledger show` say of a ledger in PostgreSQL: they may wait, and change nothing."""
# ruff: noqa: S608 - the name of the schema is a constant

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.errors import LedgerError
from exporter.ledger.postgres import statements
from exporter.ledger.postgres.flow import query, text
from exporter.ledger.postgres.schema import (
    SCHEMA,
    Selected,
    find_ledger,
    look_at_the_server,
    read_version,
    several_ledgers,
)
from exporter.ledger.postgres.snapshots import snapshots
from exporter.ledger.postgres.waiting import finish, reached
from exporter.ledger.series import Caps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from exporter.ledger import Snapshot
    from exporter.ledger.postgres.flow import Flow

_COUNTED = f"""
SELECT l.name, coalesce(sum(t.count), 0) FROM {SCHEMA}.ledgers l LEFT JOIN {SCHEMA}.queues q ON q.ledger_id = l.id
LEFT JOIN {SCHEMA}.series s ON s.queue_id = q.id LEFT JOIN {SCHEMA}.totals t ON t.series_id = s.id
WHERE l.name = $1::text OR $1 = '' GROUP BY l.name ORDER BY l.name
"""


def inspect(url: str, name: str | None) -> str:
    """Return a sentence on the ledger at the URL. Raises LedgerError where `run` would wait, or could not go on."""
    with reached(url) as target:
        return finish(target, _inspect(name or "", str(target)))


def read(url: str, name: str | None, label_names: Sequence[str]) -> tuple[str, Selected, Mapping[str, Snapshot]]:
    """Return where the URL leads, the ledger there, and what was committed of each queue. Raises LedgerError."""
    caps = Caps(0, 0, frozenset(), tuple(label_names))
    with reached(url) as target:
        return str(target), *finish(target, _read(name or "", str(target), caps))


def find(name: str, where: str) -> Flow[Selected]:
    """Find the ledger of that name, without a name the only one that is there. Raises LedgerError where none is."""
    there = yield from look_at_the_server()
    found = None
    if there.tables:
        yield from read_version()
        found = yield from find_ledger(name)
    if found is None:
        called = f" called {name}" if name else ""
        raise LedgerError("unreadable", f"PostgreSQL at {where} holds no ledger{called}")
    return found


def _read(name: str, where: str, caps: Caps) -> Flow[tuple[Selected, Mapping[str, Snapshot]]]:
    ledger = yield from find(name, where)
    rows = yield query(statements.READ, ledger.id)
    return ledger, snapshots(rows, ledger, caps)


def _inspect(name: str, where: str) -> Flow[str]:
    there = yield from look_at_the_server()
    rows = []
    if there.tables:
        yield from read_version()
        rows = yield query(_COUNTED, name)
    if len(rows) > 1:
        raise several_ledgers(text(row[0]) for row in rows)
    if rows:
        return f"{text(rows[0][0])} in PostgreSQL at {where} holds {text(rows[0][1])} events"
    return f"PostgreSQL at {where} does not hold it yet, run will make it: counts start at 0"
