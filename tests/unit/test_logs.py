"""The log is one line a record, as logfmt or JSON, whatever is in it."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import threading
import time
from typing import TYPE_CHECKING

import pytest

from exporter.telemetry import logs
from exporter.telemetry.line_writer import MAX_WAITING_LINES, LineWriter, bar_shown

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("exporter.test")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Put the process's logging back: it is shared by all tests."""
    root, own = logging.getLogger(), logging.getLogger("exporter")
    handlers, root_level, own_level = root.handlers, root.level, own.level
    yield
    root.handlers = handlers
    root.setLevel(root_level)
    own.setLevel(own_level)
    logging.captureWarnings(capture=False)


class Written(io.StringIO):
    """A stream whose text is asked for after all that was logged is in it."""

    def getvalue(self) -> str:
        """Return the text, once the log's own thread has written all of it."""
        assert logs.flush(30.0)
        return super().getvalue()


def written(level: logs.Level, log_format: logs.Format) -> Written:
    """Configure logging and return what it writes to."""
    stream = Written()
    logs.configure(level, log_format, stream)
    return stream


def without_time(line: str) -> str:
    """Cut off the first field, after its form was checked."""
    time, _, rest = line.partition(" ")
    assert len(time) == len("time=2020-10-06T10:02:05.123Z")
    assert time.startswith("time=20")
    assert time.endswith("Z")
    return rest


def log_threads() -> set[threading.Thread]:
    """Return the threads that write log lines."""
    return {thread for thread in threading.enumerate() if thread.name == "log"}


def test_configuring_anew_leaves_no_thread_behind() -> None:
    """The writer before ends once its lines are written; so does one that only said a sentence elsewhere."""
    of_others = log_threads()
    before = written("info", "logfmt")
    log.info("the last line")
    logs.say("a sentence for stderr, which is another stream")
    written("info", "logfmt")
    deadline = time.monotonic() + 30.0
    while len(log_threads() - of_others) > 1:
        assert time.monotonic() < deadline, "threads were left behind"
        time.sleep(0.01)
    assert before.getvalue().endswith('msg="the last line"\n')


def test_logfmt_quotes_only_what_needs_it() -> None:
    """Plain values stay bare; spaces, quotes, equals signs, control characters and nothing at all are quoted."""
    stream = written("info", "logfmt")
    log.info(
        "queue %s found",
        "orders",
        extra={
            "queue": "orders",
            "count": 3,
            "seconds": 0.5,
            "why": 'a "b"=\\',
            "empty": "",
            "none": None,
            "yes": True,
        },
    )
    assert without_time(stream.getvalue()) == (
        'level=info msg="queue orders found" queue=orders count=3 seconds=0.5 why="a \\"b\\"=\\\\" empty="" none=null'
        " yes=true\n"
    )


def test_json_has_the_same_fields() -> None:
    """One object a line, numbers as numbers."""
    stream = written("info", "json")
    log.warning("not ready", extra={"queue": "orders", "receives": 3, "path": io.StringIO})
    record = json.loads(stream.getvalue())
    assert record.pop("time").endswith("Z")
    assert record == {
        "level": "warning",
        "msg": "not ready",
        "queue": "orders",
        "receives": 3,
        "path": "<class '_io.StringIO'>",
    }


@pytest.mark.parametrize("log_format", ["text", "logfmt", "json"])
def test_nothing_can_forge_a_second_line(log_format: logs.Format) -> None:
    """Newlines, escapes and lone surrogates in a value or a message stay inside their line, in ASCII."""
    stream = written("info", log_format)
    log.info("a\nlevel=error", extra={"id": "b\r\nlevel=error\x1b[31m\u2028\ud800"})
    assert len(stream.getvalue().splitlines()) == 1
    assert stream.getvalue().rstrip("\n").isprintable()
    assert stream.getvalue().isascii()


@pytest.mark.parametrize("log_format", ["text", "logfmt", "json"])
def test_a_long_message_is_written_to_its_end(log_format: logs.Format) -> None:
    """What to do stands at the end of a sentence."""
    stream = written("info", log_format)
    log.warning("%s: raise it", "a" * 300)
    assert f"{'a' * 300}: raise it" in stream.getvalue()


@pytest.mark.parametrize("log_format", ["text", "logfmt", "json"])
def test_a_traceback_stays_on_the_line_of_its_record(log_format: logs.Format) -> None:
    """What nobody expected is one record, too."""
    stream = written("info", log_format)
    try:
        int("one")
    except ValueError:
        log.exception("unexpected")
    assert len(stream.getvalue().splitlines()) == 1
    assert "Traceback (most recent call last):\\n" in stream.getvalue()


def test_a_field_cannot_replace_time_level_or_message() -> None:
    """The three fields that every tool looks at are the record's own."""
    stream = written("info", "logfmt")
    log.info("true", extra={"msg_": "x", "level": "error", "time": "0"})
    assert without_time(stream.getvalue()) == "level=info msg=true msg_=x\n"


def test_the_level_is_the_exporters_own_and_libraries_are_heard_from_warning_on() -> None:
    """At debug botocore would log signatures and bodies: it is not asked to, and says so by its name otherwise."""
    stream = written("debug", "logfmt")
    log.debug("shown")
    logging.getLogger("botocore.auth").debug("Signature: hidden")
    logging.getLogger("botocore.auth").info("hidden")
    logging.getLogger("urllib3").warning("pool is full")
    lines = [without_time(line) for line in stream.getvalue().splitlines()]
    assert lines == ["level=debug msg=shown", 'level=warning msg="pool is full" logger=urllib3']


