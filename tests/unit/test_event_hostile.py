"""What long and deep bodies cost that are read by nested paths or in envelopes: no more than others."""

from __future__ import annotations

import gc
import json
import time
import tracemalloc

from hostile import NOW_SECONDS, MappedCase, large_mapped_cases

from exporter.errors import InvalidEvent
from exporter.events.event import Event, EventParser
from exporter.events.mapping import EventMapping

MAX_CPU_SECONDS = 0.1
MAX_MEMORY_BYTES = 16 * 1024 * 1024


def outcome(case: MappedCase) -> Event | str:
    """Return what the body of a case becomes."""
    try:
        return EventParser(case.mapping).parse(case.body, sent_at_seconds=NOW_SECONDS, now_seconds=0)
    except InvalidEvent as invalid:
        return invalid.reason


def test_a_long_or_deep_body_becomes_what_its_mapping_says() -> None:
    """Each becomes its event or is rejected for its reason; none ends the process."""
    cases = large_mapped_cases()
    found = {case.name: outcome(case) for case in cases}
    wrong = {
        case.name: found[case.name]
        for case in cases
        if case.outcome != (found[case.name] if isinstance(case.outcome, Event) else kind(found[case.name]))
    }
    assert wrong == {}


def kind(found: Event | str) -> str:
    """Return the reason, `event` where it is one."""
    return found if isinstance(found, str) else "event"


def test_no_mapped_body_takes_more_than_100_ms_of_cpu() -> None:
    """The dearest stays below the limit, in one of five attempts: a busy machine adds to each."""
    cases = large_mapped_cases()
    too_dear = [case.name for case in cases if all(cpu_seconds(case) > MAX_CPU_SECONDS for _ in range(5))]
    assert too_dear == []


def cpu_seconds(case: MappedCase) -> float:
    """Return how long this thread worked while the body was read."""
    start = time.thread_time()
    outcome(case)
    return time.thread_time() - start


def test_no_mapped_body_takes_more_than_16_mib_of_memory() -> None:
    """Beside the body itself, reading it needs a bounded amount of memory."""
    cases = large_mapped_cases()
    tracemalloc.start()
    try:
        needed = {case.name: peak for case in cases if (peak := peak_bytes(case)) > MAX_MEMORY_BYTES}
    finally:
        tracemalloc.stop()
    assert needed == {}


def peak_bytes(case: MappedCase) -> int:
    """Return how much memory was held at once while the body was read."""
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    outcome(case)
    return tracemalloc.get_traced_memory()[1] - before


def test_an_error_on_the_way_to_an_envelope_keeps_no_body_in_memory() -> None:
    """A notification that is no plain event is dropped as soon as it was read, without the garbage collector."""
    parser = EventParser(EventMapping())
    body = (
        b'{"Type": "Notification", "TopicArn": "t", "Message": "{\\"type\\": \\"a\\", \\"value\\": 1}", "x": "%b"}'
        % (b"x" * 100_000)
    )
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        for number in range(50):
            parser.parse(body + b" " * number, sent_at_seconds=None, now_seconds=0)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    assert held < 1_000_000


def test_what_is_remembered_of_strangers_is_bounded() -> None:
    """Label sets, values and timestamps that never come back leave less than 16 MiB behind, the longest ones too."""
    parser = EventParser(EventMapping(labels=tuple((f"l{number}", f"l{number}") for number in range(10))))
    tracemalloc.start()
    try:
        for number in range(40_000):
            # A character beyond U+FFFF makes each character of its string take four bytes.
            labels = {f"l{label}": f"😀{number}{label}aaaaaaa" for label in range(10)}
            value = f"{number}.{'1' * 20}"
            body = json.dumps(
                {"type": "a", "value": value, "occurred_at": f"{number:>200}", **labels}, ensure_ascii=False
            )
            parser.parse(body.encode(), sent_at_seconds=None, now_seconds=0)
        remembered, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert remembered < 16 * 1024 * 1024
