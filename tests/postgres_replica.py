"""A ledger in PostgreSQL, driven as the consumer's loop drives it, and a proxy to put before the server."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from exporter.events.event import Event
from exporter.ledger import Completed, Delivery, QueueBatch, QueueIdentity, Snapshot
from exporter.ledger.postgres.ledger import PostgresLedger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

DEADLINE_SECONDS = 60
QUEUE = QueueIdentity("orders", "arn:aws:sqs:eu-central-1:123456789012:orders", 30, 86_400)


def new_id() -> bytes:
    """Make an id that no other message has."""
    return os.urandom(16)


def event(*series: str, nano: int = 10, at: float | None = 5.0, event_id: bytes | None = None) -> Event:
    """Make an event; without a type it is a purchase."""
    return Event(series or ("purchase",), nano, at, event_id)


def purchases(number: int) -> list[Delivery]:
    """Make new messages."""
    return [Delivery(new_id(), event()) for _ in range(number)]


def assert_accounted(snapshot: Snapshot) -> None:
    """Every delivery is counted, a duplicate, rejected or released."""
    rest = snapshot.duplicate + sum(snapshot.rejected.values()) + sum(snapshot.released.values())
    assert snapshot.received == snapshot.counted + snapshot.events_forgotten + rest


class Replica:
    """One ledger and what the loop does with it. Fails the test where something takes longer than a minute."""

    def __init__(
        self,
        url: str,
        *,
        queues: Iterable[QueueIdentity] = (QUEUE,),
        wait: bool = True,
        **settings: Any,  # noqa: ANN401 - the ledger's settings
    ) -> None:
        self.ledger = PostgresLedger(url, **settings)
        self._queues = tuple(queues)
        for queue in self._queues:
            self.ledger.bind(queue)
        if wait:
            self.wait_until_bound()

    def wait_until_bound(self) -> None:
        """Wait until deliveries may be submitted."""
        self.until(lambda: self.ledger.problem is None and all(self.ledger.bound(queue.name) for queue in self._queues))

    def until(self, condition: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> None:
        """Drive the ledger until the condition holds; no commit may be under way."""
        give_up_at = time.monotonic() + seconds
        while not condition():
            assert self.ledger.completed() is None
            if condition():
                return
            assert time.monotonic() < give_up_at, self.ledger.problem
            self.wait()

    def wait(self) -> None:
        """Wait as the loop does: for the ledger's descriptor, until its deadline, at most 50 ms."""
        poll = select.poll()
        descriptor, deadline = self.ledger.descriptor(), self.ledger.deadline()
        if descriptor is not None:
            poll.register(*descriptor)
        poll.poll(max(0.0, min(0.05, (deadline or 0.0) - time.monotonic())) * 1000)

    def end(self) -> Completed:
        """Wait for the end of the commit under way."""
        give_up_at = time.monotonic() + DEADLINE_SECONDS
        while (completed := self.ledger.completed()) is None:
            assert time.monotonic() < give_up_at, self.ledger.problem
            self.wait()
        return completed

    def submit(
        self, deliveries: Sequence[Delivery], released: Mapping[str, int] | None = None, queue: str = "orders"
    ) -> None:
        """Begin a commit."""
        self.ledger.submit({queue: QueueBatch(deliveries, released or {})})

    def commit(
        self, deliveries: Sequence[Delivery], released: Mapping[str, int] | None = None, queue: str = "orders"
    ) -> Sequence[bool]:
        """Commit a batch that is to succeed; returns which deliveries were new."""
        self.submit(deliveries, released, queue)
        completed = self.end()
        assert completed.error is None, completed.error
        assert completed.fresh is not None
        return completed.fresh[queue]

    def deliver(self, deliveries: Sequence[Delivery], queue: str = "orders") -> Sequence[bool]:
        """Commit a batch, again until that succeeds: what SQS does with messages that nobody deletes."""
        while True:
            self.until(lambda: self.ledger.problem is None)
            self.submit(deliveries, None, queue)
            completed = self.end()
            if completed.fresh is not None:
                return completed.fresh[queue]

    def beat(self) -> None:
        """Have the replica read what is committed and forget what is due, now instead of within a second."""
        ledger, replica = self.ledger, self.ledger._replica  # noqa: SLF001 - a second at each step would be long
        replica.beat_at = float("-inf")
        for queue in replica.queues.values():
            queue.look_at_all_at = float("-inf")
        self.until(
            lambda: replica.beat_at > 0 and not replica.to_prune and not (ledger._session and ledger._session.busy)  # noqa: SLF001
        )

    def flush(self) -> None:
        """Write what waits."""
        self.ledger.submit({})
        assert self.end().error is None

    def settle(self, deliveries: Iterable[Delivery], queue: str = "orders") -> None:
        """Settle messages and write it."""
        self.ledger.settle(queue, [delivery.message_id for delivery in deliveries])
        self.flush()

    def snapshot(self, queue: str = "orders") -> Snapshot:
        """Return what is committed now, as the speaker."""
        self.until(lambda: self.ledger.speaker)
        self.flush()
        self.until(lambda: self.ledger.speaker)
        snapshot = self.ledger.snapshots[queue]
        assert_accounted(snapshot)
        return snapshot


