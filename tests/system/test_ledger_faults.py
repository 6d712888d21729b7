"""The ledger on a disk that fails: full, read-only, damaged, gone, another's. Refused in one sentence, or exact."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from one_queue import QUEUE, OneQueue

from exporter.errors import LedgerError
from exporter.events.event import Event
from exporter.ledger import ERROR_REASONS, Delivery, Snapshot, failpoint
from exporter.ledger.sqlite.ledger import SqliteLedger
from exporter.ledger.sqlite.stopped import reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SOAK = os.environ.get("HYPOTHESIS_PROFILE") == "soak"
NOBODY = 65_534

CHILD = """
import os, resource, sys
from exporter.ledger import failpoint
from exporter.errors import LedgerError
from exporter.events.event import Event
from exporter.ledger import Delivery
from exporter.ledger.sqlite.ledger import SqliteLedger
from one_queue import QUEUE, OneQueue

def deliveries(size):
    return [Delivery(os.urandom(16), Event(("purchase",), 10**7, 1.0)) for _ in range(size)]

def say(text):
    print(text, flush=True)

def opened(path, **settings):
    ledger = OneQueue(SqliteLedger(path, **settings))
    ledger.bind(QUEUE)
    return ledger

"""


def child(program: str, path: Path, **environment: str) -> subprocess.Popen[str]:
    """Run a program that knows what CHILD holds, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", CHILD + program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), **environment},
    )


def message(number: int) -> Delivery:
    """Make the message of that number."""
    return Delivery(number.to_bytes(16, "big"), Event((f"type-{number % 7}",), number * 10**6, float(number)))


@contextlib.contextmanager
def opened(path: Path) -> Iterator[OneQueue]:
    """Open a ledger, tied to its queue."""
    ledger = OneQueue(SqliteLedger(str(path), lock_timeout_seconds=0.1))
    with contextlib.closing(ledger):
        ledger.bind(QUEUE)
        yield ledger


def refused(path: Path) -> LedgerError:
    """Open what can't be opened; returns why."""
    with pytest.raises(LedgerError) as caught:
        SqliteLedger(str(path), lock_timeout_seconds=0.1)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert "\n" not in sentence
    assert caught.value.reason in ERROR_REASONS
    return caught.value


def assert_accounted(snapshot: Snapshot) -> None:
    """Every delivery is counted, a duplicate, rejected or released."""
    rest = snapshot.duplicate + sum(snapshot.rejected.values()) + sum(snapshot.released.values())
    assert snapshot.received == snapshot.counted + rest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the ledger of the test is."""
    return tmp_path / "ledger.db"


@pytest.fixture
def full_of_history(path: Path) -> Path:
    """Make a closed ledger with rows of every kind, dropped ones among them."""
    with opened(path) as ledger:
        for start in range(0, 1_200, 60):
            ledger.record([message(number) for number in range(start, start + 60)], {"md5_mismatch": 1})
            ledger.record([message(start), Delivery(os.urandom(16), "invalid_json")], {})
            ledger.settle(message(number).message_id for number in range(start, start + 59))
            ledger.advance(500)
    return path


def as_path(path: Path) -> None:
    """Make a directory where the ledger should be."""
    path.mkdir()


def as_text(path: Path) -> None:
    """Put something else where the ledger should be."""
    path.write_text("not a database, but long enough to hold the header of one " * 10)


def as_nothing(path: Path) -> None:
    """Put an empty file where the ledger should be."""
    path.touch()


def as_a_pipe(path: Path) -> None:
    """Make a pipe where the ledger should be, into which nobody writes."""
    os.mkfifo(path)


def as_another_database(path: Path) -> None:
    """Put another program's database where the ledger should be."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (id INTEGER)")


def as_a_log_alone(path: Path) -> None:
    """Leave a write-ahead log without its ledger."""
    Path(f"{path}-wal").write_bytes(b"log")


