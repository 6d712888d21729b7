"""Clients that ask for more than they need, or take nothing of what they asked for: what they cost the others.

benchmarks/greedy_clients.py measures it beside a busy consumer.
"""

from __future__ import annotations

import re
import resource
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from programs import path_of
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from test_web import PATIENCE_SECONDS, ask, connected, is_closed_by_the_server, serving, wait_until

from exporter.web import clients as web_clients
from exporter.web import server as web
from exporter.web.clients import Clients

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    import pytest
    from prometheus_client import Metric

REQUEST = b"GET /metrics HTTP/1.1\r\nHost: exporter\r\n\r\n"
BUFFERS_BYTES = 2 * (web.SEND_BUFFER_BYTES + web.RECEIVE_BUFFER_BYTES) + 65_536
"""And one segment, which may go beyond. Linux doubles what is asked for, for its own bookkeeping: https://man7.org/linux/man-pages/man7/socket.7.html"""


class Large(Collector):
    """An exposition of about a megabyte that is another one at each collection."""

    def __init__(self) -> None:
        self.collected = 0

    def collect(self) -> Iterable[Metric]:
        """Give it."""
        self.collected += 1
        family = GaugeMetricFamily("large", "L.", labels=("name",))
        for n in range(50):
            family.add_metric((f"{n}" * 10_000,), self.collected)
        yield family


def large_registry() -> CollectorRegistry:
    """Make a registry of it."""
    registry = CollectorRegistry()
    registry.register(Large())
    return registry


