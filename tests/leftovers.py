"""Ends the processes that a run of the tests started, however that run itself ends. Linux only.

A process is known by an environment variable that whatever the tests start inherits. A watcher, which is a process of
its own, waits for the end of the run, and kills what still has it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from pathlib import Path

VARIABLE = "TEST_RUN"
"""Its value says which run started a process."""
WATCH_SECONDS = 2.0
"""For so long after the run's end is looked for processes that were just being started then."""


def watch() -> None:
    """Mark what this process starts from now on; it is killed when this process has ended, whatever ended it."""
    if not hasattr(os, "pidfd_open"):
        return
    run = f"{os.getpid()}-{time.time_ns()}"
    os.environ[VARIABLE] = run
    command = [sys.executable, "-S", __file__, str(os.getpid()), run]
    silent = [(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_RDWR, 0) for descriptor in range(3)]
    # In a session of its own, so that Ctrl-C ends the run and not the watcher; nobody waits for it.
    os.posix_spawn(sys.executable, command, {}, file_actions=silent, setsid=True)


def mark() -> dict[str, str]:
    """Return the variable, for the environment of a process that doesn't inherit this one's."""
    return {VARIABLE: os.environ[VARIABLE]} if VARIABLE in os.environ else {}


def started_by(run: str) -> list[int]:
    """Return the ids of the processes that the run started and that have not ended."""
    entry = f"{VARIABLE}={run}".encode()
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if entry in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
        except OSError:  # it has ended, or is another user's
            continue
    return found


def main() -> None:
    """Wait for the end of a process, and kill what it has left behind."""
    ancestor, run = int(sys.argv[1]), sys.argv[2]
    with contextlib.suppress(ProcessLookupError):
        select.select([os.pidfd_open(ancestor)], [], [])
    give_up_at = time.monotonic() + WATCH_SECONDS
    while (left := started_by(run)) or time.monotonic() < give_up_at:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


if __name__ == "__main__":
    main()
