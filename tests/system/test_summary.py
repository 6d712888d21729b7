"""The summary on stdout: the prototype's lines, and nobody held up by who reads them, or does not."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter.events.event import NANO
from exporter.ledger import SeriesTotals, Snapshot
from exporter.summary import Summary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PATIENCE_SECONDS = 5.0


def snapshots_of(types: dict[str, SeriesTotals], queue: str = "orders") -> dict[str, Snapshot]:
    """Make a queue's snapshot in which only the types matter."""
    return {queue: of_series({(name,): totals for name, totals in types.items()}, queue)}


def of_series(series: Mapping[tuple[str, ...], SeriesTotals], queue: str) -> Snapshot:
    """Make a snapshot in which only the series matter."""
    return Snapshot(
        ledger="shop",
        queue_name=queue,
        queue_arn=None,
        created_seconds=0.0,
        instance_id="8f14",
        label_names=("currency",),
        series=series,
        received=0,
        duplicate=0,
        rejected={},
        released={},
        timestamps_unreadable=0,
        forgotten_early=0,
        overflowed={},
        without_event_id=0,
        events_forgotten=0,
        messages=0,
        unsettled_messages=0,
        oldest_message_seconds=None,
    )


def totals(count: int, value_nano: int, negative_nano: int = 0) -> SeriesTotals:
    """Make totals in which only the numbers matter."""
    return SeriesTotals(count, value_nano, negative_nano, None, 0.0)


class Reader(io.StringIO):
    """A stream that a test can wait for."""

    def __init__(self) -> None:
        super().__init__()
        self._written = threading.Condition()

    def write(self, text: str) -> int:
        """Take a line and wake who waits for it."""
        with self._written:
            done = super().write(text)
            self._written.notify_all()
        return done

    def lines_once_there_are(self, count: int) -> list[str]:
        """Wait for so many lines and take them all."""
        with self._written:
            assert self._written.wait_for(lambda: self.getvalue().count("\n") >= count, PATIENCE_SECONDS)
            lines = self.getvalue().splitlines()
            self.seek(0)
            self.truncate()
        return lines


def run_once(types: dict[str, SeriesTotals]) -> str:
    """Return what a summary writes at its end."""
    stream = io.StringIO()
    summary = Summary(lambda: snapshots_of(types), stream, 3600, show_queue=False)
    summary.start()
    summary.stop()
    return stream.getvalue()


def test_a_line_is_exactly_the_prototype_s() -> None:
    """Its three keys in its order, its spaces, the sum a number with a point."""
    assert run_once({"purchase": totals(75, 650 * NANO)}) == '{"type": "purchase", "count": 75, "sum": 650.0}\n'


def test_sums_are_net_and_exact() -> None:
    """Negative values are subtracted before anything becomes a float, so cents stay cents."""
    types = {"refunds": totals(3, 10**17 + 30_000_000, 10**17), "cents": totals(5_000_000, 50_000 * NANO)}
    lines = [json.loads(line) for line in run_once(types).splitlines()]
    assert [line["sum"] for line in lines] == [0.03, 50_000.0]


def test_where_several_queues_can_be_counted_each_line_names_its_queue_first() -> None:
    """One more key before the prototype's three; a type of two queues has two lines, its labels summed up in each."""
    orders = of_series({("purchase", "EUR"): totals(1, NANO), ("purchase", ""): totals(2, 4 * NANO)}, "orders")
    snapshots = {"orders": orders, **snapshots_of({"purchase": totals(7, 0)}, "refunds")}
    stream = io.StringIO()
    summary = Summary(lambda: snapshots, stream, 3600, show_queue=True)
    summary.start()
    summary.stop()
    assert stream.getvalue().splitlines() == [
        '{"queue": "orders", "type": "purchase", "count": 3, "sum": 5.0}',
        '{"queue": "refunds", "type": "purchase", "count": 7, "sum": 0.0}',
    ]


def test_types_without_events_are_not_written() -> None:
    """A type that is merely known says nothing yet."""
    assert run_once({"purchase": totals(0, 0)}) == ""


def test_hostile_names_stay_on_their_line() -> None:
    """Whatever a stranger calls a type, a line is one line of ASCII and reads back as the name."""
    name = 'a"\\\u202e\u2028☃😀'
    text = run_once({name: totals(1, 0)})
    assert text.isascii()
    assert text.count("\n") == 1
    assert json.loads(text)["type"] == name


