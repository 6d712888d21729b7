"""A stdout and stderr that nobody reads cost lines, never counts, and the end comes in time."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from typing import TYPE_CHECKING

import pytest
from exporter_process import PROGRAM
from fake_sqs import FakeSqs

if TYPE_CHECKING:
    from pathlib import Path

END_SECONDS = 15.0
"""The end itself takes at most two; the rest is for a busy machine. A blocked write would take for ever."""


def free_port() -> int:
    """Return a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def full_pipe() -> tuple[int, int, int]:
    """Return a pipe that takes not one byte more: its reading end, its writing end and how much is in it."""
    reading, writing = os.pipe()
    filled = 0
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            filled += os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    return reading, writing, filled


def read_to_end(reading: int) -> bytes:
    """Return all that is in a pipe whose writers are gone."""
    with os.fdopen(reading, "rb") as pipe:
        return pipe.read()


@pytest.mark.parametrize("unread", ["stderr", "stdout", "both"])
def test_counting_goes_on_and_sigterm_ends_it_in_time(tmp_path: Path, unread: str) -> None:
    """With 64 KiB in the pipe and nobody at its end all is counted and deleted, ready is ready, and the exit is 0."""
    reading, writing, filled = full_pipe()
    port = free_port()
    with FakeSqs() as sqs, (tmp_path / "other").open("wb") as other:
        sqs.load(2_000, seed=7, invalid_fraction=0.1)
        command = [str(PROGRAM), "run", "--queue", "events", "--ledger.path", str(tmp_path / "ledger.db")]
        command += ["--web.listen-address", f"127.0.0.1:{port}", "--summary.interval", "1s", "--log.level", "debug"]
        process = subprocess.Popen(
            [*command, "--log.format", "json", "--shutdown.timeout", "0s"],
            env={"PATH": os.environ["PATH"], **sqs.environment},
            stdout=other if unread == "stderr" else writing,
            stderr=other if unread == "stdout" else writing,
        )
        os.close(writing)
        try:
            sqs.wait_until(lambda account: account.deleted == 2_000)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=10) as answer:
                assert answer.read() == b"Ready.\n"
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(END_SECONDS) == 0
            assert time.monotonic() - started < END_SECONDS
        finally:
            process.kill()
            process.wait()
    assert len(read_to_end(reading)) == filled
    if unread == "stdout":
        lines = [json.loads(line) for line in (tmp_path / "other").read_text().splitlines()]
        assert lines[0]["msg"] == "starting"
        assert lines[-1]["msg"] == "stopped"


def test_a_wrong_setting_is_said_and_ends_the_program_even_where_nobody_reads_it() -> None:
    """The sentence waits for its reader half a second, the exit code is 2 as ever."""
    reading, writing, filled = full_pipe()
    process = subprocess.Popen([str(PROGRAM), "run", "--ledger.window", "never"], stderr=writing)
    os.close(writing)
    try:
        assert process.wait(END_SECONDS) == 2
    finally:
        process.kill()
        process.wait()
    assert len(read_to_end(reading)) == filled
