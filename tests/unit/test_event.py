"""What becomes of a message: every rule of the format, every reason, and whatever else a stranger may send."""

from __future__ import annotations

import json
import threading
import time
import tracemalloc
from decimal import Decimal
from fractions import Fraction

import pytest
from event_reference import reference, reference_nano
from hostile import CASES, NOW_SECONDS, ONE, Case, large_cases
from hostile_strategies import bodies, number_texts
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from exporter.errors import InvalidEvent
from exporter.events.event import NANO, REASONS, Event, EventMapping, EventParser

MAX_CPU_SECONDS = 0.05
MAX_MEMORY_BYTES = 16 * 1024 * 1024

repeatable = settings(
    derandomize=True,
    database=None,
    max_examples=100,
    deadline=None,  # a busy machine is not a finding
    suppress_health_check=[HealthCheck.too_slow],
)


PARSERS = {required: EventParser(EventMapping(require_timestamp=required)) for required in (False, True)}


def outcome(body: bytes, *, require_timestamp: bool = False, sent_at_seconds: float | None = None) -> Event | str:
    """Return what `body` becomes: its event, or the reason why it has none."""
    try:
        return PARSERS[require_timestamp].parse(body, sent_at_seconds=sent_at_seconds, now_seconds=NOW_SECONDS)
    except InvalidEvent as error:
        return error.reason


def body_at(occurred_at: object) -> bytes:
    """Return an event with that `occurred_at`."""
    return json.dumps({"type": "a", "value": 1, "occurred_at": occurred_at}).encode()


