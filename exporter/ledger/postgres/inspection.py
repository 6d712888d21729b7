"""What `check` says of a ledger in PostgreSQL: it may wait, and changes nothing."""
# ruff: noqa: S608 - the name of the schema is a constant

from __future__ import annotations

import select
from typing import TYPE_CHECKING

from exporter.ledger.postgres.connection import PostgresError
from exporter.ledger.postgres.flow import query, text
from exporter.ledger.postgres.problems import ledger_error
from exporter.ledger.postgres.schema import SCHEMA, look_at_the_server, read_version, several_ledgers
from exporter.ledger.postgres.session import Session
from exporter.ledger.postgres.target import Target

if TYPE_CHECKING:
    from exporter.ledger.postgres.flow import Flow

_COUNTED = f"""
SELECT l.name, coalesce(sum(t.count), 0) FROM {SCHEMA}.ledgers l LEFT JOIN {SCHEMA}.queues q ON q.ledger_id = l.id
LEFT JOIN {SCHEMA}.series s ON s.queue_id = q.id LEFT JOIN {SCHEMA}.totals t ON t.series_id = s.id
WHERE l.name = $1::text OR $1 = '' GROUP BY l.name ORDER BY l.name
"""


def inspect(url: str, name: str | None) -> str:
    """Return a sentence on the ledger at the URL. Raises LedgerError where `run` would wait, or could not go on."""
    target = Target(url)
    target.resolve()
    if target.problem is not None:
        raise target.problem
    found: list[str] = []
    try:
        session = Session(target.conninfo())
        try:
            session.begin(_inspect(name or "", str(target), found))
            while session.busy:
                poll = select.poll()
                descriptor = session.descriptor()
                if descriptor is not None:
                    poll.register(*descriptor)
                poll.poll(50)
                session.step()
        finally:
            session.close()
    except PostgresError as error:
        raise ledger_error(error.sqlstate, str(error), str(target)) from None
    return found[0]


def _inspect(name: str, where: str, found: list[str]) -> Flow[None]:
    there = yield from look_at_the_server()
    rows = []
    if there.tables:
        yield from read_version()
        rows = yield query(_COUNTED, name)
    if len(rows) > 1:
        raise several_ledgers(text(row[0]) for row in rows)
    if rows:
        found.append(f"{text(rows[0][0])} in PostgreSQL at {where} holds {text(rows[0][1])} events")
    else:
        found.append(f"PostgreSQL at {where} does not hold it yet, run will make it: counts start at 0")
