"""What a person at a terminal sees: bars and a table on stderr, lines that can be read; in a pipe nothing of it."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest
from exporter_process import INHERITED, PROGRAM
from fake_sqs import FakeSqs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EVENT = '{"type": "purchase", "value": 12.55, "occurred_at": "2020-10-06 10:02:05"}'
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class OnATerminal:
    """The program with stderr, and perhaps stdout, on a terminal of its own."""

    def __init__(self, environment: dict[str, str], *arguments: str, stdout_too: bool = False) -> None:
        leader, follower = pty.openpty()
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        self.process = subprocess.Popen(
            [str(PROGRAM), *arguments],
            env={**inherited, "TERM": "xterm", "COLUMNS": "120", "LINES": "40", **environment},
            stdin=subprocess.DEVNULL,
            stdout=follower if stdout_too else subprocess.PIPE,
            stderr=follower,
            text=True,
        )
        os.close(follower)
        self._leader = leader
        self._seen = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def all_seen(self) -> str:
        """All that came to the terminal, with colours and movements."""
        return self._seen.decode(errors="replace")

    @property
    def seen(self) -> str:
        """All that came to the terminal, without colours and movements."""
        return COLOURS.sub("", self.all_seen)

    def wait_for(self, pattern: str) -> None:
        """Wait until the terminal has shown it."""
        deadline = time.monotonic() + 60
        while not re.search(pattern, self.seen):
            assert self.process.poll() is None or time.monotonic() < deadline - 55, self.seen[-2000:]
            assert time.monotonic() < deadline, self.seen[-2000:]
            time.sleep(0.05)

    def end(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and what went to stdout where that is a pipe."""
        out, _ = self.process.communicate(timeout=60)
        self._reader.join(5)
        return self.process.returncode, out or ""

    def _read(self) -> None:
        while True:
            try:
                read = os.read(self._leader, 4096)
            except OSError:  # the terminal's other side is closed
                break
            if not read:
                break
            self._seen += read
        os.close(self._leader)


@pytest.fixture(scope="module")
def sqs() -> Iterator[FakeSqs]:
    """Share one SQS."""
    with FakeSqs() as server:
        yield server


def test_produce_shows_how_far_it_is(sqs: FakeSqs) -> None:
    """A bar on stderr; stdout has the account alone, and where both are one terminal it takes the bar's line."""
    sqs.create_queue("sent")
    arguments = ("produce", "--queue", "sent", "--count", "100", "--rate", "60")
    program = OnATerminal(sqs.environment, *arguments)
    program.wait_for(r"produce .* \d+/100 messages")
    code, out = program.end()
    assert code == 0
    assert out.startswith('{"sent"')
    assert out.count("\n") == 1
    program = OnATerminal(sqs.environment, *arguments, stdout_too=True)
    assert program.end()[0] == 0
    assert '\r\x1b[2K{"sent"' in program.all_seen


def test_peek_shows_how_far_it_is(sqs: FakeSqs) -> None:
    """Lines on stdout, the bar on stderr."""
    sqs.create_queue("looked-at")
    sqs.send([EVENT] * 40, queue_name="looked-at")
    program = OnATerminal(sqs.environment, "peek", "--queue", "looked-at", "--count", "30")
    code, out = program.end()
    assert code == 0
    assert len(out.splitlines()) == 30
    assert re.search(r"peek .*/30 messages", program.seen)


def test_run_until_empty_shows_how_far_it_is_and_logs_for_people(sqs: FakeSqs, tmp_path: Path) -> None:
    """Time of day, level and message first; the summary's lines are as in a pipe."""
    sqs.create_queue("drained")
    sqs.send([EVENT] * 40, queue_name="drained")
    arguments = ["run", "--queue", "drained", "--until-empty", "--ledger.path", str(tmp_path / "ledger.db")]
    program = OnATerminal(sqs.environment, *arguments, "--web.listen-address", "127.0.0.1:0")
    code, out = program.end()
    assert code == 0
    assert '{"type": "purchase", "count": 40, "sum": 502.0}' in out
    assert re.search(r"\d\d:\d\d:\d\d info     starting  version=", program.seen)
    assert re.search(r"run .*\d+ messages", program.seen)


def test_demo_shows_a_table_and_ends_with_its_proof() -> None:
    """On a terminal the table stands for the lines of summary and log; after Ctrl-C comes the proof."""
    program = OnATerminal({}, "demo", "--web.listen-address", "127.0.0.1:0", stdout_too=True)
    program.wait_for(r"pageview\W+[1-9]\d*\W+[1-9]")
    program.process.send_signal(signal.SIGINT)
    code, _ = program.end()
    assert code == 0
    assert re.search(r"proof: (\d+) messages were sent and \1 counted or rejected, each exactly once", program.seen)
    assert '"type"' not in program.seen
    assert "message is not an event" not in program.seen
    assert "no event: rejected" in program.seen
    assert "Traceback" not in program.seen


def test_in_a_pipe_there_is_neither_a_bar_nor_a_control_character(sqs: FakeSqs, tmp_path: Path) -> None:
    """Lines as ever: what is read by a machine stays as it was."""
    sqs.create_queue("piped")
    sqs.send([EVENT] * 5, queue_name="piped")
    arguments = ["run", "--queue", "piped", "--until-empty", "--ledger.path", str(tmp_path / "ledger.db")]
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    done = subprocess.run(
        [str(PROGRAM), *arguments, "--web.listen-address", "127.0.0.1:0"],
        env={**inherited, **sqs.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "\x1b" not in done.stdout + done.stderr
    assert all(line.startswith("time=") for line in done.stderr.splitlines())
