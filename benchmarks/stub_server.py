"""The stub's own process: one thread, bare sockets, answers that are rendered already."""

from __future__ import annotations

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
from stub_queue import LongPolls, Queue, arrivals

if TYPE_CHECKING:
    from multiprocessing.connection import Connection as Control

ACCOUNT = "123456789012"
_RECEIVE_BYTES = 65_536
_OPERATION = b"AmazonSQS."
_ACCOUNT_PATH = f"/{ACCOUNT}/".encode()
_EMPTY = http_answer(b"{}")
_DELETED = [
    http_answer(json.dumps({"Successful": [{"Id": str(slot)} for slot in range(count)], "Failed": []}).encode())
    for count in range(BATCH_SIZE + 1)
]


def queue_names(queues: int) -> tuple[str, ...]:
    """Name so many queues."""
    return ("events",) if queues == 1 else tuple(f"events-{number:03}" for number in range(queues))


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
        self._long_polls: LongPolls[_Client] = LongPolls()
        self._queues: dict[bytes, Queue] = {}
        self._delayed: deque[tuple[float, _Client, bytes, bool]] = deque()
        self._load = Load(0)
        self._messages = Messages(1)
        self._given = self._deleted = self._receives = self._in_flight = self._all_requests = 0
        self._arrived = self._requests = 0
        self._waited_seconds = 0.0
        self._loaded_at = self._cpu_before = self._measured_until = 0.0
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
        self._long_polls.drop(client)
        client.socket.close()

    def _obey(self, order: Load | str) -> None:
        if isinstance(order, Load):
            self._take_over(order)
        elif order == "watch":
            self._watching = True
        elif order == "release":
            while (client := self._long_polls.over(math.inf)) is not None:
                _send_now(client, _EMPTY)
        else:
            self._control.send(self._receives if order == "receives" else self._all_requests)

    def _take_over(self, load: Load) -> None:
        """Put the messages of the load into the queues; long polls that wait there wait for them."""
        self._messages = Messages(load.types)
        self._load = load
        self._given = self._deleted = self._receives = self._in_flight = self._arrived = self._requests = 0
        self._waited_seconds = 0.0
        self._widened = {}
        names, times = queue_names(load.queues), arrivals(load)
        for queue in self._queues.values():
            queue.fill(0, ())
        for number, name in enumerate(names):
            share = load.messages // load.queues + (number < load.messages % load.queues)
            self._queue(name.encode()).fill(share, times[number])
        last_at = max((of_queue[-1] for of_queue in times if of_queue), default=0.0)
        self._loaded_at, self._cpu_before = time.monotonic(), time.process_time()
        self._measured_until = self._loaded_at + last_at

    def _queue(self, name: bytes) -> Queue:
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = Queue()
        return queue

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
        self._all_requests += 1
        self._requests += self._measures(time.monotonic())
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
            self._send(client, _description(json.loads(request[head_bytes:])), receive=False)

    def _measures(self, now: float) -> bool:
        return self._loaded_at + self._load.measured_after_seconds <= now < self._measured_until

    def _receive(self, client: _Client, head_bytes: int, request: bytes) -> None:
        now = time.monotonic()
        if self._watching:
            self._watching = False
            self._control.send(now)
        self._in_flight += 1
        if self._in_flight not in self._widened:
            self._widened[self._in_flight] = now - self._loaded_at
        at = request.find(_ACCOUNT_PATH, head_bytes) + len(_ACCOUNT_PATH)
        queue = self._queue(request[at : request.find(b'"', at)])
        if self._give(client, queue, now):
            return
        self._in_flight -= 1
        wait_seconds = json.loads(request[head_bytes:]).get("WaitTimeSeconds", 0)
        self._long_polls.add(queue, client, now + wait_seconds)

    def _give(self, client: _Client, queue: Queue, now: float) -> bool:
        """Answer with the messages that are there; returns whether there are any."""
        count = queue.there(now - self._loaded_at)
        if not count:
            return False
        times = queue.take(count)
        for arrived in times:
            if self._measures(self._loaded_at + arrived):
                self._arrived += 1
                self._waited_seconds += now - self._loaded_at - arrived
        waited_seconds = now - self._loaded_at - (times[0] if times else 0.0)
        answer = self._messages.answer(self._given, count, time.time() - waited_seconds)
        self._given += count
        self._send(client, answer, receive=True)
        return True

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
        next_at = self._serve_long_polls(now) if polls else math.inf
        if delayed:
            next_at = min(next_at, delayed[0][0])
        return max(0.0, next_at - now) if next_at < math.inf else -1

    def _serve_long_polls(self, now: float) -> float:
        """Answer those for which a message has come or whose time is over; returns when there is more to do."""
        polls = self._long_polls
        next_at = math.inf
        for queue in polls.queues() if self._given < self._load.messages else ():
            while queue.there(now - self._loaded_at) and (client := polls.first(queue)) is not None:
                self._in_flight += 1
                self._give(client, queue, now)
            next_at = min(next_at, self._loaded_at + queue.next_at())
        while (client := polls.over(now)) is not None:
            _send_now(client, _EMPTY)
        return min(next_at, polls.next_end())

    def _report(self) -> None:
        self._control.send(
            Report(
                totals=self._messages.totals(self._given),
                deleted=self._deleted,
                seconds=time.monotonic() - self._loaded_at,
                cpu_seconds=time.process_time() - self._cpu_before,
                receives=self._receives,
                widened_after_seconds=self._widened,
                arrived=self._arrived,
                requests=self._requests,
                mean_wait_seconds=self._waited_seconds / self._arrived if self._arrived else 0.0,
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


def _description(request: dict[str, object]) -> bytes:
    """Answer GetQueueUrl and GetQueueAttributes."""
    if "QueueName" in request:
        url = f"http://sqs.eu-west-1.amazonaws.com/{ACCOUNT}/{request['QueueName']}"
        return http_answer(json.dumps({"QueueUrl": url}).encode())
    name = str(request["QueueUrl"]).rpartition("/")[2]
    attributes = {
        "QueueArn": f"arn:aws:sqs:eu-west-1:{ACCOUNT}:{name}",
        "VisibilityTimeout": "30",
        "MessageRetentionPeriod": "345600",
        "ApproximateNumberOfMessages": "0",
        "ApproximateNumberOfMessagesNotVisible": "0",
        "ApproximateNumberOfMessagesDelayed": "0",
    }
    return http_answer(json.dumps({"Attributes": attributes}).encode())


def _send_now(client: _Client, answer: bytes) -> None:
    try:
        if client.socket.send(answer) < len(answer):
            raise RuntimeError("an answer is larger than the socket's buffer")
    except OSError:
        return  # the client is gone; its connection is closed when that is read
