"""The stub's own process: one thread, bare sockets, answers that are rendered already."""

from __future__ import annotations

import heapq
import json
import math
import select
import signal
import socket
import ssl
import time
from collections import deque
from typing import TYPE_CHECKING

from stub_events import BATCH_SIZE, Load, Messages, Report, http_answer

if TYPE_CHECKING:
    from multiprocessing.connection import Connection as Control

QUEUE_URL = "http://sqs.eu-west-1.amazonaws.com/123456789012/events"
_RECEIVE_BYTES = 65_536
_OPERATION = b"AmazonSQS."
_EMPTY = http_answer(b"{}")
_QUEUE_URL = http_answer(json.dumps({"QueueUrl": QUEUE_URL}).encode())
_ATTRIBUTES = http_answer(
    json.dumps(
        {
            "Attributes": {
                "QueueArn": "arn:aws:sqs:eu-west-1:123456789012:events",
                "VisibilityTimeout": "30",
                "MessageRetentionPeriod": "345600",
                "ApproximateNumberOfMessages": "0",
                "ApproximateNumberOfMessagesNotVisible": "0",
                "ApproximateNumberOfMessagesDelayed": "0",
            },
        },
    ).encode(),
)
_DELETED = [
    http_answer(json.dumps({"Successful": [{"Id": str(slot)} for slot in range(count)], "Failed": []}).encode())
    for count in range(BATCH_SIZE + 1)
]


class _Client:
    __slots__ = ("begun", "socket")

    def __init__(self, accepted: socket.socket) -> None:
        self.socket = accepted
        self.begun = b""


