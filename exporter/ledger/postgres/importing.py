"""Writes a ledger that was exported into PostgreSQL, in one transaction: `ledger import` with --ledger.url.

Counts and sums are written as those of no replica, as `statements.fold` leaves them. Ids keep their age.
"""
# ruff: noqa: S608 - the name of the schema is a constant

from __future__ import annotations

from collections import Counter
from math import ceil
from typing import TYPE_CHECKING, Any

import psycopg

from exporter.errors import LedgerError
from exporter.ledger.postgres import statements
from exporter.ledger.postgres.admission import digest
from exporter.ledger.postgres.flow import DURABLE
from exporter.ledger.postgres.schema import SCHEMA, prepare
from exporter.ledger.postgres.waiting import finish, reached, transaction
from exporter.ledger.sqlite.queue_row import QueueRow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.ledger import Snapshot
    from exporter.ledger.postgres.waiting import Client
    from exporter.ledger.sqlite.stopped import StoppedLedger

_MARK_SECONDS = 60
"""How far apart the marks are that say when a queue's clock showed what."""
_VISIBILITY_TIMEOUT_SECONDS = 43_200
"""SQS's maximum, until the next `run` writes what the queue has.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html
"""

_LEDGER = f"""
WITH made AS (
  INSERT INTO {SCHEMA}.ledgers (name, instance_id, created_seconds) VALUES (%s, %s, %s) RETURNING id
), speaker AS (INSERT INTO {SCHEMA}.speakers (ledger_id) SELECT id FROM made)
SELECT id FROM made
"""
_QUEUE = f"""
INSERT INTO {SCHEMA}.queues (ledger_id, name, arn, visibility_timeout_seconds, clock_seconds)
VALUES (%s, %s, %s, {_VISIBILITY_TIMEOUT_SECONDS}, %s) RETURNING id
"""
_SERIES = f"""
WITH made AS (
  INSERT INTO {SCHEMA}.series (queue_id, digest, type, labels, created_seconds)
  VALUES (%s, encode(%s, 'hex')::uuid, %s, %s, %s) RETURNING id
)
INSERT INTO {SCHEMA}.totals (replica_id, series_id, count, value_nano, negative_nano, last_occurred_seconds)
SELECT 0, id, %s::numeric, %s::numeric, %s::numeric, %s::float8 FROM made
"""
_COUNT = f"INSERT INTO {SCHEMA}.counts (replica_id, queue_id, name, count) VALUES (0, %s, %s, %s::numeric)"
_MARK = f"INSERT INTO {SCHEMA}.clock_marks (queue_id, clock_seconds, at_seconds) VALUES (%s, %s, %s)"
_MESSAGES = f"COPY {SCHEMA}.message_ids (queue_id, id, event_id, last_seen, state) FROM STDIN"
_EVENTS = f"COPY {SCHEMA}.event_ids (queue_id, id, last_seen, unsettled, repeated) FROM STDIN"

_NULL = "\\N"

_Marks = dict[int, tuple[int, float]]
"""The first mark of each minute of a queue's clock: what that showed, and when (Unix time)."""


def import_ledger(url: str, ledger: StoppedLedger) -> str:
    """Make the ledger in PostgreSQL under the name that it has, whole or not at all; returns where.

    Raises LedgerError where there is one of that name, or that ledger under another name.
    """
    with reached(url) as target:
        _refuse_unbound(ledger)
        finish(target, prepare())
        with transaction(target, psycopg.IsolationLevel.READ_COMMITTED, read_only=False) as client:
            client.execute(f"SELECT {DURABLE}")
            identity = ledger.identity
            found = client.execute(
                f"SELECT name FROM {SCHEMA}.ledgers WHERE name = %s OR instance_id = %s",
                (identity.name, identity.instance_id),
            ).fetchone()
            if found is not None:
                raise _there_already(found[0], str(target))
            try:
                ((ledger_id,),) = client.execute(
                    _LEDGER, (identity.name, identity.instance_id, identity.created_seconds)
                ).fetchall()
            except psycopg.errors.UniqueViolation:
                raise _there_already(identity.name, str(target)) from None
            for _, row in ledger.rows(["queues"]):
                queue = QueueRow._make(row[: len(QueueRow._fields)])
                if queue.arn is not None:
                    _import_queue(client, ledger_id, queue, ledger)
        return str(target)


def _there_already(name: str, where: str) -> LedgerError:
    return LedgerError(
        "other_name",
        f"PostgreSQL at {where} holds the ledger {name} already: import makes a new one, use another database",
    )


