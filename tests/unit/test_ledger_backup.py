"""A backup is written beside the work: whole, as of some commit, and without holding commits up for long."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

from exporter.events.event import Event
from exporter.ledger import Delivery, QueueBatch, QueueIdentity
from exporter.ledger.sqlite.ledger import SqliteLedger
from exporter.ledger.sqlite.stopped import reading

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from exporter.errors import LedgerError

EVENT = Event(("purchase",), 1, None)


class Ended:
    """What the backup said at its end."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.error: LedgerError | None = None

    def say(self, _path: str, error: LedgerError | None) -> None:
        """Take it in."""
        self.error = error
        self.event.set()


def commit(ledger: SqliteLedger, messages: int) -> None:
    """Count so many new messages in one commit."""
    ledger.submit({"orders": QueueBatch([Delivery(os.urandom(16), EVENT) for _ in range(messages)])})
    completed = ledger.completed()
    assert completed is not None
    assert completed.error is None


def open_ledger(path: Path) -> SqliteLedger:
    """Make a ledger of one queue."""
    ledger = SqliteLedger(str(path))
    ledger.bind(QueueIdentity("orders", "arn:aws:sqs:eu-west-1:123456789012:orders"))
    return ledger


def test_commits_go_on_while_a_backup_is_written_and_it_is_whole(tmp_path: Path) -> None:
    """It holds all that was committed when it began, and a commit waits for a step of it, not for all of it."""
    ledger = open_ledger(tmp_path / "ledger.db")
    for _ in range(40):
        commit(ledger, 10_000)
    before = ledger.snapshots["orders"].counted
    ended = Ended()
    assert ledger.back_up(ended.say)
    commits = 0
    while not ended.event.is_set():
        commit(ledger, 100)
        commits += 1
    after = ledger.snapshots["orders"].counted
    ledger.close()
    assert ended.error is None
    assert commits >= 2
    with reading(str(tmp_path / "ledger.db.backup")) as backup:
        backup.check()
        assert before <= backup.snapshots["orders"].counted <= after
    assert sorted(file.name for file in tmp_path.iterdir()) == ["ledger.db", "ledger.db.backup", "ledger.db.mark"]


def test_one_backup_at_a_time_and_none_of_a_closed_ledger(tmp_path: Path) -> None:
    """Who asks again meanwhile is told so; closing gives up the one under way, and leaves no draft."""
    ledger = open_ledger(tmp_path / "ledger.db")
    for _ in range(60):
        commit(ledger, 10_000)
    ended = Ended()
    assert ledger.back_up(ended.say)
    assert not ledger.back_up(ended.say) or ended.event.is_set()
    ledger.close()
    assert not ledger.back_up(ended.say)
    deadline = time.monotonic() + 10
    while (tmp_path / "ledger.db.backup.new").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_backup_that_can_not_be_written_says_why(tmp_path: Path) -> None:
    """The ledger itself is not touched by it."""
    (tmp_path / "ledger.db.backup").mkdir()
    ledger = open_ledger(tmp_path / "ledger.db")
    ended = Ended()
    assert ledger.back_up(ended.say)
    assert ended.event.wait(30)
    assert ended.error is not None
    commit(ledger, 1)
    assert ledger.snapshots["orders"].counted == 1
    ledger.close()


def test_a_backup_whose_thread_can_not_be_started_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process has as many as it may have: it counts on, and closes in order."""

    def fail(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    ledger = open_ledger(tmp_path / "ledger.db")
    ended = Ended()
    with monkeypatch.context() as patched:
        patched.setattr("threading.Thread.start", fail)
        assert ledger.back_up(ended.say)
    assert "needs a thread, and none could be started (can't start new thread)" in str(ended.error)
    commit(ledger, 1)
    ledger.close()
