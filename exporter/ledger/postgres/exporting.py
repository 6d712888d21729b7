"""Reads a ledger out of PostgreSQL as the rows that the SQLite ledger has: `ledger export` with --ledger.url.

All is read as of one moment. Ids keep their age, to the minute: they are remembered rather too long than too short.
"""
# ruff: noqa: S608 - the name of the schema is a constant

from __future__ import annotations

import contextlib
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import psycopg

from exporter.errors import LedgerError
from exporter.ledger.message_ids import ID_BYTES
from exporter.ledger.postgres import statements
from exporter.ledger.postgres.inspection import find
from exporter.ledger.postgres.schema import GONE_SECONDS, SCHEMA
from exporter.ledger.postgres.waiting import finish, reached, transaction
from exporter.ledger.sqlite.event_memory import EventRow
from exporter.ledger.sqlite.memory import Row
from exporter.ledger.sqlite.queue_row import Identity, QueueRow
from exporter.ledger.sqlite.rows import Moment
from exporter.ledger.sqlite.total_rows import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from exporter.ledger.postgres.schema import Selected
    from exporter.ledger.postgres.waiting import Client

_IDS_A_ROW = 5_000
_SECONDS_A_ROW = 60
_NO_MESSAGE = bytes(ID_BYTES)
"""Stands for the message where there is only an event: in the file that is part of a pair."""

_REPLICAS = f"""
SELECT count(*) FROM {SCHEMA}.replicas WHERE ledger_id = %s AND folded_at IS NULL
AND renewed_at > clock_timestamp() - interval '{GONE_SECONDS} s'
"""
_QUEUES = f"""
SELECT q.id, q.name, q.arn, greatest(q.clock_seconds, (SELECT max(c.clock_seconds) FROM {SCHEMA}.clocks c
  WHERE c.queue_id = q.id)) FROM {SCHEMA}.queues q WHERE q.ledger_id = %s ORDER BY q.id
"""
_COUNTS = f"SELECT name, sum(count)::text FROM {SCHEMA}.counts WHERE queue_id = %s GROUP BY name ORDER BY name"
_SERIES = f"""
SELECT s.type, s.labels, coalesce(sum(t.count), 0)::text, coalesce(sum(t.value_nano), 0)::text,
  coalesce(sum(t.negative_nano), 0)::text, max(t.last_occurred_seconds), s.created_seconds
FROM {SCHEMA}.series s LEFT JOIN {SCHEMA}.totals t ON t.series_id = s.id WHERE s.queue_id = %s
GROUP BY s.id ORDER BY s.type, s.labels
"""
_MARKS = f"SELECT clock_seconds, at_seconds FROM {SCHEMA}.clock_marks WHERE queue_id = %s ORDER BY clock_seconds"
_NUMBER = f"""
SELECT (SELECT count(*) FROM {SCHEMA}.message_ids WHERE queue_id = %s),
  (SELECT count(*) FROM {SCHEMA}.event_ids WHERE queue_id = %s)
"""
_MESSAGES = f"""
SELECT last_seen, uuid_send(id), state & {statements.SETTLED} <> 0 FROM {SCHEMA}.message_ids WHERE queue_id = %s
ORDER BY last_seen
"""
_EVENTS = f"""
SELECT e.last_seen, uuid_send(e.id), NULL, true FROM {SCHEMA}.event_ids e WHERE e.queue_id = %s
UNION ALL SELECT m.last_seen, uuid_send(m.event_id), uuid_send(m.id), m.state & {statements.SETTLED} <> 0
FROM {SCHEMA}.message_ids m WHERE m.queue_id = %s
AND exists(SELECT FROM {SCHEMA}.event_ids e WHERE e.queue_id = m.queue_id AND e.id = m.event_id)
ORDER BY 1
"""
"""Events, and the messages that hold them, in the order in which they were seen last. Not joined by `event_id`:
that has no index, and without statistics, soon after an import, the planner would compare each with each."""


@contextlib.contextmanager
def exporting(url: str, name: str | None) -> Iterator[tuple[Identity, Iterator[tuple[str, tuple[Any, ...]]]]]:
    """Give the ledger's own row, and all others with the name of their table. Raises LedgerError.

    One that replicas still write to is refused, as a file is that a process has open.
    """
    with reached(url) as target:
        ledger = finish(target, find(name or "", str(target)))
        with transaction(target, psycopg.IsolationLevel.REPEATABLE_READ, read_only=True) as client:
            ((replicas,),) = client.execute(_REPLICAS, (ledger.id,)).fetchall()
            if replicas:
                raise LedgerError(
                    "locked",
                    f"replicas that use the ledger {ledger.name} in PostgreSQL at {target}: {replicas}; stop them (one"
                    f" that was killed is taken for gone after {GONE_SECONDS} s)",
                )
            yield Identity(ledger.instance_id, ledger.name, ledger.created_seconds), _rows(client, ledger)


