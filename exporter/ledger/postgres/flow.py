"""Flows: generators that yield one statement after the other and are sent the rows of each.

So several round trips read as straight-line code, and nobody waits: the driver sends what is yielded and resumes the
flow when the answer has arrived.
"""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from exporter.ledger.postgres.connection import PostgresError, Rows, Statement

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pause:
    """Go on after so many seconds."""

    seconds: float


Flow: TypeAlias = Generator[Statement | Pause, Rows, T]

_ROLLED_BACK = frozenset({"40001", "40P01"})
"""Serialization failure and deadlock: the transaction did nothing and may be run again as it is."""
_MAX_PAUSE_SECONDS = 1.0
_MAX_DOUBLINGS = 7

DURABLE = (
    "set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'remote_apply'"
    " THEN 'remote_apply' ELSE 'on' END, true)"
)
"""An expression that makes the statement's transaction durable, whatever the role's or the server's default is.

https://www.postgresql.org/docs/current/runtime-config-wal.html#GUC-SYNCHRONOUS-COMMIT
"""
_DURABLE = f"SELECT {DURABLE}"
_LOCKS_END = "SET LOCAL idle_in_transaction_session_timeout = 5000"
"""Milliseconds after which a process that sleeps within a transaction no longer holds up the others by its locks."""
_READ_COMMITTED = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"


def retried(statement: Statement) -> Flow[Rows]:
    """Run a statement that is a transaction by itself, again where it lost against another one."""
    failures = 0
    while True:
        try:
            return (yield statement)
        except PostgresError as error:
            if error.sqlstate not in _ROLLED_BACK:
                raise
        failures += 1
        yield pause_after(failures)


def transaction(begin: Callable[[], Flow[T]]) -> Flow[T]:
    """Run a flow as one transaction, a new one where it lost against another; raises other errors, after a rollback."""
    failures = 0
    while True:
        yield Statement(f"BEGIN; {_READ_COMMITTED}; {_DURABLE}; {_LOCKS_END}".encode())
        try:
            result = yield from begin()
            yield Statement(b"COMMIT")
        except PostgresError as error:
            if error.sqlstate is not None:
                yield Statement(b"ROLLBACK")
            if error.sqlstate not in _ROLLED_BACK:
                raise
        else:
            return result
        failures += 1
        yield pause_after(failures)


def query(sql: str, *parameters: str | bytes | float | None) -> Statement:
    """Make a statement of SQL and parameters; numbers are sent as text."""
    return Statement(sql.encode(), [_text(parameter) for parameter in parameters])


def script(*statements: str) -> Statement:
    """Make several statements without parameters one: they are one transaction, in one round trip."""
    return Statement(";\n".join((_READ_COMMITTED, _DURABLE, *statements)).encode())


def text(value: bytes | None) -> str:
    """Read a text that is not null."""
    return (value or b"").decode()


def optional_float(value: bytes | None) -> float | None:
    """Read a number that may be null."""
    return None if value is None else float(value)


def pause_after(failures: int) -> Pause:
    """Return how long to wait after so many failures in a row: doubling, with jitter."""
    ceiling = min(_MAX_PAUSE_SECONDS, 0.01 * 2 ** min(failures, _MAX_DOUBLINGS))
    return Pause(random.uniform(0, ceiling))  # noqa: S311 - jitter is no secret


def _text(value: str | bytes | float | None) -> str | bytes | None:
    return value if value is None or isinstance(value, str | bytes) else repr(value)


def single(rows: Rows) -> Sequence[bytes | None]:
    """Return the only row."""
    (row,) = rows
    return row
