"""The log on stderr: one line a record, as logfmt or JSON, or as text for a person at a terminal.

Fields are what callers give as `extra`.

Logging never waits: a thread of its own writes the lines, and drops and counts what nobody reads.
https://brandur.org/logfmt
"""

from __future__ import annotations

import atexit
import json
import logging
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from exporter.telemetry.line_writer import LineWriter

if TYPE_CHECKING:
    from typing import TextIO

Format = Literal["auto", "text", "logfmt", "json"]
Level = Literal["debug", "info", "warning", "error"]

LOG_WINDOW_SECONDS = 60.0
LINES_PER_WINDOW = 5
FLUSH_SECONDS = 0.5
"""What the last lines are given at the end: a reader that does not read holds up no shutdown."""
STUCK_SECONDS = 5.0
"""How long a line may wait to be read before it is said that nobody reads."""

_writer: LineWriter | None = None

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def configure(level: Level, log_format: Format, stream: TextIO | None = None) -> None:
    """Send all logging to `stream` (stderr); replaces what was configured before.

    The format `auto` is text on a terminal, and logfmt elsewhere. `level` is for the exporter itself. Libraries are
    heard from WARNING on, whatever it is: botocore's DEBUG shows requests with their signatures and answers with their
    messages.
    """
    global _writer
    flush()
    stream = stream or sys.stderr
    before, _writer = _writer, LineWriter(stream)
    handler = LineHandler(_writer)
    if log_format == "auto":
        log_format = "text" if stream is not None and stream.isatty() else "logfmt"
    handler.setFormatter(_FORMATTERS[log_format]())
    own_level = logging.getLevelNamesMapping()[level.upper()]
    root = logging.getLogger()
    root.handlers = [handler]
    if before is not None:
        before.close()
    root.setLevel(max(own_level, logging.WARNING))
    logging.getLogger("exporter").setLevel(own_level)
    logging.captureWarnings(capture=True)
    atexit.unregister(flush)
    atexit.register(flush)


def say(sentence: str) -> None:
    """Write a plain sentence to stderr, after all lines before it; its reader has twice `FLUSH_SECONDS`."""
    flush()
    writer = _writer if _writer is not None and _writer.stream is sys.stderr else LineWriter(sys.stderr)
    writer.put(f"{sentence}\n")
    writer.flush(FLUSH_SECONDS)
    if writer is not _writer:
        writer.close()


def keep_below(text: str) -> None:
    """Keep these lines on the terminal below the log; "" takes them away."""
    if _writer is not None:
        _writer.keep_below(text)


def flush(timeout_seconds: float = FLUSH_SECONDS) -> bool:
    """Wait until all lines are written, no longer than that; returns whether they are."""
    return _writer is None or _writer.flush(timeout_seconds)


def dropped() -> int:
    """Return how many lines nobody could read: `sqs_exporter_log_lines_dropped_total`."""
    return 0 if _writer is None else _writer.dropped


def stuck(after_seconds: float = STUCK_SECONDS) -> str | None:
    """Return a sentence where stderr has not taken a line for so long, else None. Counting goes on meanwhile."""
    seconds = 0.0 if _writer is None else _writer.stuck_seconds()
    if seconds <= after_seconds:
        return None
    return f"nobody has read stderr for {seconds:.0f} s: log lines are dropped, counting goes on"


class LineHandler(logging.Handler):
    """Formats a record at once, and leaves the writing to a `LineWriter`.

    The next line that is taken after some were dropped says how many, as `log_lines_dropped`.
    """

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer
        self._told = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record; called with the handler's lock held."""
        try:
            if self._writer.dropped > self._told and not self._writer.full:
                record.log_lines_dropped = self._writer.dropped - self._told
                self._told = self._writer.dropped
            self._writer.put(f"{self.format(record)}\n")
        except Exception:  # noqa: BLE001 - a wrong line is logging's to report, as in its own handlers
            self.handleError(record)


class LogfmtFormatter(logging.Formatter):
    """`time=... level=info msg="..." key=value ...`; a traceback is the field `exception`, on the same line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        return " ".join(f"{key}={_logfmt(value)}" for key, value in _fields(record).items())


class JsonFormatter(logging.Formatter):
    """The same fields as one JSON object, ASCII only."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        return json.dumps(_fields(record), default=str)


class TextFormatter(logging.Formatter):
    """`10:02:05 warning  the message  key=value ...`, with the machine's own time of day, for a person."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        fields = _fields(record)
        at = datetime.fromtimestamp(record.created).strftime("%H:%M:%S")  # noqa: DTZ006 - as the clock on the wall
        message = " ".join(str(fields["msg"]).split()).encode("unicode_escape").decode()
        rest = " ".join(f"{key}={_logfmt(value)}" for key, value in fields.items() if key not in _FIRST_FIELDS)
        return f"{at} {fields['level']:<8} {message}{'  ' if rest else ''}{rest}"


_FIRST_FIELDS = frozenset({"time", "level", "msg"})
_FORMATTERS = {"text": TextFormatter, "logfmt": LogfmtFormatter, "json": JsonFormatter}


class LogRateLimiter:
    """Lets the first few lines of a kind through in each minute, and counts the rest."""

    def __init__(self) -> None:
        self._window_ends_at = 0.0
        self._lines: Counter[str] = Counter()
        self._suppressed: Counter[str] = Counter()

    def allow(self, kind: str, most: int = LINES_PER_WINDOW) -> bool:
        """Whether one more line of `kind` may be written now."""
        now = time.monotonic()
        if now >= self._window_ends_at:
            self._window_ends_at = now + LOG_WINDOW_SECONDS
            self._lines.clear()
        self._lines[kind] += 1
        if self._lines[kind] <= most:
            return True
        self._suppressed[kind] += 1
        return False

    def suppressed(self, kind: str) -> dict[str, int]:
        """How many lines of `kind` were suppressed since the last call, as a field of the next line."""
        count = self._suppressed.pop(kind, 0)
        return {"similar_lines_suppressed": count} if count else {}


def _fields(record: logging.LogRecord) -> dict[str, object]:
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    fields: dict[str, object] = {"time": at, "level": record.levelname.lower(), "msg": record.getMessage()}
    if record.name.partition(".")[0] != "exporter":
        fields["logger"] = record.name
    for key, value in vars(record).items():
        if key not in _STANDARD:
            fields.setdefault(key, value)
    if record.exc_info:
        fields["exception"] = logging.Formatter().formatException(record.exc_info)
    return fields


def _logfmt(value: object) -> str:
    """Return the value bare, or quoted as in JSON where a space, a quote or anything unprintable is in it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = str(value)
    bare = text.isascii() and text.isprintable() and not any(character in text for character in ' "=\\')
    return text if text and bare else json.dumps(text)
