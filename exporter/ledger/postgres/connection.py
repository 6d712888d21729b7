"""One connection to PostgreSQL that never waits: libpq's non-blocking calls, driven by the caller's poll.

https://www.postgresql.org/docs/current/libpq-async.html
"""

from __future__ import annotations

import select
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from psycopg import pq

from exporter.errors import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

Row = tuple[bytes | None, ...]
Rows = list[Row]

_IN, _OUT = select.POLLIN, select.POLLOUT
_WITHOUT_RESULT = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.EMPTY_QUERY})


class PostgresError(Exception):
    """A statement or the connection failed. `sqlstate` is None where the server did not say: the connection is gone.

    https://www.postgresql.org/docs/current/errcodes-appendix.html
    """

    def __init__(self, sqlstate: str | None, message: str) -> None:
        super().__init__(one_line(message))
        self.sqlstate = sqlstate


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement and its parameters; without any it may be several, separated by semicolons.

    A parameter that is text is sent as text, bytes in PostgreSQL's binary format.
    """

    sql: bytes
    parameters: Sequence[str | bytes | None] | None = None


class Connection:
    """A connection that is being made or stands, with at most one statement under way.

    Raises PostgresError from every call; where that has no `sqlstate`, nothing is left but to close it.
    """

    def __init__(self, conninfo: str) -> None:
        try:
            self._pg = pq.PGconn.connect_start(conninfo.encode())
        except psycopg.Error as error:  # it can't be read: the URL was looked at before
            raise PostgresError(None, str(error)) from None
        if self._pg.status == pq.ConnStatus.BAD:
            raise PostgresError(None, self._message())
        self._interest = _OUT
        self._connected = False
        self._results: list[Rows] = []
        self._error: PostgresError | None = None

    def descriptor(self) -> tuple[int, int] | None:
        """Return what to wait for: file descriptor and poll events."""
        try:
            return self._pg.socket, self._interest
        except psycopg.Error:
            return None

    def connected(self) -> bool:
        """Move connecting on, and tell whether it is done."""
        while not self._connected and self._ready():
            status = self._pg.connect_poll()
            if status == pq.PollingStatus.OK:
                self._connected = True
                self._pg.nonblocking = 1
                self._interest = _IN
            elif status == pq.PollingStatus.FAILED:
                raise PostgresError(None, self._message())
            else:
                self._interest = _OUT if status == pq.PollingStatus.WRITING else _IN
        return self._connected

    def send(self, statement: Statement) -> None:
        """Begin a statement."""
        self._results, self._error = [], None
        try:
            if statement.parameters is None:
                self._pg.send_query(statement.sql)
            else:
                values = [value.encode() if isinstance(value, str) else value for value in statement.parameters]
                formats = [int(isinstance(value, bytes)) for value in statement.parameters]
                self._pg.send_query_params(statement.sql, values, param_formats=formats)
            self._flush()
        except psycopg.Error as error:
            raise PostgresError(None, self._message() or str(error)) from None

    def answer(self) -> Rows | None:
        """Return the rows of the last of the statements that gave any; None while the answer is not complete."""
        try:
            if self._interest & _OUT:
                self._flush()
            self._pg.consume_input()
            while not self._pg.is_busy():
                result = self._pg.get_result()
                if result is None:
                    break
                self._take(result)
            else:
                return None
        except psycopg.Error as error:
            raise self._error or PostgresError(None, self._message() or str(error)) from None
        if self._error is not None:
            raise self._error
        return self._results[-1] if self._results else []

    def alive(self) -> bool:
        """Take in what the server says while nothing is under way; False: it has closed the connection."""
        try:
            self._pg.consume_input()
        except psycopg.Error:
            return False
        return self._pg.status == pq.ConnStatus.OK

    def close(self) -> None:
        """Close at once."""
        self._pg.finish()

    def _ready(self) -> bool:
        # Asked too early, libpq takes a connection that is still being made for made.
        poll = select.poll()
        poll.register(self._pg.socket, self._interest)
        return bool(poll.poll(0))

    def _flush(self) -> None:
        self._interest = _IN | _OUT if self._pg.flush() else _IN

    def _take(self, result: pq.abc.PGresult) -> None:
        status = result.status
        if status == pq.ExecStatus.TUPLES_OK:
            columns = range(result.nfields)
            self._results.append(
                [tuple(result.get_value(row, column) for column in columns) for row in range(result.ntuples)]
            )
        elif status not in _WITHOUT_RESULT:
            sqlstate = result.error_field(pq.DiagnosticField.SQLSTATE)
            text = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message
            self._error = PostgresError(sqlstate.decode() if sqlstate else None, text.decode(errors="replace"))

    def _message(self) -> str:
        return self._pg.error_message.decode(errors="replace").strip()