@pytest.mark.parametrize(
    ("put", "reason"),
    [
        (as_path, "unreadable"),
        (as_text, "corrupt"),
        (as_nothing, "corrupt"),
        (as_a_pipe, "unreadable"),
        (as_another_database, "unreadable"),
        (as_a_log_alone, "corrupt"),
    ],
)
def test_what_is_no_ledger_is_refused(path: Path, put: Callable[[Path], None], reason: str) -> None:
    """One sentence, and what is there is not touched: a ledger is never made anew in the place of another file."""
    put(path)
    before = sorted((file.name, file.is_file() and file.read_bytes()) for file in path.parent.iterdir())
    assert refused(path).reason == reason
    assert sorted((file.name, file.is_file() and file.read_bytes()) for file in path.parent.iterdir()) == before


def test_a_missing_directory_is_refused(path: Path) -> None:
    """The sentence names the path and the flag."""
    error = refused(path / "deeper" / "ledger.db")
    assert error.reason == "unreadable"
    assert "--ledger.path" in str(error)


def test_a_newer_schema_is_refused(full_of_history: Path) -> None:
    """A ledger of a later version is left as it is."""
    with contextlib.closing(sqlite3.connect(full_of_history)) as connection:
        connection.execute("PRAGMA user_version=3")
    error = refused(full_of_history)
    assert error.reason == "newer_schema"
    assert "schema 3" in str(error)


@contextlib.contextmanager
def without_privileges() -> Iterator[None]:
    """Be nobody for a while, if this is root: root may write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("file_mode", "directory_mode", "reason"),
    [(0o444, 0o777, "read_only"), (0o222, 0o777, "unreadable"), (0o666, 0o555, "read_only")],
)
def test_a_ledger_without_permission_is_refused(
    full_of_history: Path, file_mode: int, directory_mode: int, reason: str
) -> None:
    """Neither a read-only file nor a read-only directory is counted into."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        copied = Path(shutil.copy(full_of_history, directory))
        copied.chmod(file_mode)
        directory.chmod(directory_mode)
        try:
            with without_privileges():
                assert refused(copied).reason == reason
                if directory_mode == 0o555:
                    assert refused(directory / "new.db").reason == "read_only"
        finally:
            directory.chmod(0o755)


