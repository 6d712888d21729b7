"""HTTP requests in flight, many at once on one thread: libcurl's multi interface and the wait for its sockets.

libcurl says which sockets to watch, and they are watched here: `CurlMulti.select` is blind to descriptors above 1,023
and looks at every request in flight each time.
"""

from __future__ import annotations

import math
import select
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

import pycurl
from botocore.httpsession import get_cert_path

if TYPE_CHECKING:
    from exporter.sqs import Target

CONNECT_TIMEOUT_SECONDS = 3
CLOSE_SECONDS = 0.2
MAX_ANSWER_BYTES = 64 * 1024 * 1024

_EVENTS = {
    pycurl.POLL_NONE: 0,
    pycurl.POLL_IN: select.POLLIN,
    pycurl.POLL_OUT: select.POLLOUT,
    pycurl.POLL_INOUT: select.POLLIN | select.POLLOUT,
}


class Transfer(NamedTuple):
    """A request that has ended, with a whole answer where `curl_code` is 0."""

    handle: pycurl.Curl
    curl_code: int
    error: str


class Transfers:
    """The requests in flight, and the connections kept alive between them."""

    def __init__(self, max_connections: int) -> None:
        """Keep at most so many connections, in use or idle; one that is over closes when its transfer ends."""
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_MAXCONNECTS, max_connections)
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._poll = select.poll()
        self._in_flight = 0

    def start(self, handle: pycurl.Curl) -> None:
        """Put a request in flight; it moves in `wait` alone."""
        self._multi.add_handle(handle)
        self._in_flight += 1

    def drop(self, handle: pycurl.Curl) -> None:
        """Give up a request in flight: libcurl closes its connection, so that nobody reads the rest of the answer."""
        self._multi.remove_handle(handle)
        self._in_flight -= 1

    def wait(self, timeout_seconds: float) -> list[Transfer]:
        """Return what has ended, as soon as there is any, and then all that has arrived.

        A signal's handler runs at once, but the wait goes on after it.
        """
        end = time.monotonic() + timeout_seconds
        ended: list[Transfer] = []
        pause_ms = 0
        while True:
            running = self._in_flight
            ready = self._poll.poll(pause_ms)
            for descriptor, events in ready:
                readable = 0 if events == select.POLLOUT else pycurl.CSELECT_IN
                writable = pycurl.CSELECT_OUT if events & select.POLLOUT else 0
                _, running = self._multi.socket_action(descriptor, readable | writable)
            timer_ms = self._multi.timeout()
            if timer_ms == 0:
                _, running = self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
            elif not ready:
                left_ms = math.ceil((end - time.monotonic()) * 1000)
                if ended or left_ms <= 0:
                    return ended
                pause_ms = left_ms if timer_ms < 0 else min(left_ms, timer_ms)
                continue
            pause_ms = 0
            if running < self._in_flight:
                self._take_ended(ended)

    def close(self) -> None:
        """Close all connections; to be called when nothing is in flight."""
        # libcurl waits for a name that is still being looked up, as long as a dead name server takes: not with us.
        closing = threading.Thread(target=self._multi.close, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)

    def _take_ended(self, ended: list[Transfer]) -> None:
        _, whole, broken = self._multi.info_read()
        for handle in whole:
            self._multi.remove_handle(handle)
            ended.append(Transfer(handle, 0, ""))
        for handle, curl_code, error in broken:
            self._multi.remove_handle(handle)
            ended.append(Transfer(handle, curl_code, error))
        self._in_flight -= len(whole) + len(broken)

    def _watch(self, what: int, descriptor: int, _multi: pycurl.CurlMulti, _data: object) -> None:
        if what == pycurl.POLL_REMOVE:
            self._poll.unregister(descriptor)
        else:
            self._poll.register(descriptor, _EVENTS[what])


def handle_for(target: Target, user_agent: str) -> pycurl.Curl:
    """Return a handle that POSTs to the target's endpoint, with all options that are the same for every request.

    There is no limit on the length of a transfer: libcurl would apply it before it looks at what has arrived.
    """
    handle = pycurl.Curl()
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
    ):
        handle.setopt(option, value)
    if target.verify_tls:
        bundle = target.ca_bundle or get_cert_path(verify=True)
        handle.setopt(pycurl.CAINFO, bundle)
        handle.setopt(pycurl.PROXY_CAINFO, bundle)
    else:
        for option in (pycurl.SSL_VERIFYPEER, pycurl.SSL_VERIFYHOST):
            handle.setopt(option, 0)
    return handle
