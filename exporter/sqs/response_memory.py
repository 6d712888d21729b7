"""The memory that answers may take while they arrive: one that finds no room waits on its socket.

Ten messages of 1 MiB, full of quotes, are an answer of 20 MiB, and there are as many answers as receives in flight.
"""

from __future__ import annotations

import pycurl

RESPONSE_MEMORY_BYTES = 32 * 1024 * 1024
SMALL_BYTES = 64 * 1024
"""Up to here an answer never waits: neither deletes nor ordinary messages are held up by large ones."""


class ResponseMemoryLimit:
    """Shared by all calls in flight. What arrives stays below its size, and one answer, and the beginnings of all."""

    def __init__(self, size_bytes: int = RESPONSE_MEMORY_BYTES) -> None:
        self._left_bytes = size_bytes
        self._first: pycurl.Curl | None = None
        """The one that goes on whatever its size: otherwise all could wait for each other."""
        self._waiting: list[pycurl.Curl] = []

    def takes(self, handle: pycurl.Curl, held_bytes: int, more_bytes: int) -> bool:
        """Whether an answer that holds so much may take more; where not, its transfer has to pause until `resume`."""
        if more_bytes > self._left_bytes and held_bytes + more_bytes > SMALL_BYTES and handle is not self._first:
            if self._first is not None:
                self._waiting.append(handle)
                return False
            self._first = handle
        self._left_bytes -= more_bytes
        return True

    def give_back(self, handle: pycurl.Curl, held_bytes: int) -> None:
        """Take back what an answer held; its transfer is over."""
        self._left_bytes += held_bytes
        if handle is self._first:
            self._first = None
        if handle in self._waiting:
            self._waiting.remove(handle)

    def resume(self) -> None:
        """Let the transfers that wait try again. To be called once what arrived before is done with."""
        waiting, self._waiting = self._waiting, []
        for handle in waiting:
            handle.pause(pycurl.PAUSE_CONT)
