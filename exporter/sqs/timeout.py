"""Runs blocking calls on threads, a limited number at once, each with a timeout for its whole length.

botocore's timeouts are between two reads: an answer that comes a byte at a time holds a call open for hours.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_CALLS = 16
"""How many may be under way at once, those that are late not counted."""
MAX_LATE = 2
"""How many of one key that are late may still be running, before no more of it is begun."""

_Key = TypeVar("_Key")


class TimeLimitedCalls(Generic[_Key]):
    """Calls under way, each known by a key. All but `wake` belongs to one thread."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ended: queue.SimpleQueue[tuple[int, object] | None] = queue.SimpleQueue()
        self._under_way: dict[int, tuple[_Key, float]] = {}
        self._late: dict[int, _Key] = {}
        self._number = 0

    def start(self, key: _Key, ask: Callable[[], object]) -> bool:
        """Begin a call; `wait` returns its key with what became of it. False: too many are under way, or late.

        Raises RuntimeError where there can be no more threads.
        """
        if len(self._under_way) >= MAX_CALLS or list(self._late.values()).count(key) >= MAX_LATE:
            return False
        self._number += 1
        # A thread can be left alone when it takes too long; a daemon does not hold up the end of the program either.
        thread = threading.Thread(target=self._run, args=(self._number, ask), name="housekeeping call", daemon=True)
        thread.start()
        self._under_way[self._number] = key, time.monotonic() + self._seconds
        return True

    def wait(self, timeout_seconds: float) -> list[tuple[_Key, object]]:
        """Return the calls that have ended, each with what it returned or the exception that it raised.

        It is TimeoutError for a call that is late, which is left to end by itself. Returns as soon as there is
        something to return or `wake` was called, and after `timeout_seconds` at the latest.
        """
        now = time.monotonic()
        soonest = min((deadline for _, deadline in self._under_way.values()), default=now + timeout_seconds)
        came: list[tuple[_Key, object]] = []
        timeout_seconds = max(0.0, min(timeout_seconds, soonest - now))
        try:
            ended = self._ended.get(timeout=timeout_seconds) if timeout_seconds else self._ended.get_nowait()
            while True:
                if ended is not None:
                    number, outcome = ended
                    self._late.pop(number, None)
                    if number in self._under_way:
                        came.append((self._under_way.pop(number)[0], outcome))
                ended = self._ended.get_nowait()
        except queue.Empty:
            pass
        now = time.monotonic()
        for number, (key, deadline) in list(self._under_way.items()):
            if now >= deadline:
                del self._under_way[number]
                self._late[number] = key
                came.append((key, TimeoutError()))
        return came

    def wake(self) -> None:
        """Let `wait` return. Any thread may call it."""
        self._ended.put(None)

    def _run(self, number: int, ask: Callable[[], object]) -> None:
        try:
            outcome = ask()
        except BaseException as error:  # noqa: BLE001 - whoever waits for the result gets it
            outcome = error
        self._ended.put((number, outcome))