def test_a_ledger_that_only_its_owner_may_read_is_not_said_to_be_read_only(full_of_history: Path) -> None:
    """Who looks at the exporter's ledger as another user is told to be that one, not to make it writable."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        copied = Path(shutil.copy(full_of_history, directory))
        copied.chmod(0o222)
        directory.chmod(0o755)
        with (
            without_privileges(),
            pytest.raises(LedgerError, match=r"can't be read by this process \(uid \d+\): run this as the user"),
            reading(str(copied)),
        ):
            pass


def test_another_process_keeps_it(path: Path) -> None:
    """A second exporter on one ledger is refused after the wait, and gets it when the first one leaves."""
    program = "ledger = opened(sys.argv[1]); ledger.record(deliveries(3), {}); say('open'); input(); ledger.close()"
    with child(program, path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        assert refused(path).reason == "locked"
        holder.communicate("leave\n")
    with opened(path) as ledger:
        assert ledger.snapshot.counted == 3


def test_a_log_in_use_is_not_taken_for_damaged(path: Path) -> None:
    """Read while another process writes it, a log looks like anything: that process is what the sentence names."""
    program = "ledger = opened(sys.argv[1]); [ledger.record(deliveries(3), {}) for _ in range(9)]; say('open'); input()"
    with child(program, path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        log = Path(f"{path}-wal")
        with log.open("r+b") as file:
            file.seek(5_000)
            file.write(b"half written")
        assert refused(path).reason == "locked"
        holder.kill()
        holder.communicate()
    assert refused(path).reason == "corrupt"


def test_a_ledger_waits_for_the_process_before(path: Path) -> None:
    """A restart that overlaps its predecessor's shutdown succeeds."""
    program = "import time; ledger = opened(sys.argv[1]); say('open'); time.sleep(0.5); os._exit(0)"
    with child(program, path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        SqliteLedger(str(path), lock_timeout_seconds=20).close()


def test_processes_that_open_it_at_once_take_turns(path: Path) -> None:
    """When several begin in the same moment, on no ledger and then on one, each waits for its turn: all count."""
    program = """
say("here"); sys.stdin.readline()
ledger = opened(sys.argv[1], lock_timeout_seconds=60); ledger.record(deliveries(1), {}); ledger.close()
"""
    for counted in (4, 8, 12):
        started = [child(program, path) for _ in range(4)]
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == "here\n"
        for process in started:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        for process in started:
            process.communicate()
            assert process.returncode == 0
        with opened(path) as ledger:
            assert ledger.snapshot.counted == counted
    assert sorted(file.name for file in path.parent.iterdir()) == ["ledger.db", "ledger.db.mark"]


def offsets(size: int, number: int) -> list[tuple[int, int]]:
    """Spread flips over a file: offsets and bits."""
    step = 1 if SOAK else max(1, size // number)
    return [(offset + index % 7 % step, 1 << index % 8) for index, offset in enumerate(range(0, size - 7, step))]


def assert_refused_or_exact(path: Path, expected: Snapshot) -> bool:
    """Open a damaged ledger: refused as such, or the same to the last digit, now and after more commits."""
    try:
        with opened(path) as ledger:
            assert ledger.snapshot == expected
            known = [message(number) for number in range(1_190, 1_200)]
            assert ledger.record(known, {}) == [False] * 10
            assert ledger.record([message(number) for number in range(5_000, 5_500)], {}) == [True] * 500
        with opened(path) as ledger:
            assert ledger.snapshot.counted == expected.counted + 500
            assert_accounted(ledger.snapshot)
    except LedgerError as error:
        assert error.reason in {"corrupt", "newer_schema", "unreadable", "read_only"}  # noqa: PT017 - either is right
        return True
    return False


def test_a_flipped_bit_in_the_ledger_is_never_a_wrong_number(full_of_history: Path, tmp_path: Path) -> None:
    """Wherever it is: refused, or exactly the totals and the memory that were committed."""
    with opened(full_of_history) as ledger:
        expected = ledger.snapshot
    whole = full_of_history.read_bytes()
    damaged = tmp_path / "damaged.db"
    found = 0
    texts = (b"type-3", b"md5_mismatch", b"invalid_json", QUEUE.arn.encode(), expected.instance_id.encode())
    rows = [match.start() + byte for text in texts for match in re.finditer(text, whole) for byte in range(-8, 60, 6)]
    for offset, bit in [*offsets(len(whole), 80), *((offset, 1 << offset % 8) for offset in rows)]:
        content = bytearray(whole)
        content[offset] ^= bit
        damaged.write_bytes(content)
        found += assert_refused_or_exact(damaged, expected)
        for suffix in ("-wal", ".mark"):
            Path(f"{damaged}{suffix}").unlink(missing_ok=True)
    assert found > 30


@pytest.mark.parametrize("table", ["series", "reasons", "commits"])
def test_a_row_that_belongs_to_no_queue_is_damage(full_of_history: Path, table: str) -> None:
    """A flipped bit may hand a row to a queue that is not there."""
    with contextlib.closing(sqlite3.connect(full_of_history)) as connection:
        connection.execute(f"UPDATE {table} SET queue_id = 7")  # noqa: S608 - fixed
        connection.commit()
    assert refused(full_of_history).reason == "corrupt"


def crashed(path: Path, target: Path) -> list[Snapshot]:
    """Copy database and log of a ledger in use, as a crash leaves them; returns its snapshot after each commit."""
    snapshots = []
    with opened(path) as ledger:
        for number in range(10_000, 10_020):
            ledger.record([message(number)], {})
            snapshots.append(ledger.snapshot)
        shutil.copy(path, target)
        shutil.copy(f"{path}-wal", f"{target}-wal")
    return snapshots


def test_a_flipped_bit_in_the_log_loses_no_commit(full_of_history: Path, tmp_path: Path) -> None:
    """SQLite drops all that follows a damaged frame without a word; the ledger refuses to begin again from there.

    Only the last transaction can't be told from one that was being written when the power failed.
    """
    damaged = tmp_path / "damaged.db"
    snapshots = crashed(full_of_history, damaged)
    whole, log = damaged.read_bytes(), Path(f"{damaged}-wal").read_bytes()
    for offset, bit in offsets(len(log), 60):
        content = bytearray(log)
        content[offset] ^= bit
        damaged.write_bytes(whole)
        Path(f"{damaged}-wal").write_bytes(content)
        try:
            with opened(damaged) as ledger:
                assert ledger.snapshot in snapshots[-2:]
        except LedgerError as error:
            assert error.reason == "corrupt"  # noqa: PT017 - either is right
            assert refused(damaged).reason == "corrupt"


def test_a_torn_last_commit_is_as_if_it_never_was(full_of_history: Path, tmp_path: Path) -> None:
    """What a power cut leaves of a transaction that was being written is dropped, and the one before is whole."""
    torn = tmp_path / "torn.db"
    snapshots = crashed(full_of_history, torn)
    log = Path(f"{torn}-wal")
    log.write_bytes(log.read_bytes()[:-100])
    with opened(torn) as ledger:
        assert ledger.snapshot == snapshots[-2]


def test_a_ledger_that_goes_away_stops_the_counting(full_of_history: Path) -> None:
    """The volume is pulled: nothing is committed into the void; when it is back, everything is accounted for."""
    away = full_of_history.with_name("away.db")
    with opened(full_of_history) as ledger:
        before = ledger.snapshot
        full_of_history.rename(away)
        with pytest.raises(LedgerError, match=r"ledger\.db") as caught:
            ledger.record([message(20_000), message(20_001)], {"md5_mismatch": 1})
        assert caught.value.reason == "io_error"
        assert ledger.snapshot == before
        for attempt in (lambda: ledger.record([message(20_002)], {}), ledger.flush, ledger.reopen):
            with pytest.raises(LedgerError) as caught:
                attempt()
            assert caught.value.reason == "io_error"
        assert not full_of_history.exists()
        away.rename(full_of_history)
        ledger.reopen()
        assert ledger.record([message(20_000), message(1_190)], {}) == [True, False]
        after = ledger.snapshot
        assert after.counted == before.counted + 1
        assert after.released == {
            "md5_mismatch": before.released["md5_mismatch"] + 1,
            "commit_failed": 2,
            "ledger_unavailable": 1,
        }
        assert_accounted(after)


def test_a_log_that_goes_away_loses_nothing(full_of_history: Path) -> None:
    """Someone removes the write-ahead log of a running exporter: it notices, and its commits are still there."""
    with opened(full_of_history) as ledger:
        ledger.record([message(20_000)], {})
        Path(f"{full_of_history}-wal").unlink()
        with pytest.raises(LedgerError):
            ledger.record([message(20_001)], {})
        ledger.reopen()
        assert ledger.record([message(20_000), message(20_001)], {}) == [False, True]
        assert_accounted(ledger.snapshot)


def test_an_older_copy_is_not_taken_for_the_ledger(full_of_history: Path, tmp_path: Path) -> None:
    """What was put in the place of the ledger while it was in use is refused: its counts would fall."""
    older = Path(shutil.copy(full_of_history, tmp_path / "older.db"))
    with opened(full_of_history) as ledger:
        ledger.record([message(20_000)], {})
        full_of_history.rename(tmp_path / "away.db")
        with pytest.raises(LedgerError):
            ledger.record([], {})
        Path(f"{full_of_history}-wal").unlink()
        older.rename(full_of_history)
        with pytest.raises(LedgerError, match="not the file that it was"):
            ledger.reopen()


def crash_with_mark(path: Path, target: Path) -> Snapshot:
    """Copy a ledger in use with its log and its mark, as `kill -9` leaves them; returns what it had committed."""
    snapshots = crashed(path, target)
    shutil.copy(f"{path}.mark", f"{target}.mark")
    return snapshots[-1]


PAGE_BYTES = 4096
LOG_HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24


@pytest.mark.parametrize(
    "zeroed_bytes",
    [LOG_HEADER_BYTES, 512, PAGE_BYTES, LOG_HEADER_BYTES + FRAME_HEADER_BYTES + PAGE_BYTES, None],
    ids=["header", "first sector", "first page", "first frame", "whole"],
)
@pytest.mark.parametrize("marked", [True, False])
def test_a_zeroed_log_loses_no_commit_silently(
    full_of_history: Path, tmp_path: Path, zeroed_bytes: int | None, *, marked: bool
) -> None:
    """SQLite takes it for empty. Refused, again and again; without the mark only a log of zeros can't be told."""
    damaged = tmp_path / "damaged.db"
    crash_with_mark(full_of_history, damaged)
    log, mark = Path(f"{damaged}-wal"), Path(f"{damaged}.mark")
    content = log.read_bytes()
    log.write_bytes(bytes(zeroed_bytes or len(content)) + content[zeroed_bytes or len(content) :])
    if not marked:
        mark.unlink()
    if not marked and zeroed_bytes is None:
        with opened(damaged) as ledger:
            assert_accounted(ledger.snapshot)
        return
    assert {refused(damaged).reason for _ in range(2)} <= {"corrupt", "lost_commits"}


def test_a_log_that_is_removed_after_a_kill_is_missed(full_of_history: Path, tmp_path: Path) -> None:
    """Refused with the two ways to go on, and both lead on: the log comes back, or the mark goes."""
    killed, older = tmp_path / "killed.db", tmp_path / "older.db"
    shutil.copy(full_of_history, older)
    expected = crash_with_mark(full_of_history, killed)
    log, aside = Path(f"{killed}-wal"), tmp_path / "aside"
    log.rename(aside)
    for _ in range(2):
        error = refused(killed)
        assert (error.reason, error.exit_code) == ("lost_commits", 1)
        assert f"remove {killed}.mark to go on without them" in str(error)
    aside.rename(log)
    with opened(killed) as ledger:
        assert ledger.snapshot == expected
    shutil.copy(older, killed)
    assert refused(killed).reason == "lost_commits"
    Path(f"{killed}.mark").unlink()
    with opened(killed) as ledger:
        assert ledger.record([message(30_000)], {}) == [True]
        assert_accounted(ledger.snapshot)


def test_damage_in_the_last_commit_is_not_taken_for_a_torn_one(full_of_history: Path, tmp_path: Path) -> None:
    """By the log alone it could have been under way when the power failed; the mark says that it had succeeded."""
    damaged = tmp_path / "damaged.db"
    crash_with_mark(full_of_history, damaged)
    log = Path(f"{damaged}-wal")
    content = log.read_bytes()
    log.write_bytes(content[:-100] + bytes(100))
    assert refused(damaged).reason == "lost_commits"


@pytest.mark.parametrize("statement", ["ANALYZE", "VACUUM INTO '{backup}'", "SELECT count(*) FROM commits"])
def test_what_sqlites_own_tools_do_after_a_kill_loses_nothing(
    full_of_history: Path, tmp_path: Path, statement: str
) -> None:
    """Any of them takes the log into the ledger and removes it: that is not missing, and the ledger opens as it was."""
    killed = tmp_path / "killed.db"
    expected = crash_with_mark(full_of_history, killed)
    with contextlib.closing(sqlite3.connect(killed)) as connection:
        connection.execute(statement.format(backup=tmp_path / "backup.db"))
    assert not Path(f"{killed}-wal").exists()
    with opened(killed) as ledger:
        assert ledger.snapshot == expected


def test_sqlites_backup_opens_where_it_is_put(full_of_history: Path, tmp_path: Path) -> None:
    """A copy has no mark of its own, and needs none."""
    killed, backup = tmp_path / "killed.db", tmp_path / "backup.db"
    expected = crash_with_mark(full_of_history, killed)
    with (
        contextlib.closing(sqlite3.connect(killed)) as connection,
        contextlib.closing(sqlite3.connect(backup)) as copied,
    ):
        connection.backup(copied)
    for path in (killed, backup):
        with opened(path) as ledger:
            assert ledger.snapshot == expected


def test_a_ledger_that_is_opened_while_it_is_copied_is_in_use(
    full_of_history: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exporter that starts meanwhile takes the log into the file: the copy lacks both, and nothing was lost."""
    killed = tmp_path / "killed.db"
    crash_with_mark(full_of_history, killed)
    program = "ledger = opened(sys.argv[1]); say('open'); input()"
    started: list[subprocess.Popen[str]] = []
    copyfile = shutil.copyfile

    def copy_and_start(source: str, target: str) -> None:
        copyfile(source, target)
        if not started:
            started.append(child(program, killed))
            assert started[0].stdout is not None
            assert started[0].stdout.readline() == "open\n"

    monkeypatch.setattr("shutil.copyfile", copy_and_start)
    with pytest.raises(LedgerError) as caught, reading(str(killed)):
        pass
    started[0].communicate("leave\n")
    assert caught.value.reason == "locked"


@pytest.mark.parametrize("content", [b"", b"torn", bytes(48), b"x" * 4096], ids=["empty", "torn", "zeros", "other"])
def test_a_mark_that_says_nothing_refuses_nothing(full_of_history: Path, tmp_path: Path, content: bytes) -> None:
    """A power cut leaves of a file that was never synced what it likes; the mark is written anew."""
    killed = tmp_path / "killed.db"
    expected = crash_with_mark(full_of_history, killed)
    Path(f"{killed}.mark").write_bytes(content)
    with opened(killed) as ledger:
        assert ledger.snapshot == expected
    with opened(killed) as ledger:
        ledger.record([message(30_000)], {})
    shutil.copy(full_of_history, killed)
    assert refused(killed).reason == "lost_commits"


def test_an_older_mark_refuses_nothing(full_of_history: Path, tmp_path: Path) -> None:
    """After a power cut the mark is behind the commits, which were synced: they are all there."""
    killed, before = tmp_path / "killed.db", Path(f"{full_of_history}.mark").read_bytes()
    expected = crash_with_mark(full_of_history, killed)
    Path(f"{killed}.mark").write_bytes(before)
    with opened(killed) as ledger:
        assert ledger.snapshot == expected


def test_another_ledgers_mark_refuses_nothing(full_of_history: Path, tmp_path: Path) -> None:
    """Where a ledger was moved away, a new one begins at the same path; the mark that stayed is not its own."""
    full_of_history.rename(tmp_path / "away.db")
    with opened(full_of_history) as ledger:
        assert ledger.record([message(1)], {}) == [True]


def test_a_mark_that_cant_be_written_stops_nothing(path: Path) -> None:
    """It is a safeguard: without it the ledger counts as ever."""
    Path(f"{path}.mark").mkdir()
    with opened(path) as ledger:
        assert ledger.record([message(1)], {}) == [True]
        ledger.reopen()
        assert ledger.record([message(1)], {}) == [False]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV])
@pytest.mark.parametrize("call", ["os.stat", "os.open", "io.open", "os.access"])
def test_a_path_that_cant_be_looked_at_is_a_sentence(
    full_of_history: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    """Whatever the file system answers, at the opening, in a commit and in a reopening; when it is well, it goes on."""
    module, name = call.split(".")
    original = getattr(sys.modules[module], name)

    def fail(path: object, *args: object, **kwargs: object) -> object:
        if not failing or not str(path).startswith(str(full_of_history.parent)):
            return original(path, *args, **kwargs)
        if name == "access":
            return False
        raise OSError(number, os.strerror(number), str(path))

    failing = True
    with monkeypatch.context() as patched:
        patched.setattr(call, fail)
        with contextlib.suppress(LedgerError):
            SqliteLedger(str(full_of_history)).close()
        failing = False
        with opened(full_of_history) as ledger:
            failing = True
            before = ledger.snapshot.counted
            with contextlib.suppress(LedgerError):
                ledger.record([message(20_000)], {})
            if name == "stat":
                with pytest.raises(LedgerError, match=os.strerror(number)):
                    ledger.reopen()
                with pytest.raises(LedgerError, match=os.strerror(number)):
                    SqliteLedger(str(full_of_history))
            else:
                with contextlib.suppress(LedgerError):
                    ledger.reopen()
            failing = False
            ledger.reopen()
            ledger.record([message(20_000)], {})
            assert ledger.snapshot.counted == before + 1
            assert_accounted(ledger.snapshot)


def test_a_disk_that_is_full_aborts_the_whole_batch(path: Path) -> None:
    """The write-ahead log may grow no more: nothing is counted; with space again, each delivery is accounted for."""
    program = """
ledger = opened(sys.argv[1])
ledger.record(deliveries(10), {})
log = os.stat(sys.argv[1] + "-wal").st_size
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (log + 9_000, hard))
again = deliveries(2_000)
try:
    ledger.record(again, {})
except LedgerError as error:
    say(error.reason)
say(ledger.snapshot.counted)
for call in (ledger.flush, lambda: ledger.record(deliveries(1), {})):
    try:
        call()
    except LedgerError as error:
        say(error.reason)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
ledger.reopen()
ledger.record(again, {})
say(ledger.snapshot.counted)
say(sorted(ledger.snapshot.released.items()))
ledger.close()
"""
    with child(program, path) as process:
        output, _ = process.communicate()
    first, counted, second, third, after, released = output.splitlines()
    assert {first, second, third} <= {"full", "io_error"}
    assert (counted, after) == ("10", "2010")
    assert released == "[('commit_failed', 2000), ('ledger_unavailable', 1)]"
    with opened(path) as ledger:
        assert_accounted(ledger.snapshot)


@pytest.mark.parametrize(("name", "times"), [("at_open", 1), ("in_commit", 7), ("in_prune", 3), ("in_checkpoint", 2)])
def test_a_kill_at_the_worst_moment_loses_and_doubles_nothing(path: Path, name: str, times: int) -> None:
    """After SIGKILL there is exactly what was committed: what the process said it recorded, or one batch more."""
    program = """
opened(sys.argv[1]).close()
failpoint.arm(os.environ)
ledger = opened(sys.argv[1], window_seconds=60)
for _ in range(400):
    batch = deliveries(200)
    ledger.record(batch, {})
    say(ledger.snapshot.counted)
    ledger.settle(delivery.message_id for delivery in batch)
    ledger.advance(5)
"""
    with child(program, path, **{failpoint.VARIABLE: f"{name}:{times}"}) as process:
        output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL
    said = int(output.splitlines()[-1]) if output else 0
    with opened(path) as ledger:
        assert ledger.snapshot.counted in {said, said + 200}
        assert ledger.snapshot.types.get("purchase") is None or (
            ledger.snapshot.types["purchase"].value_nano == ledger.snapshot.counted * 10**7
        )
        assert_accounted(ledger.snapshot)
        assert ledger.record([message(1)], {}) == [True]
