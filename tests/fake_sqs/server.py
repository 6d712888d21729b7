"""The listening side: accepts connections, and can be cut off from the network."""

from __future__ import annotations

import socket
import time
from email.utils import formatdate
from itertools import count
from typing import TYPE_CHECKING

from fake_sqs.connection import Connection

if TYPE_CHECKING:
    from fake_sqs.faults import Faults
    from fake_sqs.loop import Loop
    from fake_sqs.operations import Answer, Service

BACKLOG = 1024
REASON = {200: "OK", 302: "Found", 400: "Bad Request", 403: "Forbidden", 500: "Internal Server Error"}
TICK_SECONDS = 0.02


class Server:
    """Listens on a port of 127.0.0.1 that was free."""

    def __init__(self, loop: Loop, service: Service, faults: Faults) -> None:
        self.loop = loop
        self.service = service
        self.faults = faults
        self.port = 0
        self.latency_seconds = 0.0
        """Added to every answer."""
        self.silent = False
        """Whether requests are read and never answered."""
        self.connections: set[Connection] = set()
        self._listener: socket.socket | None = None
        self._requests = count(1)
        self._date = ""
        self._tick()

    def listen(self) -> None:
        """Accept connections, on the same port as before where there was one."""
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=BACKLOG)
            self._listener.settimeout(0)
            self.port = self._listener.getsockname()[1]
            self.loop.watch(self._listener, self._accept)

    def cut_off(self) -> None:
        """Reset every connection and refuse new ones."""
        if self._listener is not None:
            self.loop.forget(self._listener)
            self._listener.close()
            self._listener = None
        for connection in list(self.connections):
            connection.reset()

    def head(self, answer: Answer) -> str:
        """Write the status line and headers of an answer."""
        own = "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        kind = "" if "Content-Type" in answer.headers else "Content-Type: application/x-amz-json-1.0\r\n"
        date = "" if "Date" in answer.headers else self._date
        return (
            f"HTTP/1.1 {answer.status} {REASON.get(answer.status, 'Status')}\r\n"
            f"x-amzn-RequestId: 00000000-0000-4000-8000-{next(self._requests):012x}\r\n"
            f"{date}{kind}{own}Content-Length: {len(answer.body)}\r\n\r\n"
        )

    def _accept(self, _events: int) -> None:
        if self._listener is None:
            return
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        client.settimeout(0)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections.add(Connection(self, client))

    def _tick(self) -> None:
        self._date = f"Date: {formatdate(time.time(), usegmt=True)}\r\n"
        self.service.serve_waiters()
        self.loop.call_later(TICK_SECONDS, self._tick)
