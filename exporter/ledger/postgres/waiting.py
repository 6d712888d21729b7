"""Reaches PostgreSQL for the commands, which may wait, unlike `run`."""

from __future__ import annotations

import contextlib
import select
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

from exporter.errors import one_line
from exporter.ledger.postgres.connection import PostgresError
from exporter.ledger.postgres.problems import ledger_error
from exporter.ledger.postgres.session import Session
from exporter.ledger.postgres.target import Target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.ledger.postgres.flow import Flow

T = TypeVar("T")
Client = psycopg.Connection[tuple[Any, ...]]


@contextlib.contextmanager
def reached(url: str) -> Iterator[Target]:
    """Look up where the URL leads, and turn what PostgreSQL says when it fails into a LedgerError."""
    target = Target(url)
    target.resolve()
    if target.unresolved and target.problem is not None:
        raise target.problem
    try:
        yield target
    except PostgresError as error:
        raise ledger_error(error.sqlstate, str(error), str(target)) from None
    except psycopg.Error as error:
        message = one_line(error.diag.message_primary or str(error))
        raise ledger_error(error.sqlstate, message, str(target)) from None


def finish(target: Target, flow: Flow[T]) -> T:
    """Run a flow to its end over a connection of its own; returns its result."""
    results: list[T] = []

    def whole() -> Flow[None]:
        results.append((yield from flow))

    session = Session(target.conninfos())
    try:
        session.begin(whole())
        while session.busy:
            poll = select.poll()
            descriptor = session.descriptor()
            if descriptor is not None:
                poll.register(*descriptor)
            poll.poll(50)
            session.step()
    finally:
        session.close()
    return results[0]


@contextlib.contextmanager
def transaction(target: Target, isolation: psycopg.IsolationLevel, *, read_only: bool) -> Iterator[Client]:
    """Do all of the block in one transaction, which is committed at its end and rolled back where that is not reached.

    Nothing is prepared, because a pooling proxy may not know it at the next statement.
    """
    with psycopg.connect(target.conninfo(), prepare_threshold=None) as client:
        client.isolation_level = isolation
        client.read_only = read_only
        yield client
