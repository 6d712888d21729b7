"""Ledgers that version 0.1.0 wrote, brought to the schema of today: every count is found again, whatever happens."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from one_queue import OneQueue, commit

from exporter.errors import LedgerError
from exporter.events.event import Event
from exporter.ledger import Delivery, QueueBatch, QueueIdentity, Snapshot, failpoint
from exporter.ledger.sqlite.ledger import SqliteLedger

if TYPE_CHECKING:
    from collections.abc import Iterator

LEDGERS = Path(__file__).parent.parent / "ledgers"
NAMES = sorted(path.stem for path in LEDGERS.glob("*.json"))
ARN = "arn:aws:sqs:eu-central-1:123456789012:"

OPEN = """
import os, resource, sys
from exporter.errors import LedgerError
from exporter.ledger import failpoint
from exporter.ledger.sqlite.ledger import SqliteLedger

failpoint.arm(os.environ)
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    SqliteLedger(sys.argv[1]).close()
except LedgerError as error:
    print(error.reason, error)
"""


@contextlib.contextmanager
def opened(path: Path, **settings: Any) -> Iterator[SqliteLedger]:  # noqa: ANN401 - the ledger's settings
    """Open a ledger, migrating it."""
    with contextlib.closing(SqliteLedger(str(path), lock_timeout_seconds=0.1, **settings)) as ledger:
        yield ledger


def run(path: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Open a ledger in a process of its own."""
    command = [sys.executable, "-c", OPEN, str(path), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=60, env={**os.environ, **environment}
    )


