"""How receives are slowed down by a memory that is full: steadily, to what it can remember, without standing still."""

from __future__ import annotations

from collections import deque

import pytest

from exporter.ledger.intake import RECEIVE, IntakeLimit, reserved_ids

ITERATION_SECONDS = 0.02


def taken_each_iteration(max_ids: int, protected_seconds: float, most_per_second: int, seconds: float) -> list[int]:
    """Let a greedy consumer take what it may, as receives of ten, from a memory that drops what is old enough."""
    intake = IntakeLimit(max_ids)
    intake.protected_seconds = protected_seconds
    remembered: deque[tuple[float, int]] = deque()
    messages, now, taken = 0, 0.0, []
    while now < seconds:
        now += ITERATION_SECONDS
        intake.pass_time(now, messages, 0)
        ids = min(int(most_per_second * ITERATION_SECONDS), intake.capacity // RECEIVE * RECEIVE)
        while (
            remembered
            and remembered[0][0] <= now - protected_seconds
            and messages + ids > max_ids - reserved_ids(max_ids)
        ):
            messages -= remembered.popleft()[1]
        if ids:
            remembered.append((now, ids))
            intake.take(now, ids)
        messages += ids
        assert messages <= max_ids
        taken.append(ids)
    return taken


@pytest.mark.parametrize(
    ("max_ids", "visibility_timeout_seconds"),
    [(2_000_000, 30), (2_000_000, 300), (20_000, 30), (1_000, 30), (5_000, 2)],
)
def test_a_full_memory_lets_in_what_it_can_remember_without_standing_still(
    max_ids: int, visibility_timeout_seconds: int
) -> None:
    """The rate falls to `max_ids` in twice the visibility timeout, in each such time; there is no gap of 4 s."""
    protected_seconds = 2.0 * visibility_timeout_seconds
    taken = taken_each_iteration(max_ids, protected_seconds, 60_000, 5 * protected_seconds)
    iterations = int(protected_seconds / ITERATION_SECONDS)
    for start in range(0, len(taken) - iterations, iterations):
        assert 0.85 * max_ids < sum(taken[start : start + iterations]) <= 1.01 * max_ids
    gap = int(4 / ITERATION_SECONDS)
    assert all(any(taken[start : start + gap]) for start in range(0, len(taken) - gap, 10))


def test_a_memory_that_is_large_enough_slows_nothing_down() -> None:
    """A rate that the memory can hold for the time that ids are protected is not touched."""
    assert set(taken_each_iteration(100_000, 60, 1_000, 300)) == {20}


def test_it_is_said_for_a_while_that_receives_are_slowed_down() -> None:
    """A sentence that came and went with each batch would be read by nobody."""
    intake = IntakeLimit(100)
    intake.protected_seconds = 60
    intake.take(0.0, 100)
    intake.pass_time(0.0, 100, 0)
    assert (intake.short, intake.capacity) == (True, 0)
    intake.pass_time(70.0, 0, 0)
    assert (intake.short, intake.capacity) == (False, 70)
