"""One client's connection: HTTP/1.1 as far as SQS's clients speak it, and the faults that befall its calls.

Connections are kept alive; bodies have a Content-Length; `Expect: 100-continue` is answered.
"""

from __future__ import annotations

import calendar
import re
import socket
import struct
import time
from email.utils import formatdate
from functools import partial
from typing import TYPE_CHECKING

from fake_sqs.errors import SqsError
from fake_sqs.faults import Fault, changed, replacement, skewed
from fake_sqs.loop import READ, WRITE
from fake_sqs.operations import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from fake_sqs.operations import Waiter
    from fake_sqs.server import Server

TARGET = b"x-amz-target: amazonsqs."
LENGTH = b"content-length:"
SIGNED_AT = re.compile(rb"x-amz-date: *(\d{8}t\d{6}z)")
QUEUE_IN_BODY = re.compile(rb'"Queue(?:Url|Name|NamePrefix)": *"(?:[^"]*/)?([^"/]*)"')
RECEIVE_BYTES = 1 << 18
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Connection:
    """Answers one request at a time; what comes early waits."""

    def __init__(self, server: Server, client: socket.socket) -> None:
        self._server = server
        self._client = client
        self._received = b""
        self._unsent = b""
        self._busy = False
        self._waiter: Waiter | None = None
        self._close_after = False
        self._closed = False
        server.loop.watch(client, self._ready)

    def reset(self) -> None:
        """Close the connection with a RST."""
        if not self._closed:
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self.close()

    def close(self) -> None:
        """Close the connection and forget the long poll that it waits in."""
        if self._closed:
            return
        self._closed = True
        self._server.loop.forget(self._client)
        self._client.close()
        self._server.connections.discard(self)
        if self._waiter is not None:
            self._server.service.abandon(self._waiter)

    def _ready(self, events: int) -> None:
        try:
            if events & WRITE:
                self._flush()
                self._server.loop.watch_for(self._client, self._ready, READ)
                if self._close_after and not self._busy:
                    self.close()
                    return
            if events & READ:
                self._read()
        except BlockingIOError:
            return
        except OSError:
            self.close()

    def _read(self) -> None:
        data = self._client.recv(RECEIVE_BYTES)
        if not data:
            self.close()
            return
        self._received = self._received + data if self._received else data
        if not self._busy and not self._server.silent:
            self._next_request()

    def _next_request(self) -> None:
        if self._closed:
            return
        received = self._received
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = received[:end].lower()
        body_at = end + 4
        at = head.find(LENGTH)
        length = int(head[at + len(LENGTH) :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(received) < body_at + length:
            if len(received) == body_at and b"\r\nexpect: 100-continue" in head:
                self._send(b"HTTP/1.1 100 Continue\r\n\r\n")
            return
        body = received[body_at : body_at + length]
        self._received = received[body_at + length :]
        self._busy = True
        self._close_after = b"\r\nconnection: close" in head
        at = head.find(TARGET)
        if at < 0:
            error = SqsError("UnknownOperationException", "The request has no X-Amz-Target of SQS.")
            self._write(Answer(error.body, error.status))
            return
        self._call(head[at + len(TARGET) :].split(b"\r\n", 1)[0].decode("latin-1"), body, head)

    def _call(self, operation: str, body: bytes, head: bytes) -> None:
        server = self._server
        server.service.calls[operation] += 1
        if not server.faults:
            self._waiter = server.service.call(operation, body, self._write_in_time)
            return
        queue = _queue_in(body)
        fault = server.faults.before(operation, queue)
        failing = 0
        if fault is not None:
            if fault.kind == "failed_entries":
                failing = fault.options.get("entries", 1)
            elif fault.kind != "clock_skew":
                self._instead(fault)
                return
            elif (refusal := skewed(fault, _signed_at(head), time.time())) is not None:
                refusal.headers["Date"] = formatdate(time.time() + fault.options["seconds"], usegmt=True)
                self._write_in_time(refusal)
                return
        self._waiter = server.service.call(operation, body, partial(self._deliver, operation, queue), failing)

    def _instead(self, fault: Fault) -> None:
        if fault.kind == "reset":
            self.reset()
        elif fault.kind != "black_hole":
            self._write_in_time(replacement(fault))

    def _deliver(self, operation: str, queue: str, answer: Answer) -> None:
        write: Callable[[Answer], None] = self._write
        delay_seconds = 0.0
        for fault in self._server.faults.after(operation, queue, answer):
            if fault.kind == "delay":
                delay_seconds += fault.options["seconds"]
            elif fault.kind == "drip":
                write = partial(self._drip, 1 / fault.options.get("bytes_per_second", 1))
            elif fault.kind == "half_closed":
                write = self._write_half
            elif fault.lies:
                answer = changed(fault, answer)
            else:
                self._instead(fault)
                return
        self._write_in_time(answer, write, delay_seconds)

    def _write_in_time(
        self, answer: Answer, write: Callable[[Answer], None] | None = None, delay_seconds: float = 0.0
    ) -> None:
        delay_seconds += self._server.latency_seconds
        if delay_seconds:
            self._server.loop.call_later(delay_seconds, partial(write or self._write, answer))
        else:
            (write or self._write)(answer)

    def _write(self, answer: Answer) -> None:
        self._send((self._server.head(answer) + answer.body).encode("latin-1"))
        self._answered()

    def _write_half(self, answer: Answer) -> None:
        whole = (self._server.head(answer) + answer.body).encode("latin-1")
        self._send(whole[: -max(1, len(answer.body) // 2)])
        if not self._closed:
            self._client.shutdown(socket.SHUT_WR)

    def _drip(self, interval_seconds: float, answer: Answer) -> None:
        rest = iter((self._server.head(answer) + answer.body).encode("latin-1"))

        def drop() -> None:
            byte = next(rest, None)
            if byte is None:
                self._answered()
            elif not self._closed:
                self._send(bytes([byte]))
                self._server.loop.call_later(interval_seconds, drop)

        drop()

    def _answered(self) -> None:
        self._busy = False
        self._waiter = None
        if self._close_after and not self._unsent:
            self.close()
        elif self._received:
            self._server.loop.call_later(0, self._next_request)

    def _send(self, data: bytes) -> None:
        if self._closed:
            return
        waiting = bool(self._unsent)
        self._unsent += data
        if waiting:
            return
        try:
            self._flush()
        except BlockingIOError:
            self._server.loop.watch_for(self._client, self._ready, READ | WRITE)
        except OSError:
            self.close()

    def _flush(self) -> None:
        while self._unsent:
            sent = self._client.send(self._unsent)
            self._unsent = self._unsent[sent:]


def _queue_in(body: bytes) -> str:
    """Return the name, or the prefix of names, of the queue that a request is about; "" where it says none."""
    found = QUEUE_IN_BODY.search(body)
    return found[1].decode() if found else ""


def _signed_at(head: bytes) -> float:
    found = SIGNED_AT.search(head)
    return calendar.timegm(time.strptime(found[1].decode(), "%Y%m%dt%H%M%Sz")) if found else 0.0