def kernel_bytes(port: int) -> list[int]:
    """Return what the kernel keeps for each of the server's connections: received, to be sent, set aside."""
    command = [path_of("ss", "iproute2"), "-tmnH", "state", "established", "sport", "=", f":{port}"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [
        sum(int(size) for size in re.findall(r"[(,][rwf](\d+)", line))
        for line in listed.splitlines()
        if "skmem" in line
    ]


def resident_bytes() -> int:
    """Return the resident memory of this process, in which the server runs."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_pipelined_requests_take_turns_with_other_connections() -> None:
    """A connection that sends 300 requests at once gets its answers one at a time; a scrape beside it comes first."""
    with serving() as server, connected(server) as greedy:
        greedy.sendall(REQUEST * 300)
        assert greedy.recv(65536).count(b"HTTP/1.1 200 OK") == 1
        began = time.monotonic()
        assert ask(server).status == 200
        assert time.monotonic() - began < 1
        assert greedy.recv(65536).count(b"HTTP/1.1 200 OK") == 1


def test_a_crowd_that_pipelines_takes_no_scrapers_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 300 greedy clients for 50 places the longest waiting go, no scraper does; all are told of the end."""
    monkeypatch.setattr(web, "max_connections", lambda: 50)
    with serving() as server, ExitStack() as stack:
        scraper = stack.enter_context(connected(server))
        scraper.sendall(REQUEST)
        assert scraper.recv(65536).startswith(b"HTTP/1.1 200 OK")
        crowd: list[socket.socket] = []
        for _ in range(300):
            crowd.append(stack.enter_context(connected(server)))
            crowd[-1].sendall(REQUEST * 50)
        assert ask(server).status == 200
        scraper.sendall(REQUEST)
        assert scraper.recv(65536).startswith(b"HTTP/1.1 200 OK")
        assert crowd[-1].recv(15) == b"HTTP/1.1 200 OK"
        server.stop()
        assert all(is_closed_by_the_server(greedy) for greedy in crowd)


def test_parallel_scrapes_share_an_exposition() -> None:
    """Two hundred scrapes at once cost a few collections, and all are answered."""
    large = Large()
    registry = CollectorRegistry()
    registry.register(large)
    with serving(registry) as server, ExitStack() as stack:
        clients = [stack.enter_context(connected(server)) for _ in range(200)]
        for client in clients:
            client.sendall(REQUEST.replace(b"\r\n\r\n", b"\r\nAccept-Encoding: gzip\r\n\r\n"))
        assert {client.recv(15) for client in clients} == {b"HTTP/1.1 200 OK"}
        assert large.collected < 50


def test_deaf_clients_cost_a_bounded_amount_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's buffers are small, and answers that are not taken are dropped where there are too many of them."""
    monkeypatch.setattr(web_clients, "MAX_UNTAKEN_BYTES", 8_000_000)
    monkeypatch.setattr(web_clients, "ANSWER_SECONDS", 3600.0)
    with serving(large_registry()) as server, ExitStack() as stack:
        ask(server)
        before = resident_bytes()
        for n in range(200):
            stack.enter_context(connected(server)).sendall(REQUEST)
            if not n % 10:
                assert ask(server).status == 200
        assert resident_bytes() - before < 100_000_000
        kept = kernel_bytes(server.port)
        assert 0 < max(kept) <= BUFFERS_BYTES


class FakeStream:
    """A connection on which an answer is being sent, or not."""

    def __init__(self, *, deaf: bool = True) -> None:
        self.deaf = deaf
        self.closed = False
        self.socket = self

    def setsockopt(self, *_: object) -> None:
        """Take a socket's option."""

    def writing(self) -> bool:
        """Whether it is."""
        return self.deaf

    def close(self) -> None:
        """Note it."""
        self.closed = True


def answered(clients: Clients, answer: bytes, **settings: Any) -> FakeStream:  # noqa: ANN401 - as FakeStream takes them
    """Let a client come, ask and be sent the answer."""
    stream: Any = FakeStream(**settings)
    clients.on_connect(stream)
    clients.on_request(stream)
    clients.on_answer(stream, answer)
    assert isinstance(stream, FakeStream)
    return stream


def test_who_takes_no_answer_for_longest_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that several clients are sent count once, and those of clients that took them not at all."""
    monkeypatch.setattr(web_clients, "MAX_UNTAKEN_BYTES", 25)
    clients = Clients(10, busy=lambda: False)
    shared, second, third = b"a" * 10, b"b" * 10, b"c" * 10
    deaf = [answered(clients, shared), answered(clients, shared), answered(clients, second)]
    quick = answered(clients, third, deaf=False)
    assert not any(stream.closed for stream in (*deaf, quick))
    deaf.append(answered(clients, third))
    answered(clients, b"d", deaf=False)
    assert [stream.closed for stream in deaf] == [True, True, False, False]
    assert not quick.closed
    assert len(clients) == 4


def test_who_waits_for_an_answer_is_not_the_one_to_go() -> None:
    """At the limit newcomers take the place of those who were answered, or who ask nothing."""
    clients = Clients(2, busy=lambda: False)
    scraper: Any = FakeStream(deaf=False)
    clients.on_connect(scraper)
    clients.on_request(scraper)
    newcomers = [FakeStream(deaf=False) for _ in range(3)]
    for newcomer in newcomers:
        clients.on_connect(newcomer)  # type: ignore[arg-type]
    assert [scraper.closed, *(newcomer.closed for newcomer in newcomers)] == [False, True, True, False]
    clients.on_answer(scraper, b"x")
    clients.on_connect(FakeStream(deaf=False))  # type: ignore[arg-type]
    assert scraper.closed


def test_an_answer_waits_where_the_last_on_its_connection_was_just_now() -> None:
    """The first comes at once, as does any that is asked for now and then."""
    now = [0.0]
    clients = Clients(10, busy=lambda: False, monotonic=lambda: now[0])
    stream: Any = FakeStream()
    clients.on_connect(stream)
    assert clients.on_request(stream) == 0
    assert clients.on_request(stream) == web_clients.ANSWER_INTERVAL_SECONDS
    now[0] = 10
    assert clients.on_request(stream) == 0


def test_while_the_server_is_busy_only_those_who_ask_again_soon_wait_longer() -> None:
    """A second request waits until the last answer is some seconds old; a first one does not, nor one after a while."""
    now = [0.0]
    clients = Clients(10, busy=lambda: True, monotonic=lambda: now[0])
    stream: Any = FakeStream()
    clients.on_connect(stream)
    assert clients.on_request(stream) == 0
    now[0] = 0.4
    assert 0.5 <= (clients.on_request(stream) + 0.4) / web_clients.LONG_ANSWER_INTERVAL_SECONDS <= 1
    now[0] = 20
    assert clients.on_request(stream) == 0


def test_the_time_for_taking_an_answer_begins_when_it_is_sent() -> None:
    """Not while it waits to be made or for its turn."""
    now = [0.0]
    clients = Clients(10, busy=lambda: True, monotonic=lambda: now[0])
    stream: Any = FakeStream()
    clients.on_connect(stream)
    clients.on_request(stream)
    now[0] = 5.0
    clients.on_answer(stream, b"x")
    now[0] += web_clients.ANSWER_SECONDS - 0.1
    clients.drop_late()
    assert not stream.closed
    now[0] += 0.1
    clients.drop_late()
    assert stream.closed


def parked(clients: Clients) -> FakeStream:
    """Let a client come that is served later."""
    stream: Any = FakeStream(deaf=False)
    clients.on_connect(stream)
    clients.park(stream, ("127.0.0.1", 1))
    assert isinstance(stream, FakeStream)
    return stream


def test_who_is_parked_is_served_when_the_server_is_not_busy() -> None:
    """One after the other, who waits for longest first."""
    busy = [True]
    clients = Clients(10, busy=lambda: busy[0])
    first, second = parked(clients), parked(clients)
    assert clients.unpark() is None
    busy[0] = False
    served: list[Any] = [clients.unpark() for _ in range(3)]
    assert served == [(first, ("127.0.0.1", 1)), (second, ("127.0.0.1", 1)), None]
    assert len(clients) == 2


def test_who_is_parked_at_the_end_is_closed() -> None:
    """Tornado closes the others."""
    clients = Clients(10, busy=lambda: True)
    served, waiting = answered(clients, b"x", deaf=False), parked(clients)
    clients.drop_parked()
    assert (served.closed, waiting.closed, clients.parked) == (False, True, 0)


def test_who_pipelines_is_answered_seldom() -> None:
    """Busy or not."""
    clients = Clients(10, busy=lambda: False, monotonic=lambda: 5.0)
    stream: Any = parked(clients)
    clients.unpark()
    waits = [clients.on_request(stream) / web_clients.LONG_ANSWER_INTERVAL_SECONDS for _ in range(3)]
    assert waits[0] == 0
    assert 0.5 <= waits[1] <= 1
    assert 0.5 <= waits[2] - waits[1] <= 1


def test_who_is_parked_gives_way_to_newcomers_before_an_idle_scraper_does() -> None:
    """Otherwise who pipelines could make a scraper connect anew each time."""
    clients = Clients(3, busy=lambda: True)
    scraper = answered(clients, b"x", deaf=False)
    greedy = [parked(clients) for _ in range(4)]
    assert [stream.closed for stream in greedy] == [True, True, False, False]
    assert not scraper.closed
    assert clients.parked == 2


def test_requests_of_a_client_that_was_dropped_are_not_worked_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of pipelined requests may have come before the end; stopping does not wait for them either."""
    monkeypatch.setattr(web_clients, "ANSWER_INTERVAL_SECONDS", 0.0)
    registry = CollectorRegistry()
    asked = Counter("asked", "A.", registry=registry)

    class Counting(Collector):
        def collect(self) -> Iterable[Metric]:
            asked.inc()
            return ()

    registry.register(Counting())
    with serving(registry) as server, ExitStack() as stack:
        for _ in range(50):
            client = stack.enter_context(connected(server))
            client.sendall(REQUEST * 350)
        wait_until(lambda: "asked_total" in ask(server).text, "nobody was answered")
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < PATIENCE_SECONDS / 2
        assert not server.running
