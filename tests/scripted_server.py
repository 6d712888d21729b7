"""An HTTP server over plain sockets that answers a script: for what no HTTP library would send."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

Answer = bytes | dict[str, Any] | Callable[[socket.socket], None]
PATIENCE_SECONDS = 60
"""A deadline: where all is well it is not waited for."""


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    line: str
    headers: dict[str, str]
    """By name in lower case."""
    body: bytes
    connection: int
    """The number of the connection that it came on; the first is 1."""

    @property
    def json(self) -> dict[str, Any]:
        """The body."""
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed


@dataclass
class ScriptedServer:
    """Answers one request after the other from `script`, its last entry for ever.

    An answer is the raw bytes, an object (sent as JSON with status 200), or a function of the socket.
    """

    script: list[Answer]
    port: int
    connections: int = 0
    requests: list[Request] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    """The connections that the client closed."""
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, happened: Callable[[ScriptedServer], bool]) -> None:
        """Wait until it is true of this server."""
        with self._changed:
            assert self._changed.wait_for(lambda: happened(self), PATIENCE_SECONDS)

    def serve(self, connection: socket.socket, number: int) -> None:
        """Answer what comes on one connection until either side closes it."""
        with suppress(OSError), connection.makefile("rb") as reader:
            while line := reader.readline():
                headers = {}
                while (header := reader.readline().decode("latin-1").strip()) != "":
                    name, _, value = header.partition(": ")
                    headers[name.lower()] = value
                body = reader.read(int(headers.get("content-length", 0)))
                with self._changed:
                    self.requests.append(Request(line.decode("latin-1").strip(), headers, body, number))
                    answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                    self._changed.notify_all()
                if callable(answer):
                    answer(connection)
                else:
                    connection.sendall(answer if isinstance(answer, bytes) else response(answer))
        with self._changed:
            self.closed.append(number)
            self._changed.notify_all()

    def connected(self) -> int:
        """Count a connection and return its number."""
        with self._changed:
            self.connections += 1
            self._changed.notify_all()
            return self.connections


def response(body: Any = b"", status: str = "200 OK", **headers: str) -> bytes:  # noqa: ANN401 - bytes or any JSON
    """Return a whole response; a header named `x_y` becomes x-y."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(data)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + data


def reset(connection: socket.socket) -> None:
    """End the connection with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise ConnectionAbortedError


def hang_up(_: socket.socket) -> None:
    """End the connection."""
    raise ConnectionAbortedError


def half_close(data: bytes) -> Callable[[socket.socket], None]:
    """Send the data and that no more will come, but go on listening."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)

    return answer


def say_nothing(_: socket.socket) -> None:
    """Take the request and never answer."""


@contextmanager
def scripted_server(*script: Answer, tls: ssl.SSLContext | None = None) -> Iterator[ScriptedServer]:
    """Serve until the context ends, each connection on a thread of its own."""
    connections: list[socket.socket] = []
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        server = ScriptedServer(list(script), listener.getsockname()[1])

        def converse(connection: socket.socket, number: int) -> None:
            with suppress(OSError), connection:
                if tls is None:
                    server.serve(connection, number)
                else:
                    with tls.wrap_socket(connection, server_side=True) as encrypted:
                        connections.append(encrypted)
                        server.serve(encrypted, number)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    connections.append(connection)
                    threads.append(threading.Thread(target=converse, args=(connection, server.connected())))
                    threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for connection in connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