def test_the_three_fields_of_an_event_are_read() -> None:
    """The example of the format gives its type, its value in 1e-9 and its time in Unix seconds."""
    body = b'{"type": "page_view", "value": 1, "occurred_at": "2020-10-06 10:02:05"}'
    assert outcome(body) == Event(("page_view",), NANO, 1_601_978_525.0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_short_body_becomes_what_the_format_says(case: Case) -> None:
    """Each body of the corpus becomes its event, or is rejected for its reason."""
    assert outcome(case.body) == case.outcome


def test_the_second_opinion_agrees_about_the_short_bodies() -> None:
    """The reference that generated bodies are held against is right about the corpus."""
    assert [case.name for case in CASES if reference(case.body) != case.outcome] == []


def test_a_long_or_deep_body_becomes_what_the_format_says() -> None:
    """Each body of up to 1 MiB, or nested 100,000 deep, becomes its event or is rejected; none ends the process."""
    assert [case.name for case in large_cases() if outcome(case.body) != case.outcome] == []


def test_no_body_takes_more_than_50_ms_of_cpu() -> None:
    """The dearest body of the corpus stays below the limit, in one of twenty attempts: a busy machine adds to each."""
    too_dear = [case.name for case in large_cases() if all(cpu_seconds(case.body) > MAX_CPU_SECONDS for _ in range(20))]
    assert too_dear == []


def cpu_seconds(body: bytes) -> float:
    """Return how long this thread worked while `body` was read."""
    start = time.thread_time()
    outcome(body)
    return time.thread_time() - start


def test_no_body_takes_more_than_16_mib_of_memory() -> None:
    """Beside the body itself, reading it needs a bounded amount of memory."""
    cases = large_cases()
    tracemalloc.start()
    try:
        needed = {case.name: peak for case in cases if (peak := peak_bytes(case.body)) > MAX_MEMORY_BYTES}
    finally:
        tracemalloc.stop()
    assert needed == {}


def peak_bytes(body: bytes) -> int:
    """Return how much memory was held at once while `body` was read."""
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    outcome(body)
    return tracemalloc.get_traced_memory()[1] - before


def test_what_is_remembered_of_strangers_is_bounded() -> None:
    """Types, values and timestamps that never come back leave less than 8 MiB behind."""
    bodies_of_strangers = (
        json.dumps({"type": f"{n:é>128}", "value": f"{n}.{'1' * 1000}", "occurred_at": f"{n:>3000}"}).encode()
        for n in range(20_000)
    )
    tracemalloc.start()
    try:
        for body in bodies_of_strangers:
            outcome(body)
        remembered, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert remembered < 8 * 1024 * 1024


def test_a_deep_body_is_safe_on_a_small_stack() -> None:
    """Nesting ends in a rejection, not in a crash, on a thread with a stack of 1 MiB."""
    outcomes: list[Event | str] = []
    before = threading.stack_size(1024 * 1024)
    try:
        thread = threading.Thread(target=lambda: outcomes.append(outcome(b'{"x":' * 100_000)))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert outcomes == ["invalid_json"]


def test_every_reason_is_in_the_corpus() -> None:
    """No reason is declared that no body is rejected for, and none occurs that is not declared.

    Two depend on a setting: a timestamp that is required, and an envelope that is named.
    """
    seen = {case.outcome for case in (*CASES, *large_cases()) if isinstance(case.outcome, str)}
    assert {*seen, "invalid_timestamp", "not_an_envelope"} == set(REASONS)


@pytest.mark.parametrize(
    ("occurred_at", "seconds"),
    [
        ("2020-10-06 10:02:05", 1_601_978_525.0),
        ("2020-10-06T10:02:05", 1_601_978_525.0),
        ("2020-10-06T10:02:05Z", 1_601_978_525.0),
        ("2020-10-06t10:02:05z", 1_601_978_525.0),
        ("2020-10-06 10:02:05+00:00", 1_601_978_525.0),
        ("2020-10-06T12:02:05+02:00", 1_601_978_525.0),
        ("2020-10-06T12:02:05+0200", 1_601_978_525.0),
        ("2020-10-06T12:02:05+02", 1_601_978_525.0),
        ("2020-10-06T04:32:05-05:30", 1_601_978_525.0),
        ("2020-10-06T10:02:05.5Z", 1_601_978_525.5),
        ("2020-10-06T10:02:05,25", 1_601_978_525.25),
        ("2020-10-06T10:02:05.123456789Z", 1_601_978_525.123456),
        ("2020-10-06T10:02Z", 1_601_978_520.0),
        ("20201006T100205Z", 1_601_978_525.0),
        ("20201006T1002", 1_601_978_520.0),
        ("1970-01-01 00:00:00", 0.0),
        ("0001-01-01T00:00:00+14:00", -62_135_647_200.0),
        (1_601_978_525, 1_601_978_525.0),
        (1_601_978_525.25, 1_601_978_525.25),
        (-1.5, -1.5),
        (0, 0.0),
        (1.601978525e9, 1_601_978_525.0),
        (1_601_978_525_123, 1_601_978_525.123),
        (1_601_978_525_123_456, 1_601_978_525.123456),
        (1_601_978_525_123_456_789, 1_601_978_525.123456789),
        (-1_601_978_525_123, -1_601_978_525.123),
    ],
)
def test_a_timestamp_is_read(occurred_at: str, seconds: float) -> None:
    """A date with a time of day is read in each form of ISO 8601; without an offset it is UTC."""
    assert outcome(body_at(occurred_at)) == Event(("a",), NANO, seconds)


def test_a_timestamp_without_an_offset_is_utc_on_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time zone of the machine changes nothing."""
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        assert outcome(body_at("2020-10-06 10:02:04")) == Event(("a",), NANO, 1_601_978_524.0)
    finally:
        monkeypatch.undo()
        time.tzset()


UNREADABLE: list[object] = [
    *("", "now", "1601978525", "2020-10-06", "2020-W41-2T10:02:05", "2020-280T10:02:05", "10:02:05"),
    *("2020-13-06 10:02:05", "2020-02-30 10:02:05", "2020-10-06 24:00:00", "2020-10-06 10:60:05"),
    *("2020-10-06 10:02:60", "0000-01-01 00:00:00", "2020-10-06T10:02:05+24:00", "2020-10-06T10:02:05+2"),
    *("2020-10-06X10:02:05", "2020-10-06  10:02:05", " 2020-10-06 10:02:05", "2020-10-06 10:02:05\n"),
    *("2020-10-06 10:02:05 UTC", "2020-10-06T10", "2020-10-06T10:02.5", "06.10.2020 10:02:05", "2020-1-6 1:2:5"),
    *("2020-10-06T10:02:05.", "\u0662020-10-06 10:02:05", "2020-10-06 10:02:05\0", "2020-10-06 10:02:05\ud800"),
    *(None, True, -1e20, 1e300, -1e300, [], {}, ["2020-10-06 10:02:05"], "2" * 1000),
]


@pytest.mark.parametrize("occurred_at", UNREADABLE, ids=ascii)
def test_an_event_with_an_unreadable_timestamp_is_counted(occurred_at: object) -> None:
    """What is no date with a time of day leaves the event without a time; it is an event all the same."""
    assert outcome(body_at(occurred_at)) == ONE


@pytest.mark.parametrize("occurred_at", UNREADABLE, ids=ascii)
def test_an_event_with_an_unreadable_timestamp_is_rejected_where_one_is_required(occurred_at: object) -> None:
    """With `require_timestamp` the same bodies are not events."""
    assert outcome(body_at(occurred_at), require_timestamp=True) == "invalid_timestamp"


def test_an_event_without_a_timestamp_is_rejected_only_where_one_is_required() -> None:
    """A key that is absent is a timestamp that can't be used."""
    body = b'{"type": "a", "value": 1}'
    assert [outcome(body), outcome(body, require_timestamp=True)] == [ONE, "invalid_timestamp"]


def test_a_timestamp_may_be_five_minutes_ahead() -> None:
    """At 300 seconds ahead of the clock a timestamp is used, a microsecond later it is not."""
    latest, too_late = body_at("2020-10-06 10:08:20"), body_at("2020-10-06 10:08:20.000001")
    assert outcome(latest, require_timestamp=True) == Event(("a",), NANO, NOW_SECONDS + 300)
    assert outcome(too_late) == ONE
    assert outcome(too_late, require_timestamp=True) == "invalid_timestamp"


def test_a_timestamp_that_was_ahead_is_used_once_the_clock_gets_there() -> None:
    """Whether a timestamp is ahead is asked each time, however often its text was seen before."""
    body = body_at("2020-10-06 11:00:00")
    assert outcome(body) == ONE
    assert outcome(body, sent_at_seconds=NOW_SECONDS + 3600) == Event(("a",), NANO, 1_601_982_000.0)


def test_other_reasons_come_before_the_timestamp() -> None:
    """A body that breaks two rules is counted under one reason, the one that does not depend on a setting."""
    body = b'{"type": "a", "value": null, "occurred_at": null}'
    assert outcome(body, require_timestamp=True) == "invalid_value"


@repeatable
@given(bodies(), st.booleans())
def test_parse_raises_nothing_but_invalid_event(body: bytes, require_timestamp: bool) -> None:  # noqa: FBT001 - generated
    """Whatever bytes come, there is an event or a declared reason."""
    found = outcome(body, require_timestamp=require_timestamp)
    assert isinstance(found, Event) or found in REASONS


@repeatable
@given(bodies())
def test_parse_says_what_the_second_opinion_says(body: bytes) -> None:
    """For generated and damaged bodies, the event or the reason is that of the slow reference."""
    assert outcome(body) == reference(body, latest_seconds=NOW_SECONDS + 300)


@repeatable
@given(st.decimals(min_value=-(10**15), max_value=10**15, allow_nan=False))
@example(Decimal("999999999999999.9999999995"))
@example(Decimal("-0.0000000015"))
def test_a_value_is_its_exact_decimal_rounded_half_even(value: Decimal) -> None:
    """For any decimal in range the result equals the exact fraction rounded once, half-even, to 1e-9."""
    body = f'{{"type": "a", "value": {value}}}'.encode()
    assert outcome(body) == Event(("a",), round(Fraction(value) * NANO), None)


@repeatable
@given(number_texts())
def test_a_number_and_the_same_number_in_a_string_agree(text: str) -> None:
    """Quotes around a number change neither its value nor whether it has one."""
    nano = reference_nano(text)
    bare, quoted = (outcome(f'{{"type":"a","value":{value}}}'.encode()) for value in (text, f'"{text}"'))
    assert bare == quoted == ("invalid_value" if nano is None else Event(("a",), nano, None))


def test_an_invalid_event_says_nothing_of_the_body() -> None:
    """Neither the error nor what a traceback would print with it holds a part of the body."""
    for body in (b'{"type": "secret\xff"}', b'{"secret', b'["secret"]', b'{"type": "__secret", "value": 1}'):
        with pytest.raises(InvalidEvent) as caught:
            PARSERS[False].parse(body, sent_at_seconds=None, now_seconds=NOW_SECONDS)
        assert "secret" not in str(caught.value)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