class Server:
    """Answers receives and batch deletes on one thread; the benchmark says over `control` what there is to receive."""

    def __init__(self, control: Control, context: ssl.SSLContext | None) -> None:
        self._control = control
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = int(self._listener.getsockname()[1])
        self._clients: dict[int, _Client] = {}
        self._long_polls: list[tuple[float, int, _Client]] = []
        self._delayed: deque[tuple[float, _Client, bytes, bool]] = deque()
        self._load = Load(0)
        self._messages = Messages(1)
        self._given = self._deleted = self._receives = self._in_flight = 0
        self._loaded_at = self._cpu_before = 0.0
        self._widened: dict[int, float] = {}
        self._watching = False

    def run(self) -> None:
        """Serve until the process is ended."""
        poll = select.epoll()
        listener, control = self._listener.fileno(), self._control.fileno()
        poll.register(listener, select.EPOLLIN)
        poll.register(control, select.EPOLLIN)
        clients = self._clients
        while True:
            for descriptor, _ in poll.poll(self._send_due()):
                client = clients.get(descriptor)
                if client is not None:
                    if not self._read(client):
                        poll.unregister(descriptor)
                        self._drop(clients.pop(descriptor))
                elif descriptor == listener:
                    client = self._accept()
                    clients[client.socket.fileno()] = client
                    poll.register(client.socket.fileno(), select.EPOLLIN)
                else:
                    self._obey(self._control.recv())

    def _accept(self) -> _Client:
        accepted, _ = self._listener.accept()
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted.settimeout(0)
        if self._context is not None:
            accepted = self._context.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
        return _Client(accepted)

    def _drop(self, client: _Client) -> None:
        """Close a connection; what waits there to be answered gets no messages."""
        self._long_polls = [waiting for waiting in self._long_polls if waiting[-1] is not client]
        heapq.heapify(self._long_polls)
        client.socket.close()

    def _obey(self, order: Load | str) -> None:
        if isinstance(order, Load):
            self._messages = Messages(order.types)
            self._load = order
            self._given = self._deleted = self._receives = self._in_flight = 0
            self._widened = {}
            self._loaded_at, self._cpu_before = time.monotonic(), time.process_time()
        elif order == "watch":
            self._watching = True
        else:
            self._control.send(self._receives)

    def _read(self, client: _Client) -> bool:
        """Answer what has arrived whole; returns whether the connection is still there."""
        try:
            data = client.socket.recv(_RECEIVE_BYTES)
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False
        if not data:
            return False
        data = client.begun + data
        while data:
            head_bytes = data.find(b"\r\n\r\n") + 4
            if head_bytes < 4:  # noqa: PLR2004 - what was added to find's -1
                break
            at = data.find(b"Content-Length: ", 0, head_bytes) + 16
            request_bytes = head_bytes + int(data[at : data.find(b"\r\n", at)])
            if len(data) < request_bytes:
                break
            self._answer(client, data[:request_bytes] if len(data) > request_bytes else data, head_bytes)
            data = data[request_bytes:]
        client.begun = data
        return True

    def _answer(self, client: _Client, request: bytes, head_bytes: int) -> None:
        at = request.find(_OPERATION) + len(_OPERATION)
        operation = request[at : at + 7]
        if operation == b"Receive":
            self._receives += 1
            self._receive(client, head_bytes, request)
        elif operation == b"DeleteM":
            entries = request.count(b'"ReceiptHandle"', head_bytes)
            self._deleted += entries
            self._send(client, _DELETED[entries], receive=False)
            if self._deleted == self._load.messages:
                self._report()
        else:
            self._send(
                client, _ATTRIBUTES if request.find(b"GetQueueAttributes", at) > 0 else _QUEUE_URL, receive=False
            )

    def _receive(self, client: _Client, head_bytes: int, request: bytes) -> None:
        if self._watching:
            self._watching = False
            self._control.send(time.monotonic())
        self._in_flight += 1
        if self._in_flight not in self._widened:
            self._widened[self._in_flight] = time.monotonic() - self._loaded_at
        if self._next_message_at() <= time.monotonic():
            self._give(client)
            return
        self._in_flight -= 1
        wait_seconds = json.loads(request[head_bytes:]).get("WaitTimeSeconds", 0)
        heapq.heappush(self._long_polls, (time.monotonic() + wait_seconds, id(client), client))

    def _next_message_at(self) -> float:
        """When the next message is there; infinity after the last."""
        if self._given >= self._load.messages:
            return math.inf
        return self._loaded_at + (self._given + 1) / self._load.per_second

    def _give(self, client: _Client) -> None:
        count = min(BATCH_SIZE, self._load.messages - self._given)
        if self._load.per_second < math.inf:
            there = int((time.monotonic() - self._loaded_at) * self._load.per_second) - self._given
            count = min(count, max(1, there))
        answer = self._messages.answer(self._given, count)
        self._given += count
        self._send(client, answer, receive=True)

    def _send(self, client: _Client, answer: bytes, *, receive: bool) -> None:
        if self._load.latency_seconds:
            self._delayed.append((time.monotonic() + self._load.latency_seconds, client, answer, receive))
            return
        self._in_flight -= receive
        _send_now(client, answer)

    def _send_due(self) -> float:
        """Send what is due; returns how long there is nothing to send, in seconds."""
        delayed, polls = self._delayed, self._long_polls
        if not delayed and not polls:
            return -1
        now = time.monotonic()
        while delayed and delayed[0][0] <= now:
            _, client, answer, receive = delayed.popleft()
            self._in_flight -= receive
            _send_now(client, answer)
        while polls and self._next_message_at() <= now:
            self._in_flight += 1
            self._give(heapq.heappop(polls)[-1])
        while polls and polls[0][0] <= now:
            _send_now(heapq.heappop(polls)[-1], _EMPTY)
        next_at = delayed[0][0] if delayed else math.inf
        if polls:
            next_at = min(next_at, polls[0][0], self._next_message_at())
        return max(0.0, next_at - now) if next_at < math.inf else -1

    def _report(self) -> None:
        self._control.send(
            Report(
                totals=self._messages.totals(self._given),
                deleted=self._deleted,
                seconds=time.monotonic() - self._loaded_at,
                cpu_seconds=time.process_time() - self._cpu_before,
                receives=self._receives,
                widened_after_seconds=self._widened,
            ),
        )


def serve(control: Control, certificate: tuple[str, str] | None) -> None:
    """Say the port, then serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
    server = Server(control, context)
    control.send(server.port)
    server.run()


def _send_now(client: _Client, answer: bytes) -> None:
    try:
        if client.socket.send(answer) < len(answer):
            raise RuntimeError("an answer is larger than the socket's buffer")
    except OSError:
        return  # the client is gone; its connection is closed when that is read