def test_a_level_hides_what_is_below_it() -> None:
    """`--log.level error` shows errors only, of libraries too."""
    stream = written("error", "logfmt")
    log.warning("hidden")
    logging.getLogger("urllib3").warning("hidden")
    log.error("shown")
    assert [without_time(line) for line in stream.getvalue().splitlines()] == ["level=error msg=shown"]


def test_configuring_again_replaces_what_was_there() -> None:
    """No line is ever written twice."""
    first = written("info", "logfmt")
    second = written("info", "json")
    log.info("once")
    assert not first.getvalue()
    assert len(second.getvalue().splitlines()) == 1


def fill(writing: int) -> int:
    """Write into a pipe until it takes no more; returns how many bytes it took."""
    os.set_blocking(writing, False)
    taken = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            taken += os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    return taken


def test_a_reader_that_does_not_read_holds_no_line_up_and_hears_what_was_dropped() -> None:
    """Lines are taken at once; beyond those that may wait they are counted, and the next that is written says so."""
    reading, writing = os.pipe()
    filled = fill(writing)
    with os.fdopen(writing, "w", encoding="utf-8") as stream, os.fdopen(reading, "rb") as reader:
        logs.configure("info", "json", stream)
        before = logs.dropped()
        for number in range(MAX_WAITING_LINES + 51):
            log.info("line", extra={"number": number})
        dropped = logs.dropped() - before
        assert 50 <= dropped <= 51  # the writer may have taken one line already
        assert not logs.flush(0.01)
        assert reader.read(filled) == b"x" * filled
        lines = [json.loads(reader.readline()) for _ in range(MAX_WAITING_LINES + 51 - dropped)]
        assert logs.flush(30.0)
        log.info("after")
        lines.append(json.loads(reader.readline()))
        logs.configure("info", "json", Written())
    assert [line["number"] for line in lines[:-1]] == list(range(MAX_WAITING_LINES + 51 - dropped))
    assert (lines[-1]["msg"], lines[-1]["log_lines_dropped"]) == ("after", dropped)


def test_a_stuck_stderr_is_a_sentence_and_a_read_one_is_none() -> None:
    """What readiness can say while a line waits for its reader, and no longer after it was read."""
    reading, writing = os.pipe()
    filled = fill(writing)
    with os.fdopen(writing, "w", encoding="utf-8") as stream, os.fdopen(reading, "rb") as reader:
        logs.configure("info", "json", stream)
        log.info("waits")
        deadline = time.monotonic() + 30
        while logs.stuck(after_seconds=0.01) is None:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert logs.stuck() is None
        reader.read(filled)
        assert logs.flush(30.0)
        assert logs.stuck(after_seconds=0.0) is None
        logs.configure("info", "json", Written())


def test_a_closed_stderr_costs_lines_and_nothing_else() -> None:
    """Where the reader is gone, each line is counted as dropped; the program hears of no error."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w", encoding="utf-8") as stream:
        logs.configure("info", "json", stream)
        before = logs.dropped()
        log.info("one")
        log.info("two")
        assert logs.flush(30.0)
        assert logs.dropped() == before + 2
        logs.configure("info", "json", Written())


class Terminal(Written):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_on_a_terminal_lines_are_for_people_and_elsewhere_plain() -> None:
    """`auto` is time of day, level and message first on a terminal; in a pipe it is logfmt."""
    terminal = Terminal()
    logs.configure("info", "auto", terminal)
    log.warning("waiting for the queue", extra={"queue": "orders", "error": "a b"})
    said = terminal.getvalue()
    assert re.fullmatch(r'\d\d:\d\d:\d\d warning  waiting for the queue  queue=orders error="a b"\n', said)
    assert without_time(_auto_in_a_pipe()) == "level=info msg=plain\n"


def _auto_in_a_pipe() -> str:
    stream = written("info", "auto")
    log.info("plain")
    return stream.getvalue()


def test_a_line_erases_a_progress_bar_before_it() -> None:
    """On the terminal alone: a file gets no control characters."""
    terminal, stream = Terminal(), Written()
    bar_shown.set()
    try:
        for one in (terminal, stream):
            logs.configure("info", "logfmt", one)
            log.info("said")
            one.getvalue()
    finally:
        bar_shown.clear()
    assert terminal.getvalue().startswith("\r\x1b[2Ktime=")
    assert stream.getvalue().startswith("time=")


def test_lines_that_are_kept_below_stay_below_what_is_written() -> None:
    """They are erased before a line and drawn again after it; anew they take the place of the old ones."""
    up = "\r\x1b[2K\x1b[1A\x1b[2K"
    stream = io.StringIO()
    writer = LineWriter(stream)
    for step, text in (
        (writer.keep_below, "one\ntwo"),
        (writer.put, "a line\n"),
        (writer.keep_below, "three"),
        (writer.keep_below, ""),
        (writer.put, "the end\n"),
    ):
        step(text)
        assert writer.flush(10)
    assert stream.getvalue() == f"one\ntwo{up}a line\none\ntwo{up}three\r\x1b[2Kthe end\n"
