"""A bound on the whole length of what blocks.

botocore's timeouts are between two reads: an answer that comes a byte at a time holds a call open for hours.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_LEFT_BEHIND = 16

_Result = TypeVar("_Result")


class TimeoutRunner:
    """Does things on threads of their own, because nothing else can be left alone when it takes too long."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._places = threading.BoundedSemaphore(MAX_LEFT_BEHIND)

    def run(self, ask: Callable[[], _Result]) -> _Result:
        """Return what `ask` returns, raise what it raises.

        TimeoutError after the bound: it is left to end by itself. Nothing more is begun while very many are left.
        """
        if not self._places.acquire(blocking=False):
            raise TimeoutError
        ended: Future[_Result] = Future()
        threading.Thread(target=self._run, args=(ask, ended), name="housekeeping call", daemon=True).start()
        return ended.result(self._seconds)

    def _run(self, ask: Callable[[], _Result], ended: Future[_Result]) -> None:
        try:
            ended.set_result(ask())
        except BaseException as error:  # noqa: BLE001 - whoever waits for the result gets it
            ended.set_exception(error)
        finally:
            self._places.release()
