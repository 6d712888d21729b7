"""Tornado's HTTP server with our pages behind it: one answer at a time for each connection."""

from __future__ import annotations

import asyncio
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, cast

from tornado.httpserver import HTTPServer
from tornado.httputil import (
    HTTPHeaders,
    HTTPInputError,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)

from exporter.web.pages import Request

if TYPE_CHECKING:
    from typing import Any

    from tornado.http1connection import HTTP1Connection, HTTP1ServerConnection
    from tornado.httputil import HTTPConnection
    from tornado.iostream import IOStream

    from exporter.web.clients import Clients
    from exporter.web.pages import Site

COPIED_BYTES = 32 * 1024
"""Larger bodies are sent as they are, without a copy for each client: many clients share one exposition."""
PEEKED_BYTES = 2048
"""Of a new connection: more than an ordinary request."""
UNPARK_SECONDS = 0.02
"""Between two connections that were parked."""
REASONS = {status.value: status.phrase for status in HTTPStatus}


class ClientsServer(HTTPServer):
    """Tornado's server, telling `clients` (set right after construction) of each connection's begin and end.

    A connection that sends several requests at once, as no scraper does, is parked: it is served after all others, and
    costs next to nothing until then.
    """

    clients: Clients
    _unparks_soon = False

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        """Take a new connection, before its TLS handshake."""
        self.clients.on_connect(stream)
        if self.ssl_options is None and _pipelines(stream):
            self.clients.park(stream, address)
            self._unpark_soon()
        else:
            super().handle_stream(stream, address)

    def _unpark_soon(self) -> None:
        if self.clients.parked and not self._unparks_soon:
            self._unparks_soon = True
            asyncio.get_running_loop().call_later(UNPARK_SECONDS, self._unpark)

    def _unpark(self) -> None:
        self._unparks_soon = False
        unparked = self.clients.unpark()
        if unparked is not None:
            super().handle_stream(*unparked)
        self._unpark_soon()

    def on_close(self, server_conn: object) -> None:
        """Forget a connection."""
        super().on_close(server_conn)
        self.clients.on_close(cast("HTTP1ServerConnection", server_conn).stream)


def _pipelines(stream: IOStream) -> bool:
    """Whether more than one request, or one with a body, has arrived on a new connection."""
    try:
        arrived = stream.socket.recv(PEEKED_BYTES, socket.MSG_PEEK)
    except OSError:
        return False
    return bool(arrived.partition(b"\r\n\r\n")[2])


class Requests(HTTPServerConnectionDelegate):
    """Answers requests with the site's pages."""

    def __init__(self, site: Site, clients: Clients) -> None:
        self._site = site
        self._clients = clients
        self._answering: set[asyncio.Task[None]] = set()

    def start_request(self, _server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """Take the beginning of a request."""
        return _Request(self, cast("HTTP1Connection", request_conn))

    def begin(self, request: Request, connection: HTTP1Connection) -> None:
        """Answer a whole request, after other connections were served: it may be one of many pipelined.

        Where the client leaves before, the request is given up: what nobody was sent was not shown to a scraper.
        """
        task = asyncio.get_running_loop().create_task(self._answer(request, connection))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

        def give_up() -> None:
            task.cancel()

        connection.set_close_callback(give_up)

    async def _answer(self, request: Request, connection: HTTP1Connection) -> None:
        wait_seconds = self._clients.on_request(connection.stream)
        if wait_seconds:
            await asyncio.sleep(wait_seconds)
        answer = await self._site.answer(request)
        if connection.stream.closed():
            return
        headers = HTTPHeaders({**self._site.headers, **answer.headers})
        headers["Content-Type"] = answer.content_type
        headers["Content-Length"] = str(len(answer.body))
        start_line = ResponseStartLine("HTTP/1.1", answer.status, REASONS[answer.status])
        body = b"" if request.method == "HEAD" else answer.body
        self._clients.on_answer(connection.stream, body)
        if len(body) <= COPIED_BYTES:
            connection.write_headers(start_line, headers, body)
        else:
            connection.write_headers(start_line, headers)
            connection.write(body)
        connection.finish()


class _Request(HTTPMessageDelegate):
    """One request while it comes in."""

    def __init__(self, requests: Requests, connection: HTTP1Connection) -> None:
        self._requests = requests
        self._connection = connection
        self._request: Request | None = None

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> None:
        """Take the request line and the headers."""
        if self._connection.stream.closed():
            # Tornado would go on with the requests that came before the end, for nobody.
            raise HTTPInputError("closed")
        line = cast("RequestStartLine", start_line)
        # https://www.rfc-editor.org/rfc/rfc9112.html#section-3.2-6: a request without one Host is a bad one.
        if line.version != "HTTP/1.0" and len(headers.get_list("Host")) != 1:
            raise HTTPInputError("Host")
        address = str(self._connection.context.remote_ip)  # type: ignore[attr-defined] # Tornado says only object
        self._request = Request(line.method, line.path, headers, address)

    def data_received(self, chunk: bytes) -> None:
        """Leave a part of the body unread."""

    def finish(self) -> None:
        """Answer: the request is whole."""
        if self._request is not None:
            self._requests.begin(self._request, self._connection)