def _rows(client: Client, ledger: Selected) -> Iterator[tuple[str, tuple[Any, ...]]]:
    seq = 0
    for row in client.execute(_QUEUES, (ledger.id,)).fetchall():
        queue = _Queue(client, ledger, row)
        yield from queue.totals(seq)
        yield from queue.ids(seq)
        seq = queue.last_seq(seq)


class _Queue:
    """Reads one queue."""

    def __init__(self, client: Client, ledger: Selected, row: tuple[int, str, str, float]) -> None:
        self._client = client
        self._ledger = ledger
        self._id, self._name, self._arn, self._clock_seconds = row
        marks = client.execute(_MARKS, (self._id,)).fetchall()
        self._mark_clocks = [clock for clock, _ in marks]
        self._mark_times = [at_seconds for _, at_seconds in marks]
        self._messages: int
        self._events: int
        ((self._messages, self._events),) = client.execute(_NUMBER, (self._id, self._id)).fetchall()

    def last_seq(self, before: int) -> int:
        """Return a number that none of the rows of ids goes beyond."""
        return before + 2 * self._messages + self._events + 1

    def totals(self, seq: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Yield the queue's own row, and those of series and reasons."""
        series = self._client.execute(_SERIES, (self._id,)).fetchall()
        counts = {name: int(count) for name, count in self._client.execute(_COUNTS, (self._id,))}
        reasons = [
            (kind, name.removeprefix(f"{kind}/"), count)
            for name, count in counts.items()
            for kind in KINDS
            if name.startswith(f"{kind}/")
        ]
        duplicate, forgotten = counts.get(statements.DUPLICATE, 0), counts.get(statements.EVENTS_FORGOTTEN, 0)
        counted = sum(int(count) for _, _, count, *_ in series)
        of_reasons = sum(count for kind, _, count in reasons if f"{kind}/" != statements.OVERFLOWED)
        queue = QueueRow(
            id=self._id,
            name=self._name,
            arn=self._arn,
            seq=self.last_seq(seq),
            clock_seconds=self._clock_seconds,
            paused_seconds=0.0,
            received=counted + forgotten + duplicate + of_reasons,
            duplicate=duplicate,
            timestamps_unreadable=counts.get(statements.TIMESTAMPS_UNREADABLE, 0),
            forgotten_early=counts.get(statements.FORGOTTEN_EARLY, 0),
            without_event_id=counts.get(statements.EVENTS_WITHOUT_ID, 0),
            events_forgotten=forgotten,
            rows_checksum=0,
        )
        yield "queues", queue
        yield from (("series", (self._id, *row)) for row in series)
        yield from (("reasons", (self._id, *reason)) for reason in reasons)

    def ids(self, seq: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Yield the rows of ids: each remembers some, and settles those of the row before that are settled."""
        settled, now = b"", Moment(self._clock_seconds, 0.0, 0.0)
        for chunk in _chunks(self._read(_MESSAGES, self._id)):
            seq, now = seq + 1, self._moment(chunk)
            yield "commits", Row(seq, self._id, *now, settled, b"".join(id_ for _, id_, _ in chunk), b"", b"")
            settled = b"".join(id_ for _, id_, is_settled in chunk if is_settled)
        if settled:
            seq += 1
            yield "commits", Row(seq, self._id, *now, settled, b"", b"", b"")
        for chunk in _chunks(self._read(_EVENTS, self._id, self._id)):
            seq += 1
            pairs = [
                ((message_id or _NO_MESSAGE) + event_id, is_settled) for _, event_id, message_id, is_settled in chunk
            ]
            settled = b"".join(pair for pair, is_settled in pairs if is_settled)
            links = b"".join(pair for pair, is_settled in pairs if not is_settled)
            yield "event_ids", EventRow(seq, self._id, *self._moment(chunk), settled, links, b"")

    def _read(self, sql: str, *parameters: int) -> Iterator[tuple[Any, ...]]:
        """Read rows a few thousand at a time."""
        with self._client.cursor("ids", binary=True) as cursor:
            cursor.itersize = _IDS_A_ROW
            cursor.execute(sql, parameters)
            yield from cursor

    def _moment(self, chunk: list[tuple[Any, ...]]) -> Moment:
        """Return the time of a row: that of its newest id on the queue's clock, and of its oldest as Unix time."""
        marks = bisect_right(self._mark_clocks, chunk[0][0])
        at_seconds = self._mark_times[marks - 1] if marks else self._ledger.created_seconds
        return Moment(min(float(chunk[-1][0]), self._clock_seconds), 0.0, at_seconds)


def _chunks(rows: Iterable[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    """Put rows together that are about as old as each other, by their first column."""
    chunk: list[tuple[Any, ...]] = []
    for row in rows:
        if chunk and (len(chunk) == _IDS_A_ROW or row[0] - chunk[0][0] > _SECONDS_A_ROW):
            yield chunk
            chunk = []
        chunk.append(row)
    if chunk:
        yield chunk
