"""Writes lines to a stream on a thread of its own, so that a reader that does not read blocks no other thread."""

from __future__ import annotations

import io
import os
import select
import threading
import time
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

MAX_WAITING_LINES = 1_000

bar_shown = threading.Event()
"""Set while the last line of the terminal is a progress bar, which draws itself anew."""


def line_start(stream: TextIO | None) -> str:
    """Return what a line has to begin with on this stream: where a progress bar stands, what erases it."""
    return "\r\x1b[2K" if bar_shown.is_set() and stream is not None and stream.isatty() else ""


def _erased(below: str) -> str:
    """Return what takes these lines away, where the cursor stands at the end of the last of them."""
    return "\r\x1b[2K" + "\x1b[1A\x1b[2K" * below.count("\n") if below else ""


@dataclass(frozen=True, slots=True)
class _Below:
    text: str


class LineWriter:
    """Takes lines without ever waiting: beyond `MAX_WAITING_LINES` that nobody has read they are dropped and counted.

    Any thread, and a signal handler, may call `put`. Lines go to the stream's file descriptor, past Python's buffer:
    a thread that hangs in a write to `sys.stderr` would hold a lock that Python needs to end.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self._descriptor = _descriptor_of(stream)
        # Not `queue.Queue`, whose lock a signal handler could find taken by the code that it interrupts.
        self._lines: SimpleQueue[str | threading.Event | _Below | None] = SimpleQueue()
        self._below = ""
        self._writing_since: float | None = None
        self.dropped = 0
        """How many lines were not written: too many waited, or the stream was closed."""
        threading.Thread(target=self._run, name="log", daemon=True).start()

    @property
    def full(self) -> bool:
        """Whether the next line will be dropped."""
        return self._lines.qsize() >= MAX_WAITING_LINES

    def put(self, line: str) -> None:
        """Have a line written, its end included, or count it as dropped."""
        if self.full:
            self.dropped += 1
        else:
            self._lines.put(line)

    def keep_below(self, text: str) -> None:
        """Keep these lines, without a line break at their end, on a terminal below all that is written; "" ends it.

        Nothing happens while older lines wait to be written.
        """
        if not text or self._lines.empty():
            self._lines.put(_Below(text))

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until all that was put is written, no longer than that; returns whether it is."""
        written = threading.Event()
        self._lines.put(written)
        return written.wait(timeout_seconds)

    def stuck_seconds(self) -> float:
        """Return for how long the line that is being written has not been taken; 0 where none is."""
        since = self._writing_since
        return 0.0 if since is None else time.monotonic() - since

    def close(self) -> None:
        """Let the thread end once all that was put is written; nothing may be put afterwards."""
        self._lines.put(None)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            if isinstance(line, threading.Event):
                line.set()
                continue
            self._writing_since = time.monotonic()
            try:
                if isinstance(line, _Below):
                    erase, self._below = _erased(self._below), line.text
                    self._write(erase + self._below)
                else:
                    self._write(_erased(self._below) + line_start(self.stream) + line + self._below)
            except (OSError, ValueError):
                self.dropped += 1
            self._writing_since = None

    def _write(self, line: str) -> None:
        if self._descriptor is None:
            if self.stream is not None:
                self.stream.write(line)
                self.stream.flush()
            return
        rest = line.encode(errors="backslashreplace")
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # somebody who shares the terminal or pipe made it non-blocking
                select.select((), (self._descriptor,), ())


def _descriptor_of(stream: TextIO | None) -> int | None:
    if stream is None:
        return None
    try:
        return stream.fileno()
    except (io.UnsupportedOperation, ValueError):
        return None
