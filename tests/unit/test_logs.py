"""The log is one line a record, as logfmt or JSON, whatever is in it."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING

import pytest

from exporter.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("exporter.test")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Put the process's logging back: it is shared by all tests."""
    root, own = logging.getLogger(), logging.getLogger("exporter")
    before = (root.handlers, root.level, own.level)
    yield
    root.handlers, root.level, own.level = before
    logging.captureWarnings(capture=False)
    for logger in (root, own, log):
        logger.setLevel(logger.level)


def written(level: logs.Level, log_format: logs.Format) -> io.StringIO:
    """Configure logging and return what it writes to."""
    stream = io.StringIO()
    logs.configure(level, log_format, stream)
    return stream


def without_time(line: str) -> str:
    """Cut off the first field, after its form was checked."""
    time, _, rest = line.partition(" ")
    assert len(time) == len("time=2020-10-06T10:02:05.123Z")
    assert time.startswith("time=20")
    assert time.endswith("Z")
    return rest


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


@pytest.mark.parametrize("log_format", ["logfmt", "json"])
def test_nothing_can_forge_a_second_line(log_format: logs.Format) -> None:
    """Newlines, escapes and lone surrogates in a value or a message stay inside their line, in ASCII."""
    stream = written("info", log_format)
    log.info("a\nlevel=error", extra={"id": "b\r\nlevel=error\x1b[31m\u2028\ud800"})
    assert len(stream.getvalue().splitlines()) == 1
    assert stream.getvalue().rstrip("\n").isprintable()
    assert stream.getvalue().isascii()


@pytest.mark.parametrize("log_format", ["logfmt", "json"])
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
