"""How long to wait after failures."""

from __future__ import annotations

import random

import pytest

from exporter.backoff import CAP_SECONDS, Backoff


@pytest.fixture(autouse=True)
def longest_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the upper end of the jitter, so that a wait can be told beforehand."""
    monkeypatch.setattr(random, "uniform", lambda _low, high: high)


def test_the_first_try_is_due_at_once() -> None:
    """Nothing has failed yet."""
    assert Backoff().due(0.0)


def test_waits_double_up_to_the_cap() -> None:
    """Each failure in a row doubles the wait; 10 s is the most."""
    backoff = Backoff(base_seconds=1.0)
    now = 0.0
    waits = []
    for _ in range(6):
        backoff.failed(now)
        waits.append(backoff.due_at - now)
        now = backoff.due_at
    assert waits == [1.0, 2.0, 4.0, 8.0, CAP_SECONDS, CAP_SECONDS]


def test_a_failure_while_it_waits_is_the_same_failure() -> None:
    """Sixteen calls that fail together are one outage."""
    backoff = Backoff(base_seconds=1.0)
    backoff.failed(0.0)
    for _ in range(15):
        backoff.failed(0.5)
    assert backoff.due_at == 1.0


def test_a_success_ends_the_wait() -> None:
    """The next failure begins with the shortest wait again."""
    backoff = Backoff(base_seconds=1.0)
    backoff.failed(0.0)
    backoff.failed(1.0)
    backoff.succeeded()
    assert backoff.due(1.0)
    backoff.failed(1.0)
    assert backoff.due_at == 2.0


def test_the_jitter_never_waits_less_than_half_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    """Full jitter, but never none at all: what was just refused is not asked again at once."""
    monkeypatch.setattr(random, "uniform", lambda low, _high: low)
    backoff = Backoff(base_seconds=1.0)
    backoff.failed(0.0)
    assert not backoff.due(0.49)
    assert backoff.due(0.5)
