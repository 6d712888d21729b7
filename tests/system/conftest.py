"""What several files of system tests ask for by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from postgres_replica import Replica
    from postgres_server import PostgresServer


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    """Run a PostgreSQL server for all tests of a file."""
    from postgres_server import postgres_server  # noqa: PLC0415 - most tests have no need of it

    with postgres_server() as running:
        yield running


@pytest.fixture
def database_url(postgres: PostgresServer, request: pytest.FixtureRequest) -> str:
    """Make an empty database for the test."""
    return postgres.new_database(f"test_{crc32(request.node.nodeid.encode())}")


@pytest.fixture
def open_replica(database_url: str) -> Iterator[Callable[..., Replica]]:
    """Open replicas on the test's database, or on another URL, that are closed after the test."""
    from postgres_replica import Replica  # noqa: PLC0415 - most tests have no need of it

    opened: list[Replica] = []

    def open_(url: str = database_url, **settings: Any) -> Replica:  # noqa: ANN401 - the ledger's settings
        opened.append(Replica(url, **settings))
        return opened[-1]

    yield open_
    for one in opened:
        one.ledger.close()
