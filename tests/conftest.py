"""What several files of tests ask for by name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from zlib import crc32

import hypothesis
import leftovers
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from outages import Case
    from postgres_replica import Replica
    from postgres_server import PostgresServer

    from exporter.sqs.client import Client

hypothesis.settings.register_profile("any machine", deadline=None)  # a busy machine is not a finding
hypothesis.settings.load_profile("any machine")

leftovers.watch()

SIDE_BY_SIDE = 12
"""Most of each is waiting, but more would measure how fast processes start."""


@pytest.fixture(scope="module")
def outcome(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Case], None]]:
    """Run the cases of all selected tests of the file that ask for this side by side; give what waits for an end."""
    asking = (item for item in request.session.items if isinstance(item, pytest.Function) and item.path == request.path)
    cases: list[Case] = [
        item.callspec.params["case"]  # type: ignore[misc]  # whatever a test has for parameters
        for item in asking
        if request.fixturename in item.fixturenames
    ]
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        ends = {case: pool.submit(case, tmp_path_factory.mktemp("outage") / "ledger.db") for case in cases}
        yield lambda case: ends[case].result()


@pytest.fixture
def client() -> Iterator[Client]:
    """Give a client of SQS with its usual limits."""
    from exporter.sqs.client import Client  # noqa: PLC0415 - most tests have no need of it

    made = Client(max_connections=64)
    yield made
    made.close()


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
