"""The web server's connections: how many there may be, how long each may stay silent, and the memory of answers."""

from __future__ import annotations

import math
import random
import resource
import socket
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tornado.iostream import IOStream

    Address = tuple[Any, ...]

MAX_CONNECTIONS = 512
"""Far more than there are scrapers, and few enough that strangers cost some 30 MB at most."""
FIRST_REQUEST_SECONDS = 10.0
"""From the connection to the end of its first request, the TLS handshake included."""
KEEP_ALIVE_SECONDS = 75.0
"""From one request to the end of the next: longer than usual scrape intervals, so that Prometheus stays connected."""
ANSWER_SECONDS = 10.0
"""For taking an answer, from when it is sent."""
ANSWER_INTERVAL_SECONDS = 0.25
"""Between two answers on one connection, so that a client that asks again and again does not delay the others."""
LONG_ANSWER_INTERVAL_SECONDS = 5.0
"""The same for clients that pipeline and, while the server is busy, for all: at most this, and at least half of it.

So a client that asks seldom, as a scraper does, is served at once even then.
"""
MAX_UNTAKEN_BYTES = 32 * 1024 * 1024
"""Of answers that are being sent, all clients together; clients that are sent the same share it."""


def max_connections() -> int:
    """Return how many connections the descriptors of this process allow."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else max(1, min(MAX_CONNECTIONS, soft // 2))


@dataclass(slots=True)
class _Client:
    close_at: float
    write_deadline: float = math.inf
    answered_at: float = -math.inf
    """When it was, or will be, sent its last answer."""
    waits: bool = False
    """For an answer that is due but not yet there."""
    answer: bytes = b""
    """What it was sent last."""
    pipelines: bool = False
    """Whether it sent several requests at once, as no scraper does."""


class Clients:
    """The open connections, the one silent for longest first. Used by the server's thread alone.

    At the limit a newcomer takes the place of one that is parked, else of the first, so strangers who only hold
    connections never keep a scrape out. Likewise with the bytes of answers that are not taken: who takes none for
    longest loses its connection.
    """

    def __init__(
        self, limit: int, *, busy: Callable[[], bool], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`busy` says whether the server has much to do: then who asks again soon waits longer."""
        self._limit = limit
        self._busy = busy
        self._monotonic = monotonic
        self._clients: dict[IOStream, _Client] = {}
        self._parked: dict[IOStream, Address] = {}
        self._last_answer = b""

    def __len__(self) -> int:
        return len(self._clients)

    def on_connect(self, stream: IOStream) -> None:
        """Take in a connection that was accepted."""
        while len(self._clients) >= self._limit:
            self.drop_first()
        self._clients[stream] = _Client(close_at=self._monotonic() + FIRST_REQUEST_SECONDS)

    def park(self, stream: IOStream, address: Address) -> None:
        """Leave a connection that pipelines unserved for now; it is the first to go where newcomers need its place."""
        self._clients[stream].pipelines = True
        self._parked[stream] = address

    @property
    def parked(self) -> int:
        """How many connections are parked."""
        return len(self._parked)

    def unpark(self) -> tuple[IOStream, Address] | None:
        """Return the connection that was parked for longest, to be served now; None while the server is busy."""
        if self._busy() or not self._parked:
            return None
        stream = next(iter(self._parked))
        return stream, self._parked.pop(stream)

    def drop_parked(self) -> None:
        """Close all that are parked: the server ends."""
        for stream in list(self._parked):
            self._drop(stream)

    def on_request(self, stream: IOStream) -> float:
        """Note that a whole request arrived; returns for how many seconds its answer has to wait."""
        client = self._clients.pop(stream, None)
        if client is None:
            return 0.0
        now = self._monotonic()
        seldom = client.pipelines or self._busy()
        # Those who asked together are not answered together: others would have to wait meanwhile.
        long_interval = LONG_ANSWER_INTERVAL_SECONDS * random.uniform(0.5, 1)  # noqa: S311 - nothing is secret here
        interval = long_interval if seldom else ANSWER_INTERVAL_SECONDS
        answer_at = max(now, client.answered_at + interval)
        self._clients[stream] = _Client(
            close_at=now + KEEP_ALIVE_SECONDS,
            answered_at=answer_at,
            waits=answer_at == now,
            pipelines=client.pipelines,
        )
        return answer_at - now

    def on_answer(self, stream: IOStream, answer: bytes) -> None:
        """Note what is sent to a client, and keep the answers that are not taken yet below their limit."""
        client = self._clients.get(stream)
        if client is None:
            return
        client.waits = False
        client.write_deadline = self._monotonic() + ANSWER_SECONDS
        client.answer = answer
        if answer is not self._last_answer:
            self._last_answer = answer
            self._bound_untaken()

    def on_close(self, stream: IOStream) -> None:
        """Forget a connection that was closed, by either side."""
        self._clients.pop(stream, None)

    def drop_first(self) -> bool:
        """Close a connection: one that is parked, else the one silent for longest that waits for nothing.

        Returns False where there is none at all.
        """
        idle = (stream for stream, client in self._clients.items() if not client.waits)
        stream = next(iter(self._parked), None) or next(idle, None) or next(iter(self._clients), None)
        if stream is None:
            return False
        self._drop(stream)
        return True

    def drop_late(self) -> None:
        """Close the connections whose time is over."""
        now = self._monotonic()
        late = [
            stream
            for stream, client in self._clients.items()
            if now >= client.close_at or (now >= client.write_deadline and stream.writing())
        ]
        for stream in late:
            self._drop(stream)

    def _bound_untaken(self) -> None:
        untaken: dict[int, int] = {}
        writing = []
        for stream, client in self._clients.items():
            if stream.writing():
                writing.append(stream)
                untaken[id(client.answer)] = len(client.answer)
            elif client.answer is not self._last_answer:
                client.answer = b""
        writing.reverse()
        while writing and sum(untaken.values()) > MAX_UNTAKEN_BYTES:
            stream = writing.pop()
            answer = self._clients[stream].answer
            self._drop(stream)
            if all(self._clients[other].answer is not answer for other in writing):
                untaken.pop(id(answer), None)

    def _drop(self, stream: IOStream) -> None:
        del self._clients[stream]
        self._parked.pop(stream, None)
        if stream.writing():
            # Reset it, or the kernel keeps the rest of the answer for minutes, for a client that does not take it.
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stream.close()