class Proxy:
    """A TCP proxy on 127.0.0.1 that can hold what is sent, or cut connections after so many messages.

    It reads PostgreSQL's messages in both directions, so a cut is between two of them, or within one: without TLS.
    https://www.postgresql.org/docs/current/protocol-message-formats.html
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.delay_seconds = 0.0
        """One way."""
        self.cut_after: int | None = None
        """Cut the next connection after so many messages, both directions together; None: never."""
        self.cut_within = False
        """Let half of the message through before the cut."""
        self.messages = 0
        """Of the connection that is to be cut."""
        self.flowing = threading.Event()
        """What clients send is held while it is not set."""
        self.flowing.set()
        self.answering = threading.Event()
        """What the server sends is held while it is not set."""
        self.answering.set()
        self.held = threading.Event()
        """Set once something is held."""
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Cut the connections of the clients; the server's side stays until what is held was sent."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for client, _ in pairs:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # without it the thread would accept once more
        self._listener.close()
        self.flowing.set()
        self.answering.set()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.append((client, server))
            budget = None if self.cut_after is None else _Budget(self)
            self.cut_after = None
            threading.Thread(target=self._both_ways, args=(client, server, budget), daemon=True).start()

    def _both_ways(self, client: socket.socket, server: socket.socket, budget: _Budget | None) -> None:
        with client, server:
            back = threading.Thread(target=self._forward, args=(server, client, True, budget), daemon=True)
            back.start()
            self._forward(client, server, False, budget)  # noqa: FBT003 - what a client says first has no type
            back.join()

    def _forward(self, source: socket.socket, sink: socket.socket, typed: bool, budget: _Budget | None) -> None:  # noqa: FBT001
        from_client = not typed
        try:
            for message in _messages(source, typed=typed):
                if self.delay_seconds:
                    time.sleep(self.delay_seconds)
                may_go_on = self.flowing if from_client else self.answering
                if not may_go_on.is_set():
                    self.held.set()
                    may_go_on.wait(DEADLINE_SECONDS)
                if budget is not None and budget.spent():
                    if self.cut_within:
                        sink.sendall(message[: len(message) // 2])
                    break
                sink.sendall(message)
        except OSError:
            pass
        finally:
            for end in (source, sink) if budget is not None or not from_client else (sink,):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


class _Budget:
    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._left = proxy.cut_after or 0
        self._lock = threading.Lock()
        proxy.messages = 0

    def spent(self) -> bool:
        """Count a message; tell whether the connection is to be cut before it."""
        with self._lock:
            if self._left <= 0:
                return True
            self._left -= 1
            self._proxy.messages += 1
            return False


def _messages(source: socket.socket, *, typed: bool) -> Iterator[bytes]:
    """Cut a stream into PostgreSQL's messages: the first one of a client has no type."""
    buffer = b""
    while True:
        chunk = source.recv(65_536)
        if not chunk:
            return
        buffer += chunk
        while True:
            start = 1 if typed else 0
            if len(buffer) < start + 4:
                break
            length = start + int.from_bytes(buffer[start : start + 4], "big")
            if len(buffer) < length:
                break
            yield buffer[:length]
            typed = True
            buffer = buffer[length:]