@pytest.fixture(params=NAMES)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Copy one of the ledgers of version 0.1.0."""
    return copied(request.param, tmp_path)


def copied(name: str, directory: Path) -> Path:
    """Copy a ledger of version 0.1.0, with its log where it has one."""
    for path in LEDGERS.glob(f"{name}.db*"):
        shutil.copy(path, directory)
    return directory / f"{name}.db"


def expected(path: Path) -> dict[str, dict[str, Any]]:
    """Return what version 0.1.0 showed, by queue."""
    found: dict[str, dict[str, Any]] = json.loads((LEDGERS / f"{path.stem}.json").read_text())
    return found


def shown(snapshot: Snapshot) -> dict[str, Any]:
    """Return a snapshot as version 0.1.0 would have shown it."""
    of_snapshot = {
        name: getattr(snapshot, name)
        for name in (
            "instance_id",
            "created_seconds",
            "received",
            "duplicate",
            "timestamps_unreadable",
            "forgotten_early",
            "messages",
            "unsettled_messages",
            "oldest_message_seconds",
        )
    }
    return of_snapshot | {
        "arn": snapshot.queue_arn,
        "rejected": dict(snapshot.rejected),
        "released": dict(snapshot.released),
        "types": {
            name: [
                str(totals.count),
                str(totals.value_nano),
                str(totals.negative_nano),
                totals.last_occurred_seconds,
                totals.created_seconds,
            ]
            for name, totals in snapshot.types.items()
        },
    }


def assert_all_is_found(path: Path, ledger: SqliteLedger) -> None:
    """Check every count, and that what was remembered still is."""
    assert {name: shown(snapshot) for name, snapshot in ledger.snapshots.items()} == expected(path)
    for name, before in expected(path).items():
        ledger.bind(QueueIdentity(name, ARN + name, 30, 86_400))
        deliveries = [Delivery(number.to_bytes(16, "big"), Event(("type-0",), 1, 1.0)) for number in range(400)]
        (fresh,) = commit(ledger, {name: QueueBatch(deliveries)}).values()
        # A message of the first queue has the id of one of the second, which is another message.
        assert fresh.count(False) == before["messages"] - before["rejected"].get("invalid_json", 0)


def test_every_count_is_found_again(old: Path) -> None:
    """Totals, ids, identity and creation times are those that version 0.1.0 had, and stay so after another start."""
    with opened(old):
        pass
    with opened(old) as ledger:
        assert_all_is_found(old, ledger)


def test_the_labels_of_today_apply_to_what_was_counted_before(tmp_path: Path) -> None:
    """Old counts have no labels: they are under the empty ones, and events beyond the caps under `__other__`."""
    path = copied("used", tmp_path)
    with opened(path, label_names=("country",)) as ledger:
        series = ledger.snapshots["orders"].series
        assert {name: labels for name, labels in series if name == "__other__"} == {"__other__": "__other__"}
        assert {labels for name, labels in series if name != "__other__"} == {""}
        assert shown(ledger.snapshots["orders"]) == expected(path)["orders"]


def test_a_copy_is_made_that_the_older_version_can_open(old: Path) -> None:
    """`ledger.db.v1` is a whole ledger of schema 1, with all that the log held; opening again leaves it as it is."""
    with opened(old):
        pass
    copy = Path(f"{old}.v1")
    content = copy.read_bytes()
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        received = dict(connection.execute("SELECT name, received FROM queues"))
    assert received == {name: str(before["received"]) for name, before in expected(old).items()}
    with opened(old):
        pass
    assert copy.read_bytes() == content
    assert not Path(f"{old}.v1.new").exists()


def test_a_kill_in_the_middle_loses_nothing(old: Path) -> None:
    """The ledger is as it was, and the next start brings it to today's schema."""
    killed = run(old, **{failpoint.VARIABLE: "in_migration"})
    assert killed.returncode == -signal.SIGKILL
    with contextlib.closing(sqlite3.connect(f"file:{old}?mode=ro", uri=True)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    with opened(old) as ledger:
        assert_all_is_found(old, ledger)


def test_a_disk_too_full_for_the_copy_is_a_sentence(tmp_path: Path) -> None:
    """Nothing is changed, no part of a copy is left, and with space it goes on."""
    path = copied("used", tmp_path)
    before = path.read_bytes()
    refused = run(path, "9000")
    assert refused.stdout.split()[0] in {"full", "io_error"}
    assert str(path) in refused.stdout
    assert refused.stderr == ""
    assert path.read_bytes() == before
    assert not list(tmp_path.glob("*.v1*"))
    with opened(path) as ledger:
        assert_all_is_found(path, ledger)


def test_a_damaged_ledger_is_not_migrated(tmp_path: Path) -> None:
    """A row that does not hold what was written is refused, and the file is left as it is."""
    path = copied("used", tmp_path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("UPDATE types SET count = count + 1 WHERE type = 'type-1'")
        connection.commit()
    before = path.read_bytes()
    with pytest.raises(LedgerError) as caught, opened(path):
        pass
    assert caught.value.reason == "corrupt"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert len(path.read_bytes()) == len(before)


def test_a_migrated_ledger_has_a_name(tmp_path: Path) -> None:
    """The one that is given then, or the first digits of its random id; another one later is a wrong setting."""
    path = copied("used", tmp_path)
    with opened(path) as ledger:
        assert ledger.name == expected(path)["orders"]["instance_id"][:8]
    path = copied("killed", tmp_path)
    with opened(path, name="shop") as ledger:
        assert (ledger.name, ledger.snapshots["orders"].ledger) == ("shop", "shop")
    with opened(path) as ledger:
        assert ledger.name == "shop"
    with pytest.raises(LedgerError, match="is named shop, not other") as caught, opened(path, name="other"):
        pass
    assert (caught.value.reason, caught.value.exit_code) == ("other_name", 2)


def test_it_counts_on_after_a_migration(tmp_path: Path) -> None:
    """Rows that version 0.1.0 wrote are pruned and settled like today's."""
    path = copied("killed", tmp_path)
    with opened(path, window_seconds=60) as ledger:
        queue = OneQueue(ledger)
        queue.bind(QueueIdentity("orders", ARN + "orders", 30, 86_400))
        unsettled = queue.snapshot.unsettled_messages
        queue.advance(100)
        queue.flush()
        assert queue.snapshot.messages == unsettled
        queue.settle(number.to_bytes(16, "big") for number in range(100))
        queue.flush()
        assert queue.snapshot.unsettled_messages < unsettled
