"""HTTP requests in flight, many at once on one thread: libcurl's multi interface and the wait for its sockets.

libcurl says which sockets to watch, and they are watched here: `CurlMulti.select` is blind to descriptors above 1,023
and looks at every request in flight each time.
"""

from __future__ import annotations

import math
import select
import threading
import time
from contextlib import suppress
from io import BytesIO
from typing import TYPE_CHECKING

import pycurl
from botocore.httpsession import get_cert_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.sqs import Target
    from exporter.sqs.answers import Deletion, Operation
    from exporter.sqs.requests import QueueRequests

CONNECT_TIMEOUT_SECONDS = 3
CLOSE_SECONDS = 0.2
MAX_ANSWER_BYTES = 64 * 1024 * 1024
RESPONSE_MEMORY_BYTES = 32 * 1024 * 1024
"""What all answers that are arriving may hold together, before those that are large have to wait."""
SMALL_BYTES = 64 * 1024
"""Up to here an answer never waits: neither deletes nor ordinary messages are held up by large ones."""

_GIVE_UP = 0
"""A WRITEFUNCTION that has taken less than it was given: libcurl ends the transfer with E_WRITE_ERROR."""
_EVENTS = {
    pycurl.POLL_NONE: 0,
    pycurl.POLL_IN: select.POLLIN,
    pycurl.POLL_OUT: select.POLLOUT,
    pycurl.POLL_INOUT: select.POLLIN | select.POLLOUT,
}


class ResponseMemoryLimit:
    """Limits the memory of answers while they arrive: beyond it an answer waits in its socket.

    Ten messages of 1 MiB, full of quotes, are an answer of 20 MiB, and there are as many answers as receives in
    flight. What arrives stays below the limit, and one answer, and the beginnings of all.
    """

    def __init__(self) -> None:
        self._left_bytes = RESPONSE_MEMORY_BYTES
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
        if self._waiting and handle in self._waiting:
            self._waiting.remove(handle)

    def resume(self) -> None:
        """Let the transfers that wait try again. To be called once what arrived before is done with."""
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for handle in waiting:
                # It fails where what has arrived can't be kept now: that ends the transfer, whose call tells of it.
                with suppress(pycurl.error):
                    handle.pause(pycurl.PAUSE_CONT)


class Call:
    """One HTTP request to SQS and its answer: a libcurl handle, what it carries, and what has arrived.

    It serves one operation of one queue, and is used again for the next request when its transfer has ended well.
    """

    __slots__ = (
        "_body",
        "_memory",
        "_request",
        "allowed_seconds",
        "attempt",
        "attribute_names",
        "curl_code",
        "deadline",
        "deletions",
        "error",
        "handle",
        "headers",
        "operation",
        "queue",
        "sent_at",
        "target",
        "visibility_timeout_seconds",
        "wait_seconds",
    )

    def __init__(
        self, queue: QueueRequests, target: Target, operation: Operation, user_agent: str, memory: ResponseMemoryLimit
    ) -> None:
        self.queue = queue
        self.target = target
        self.operation = operation
        self.handle = _handle_for(target, user_agent)
        self.headers: list[bytes] = []
        """The raw lines of the answer's headers, a proxy's before them."""
        self.curl_code = 0
        """How the transfer ended: with a whole answer where it is 0."""
        self.error = ""
        self.sent_at = self.allowed_seconds = self.deadline = 0.0
        """Monotonic time of sending, how long the whole may take, and when it is late."""
        self.deletions: Sequence[Deletion] = ()
        self.wait_seconds = self.visibility_timeout_seconds = 0
        self.attribute_names: tuple[str, ...] = ()
        self.attempt: str | None = None
        self._body = BytesIO()
        self._memory = memory
        self._request: tuple[bytes, list[str]] | None = None
        self.handle.setopt(pycurl.WRITEFUNCTION, self._gather)
        self.handle.setopt(pycurl.HEADERFUNCTION, self.headers.append)

    def carry(self, request: tuple[bytes, list[str]]) -> None:
        """Make this (body, headers) what is sent next."""
        self.headers.clear()
        if request is not self._request:
            self.handle.setopt(pycurl.POSTFIELDS, request[0])
            self.handle.setopt(pycurl.HTTPHEADER, request[1])
            self._request = request

    def take_body(self) -> bytes:
        """Return the answer's body and free its memory for the next."""
        body = self._body.getvalue()  # shares its memory with the buffer: it takes none of its own
        self._memory.give_back(self.handle, len(body))
        self._body.seek(0)
        self._body.truncate()
        return body

    def close(self) -> None:
        """Close the handle; what has arrived is lost."""
        self._memory.give_back(self.handle, self._body.tell())
        self._body.close()
        self.handle.close()

    def _gather(self, chunk: bytes) -> int | None:
        if not self._memory.takes(self.handle, self._body.tell(), len(chunk)):
            return pycurl.WRITEFUNC_PAUSE
        try:
            self._body.write(chunk)
        except MemoryError:
            self._memory.give_back(self.handle, len(chunk))
            return _GIVE_UP
        return None


