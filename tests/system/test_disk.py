"""The volume of the ledger at its worst, under the running program: it stops, says why, and goes on where it can."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import sqlite3
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from exporter_process import WAIT_SECONDS, ExporterProcess
from fake_sqs import FakeSqs

if TYPE_CHECKING:
    from collections.abc import Iterator

WAIT = ("--sqs.wait-seconds", "1")
VISIBILITY_SECONDS = 30
PAGE_BYTES = 4096
LOCK_SECONDS = 10
AS_OWNER = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
"""Permissions bind root, too, without these capabilities."""


@contextlib.contextmanager
def counting(directory: Path, *through: str) -> Iterator[tuple[FakeSqs, ExporterProcess]]:
    """Run the exporter on a ledger of its own, with its first messages counted and deleted."""
    directory.mkdir(exist_ok=True)
    with FakeSqs() as sqs:
        sqs.load(500, seed=1)
        with ExporterProcess(sqs.environment, directory / "ledger.db", *WAIT, through=through) as exporter:
            sqs.wait_until(lambda account: account.deleted == 500)
            exporter.wait_until_ready()
            yield sqs, exporter


def assert_it_stops(sqs: FakeSqs, exporter: ExporterProcess, sentence: str, *, nothing_fits: bool = True) -> None:
    """Let messages arrive: none is deleted, soon none is taken, and both /-/ready and one line a minute say why.

    Without `nothing_fits` a commit may succeed now and then, and what it counted is deleted.
    """
    deleted = sqs.account().deleted
    sqs.load(50, seed=2)
    exporter.wait_until_told(sentence)
    assert exporter.healthy()
    assert exporter.scrape().total("sqs_exporter_ready") == 0
    if nothing_fits:
        exporter.wait_for(lambda scrape: scrape.total("sqs_exporter_receives_in_flight") == 0)
        receives = sqs.account().calls["ReceiveMessage"]
        sqs.load(50, seed=3)
        wait_for_another_try(exporter)
        assert sqs.account().calls["ReceiveMessage"] == receives
        assert sqs.account().deleted == deleted, "a message was deleted whose outcome is not on disk"
    lines = [line["error"] for line in exporter.log if line["msg"].startswith("ledger failed")]
    minutes = (time.time() - exporter.scrape().total("process_start_time_seconds")) // 60
    assert 1 <= sum(sentence in line for line in lines) <= 1 + minutes, lines


def wait_for_another_try(exporter: ExporterProcess) -> None:
    """Wait until it has tried the ledger once more, in vain."""
    errors = exporter.scrape().total("sqs_exporter_ledger_errors_total")
    exporter.wait_for(lambda scrape: scrape.total("sqs_exporter_ledger_errors_total") > errors)


def assert_it_goes_on(sqs: FakeSqs, exporter: ExporterProcess) -> None:
    """Wait until it is ready again by itself, everything that was sent is deleted and counted exactly."""
    exporter.wait_until_ready()
    sqs.advance(VISIBILITY_SECONDS + 1)
    account = sqs.wait_until(lambda account: account.deleted == account.sent)
    assert exporter.scrape().agrees_with(account)
    assert any(line["msg"] == "ledger works again" for line in exporter.log)
    assert not any("Traceback" in line for line in exporter.stderr)


def limit_files(exporter: ExporterProcess, most_bytes: int | None) -> None:
    """Let the kernel refuse what the program writes beyond so many bytes of a file; None: no longer."""
    _, hard = resource.prlimit(exporter.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(exporter.pid, resource.RLIMIT_FSIZE, (hard if most_bytes is None else most_bytes, hard))


def assert_it_refuses_to_start(exporter: ExporterProcess, sqs: FakeSqs, exit_code: int, sentence: str) -> None:
    """Let it start: it ends with one sentence, and has not asked for a message."""
    receives = sqs.account().calls.get("ReceiveMessage", 0)
    exporter.launch()
    assert exporter.wait() == exit_code, exporter.last_lines
    assert sentence in exporter.stderr[-1]
    assert not any("Traceback" in line for line in exporter.stderr)
    assert sqs.account().calls.get("ReceiveMessage", 0) == receives


def test_a_refused_write_stops_it_until_writes_succeed(tmp_path: Path) -> None:
    """An I/O error in a commit: nothing is deleted meanwhile, nothing is lost."""
    with counting(tmp_path) as (sqs, exporter):
        limit_files(exporter, 0)
        assert_it_stops(sqs, exporter, "check its volume")
        limit_files(exporter, None)
        assert_it_goes_on(sqs, exporter)


def test_a_commit_that_is_torn_in_the_middle_of_a_page_is_none(tmp_path: Path) -> None:
    """Half a page of the log was written and no more: what the log holds before it is taken up, the rest comes back."""
    with counting(tmp_path) as (sqs, exporter):
        limit_files(exporter, (tmp_path / "ledger.db-wal").stat().st_size + PAGE_BYTES // 2)
        sqs.load(50, seed=2)
        exporter.wait_for(lambda scrape: scrape.total("sqs_exporter_ledger_errors_total") > 0)
        limit_files(exporter, None)
        assert_it_goes_on(sqs, exporter)
        assert exporter.scrape().by("sqs_exporter_messages_released_total", "reason")["commit_failed"] > 0


def test_a_full_volume_stops_it_until_there_is_space(tmp_path: Path) -> None:
    """On a file system of its own without a free byte, where somebody else takes whatever becomes free."""
    volume = tmp_path / "volume"
    volume.mkdir()
    with counting(volume, *small_volume(volume)) as (sqs, exporter):
        with filled(f"/proc/{exporter.pid}/root{volume}/other"):
            assert_it_stops(sqs, exporter, "free space on its volume", nothing_fits=False)
            wait_for_another_try(exporter)
            account, scrape = sqs.account(), exporter.scrape()
            assert account.deleted <= scrape.counted + scrape.rejected
        assert_it_goes_on(sqs, exporter)


def test_a_start_on_a_full_volume_waits_for_space(tmp_path: Path) -> None:
    """/metrics and the health pages are served, nothing is received; with space the ledger is made and all counts.

    That the counts start at 0 is said once, when the ledger is made.
    """
    volume = tmp_path / "volume"
    volume.mkdir()
    through = small_volume(volume, fill=True)
    with FakeSqs() as sqs, ExporterProcess(sqs.environment, volume / "ledger.db", *WAIT, through=through) as exporter:
        sqs.load(500, seed=7)
        exporter.wait_until_told("free space on its volume")
        wait_for_another_try(exporter)
        assert exporter.healthy()
        assert exporter.scrape().received == 0
        assert sqs.account().calls.get("ReceiveMessage", 0) == 0
        assert not any(line["msg"].startswith(("ledger opened", "the ledger is new")) for line in exporter.log)
        Path(f"/proc/{exporter.pid}/root{volume}/other").unlink()
        assert_it_goes_on(sqs, exporter)
        assert exporter.terminate() == 0
        (opened,) = (line for line in exporter.log if line["msg"] == "ledger opened")
        assert opened["ledger_name"]
        assert opened["events_taken_up"] == opened["types_taken_up"] == opened["messages_remembered"] == 0
        assert sum(line["msg"].startswith("the ledger is new: counts start at 0") for line in exporter.log) == 1


def test_a_ledger_that_becomes_read_only_is_said_to_be(tmp_path: Path) -> None:
    """As after a remount: the sentence names what has to be writable, and once it is, it goes on."""
    ledger = tmp_path / "ledger.db"
    with counting(tmp_path, *as_owner()) as (sqs, exporter):
        limit_files(exporter, 0)
        assert_it_stops(sqs, exporter, "check its volume")
        for path in (ledger, tmp_path / "ledger.db-wal"):
            path.chmod(0o400)
        limit_files(exporter, None)
        exporter.wait_until_told("is read-only")
        assert sqs.account().deleted == 500
        for path in tmp_path.glob("ledger.db*"):
            path.chmod(0o600)
        assert_it_goes_on(sqs, exporter)


def test_a_volume_that_is_pulled_away_stops_it_until_it_is_back(tmp_path: Path) -> None:
    """An empty directory in its place gets no new ledger: counts would begin at zero without a word."""
    volume = tmp_path / "volume"
    with counting(volume) as (sqs, exporter):
        volume.rename(tmp_path / "elsewhere")
        volume.mkdir()
        assert_it_stops(sqs, exporter, "check its volume")
        assert list(volume.iterdir()) == []
        assert exporter.scrape().counted == 500
        volume.rmdir()
        (tmp_path / "elsewhere").rename(volume)
        assert_it_goes_on(sqs, exporter)


def test_a_directory_that_cant_be_looked_into_is_said_to_be(tmp_path: Path) -> None:
    """Permissions changed under the running program: it stays up, says so, and goes on when it may look again."""
    volume = tmp_path / "volume"
    with counting(volume, *as_owner()) as (sqs, exporter):
        volume.chmod(0o000)
        try:
            assert_it_stops(sqs, exporter, "Permission denied")
        finally:
            volume.chmod(0o700)
        assert_it_goes_on(sqs, exporter)


@pytest.mark.parametrize("what", ["removed", "zeroed"])
def test_a_log_that_was_removed_after_a_kill_is_missed_at_the_start(tmp_path: Path, what: str) -> None:
    """Its commits are gone and their messages deleted: refused with the ways to go on, and the log's return is one."""
    ledger = tmp_path / "ledger.db"
    with counting(tmp_path) as (sqs, exporter):
        exporter.kill()
        log = Path(f"{ledger}-wal").rename(tmp_path / "aside")
        if what == "zeroed":
            Path(f"{ledger}-wal").write_bytes(bytes(log.stat().st_size))
        assert_it_refuses_to_start(exporter, sqs, 1, f"the ledger {ledger} has lost commits")
        log.rename(f"{ledger}-wal")
        exporter.start()
        assert exporter.scrape().agrees_with(sqs.account())


