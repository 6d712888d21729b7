"""A rolling upgrade: an older version from its commit beside a newer one that migrates the tables, both under load.

UPGRADE_FROM names another older version than the one here: a commit, branch or tag of this repository.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from exporter_process import ExporterProcess
from fake_sqs import FakeSqs
from programs import path_of
from replicas import DEADLINE_SECONDS, drain, shown_at_last

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from postgres_server import PostgresServer

ROOT = Path(__file__).parents[2]
OLDER = os.environ.get("UPGRADE_FROM", "313c52f7201e21e25969280a2bd6961ce243af35")
"""The version to upgrade from: the first that keeps its ledger in PostgreSQL as it is now."""
PROJECT = ("exporter", "requirements", "pyproject.toml", "README.md", "LICENSE")
"""What an environment is made from."""
FLAGS = ("--sqs.wait-seconds", "1", "--ledger.name", "shop")
INSTALL_SECONDS = 300


@pytest.fixture(scope="module")
def older_program(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Install the older version into an environment of its own, with the packages that were locked for it."""
    found = git("cat-file", "-e", f"{OLDER}^{{commit}}")
    if found.returncode:
        missing = f"commit {OLDER} is not in this copy of the repository: get its whole history (git fetch --unshallow)"
        if os.environ.get("CI") == "true" and git("rev-parse", "--is-shallow-repository").stdout.strip() == b"false":
            pytest.fail(missing)
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("older")
    with tarfile.open(fileobj=io.BytesIO(git("archive", OLDER, *PROJECT).stdout)) as archive:
        archive.extractall(folder / "source", filter="data")
    uv = str(Path(sys.executable).parent / "uv")
    python = str(folder / "venv" / "bin" / "python")
    pip = [uv, "pip", "install", "--quiet", "--python", python]
    locked = [f"--requirement={folder / 'source' / 'requirements' / name}.txt" for name in ("build", "runtime")]
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, str(folder / "venv")],
        [*pip, "--require-hashes", *locked],
        [*pip, "--no-deps", "--no-build-isolation", str(folder / "source")],
    ):
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=INSTALL_SECONDS)
        assert done.returncode == 0, done.stderr
    return str(folder / "venv" / "bin" / "sqs-event-exporter")


def git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run git in this repository."""
    command = [path_of("git", "git"), "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=False, capture_output=True, timeout=INSTALL_SECONDS)


def later(version: int) -> tuple[str, ...]:
    """Return the command of this version with a later one's tables."""
    return (sys.executable, str(ROOT / "tests" / "later_exporter.py"), str(version))


@contextmanager
def steady_load(sqs: FakeSqs) -> Iterator[None]:
    """Put messages into the queue, some of them invalid, all the time."""
    over = threading.Event()

    def load() -> None:
        seed = 0
        while not over.wait(0.1):
            seed += 1
            sqs.load(20, seed=seed, invalid_fraction=0.05)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_two_versions_count_side_by_side_and_the_older_one_is_refused_when_it_may_not_write(
    older_program: str, postgres: PostgresServer
) -> None:
    """Over an additive migration both go on; after one that is not, the older one is refused. Totals are exact."""
    url = postgres.new_database("upgrade")

    def ask(sql: str) -> list[tuple[Any, ...]]:
        return postgres.execute(sql.replace("$", "sqs_event_exporter."), database="upgrade")

    def counted() -> dict[int, int]:
        """Return how many events the replicas that are alive have counted, by their version."""
        return dict(
            ask(
                "SELECT version, sum(count)::int FROM $replicas r JOIN $totals t ON t.replica_id = r.id"
                " WHERE renewed_at > '-infinity' GROUP BY version"
            )
        )

    def wait_until_counting(*versions: int) -> None:
        """Wait until replicas of each of these versions count on."""
        before = counted()
        until(lambda: all(counted().get(version, 0) > before.get(version, 0) for version in versions))

    with ExitStack() as stack:
        sqs = stack.enter_context(FakeSqs(latency_seconds=0.002, duplicate_in_batch=0.05, duplicate_across_batches=0.1))

        def replicas(*program: str, number: int = 2) -> list[ExporterProcess]:
            started = [
                stack.enter_context(ExporterProcess(sqs.environment, url, *FLAGS, program=program, start=False))
                for _ in range(number)
            ]
            for one in started:
                one.launch()
            for one in started:
                one.wait_until_listening()
            return started

        with steady_load(sqs):
            older = replicas(older_program)
            older[0].wait_until_ready(DEADLINE_SECONDS)  # it has made the tables
            wait_until_counting(1)
            assert ask("SELECT version, oldest_writer FROM $schema") == [(1, 1)]

            newer = replicas(*later(2))
            until(lambda: ask("SELECT version, oldest_writer FROM $schema") == [(2, 1)])
            wait_until_counting(1, 2)
            assert {None, "version 2"} == {row[0] for row in ask("SELECT DISTINCT writer FROM $message_ids")}

            older[0].kill()
            older[0].port = 0
            older[0].start()  # somebody goes back to it
            wait_until_counting(1, 2)

            (newest,) = replicas(*later(3), number=1)
            newest.wait_until_told(
                "older replicas still write to the ledger in PostgreSQL, which is to become version 3"
            )
            assert ask("SELECT version FROM $schema") == [(2,)]
            older[0].kill()
            for one in (older[1], *newer):
                assert one.terminate() == 0
            ask("UPDATE $replicas SET renewed_at = now() - interval '2 min' WHERE version < 3")  # as after a minute
            newest.wait_until_ready(DEADLINE_SECONDS)
            wait_until_counting(3)

            older[0].port = 0
            older[0].start()
            sentence = older[0].wait_until_told("use the newer program")
            assert "has version 3 and takes no writer older than 3; this program writes version 1" in sentence
            assert older[0].terminate() == 0
        account = drain(sqs, [newest])
        scrape = shown_at_last([newest], account)
        assert scrape.agrees_with(account)
        assert scrape.duplicate > account.sent // 50
        assert newest.terminate() == 0
