"""One connection and the flow that runs over it, one at a time; no call waits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from exporter.ledger.postgres.connection import Connection, PostgresError
from exporter.ledger.postgres.flow import Pause

if TYPE_CHECKING:
    from collections.abc import Iterable

    from exporter.ledger.postgres.connection import Rows
    from exporter.ledger.postgres.flow import Flow

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 30.0
"""After so long without an answer the connection is given up, and what became of the statement is asked."""


class Session:
    """Starts to connect at once. Calls raise PostgresError, and what the flow raises; then it has to be closed.

    `conninfos` are tried one after the other, for CONNECT_SECONDS each.
    """

    def __init__(self, conninfos: Iterable[str]) -> None:
        self._conninfos = iter(conninfos)
        self._connection = Connection(next(self._conninfos))
        self._connected = False
        self._flow: Flow[None] | None = None
        self._resume_at: float | None = None
        self._give_up_at = time.monotonic() + CONNECT_SECONDS

    @property
    def busy(self) -> bool:
        """Whether a flow is under way."""
        return self._flow is not None

    def begin(self, flow: Flow[None]) -> None:
        """Begin a flow; as far as it comes without an answer, at once."""
        self._flow = flow
        if self._connected:
            self._go_on(None, None)

    def step(self) -> None:
        """Go on as far as that is possible without waiting."""
        if not self._connected:
            self._connect()
        while self._connected and self._flow is not None:
            if self._resume_at is not None:
                if time.monotonic() < self._resume_at:
                    return
                self._resume_at = None
                self._go_on([], None)
            elif not self._take_answer():
                return
        if self._connected and not self._connection.alive():
            raise PostgresError(None, "the server has closed the connection")

    def _connect(self) -> None:
        if self._connection.connected():
            self._connected = True
            self._go_on(None, None)
        elif time.monotonic() >= self._give_up_at:
            self._connection.close()
            further = next(self._conninfos, None)
            if further is None:
                raise PostgresError(None, f"no connection within {CONNECT_SECONDS:.0f} s")
            self._connection = Connection(further)
            self._give_up_at = time.monotonic() + CONNECT_SECONDS

    def _take_answer(self) -> bool:
        """Give the flow the answer, or its error; False: it is not complete."""
        try:
            rows = self._connection.answer()
        except PostgresError as error:
            self._go_on(None, error)
            return True
        if rows is not None:
            self._go_on(rows, None)
        elif time.monotonic() >= self._give_up_at:
            self._go_on(None, PostgresError(None, f"no answer within {ANSWER_SECONDS:.0f} s"))
        return rows is not None

    def descriptor(self) -> tuple[int, int] | None:
        """Return what to wait for."""
        return self._connection.descriptor()

    def deadline(self) -> float | None:
        """Return when `step` has something to do even if the descriptor is silent."""
        if self._resume_at is not None:
            return self._resume_at
        return self._give_up_at if self._flow is not None or not self._connected else None

    def close(self) -> None:
        """Close at once; a flow under way ends where it is."""
        if self._flow is not None:
            self._flow.close()
            self._flow = None
        self._connection.close()

    def _go_on(self, rows: Rows | None, error: PostgresError | None) -> None:
        """Give the flow what it waits for, and send what it yields next."""
        flow = self._flow
        if flow is None:
            return
        while True:
            try:
                step = flow.send(rows) if error is None else flow.throw(error)  # type: ignore[arg-type]  # None begins
            except StopIteration:
                self._flow = None
                return
            except BaseException:
                self._flow = None
                raise
            if isinstance(step, Pause):
                self._resume_at = time.monotonic() + step.seconds
                return
            self._give_up_at = time.monotonic() + ANSWER_SECONDS
            try:
                self._connection.send(step)
            except PostgresError as lost:
                rows, error = None, lost
            else:
                return