def test_a_ledger_from_a_backup_is_not_taken_while_running(tmp_path: Path) -> None:
    """It has forgotten what was deleted since: the numbers stay, and it waits for the file that it had."""
    ledger, backup = tmp_path / "ledger.db", tmp_path / "backup"
    with counting(tmp_path) as (sqs, exporter):
        exporter.terminate()
        shutil.copy(ledger, backup)
        exporter.start()
        sqs.load(100, seed=4)
        sqs.wait_until(lambda account: account.deleted == 600)
        exporter.wait_until_ready()
        (tmp_path / "aside").mkdir()
        for path in (ledger, tmp_path / "ledger.db-wal"):
            path.rename(tmp_path / "aside" / path.name)
        shutil.copy(backup, ledger)
        assert_it_stops(sqs, exporter, "check its volume")
        assert exporter.scrape().counted == 600
        for path in (tmp_path / "aside").iterdir():
            path.rename(tmp_path / path.name)
        assert_it_goes_on(sqs, exporter)


def test_a_damaged_page_found_while_running_keeps_the_page_up(tmp_path: Path) -> None:
    """/metrics goes on to show the last good numbers; the restored file is taken without a restart."""
    ledger = tmp_path / "ledger.db"
    with counting(tmp_path) as (sqs, exporter):
        exporter.terminate()
        exporter.start()
        exporter.wait_until_ready()
        limit_files(exporter, 0)
        assert_it_stops(sqs, exporter, "check its volume")
        whole = ledger.read_bytes()
        ledger.write_bytes(flipped(whole, whole.index(b"pageview")))
        limit_files(exporter, None)
        exporter.wait_until_told("restore it from a backup")
        assert exporter.scrape().counted == 500
        assert sqs.account().deleted == 500
        ledger.write_bytes(whole)
        assert_it_goes_on(sqs, exporter)


