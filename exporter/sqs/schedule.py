"""Repeats blocking calls, each at its own interval and on a thread of its own, so that none holds up another."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from exporter.backoff import Backoff
from exporter.sqs.timeout import MAX_CALLS, TimeLimitedCalls

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT_SECONDS = 15.0
"""What each thing that is asked may take as a whole."""
RETRY_TICK_SECONDS = 0.1
IDLE_TICK_SECONDS = 5.0
SPACING_SECONDS = 1.0
"""However often a task is brought forward, it is not asked more often than this."""

Key = tuple[str, str]
"""What is asked, and about what: ("queue", its name)."""


class _Task:
    __slots__ = (
        "ask",
        "backoff",
        "began_at",
        "due_at",
        "failed",
        "failing",
        "interval_seconds",
        "retry_seconds",
        "take",
        "under_way",
    )

    def __init__(
        self,
        ask: Callable[[], Any],
        take: Callable[[Any], None],
        failed: Callable[[Exception], None],
        interval_seconds: float,
        *,
        retry_seconds: float,
    ) -> None:
        self.ask = ask
        self.take = take
        self.failed = failed
        self.interval_seconds = interval_seconds
        self.retry_seconds = retry_seconds
        self.backoff = Backoff()
        self.began_at = self.due_at = float("-inf")
        self.under_way = False
        self.failing = False
        """Whether it failed the last time."""

    def due(self, now: float) -> bool:
        return not self.under_way and now >= self.due_at and self.backoff.due(now)


class Schedule:
    """Tasks by key. All but `wake` belongs to one thread, which also takes the answers."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, limit_seconds: float = LIMIT_SECONDS) -> None:
        """Allow each thing that is asked `limit_seconds`."""
        self._monotonic = monotonic
        self._tasks: dict[Key, _Task] = {}
        self._calls: TimeLimitedCalls[tuple[Key, _Task]] = TimeLimitedCalls(limit_seconds)

    def __contains__(self, key: Key) -> bool:
        return key in self._tasks

    def add(  # noqa: PLR0913 - what a task is
        self,
        key: Key,
        ask: Callable[[], Any],
        take: Callable[[Any], None],
        failed: Callable[[Exception], None],
        interval_seconds: float,
        *,
        retry_seconds: float = 0.0,
    ) -> None:
        """Ask now, and again after each interval. Replaces a task of that key.

        After failures it is asked again with growing pauses, none shorter than `retry_seconds`. `ask` runs on another
        thread; `take` is given its answer and `failed` its exception, which is TimeoutError where it takes too long.
        """
        self._tasks[key] = _Task(ask, take, failed, interval_seconds, retry_seconds=retry_seconds)

    def remove(self, key: Key) -> None:
        """Ask no more; an answer that is under way is not taken."""
        self._tasks.pop(key, None)

    def bring_forward(self, key: Key) -> None:
        """Ask as soon as that makes sense, where there is such a task."""
        task = self._tasks.get(key)
        if task is not None:
            task.due_at = min(task.due_at, max(self._monotonic(), task.began_at + SPACING_SECONDS))

    def run_once(self) -> None:
        """Begin what is due, wait until something has ended or is due, take the answers."""
        now = self._monotonic()
        # Those that failed come last and leave half of the places free, or the slow ones would hold up all others.
        due = [(key, task) for key, task in self._tasks.items() if task.due(now)]
        for key, task in sorted(due, key=lambda item: (item[1].failing, item[1].due_at)):
            if not task.failing or self._failing_under_way() < MAX_CALLS // 2:
                self._begin(key, task, now)
        for (key, task), outcome in self._calls.wait(self._idle_seconds(now)):
            if self._tasks.get(key) is task:
                self._end(task, outcome)

    def wake(self) -> None:
        """Let `run_once` return. Any thread may call it."""
        self._calls.wake()

    def _failing_under_way(self) -> int:
        return sum(task.failing and task.under_way for task in self._tasks.values())

    def _begin(self, key: Key, task: _Task, now: float) -> None:
        try:
            task.under_way = self._calls.start((key, task), task.ask)
        except RuntimeError as error:
            # There may be no more threads.
            task.began_at = now
            self._end(task, error)
        if task.under_way:
            task.began_at = now

    def _end(self, task: _Task, outcome: object) -> None:
        task.under_way = False
        try:
            if isinstance(outcome, BaseException):
                raise outcome  # noqa: TRY301 - treated like an answer that can't be taken
            task.take(outcome)
        except Exception as error:  # noqa: BLE001 - whatever an answer makes boto3 raise, the thread has to go on
            task.failing = True
            task.due_at = task.began_at + task.retry_seconds
            task.backoff.failed(self._monotonic())
            task.failed(error)
        else:
            task.failing = False
            task.due_at = task.began_at + task.interval_seconds
            task.backoff.succeeded()

    def _idle_seconds(self, now: float) -> float:
        idle_seconds = IDLE_TICK_SECONDS
        for task in self._tasks.values():
            if task.under_way:
                continue
            if task.due(now) or not task.backoff.due(now):
                return RETRY_TICK_SECONDS
            idle_seconds = min(idle_seconds, task.due_at - now)
        return idle_seconds