def _refuse_unbound(ledger: StoppedLedger) -> None:
    """In PostgreSQL all rows belong to an ARN; a queue without one that holds nothing is left out."""
    for name, snapshot in ledger.snapshots.items():
        if snapshot.queue_arn is None and (snapshot.received or snapshot.messages):
            raise LedgerError(
                "other_queue",
                f"the rows of queue {name} are not tied to an ARN yet: run `sqs-event-exporter ledger rebind --queue"
                f" {name} --arn ...` on the SQLite ledger, and export it again",
            )


def _import_queue(client: Client, ledger_id: int, queue: QueueRow, ledger: StoppedLedger) -> None:
    ((id_,),) = client.execute(_QUEUE, (ledger_id, queue.name, queue.arn, float(queue.clock_seconds))).fetchall()
    marks: _Marks = {}
    messages, unsettled, holding = _copy_messages(client, id_, queue.name, ledger, marks)
    events = _copy_events(client, id_, queue.name, ledger, holding, marks)
    counts = _counts(ledger.snapshots[queue.name])
    counts |= {statements.IDS: messages + events, statements.UNSETTLED: unsettled}
    with client.cursor() as cursor:
        cursor.executemany(_SERIES, [_series(id_, row) for _, row in ledger.rows(["series"]) if row[0] == queue.id])
        cursor.executemany(_COUNT, [(id_, name, count) for name, count in counts.items() if count])
        cursor.executemany(_MARK, [(id_, *mark) for mark in marks.values()])


def _copy_messages(
    client: Client, id_: int, queue: str, ledger: StoppedLedger, marks: _Marks
) -> tuple[int, int, Counter[bytes]]:
    """Write the ids of messages: how many, how many of them unsettled, and how many of those hold which event."""
    settled_pairs, links = dict(ledger.settled_pairs(queue)), dict(ledger.links(queue))
    number = unsettled_number = 0
    holding: Counter[bytes] = Counter()
    with client.cursor() as cursor, cursor.copy(_MESSAGES) as copy:
        for seen in ledger.messages_by_age(queue):
            lines = []
            clock = _note(seen.clock_seconds, seen.committed_at_seconds, marks)
            for message_id, unsettled in seen.ids:
                event_id = (links if unsettled else settled_pairs).get(message_id)
                if unsettled:
                    unsettled_number += 1
                    if event_id is not None:
                        holding[event_id] += 1
                state = 0 if unsettled else statements.SETTLED
                lines.append(f"{id_}\t{message_id.hex()}\t{event_id.hex() if event_id else _NULL}\t{clock}\t{state}\n")
            copy.write("".join(lines))
            number += len(lines)
    return number, unsettled_number, holding


def _copy_events(  # noqa: PLR0913, PLR0917 - where to, of what, and what is known of it
    client: Client, id_: int, queue: str, ledger: StoppedLedger, holding: Mapping[bytes, int], marks: _Marks
) -> int:
    """Write the ids of events; returns how many."""
    number = 0
    with client.cursor() as cursor, cursor.copy(_EVENTS) as copy:
        for seen in ledger.events_by_age(queue):
            clock = _note(seen.clock_seconds, seen.committed_at_seconds, marks)
            lines = [f"{id_}\t{event_id.hex()}\t{clock}\t{holding.get(event_id, 0)}\tf\n" for event_id, _ in seen.ids]
            copy.write("".join(lines))
            number += len(lines)
    return number


def _note(clock_seconds: float, at_seconds: float, marks: _Marks) -> int:
    """Note when the clock showed what; returns it in whole seconds, as ids have it: rather too late than too early."""
    marks.setdefault(int(clock_seconds) // _MARK_SECONDS, (int(clock_seconds), at_seconds))
    return ceil(clock_seconds)


def _counts(snapshot: Snapshot) -> dict[str, int]:
    by_reason = {
        statements.REJECTED: snapshot.rejected,
        statements.RELEASED: snapshot.released,
        statements.OVERFLOWED: snapshot.overflowed,
    }
    return {
        statements.DUPLICATE: snapshot.duplicate,
        statements.TIMESTAMPS_UNREADABLE: snapshot.timestamps_unreadable,
        statements.EVENTS_WITHOUT_ID: snapshot.without_event_id,
        statements.FORGOTTEN_EARLY: snapshot.forgotten_early,
        statements.EVENTS_FORGOTTEN: snapshot.events_forgotten,
        **{f"{prefix}{reason}": count for prefix, counts in by_reason.items() for reason, count in counts.items()},
    }


def _series(queue_id: int, row: tuple[Any, ...]) -> tuple[object, ...]:
    _, type_, labels, count, value_nano, negative_nano, last_occurred_seconds, created_seconds, _ = row
    totals = (count, value_nano, negative_nano, last_occurred_seconds)
    return (queue_id, digest(type_, labels), type_, labels, created_seconds, *totals)