def test_only_what_changed_is_written_and_everything_at_the_end() -> None:
    """What the ledger held at the start is no news; at the exit all of it is told once more."""
    stream, latest = Reader(), [snapshots_of({"pageview": totals(10, 10 * NANO), "purchase": totals(1, NANO)})]
    summary = Summary(lambda: latest[0], stream, 0.01, show_queue=False)
    summary.start()
    latest[0] = snapshots_of({"pageview": totals(10, 10 * NANO), "purchase": totals(2, 3 * NANO)})
    assert stream.lines_once_there_are(1) == ['{"type": "purchase", "count": 2, "sum": 3.0}']
    latest[0] = snapshots_of({"pageview": totals(11, 11 * NANO), "purchase": totals(2, 3 * NANO)})
    assert stream.lines_once_there_are(1) == ['{"type": "pageview", "count": 11, "sum": 11.0}']
    summary.stop()
    assert stream.getvalue().splitlines() == [
        '{"type": "pageview", "count": 11, "sum": 11.0}',
        '{"type": "purchase", "count": 2, "sum": 3.0}',
    ]


def test_an_interval_of_zero_writes_nothing_at_all() -> None:
    """Off is off, at the end too."""
    stream = io.StringIO()
    summary = Summary(lambda: snapshots_of({"purchase": totals(1, NANO)}), stream, 0, show_queue=False)
    summary.start()
    summary.stop()
    assert stream.getvalue() == ""


def test_without_a_ledger_or_a_stdout_there_is_nothing_to_write() -> None:
    """A ledger that is not open yet and a process that was started without stdout are no failures."""
    nothing = Summary(dict, io.StringIO(), 0.01, show_queue=False)
    for summary in (nothing, Summary(lambda: snapshots_of({}), None, 0.01, show_queue=False)):
        summary.start()
        summary.stop()


def test_a_closed_reader_ends_the_summary_with_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Who pipes into `head` gets neither a traceback nor a line of log per interval."""
    reading, writing = os.pipe()
    os.close(reading)
    count = iter(range(1, 10**9))
    with os.fdopen(writing, "w", encoding="utf-8") as stream, caplog.at_level(logging.WARNING):
        reads = Reads(lambda: snapshots_of({"purchase": totals(next(count), NANO)}))
        summary = Summary(reads, stream, 0.01, show_queue=False)
        summary.start()
        reads.wait_for(5)
        summary.stop()
    assert [record.getMessage() for record in caplog.records] == ["no more summaries: stdout can't be written to"]


class Reads:
    """A snapshot that knows how often it was read."""

    def __init__(self, snapshots: Callable[[], dict[str, Snapshot]]) -> None:
        self._snapshots = snapshots
        self._read = threading.Semaphore(0)

    def __call__(self) -> dict[str, Snapshot]:
        """Read it."""
        self._read.release()
        return self._snapshots()

    def wait_for(self, times: int) -> None:
        """Wait until it was read so often."""
        for _ in range(times):
            assert self._read.acquire(timeout=PATIENCE_SECONDS)


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from test_summary import Summary, snapshots_of, totals
snapshots = snapshots_of({f"type-{n}": totals(n + 1, 0) for n in range(5000)})
summary = Summary(lambda: snapshots, sys.stdout, 3600, show_queue=False)
summary.start()
sys.stdin.readline()
summary.stop()
print("stopped", file=sys.stderr)
"""


@pytest.mark.parametrize("reader_goes", [False, True], ids=["nobody reads", "the reader is gone"])
def test_a_process_ends_cleanly_whoever_reads_its_stdout(reader_goes: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    """A pipe that is full or closed delays the end by a second at most, and leaves the exit code 0."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(Path(__file__).parent)],
        stdin=subprocess.PIPE,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    if reader_goes:
        os.close(reading)
    start = time.monotonic()
    _, errors = process.communicate("stop\n", timeout=30)
    assert time.monotonic() - start < 10
    assert errors.splitlines()[-1] == "stopped", errors
    assert "Traceback" not in errors
    assert process.returncode == 0
    if not reader_goes:
        written = os.read(reading, 1 << 20).decode()
        os.close(reading)
        assert written.endswith("}\n"), "a line was torn"


def test_a_reader_that_pauses_misses_no_number() -> None:
    """What could not be written in one interval is written in the next: the last line of a type is its latest count."""
    reading, writing = os.pipe()
    types = {f"type-{n:04}": totals(n + 1, 0) for n in range(3000)}
    latest = [snapshots_of({})]
    reads = Reads(lambda: latest[0])
    with os.fdopen(writing, "w", encoding="utf-8") as stream, os.fdopen(reading, encoding="utf-8") as reader:
        summary = Summary(reads, stream, 0.01, show_queue=False)
        summary.start()
        latest[0] = snapshots_of(types)
        reads.wait_for(4)
        assert (summary.stuck() or "").startswith("nobody has read stdout for ")
        seen: dict[str, int] = {}
        while len(seen) < len(types):
            line = json.loads(reader.readline())
            seen[line["type"]] = line["count"]
        assert seen == {name: total.count for name, total in types.items()}
        assert summary.stuck() is None
        rest = threading.Thread(target=lambda: [None for _ in iter(reader.readline, "")])
        rest.start()
        summary.stop()
        stream.close()
        rest.join()
