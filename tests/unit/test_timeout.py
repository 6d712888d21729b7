"""What blocks runs aside: within limits of time and number."""

from __future__ import annotations

import threading

import pytest
from botocore.exceptions import HTTPClientError, NoCredentialsError

from exporter.sqs.failures import reason_of
from exporter.sqs.timeout import MAX_CALLS, TimeLimitedCalls

PATIENCE_SECONDS = 60.0


def test_what_a_call_returns_or_raises_comes_with_its_key() -> None:
    """Each once, as soon as it has ended."""
    calls: TimeLimitedCalls[str] = TimeLimitedCalls(PATIENCE_SECONDS)
    came: list[tuple[str, object]] = []
    assert calls.start("good", lambda: 1)
    while not came:
        came = calls.wait(PATIENCE_SECONDS)
    assert came == [("good", 1)]
    assert calls.start("bad", lambda: 1 // 0)
    ((key, outcome),) = calls.wait(PATIENCE_SECONDS)
    assert key == "bad"
    assert isinstance(outcome, ZeroDivisionError)
    assert calls.wait(0) == []


def test_a_late_call_is_given_up_and_its_result_ignored() -> None:
    """It takes no place from others, and what it brings in the end goes nowhere."""
    calls: TimeLimitedCalls[str] = TimeLimitedCalls(0.05)
    go_on = threading.Event()
    assert calls.start("late", lambda: go_on.wait(PATIENCE_SECONDS))
    ((key, outcome),) = calls.wait(PATIENCE_SECONDS)
    assert key == "late"
    assert isinstance(outcome, TimeoutError)
    go_on.set()
    assert calls.wait(0.05) == []


def test_no_more_than_sixteen_are_under_way() -> None:
    """One more is not begun until one has ended."""
    calls: TimeLimitedCalls[int] = TimeLimitedCalls(PATIENCE_SECONDS)
    go_on = threading.Event()
    for number in range(MAX_CALLS):
        assert calls.start(number, lambda: go_on.wait(PATIENCE_SECONDS))
    assert not calls.start(MAX_CALLS, lambda: None)
    go_on.set()
    assert calls.wait(PATIENCE_SECONDS)
    assert calls.start(MAX_CALLS, lambda: None)


def test_a_wait_ends_when_it_is_woken() -> None:
    """By any thread, also before it began."""
    calls: TimeLimitedCalls[str] = TimeLimitedCalls(PATIENCE_SECONDS)
    calls.wake()
    assert calls.wait(PATIENCE_SECONDS) == []


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("can't start new thread"),
        HTTPClientError(error=MemoryError()),
    ],
)
def test_a_lack_of_memory_or_threads_is_called_so(error: Exception) -> None:
    """It says nothing about SQS, also where boto3 wraps it."""
    assert reason_of(error) == "out_of_memory"
    assert reason_of(NoCredentialsError()) == "credentials"
    assert reason_of(RuntimeError("something else")) == "malformed"