class Transfers:
    """The calls in flight, and the connections kept alive between them."""

    def __init__(self, max_connections: int) -> None:
        """Keep at most so many connections, in use or idle; one beyond that is closed when its transfer ends."""
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, max_connections)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._poll = select.poll()
        self.in_flight: dict[pycurl.Curl, Call] = {}

    def start(self, call: Call) -> None:
        """Put a call in flight; it moves in `wait` alone."""
        self._multi.add_handle(call.handle)
        self.in_flight[call.handle] = call

    def drop(self, call: Call) -> None:
        """Give up a call in flight: libcurl closes its connection, so that nobody reads the rest of the answer."""
        self._multi.remove_handle(call.handle)
        del self.in_flight[call.handle]

    def wait(self, timeout_seconds: float, also: tuple[int, int] | None = None) -> list[Call]:
        """Return what has ended, as soon as there is any, and then all that has arrived.

        `also` is a descriptor, with the poll events that end the wait too. A signal's handler runs at once, but the
        wait goes on after it.
        """
        if also is None:
            return self._wait(timeout_seconds, -1)
        self._poll.register(*also)
        try:
            return self._wait(timeout_seconds, also[0])
        finally:
            self._poll.unregister(also[0])

    def close(self) -> None:
        """Close all connections; to be called when nothing is in flight."""
        # libcurl waits for a name that is still being looked up, as long as a dead name server takes: not with us.
        closing = threading.Thread(target=self._multi.close, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    def _wait(self, timeout_seconds: float, also: int) -> list[Call]:
        end = time.monotonic() + timeout_seconds
        ended: list[Call] = []
        called = False
        pause_ms = 0
        while True:
            running = len(self.in_flight)
            moved = False
            for descriptor, events in self._poll.poll(pause_ms):
                if descriptor == also:
                    called = True
                    continue
                moved = True
                readable = 0 if events == select.POLLOUT else pycurl.CSELECT_IN
                writable = pycurl.CSELECT_OUT if events & select.POLLOUT else 0
                _, running = self._multi.socket_action(descriptor, readable | writable)
            timer_ms = self._multi.timeout()
            if timer_ms == 0:
                _, running = self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
            elif not moved:
                left_ms = math.ceil((end - time.monotonic()) * 1000)
                if ended or called or left_ms <= 0:
                    return ended
                pause_ms = left_ms if timer_ms < 0 else min(left_ms, timer_ms)
                continue
            pause_ms = 0
            if running < len(self.in_flight):
                self._take_ended(ended)

    def _take_ended(self, ended: list[Call]) -> None:
        _, whole, broken = self._multi.info_read()
        for handle, curl_code, error in [*((handle, 0, "") for handle in whole), *broken]:
            self._multi.remove_handle(handle)
            call = self.in_flight.pop(handle)
            call.curl_code, call.error = curl_code, error
            ended.append(call)

    def _watch(self, what: int, descriptor: int, _multi: pycurl.CurlMulti, _data: object) -> None:
        if what == pycurl.POLL_REMOVE:
            self._poll.unregister(descriptor)
        else:
            self._poll.register(descriptor, _EVENTS[what])


def _handle_for(target: Target, user_agent: str) -> pycurl.Curl:
    """Return a handle that POSTs to the target's endpoint, with all options that are the same for every request.

    There is no limit on the length of a transfer: libcurl would apply it before it looks at what has arrived.
    """
    handle = pycurl.Curl()
    bundle = target.ca_bundle or get_cert_path(verify=True)
    for option, value in (
        (pycurl.URL, target.endpoint_url),
        (pycurl.POST, 1),
        (pycurl.USERAGENT, user_agent),
        (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
        (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
        (pycurl.FOLLOWLOCATION, 0),
        (pycurl.NOSIGNAL, 1),
        (pycurl.CONNECTTIMEOUT, CONNECT_TIMEOUT_SECONDS),
        (pycurl.TCP_NODELAY, 1),
        (pycurl.TCP_KEEPALIVE, 1),
        (pycurl.MAXFILESIZE_LARGE, MAX_ANSWER_BYTES),
        # Both are said in either case: what is not said libcurl reads from the environment.
        (pycurl.PROXY, target.proxy_url or ""),
        (pycurl.NOPROXY, "" if target.proxy_url else "*"),
        (pycurl.CAINFO, bundle),
        (pycurl.PROXY_CAINFO, bundle),
    ):
        handle.setopt(option, value)
    return handle
