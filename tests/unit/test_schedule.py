"""Things that are asked again and again: each at its pace, whatever becomes of the others."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from calling import Clock

from exporter.sqs.schedule import SPACING_SECONDS, Schedule

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_SECONDS = 60.0


@pytest.fixture
def clock() -> Clock:
    """Give a clock of the test's own."""
    return Clock()


def ignore(_: object) -> None:
    """Do nothing with an answer or an error."""


def run_until(schedule: Schedule, condition: Callable[[], object]) -> None:
    """Let it work until the condition holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        schedule.wake()
        schedule.run_once()


def test_a_task_is_asked_at_once_and_again_after_each_interval(clock: Clock) -> None:
    """Not before, unless it is brought forward, and then not more often than once a second."""
    schedule, came = Schedule(clock), list[int]()
    schedule.add(("queue", "a"), lambda: len(came), came.append, ignore, 60.0)
    run_until(schedule, lambda: came == [0])
    for seconds, count in ((59.0, 1), (1.0, 2)):
        clock.seconds += seconds
        schedule.wake()
        schedule.run_once()
        run_until(schedule, lambda count=count: len(came) == count)  # type: ignore[misc]
    clock.seconds += SPACING_SECONDS / 2
    schedule.bring_forward(("queue", "a"))
    schedule.wake()
    schedule.run_once()
    assert len(came) == 2
    clock.seconds += SPACING_SECONDS / 2
    run_until(schedule, lambda: len(came) == 3)


def test_what_fails_is_asked_again_and_what_is_removed_is_not_taken(clock: Clock) -> None:
    """An answer that can't be taken is a failure too; one that comes after the removal goes nowhere."""
    schedule, errors, came = Schedule(clock), list[str](), list[object]()

    def refuse(_: object) -> None:
        raise KeyError("Attributes")

    schedule.add(("queue", "a"), lambda: 1 // 0, came.append, lambda error: errors.append(type(error).__name__), 60.0)
    run_until(schedule, lambda: errors == ["ZeroDivisionError"])
    schedule.add(("queue", "a"), dict, refuse, lambda error: errors.append(type(error).__name__), 60.0)
    run_until(schedule, lambda: errors[1:] == ["KeyError"])
    clock.seconds += 10
    run_until(schedule, lambda: errors[2:] == ["KeyError"])
    go_on, under_way = threading.Event(), list[threading.Thread]()

    def ask_slowly() -> None:
        under_way.append(threading.current_thread())
        go_on.wait(PATIENCE_SECONDS)

    schedule.add(("queue", "b"), ask_slowly, came.append, ignore, 60.0)
    run_until(schedule, lambda: under_way)
    schedule.remove(("queue", "b"))
    assert ("queue", "b") not in schedule
    go_on.set()
    under_way[0].join(PATIENCE_SECONDS)
    schedule.wake()
    schedule.run_once()
    assert came == []


def test_a_hundred_that_never_answer_hold_up_no_other() -> None:
    """Once they were late, half of the places are left to the others: these are asked at their pace."""
    schedule, came = Schedule(limit_seconds=0.05), list[object]()
    go_on = threading.Event()
    late: list[Exception] = []
    for number in range(100):
        schedule.add(("queue", f"{number}"), lambda: go_on.wait(PATIENCE_SECONDS), ignore, late.append, 60.0)
    run_until(schedule, lambda: len(late) >= 100)
    schedule.add(("queue", "good"), dict, came.append, ignore, 0.01)
    run_until(schedule, lambda: len(came) >= 20)
    go_on.set()