@pytest.mark.parametrize("what", ["header", "schema", "total", "id"])
def test_a_damaged_ledger_is_refused_and_left_as_it_is(tmp_path: Path, what: str) -> None:
    """A flipped bit in any page ends the start with a sentence; nobody makes a new ledger in its place."""
    ledger = tmp_path / "ledger.db"
    with counting(tmp_path) as (sqs, exporter):
        exporter.terminate()
        whole = ledger.read_bytes()
        first_id = bytes.fromhex(sqs.messages()[0].message_id.replace("-", ""))
        needles = {"header": b"SQLite format 3", "schema": b"CREATE TABLE", "total": b"pageview", "id": first_id}
        damaged = flipped(whole, whole.index(needles[what]))
        ledger.write_bytes(damaged)
        assert_it_refuses_to_start(exporter, sqs, 1, f"the ledger {ledger} is damaged")
        assert ledger.read_bytes() == damaged


def test_a_checkpoint_that_ended_half_way_is_made_again(tmp_path: Path) -> None:
    """The first page says how long the file is to be, the last ones are in the log only: nothing is damaged."""
    ledger, copied = tmp_path / "ledger.db", tmp_path / "copy" / "ledger.db"
    with counting(tmp_path) as (sqs, exporter):
        exporter.wait_for(lambda scrape: scrape.total("sqs_exporter_ledger_unsettled_messages") == 0)
        exporter.kill()
        shutil.copytree(tmp_path, copied.parent)
        with contextlib.closing(sqlite3.connect(copied)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert copied.stat().st_size > ledger.stat().st_size
        ledger.write_bytes(copied.read_bytes()[:PAGE_BYTES] + ledger.read_bytes()[PAGE_BYTES:])
        exporter.start()
        assert exporter.scrape().agrees_with(sqs.account())


def test_a_ledger_from_a_newer_version_is_refused(tmp_path: Path) -> None:
    """An older program does not know what it would break: exit code 2, and which schema it found."""
    ledger = tmp_path / "ledger.db"
    with counting(tmp_path) as (sqs, exporter):
        exporter.terminate()
        with contextlib.closing(sqlite3.connect(ledger)) as connection:
            connection.execute("PRAGMA user_version=3")
        assert_it_refuses_to_start(exporter, sqs, 2, "written by a newer version (schema 3, this one knows 2)")


@pytest.mark.parametrize("mode", [0o500, 0o600])
def test_a_read_only_ledger_is_refused_at_the_start(tmp_path: Path, mode: int) -> None:
    """Either the directory is not writable or the file is not: one sentence that says what should be."""
    ledger = tmp_path / "volume" / "ledger.db"
    with counting(ledger.parent, *as_owner()) as (sqs, exporter):
        exporter.terminate()
        ledger.parent.chmod(0o500 if mode == 0o500 else 0o700)
        ledger.chmod(0o600 if mode == 0o500 else 0o400)
        assert_it_refuses_to_start(exporter, sqs, 2, "writable")
        ledger.parent.chmod(0o700)


def test_two_exporters_on_one_ledger_are_one_too_many(tmp_path: Path) -> None:
    """The second waits 10 s for the first to end, then says so and ends; the first has noticed nothing."""
    with counting(tmp_path) as (sqs, exporter):
        with ExporterProcess(sqs.environment, exporter.ledger, start=False) as second:
            started = time.monotonic()
            second.launch()
            assert second.wait() == 2
            assert time.monotonic() - started >= LOCK_SECONDS
            assert "is used by another process: stop that one, or choose another --ledger.path" in second.stderr[-1]
        sqs.load(100, seed=5)
        account = sqs.wait_until(lambda account: account.deleted == 600)
        assert exporter.scrape().agrees_with(account)


def test_a_second_exporter_takes_over_when_the_first_ends_in_time(tmp_path: Path) -> None:
    """As in a rolling restart: it waits for the lock, and counts on from the same numbers."""
    with (
        counting(tmp_path) as (sqs, exporter),
        ExporterProcess(sqs.environment, exporter.ledger, *WAIT, start=False) as second,
    ):
        second.launch()
        wait_until_open(second, Path(exporter.ledger))
        assert exporter.terminate() == 0
        sqs.load(100, seed=6)
        account = sqs.wait_until(lambda account: account.deleted == 600)
        second.wait_until_ready()
        assert second.scrape().agrees_with(account)


def wait_until_open(exporter: ExporterProcess, path: Path) -> None:
    """Wait until the process has the file open."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        for descriptor in Path(f"/proc/{exporter.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if descriptor.readlink() == path:
                    return
        time.sleep(0.02)
    pytest.fail(f"it does not open {path}\n{exporter.last_lines}")


def flipped(content: bytes, place: int) -> bytes:
    """Return the content with one bit of one byte changed."""
    changed = bytearray(content)
    changed[place] ^= 0x10
    return bytes(changed)


def as_owner() -> list[str]:
    """Return the command that makes permissions count for root; nobody else needs one. Skips where there is none."""
    if os.geteuid() != 0:
        return []
    if shutil.which(AS_OWNER[0]) is None:
        pytest.skip("root may write what is read-only, and setpriv, which could forbid it, is not here")
    return AS_OWNER


def small_volume(directory: Path, *, fill: bool = False) -> list[str]:
    """Return the command that mounts a file system of 8 MiB there, for the program alone; skips where it may not.

    `fill` leaves no free byte on it: the file `other` has them all.
    """
    filling = 'dd if=/dev/zero of="$0/other" 2>&-; ' if fill else ""
    mount = f'mount -t tmpfs -o size=8m tmpfs "$0" && {{ {filling}exec "$@"; }}'
    for namespace in (["--mount"], ["--user", "--map-root-user", "--mount"]):
        command = ["unshare", *namespace, "sh", "-c", mount, str(directory)]
        with contextlib.suppress(FileNotFoundError):
            if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
                return command
    pytest.skip("no file system can be mounted here, not even in a namespace")


@contextlib.contextmanager
def filled(path: str) -> Iterator[None]:
    """Keep a file system full, byte by byte, with a file that goes away at the end."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    full, ending = threading.Event(), threading.Event()

    def fill() -> None:
        while not ending.is_set():
            try:
                os.write(descriptor, bytes(1 << 20))
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    full.set()
                ending.wait(0.001)

    filler = threading.Thread(target=fill)
    filler.start()
    try:
        assert full.wait(WAIT_SECONDS)
        yield
    finally:
        ending.set()
        filler.join()
        os.close(descriptor)
        Path(path).unlink()
