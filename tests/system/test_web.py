"""The web server, over real connections: what it answers, and what strangers can't do to it."""

from __future__ import annotations

import base64
import gzip
import http.client
import logging
import os
import resource
import select
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bcrypt
import pytest
from certificates import Authority
from landing_examples import page
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.errors import WrongSettingError
from exporter.web import LandingPage, WebServer
from exporter.web import clients as web_clients
from exporter.web import server as web
from exporter.web.clients import Clients
from exporter.web.config import WebConfig, read_web_config
from exporter.web.zero_first import ZeroFirst

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_SECONDS = 10.0
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS_2 = "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
MULTIPART = b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary=\r\n"


def registry_of_one() -> CollectorRegistry:
    """Make a registry with one counter at 3."""
    registry = CollectorRegistry()
    Counter("apples_total", "Apples.", registry=registry).inc(3)
    return registry


@contextmanager
def serving(registry: CollectorRegistry | None = None, **settings: Any) -> Iterator[WebServer]:  # noqa: ANN401 - as the server takes them
    """Run a server on a free port of 127.0.0.1."""
    defaults: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": 0,
        "healthy": lambda: True,
        "ready": lambda: (True, "Ready."),
        "page": lambda: page(time.monotonic()),
    }
    server = WebServer(registry or registry_of_one(), **{**defaults, **settings})
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Answer:
    """An answer of the server, read whole."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def text(self) -> str:
        """The body, unpacked."""
        packed = self.headers.get("Content-Encoding") == "gzip"
        return (gzip.decompress(self.body) if packed else self.body).decode()


def ask(
    server: WebServer,
    path: str = "/metrics",
    method: str = "GET",
    *,
    tls: ssl.SSLContext | None = None,
    body: bytes | None = None,
    **headers: str,
) -> Answer:
    """Make one request over a connection of its own; headers are named with underscores."""
    if tls is None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
    else:
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS, context=tls)
    try:
        connection.request(method, path, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})
        return Answer(connection.getresponse())
    finally:
        connection.close()


def basic(user: str, password: str) -> str:
    """Return the value of the header."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def connected(server: WebServer) -> socket.socket:
    """Open a bare connection."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS)


def is_closed_by_the_server(connection: socket.socket) -> bool:
    """Wait for the end of the connection, whatever comes before it."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Make an authority for this module."""
    return Authority(tmp_path_factory.mktemp("authority"))


def client_context(authority: Authority) -> ssl.SSLContext:
    """Make a context that trusts the authority alone."""
    return ssl.create_default_context(cafile=str(authority.certificate))


def tls_file(directory: Path, authority: Authority, name: str = "server", more: str = "") -> str:
    """Write a configuration with a fresh certificate and return its path."""
    signed = authority.sign(name)
    path = directory / f"{name}.yml"
    path.write_text(f"tls_server_config:\n  cert_file: {signed.certificate}\n  key_file: {signed.key}\n{more}")
    return str(path)


# What it answers


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8"),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain;version=1.0.0", "text/plain; version=1.0.0; charset=utf-8; escaping=underscores"),
        ("application/openmetrics-text", OPENMETRICS),
        (
            PROMETHEUS_3,
            OPENMETRICS + "; escaping=allow-utf-8",
        ),
        (PROMETHEUS_2, "text/plain; version=0.0.4; charset=utf-8"),
        # Versions nobody has heard of fall back to what everyone reads.
        ("application/openmetrics-text; version=9.9.9", "text/plain; version=0.0.4; charset=utf-8"),
        ("application/openmetrics-text; version=a.b", "text/plain; version=0.0.4; charset=utf-8"),
        ("text/plain; version=1.0.0x; escaping=évil", "text/plain; version=0.0.4; charset=utf-8"),
    ],
)
def test_the_format_asked_for_is_given_and_named(accept: str, content_type: str) -> None:
    """The Content-Type is exactly that of the body: Prometheus 3 fails a scrape over a wrong one."""
    with serving() as server:
        answer = ask(server, Accept=accept)
    assert (answer.status, answer.headers["Content-Type"]) == (200, content_type)
    parse = parse_openmetrics if "openmetrics" in content_type else parse_text
    assert [s.value for f in parse(answer.text) for s in f.samples if s.name == "apples_total"] == [3.0]


def test_gzip_is_used_where_it_is_accepted() -> None:
    """Prometheus always accepts it; a person with curl sees text."""
    with serving() as server:
        packed, plain = ask(server, Accept_Encoding="gzip"), ask(server, Accept_Encoding="identity")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert packed.text == plain.text


def test_gzip_that_is_refused_is_not_used() -> None:
    """A q of 0 says no."""
    with serving() as server:
        assert "Content-Encoding" not in ask(server, Accept_Encoding="gzip;q=0, identity").headers


@pytest.mark.parametrize("target", ["http://other.example:80/metrics?name[]=apples_total", "https://127.0.0.1/metrics"])
def test_an_absolute_uri_is_served_like_its_path(target: str) -> None:
    """Proxies send it.

    Servers have to take it: https://www.rfc-editor.org/rfc/rfc9112.html#name-absolute-form
    """
    with serving() as server:
        answer = ask(server, target)
    assert (answer.status, "apples_total 3.0" in answer.text) == (200, True)


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/metrics", "metrics", "*", "http://[", "127.0.0.1:80"])
def test_a_target_that_is_neither_path_nor_uri_is_nothing(target: str) -> None:
    """It is answered like everything else that is not there."""
    with serving() as server, connected(server) as connection:
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 404")


def test_only_the_names_asked_for_are_shown() -> None:
    """`?name[]=` narrows; a name that nobody has gives an empty, valid answer."""
    registry = registry_of_one()
    Gauge("pears", "Pears.", registry=registry).set(1)
    with serving(registry) as server:
        shown = {q: ask(server, f"/metrics?{q}").text for q in ("name[]=pears", "name%5B%5D=nothing", "other=1")}
    assert "apples_total 3.0" not in shown["name[]=pears"]
    assert "pears 1.0" in shown["name[]=pears"]
    assert shown["name%5B%5D=nothing"] == ""
    assert "apples_total 3.0" in shown["other=1"]


def test_created_timestamps_are_shown_where_wanted() -> None:
    """Off they are in no format; on they are in OpenMetrics alone."""
    for wanted, accept, shown in ((False, OPENMETRICS, False), (True, OPENMETRICS, True), (True, "", False)):
        with serving(created_timestamps=wanted) as server:
            assert ("apples_created" in ask(server, Accept=accept).text) is shown


def test_health_and_readiness_say_so_in_a_sentence() -> None:
    """200 or 503 for machines, a sentence for people."""
    state: dict[str, Any] = {"healthy": True, "why_not": None}
    with serving(
        healthy=lambda: state["healthy"], ready=lambda: (state["why_not"] is None, state["why_not"] or "Ready.")
    ) as server:
        well = [ask(server, path) for path in ("/-/healthy", "/-/ready")]
        state.update(healthy=False, why_not="The queue orders does not exist (yet).")
        ill = [ask(server, path) for path in ("/-/healthy", "/-/ready")]
    assert [(a.status, a.text) for a in well] == [(200, "Healthy.\n"), (200, "Ready.\n")]
    assert [(a.status, a.text) for a in ill] == [
        (503, "Not healthy: the loop has stood still for a minute.\n"),
        (503, "The queue orders does not exist (yet).\n"),
    ]


def test_the_landing_page_shows_facts_and_links_and_loads_nothing() -> None:
    """Name, version, state, queues and links, under a policy that lets nothing in from elsewhere."""
    with serving(page=lambda: page(100.0)) as server:
        answer, packed = ask(server, "/"), ask(server, "/", Accept_Encoding="gzip")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    for part in ("sqs-event-exporter", "0.1.0", "shop-events", "pageview", "Ready.", "<svg"):
        assert part in answer.text
    for link in ("/metrics", "/-/healthy", "/-/ready"):
        assert f'href="{link}"' in answer.text
    assert packed.headers["Content-Encoding"] == "gzip"
    assert packed.text == answer.text


def test_a_page_that_fails_leaves_the_scrapes_alone(caplog: pytest.LogCaptureFixture) -> None:
    """Its counts are taken by the server's own thread, which goes on."""

    def fail() -> LandingPage:
        raise RuntimeError("no snapshot")

    with serving(page=fail) as server, caplog.at_level(logging.INFO):
        assert ask(server, "/").status == 500
        assert ask(server).status == 200
        assert server.running
    assert {record.getMessage() for record in caplog.records} == {"page failed"}


@pytest.mark.parametrize("path", ["/metrics/", "/metrics/../", "/favicon.ico", "/-/", "/.git/config", "//", "/METRICS"])
def test_everything_else_is_nothing_and_lists_nothing(path: str) -> None:
    """A sentence, whatever is asked for."""
    with serving() as server:
        answer = ask(server, path)
    assert (answer.status, answer.text) == (404, "There is nothing here.\n")


@pytest.mark.parametrize("path", ["/metrics", "/-/healthy", "/-/ready", "/", "/nothing"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"])
def test_only_get_and_head_are_answered(method: str, path: str) -> None:
    """Nothing here can be changed, and the answer says which methods there are."""
    with serving() as server:
        answer = ask(server, path, method, body=b"x=1" if method == "POST" else None)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert answer.text == "Only GET and HEAD are answered.\n"


@pytest.mark.parametrize("path", ["/metrics", "/-/healthy", "/-/ready", "/", "/nothing"])
def test_head_is_get_without_the_body(path: str) -> None:
    """Same status, same length, nothing after the headers."""
    with serving() as server:
        get, head = ask(server, path), ask(server, path, "HEAD")
    assert (head.status, head.body) == (get.status, b"")
    assert head.headers["Content-Length"] == get.headers["Content-Length"] == str(len(get.body))


def test_the_server_does_not_say_what_it_is_made_of() -> None:
    """A version is an invitation."""
    with serving() as server:
        assert all("Server" not in ask(server, path).headers for path in ("/", "/metrics", "/nothing"))


def test_the_metrics_may_be_elsewhere() -> None:
    """The path is as set, the landing page links to it, and the usual one is gone; at / it takes the page's place."""
    with serving(telemetry_path="/internal/metrics.txt") as server:
        assert "apples_total 3.0" in ask(server, "/internal/metrics.txt").text
        assert ask(server, "/internal/metricsXtxt").status == 404
        assert ask(server, "/metrics").status == 404
        assert 'href="/internal/metrics.txt"' in ask(server, "/").text
    with serving(telemetry_path="/") as server:
        assert "apples_total 3.0" in ask(server, "/").text


def test_a_collector_that_fails_is_a_500_with_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A failed scrape is told to Prometheus and to the log, and the next one works."""
    broken = [True]

    class Broken:
        def describe(self) -> list[Any]:
            return []

        def collect(self) -> list[Any]:
            if broken[0]:
                raise RuntimeError("the pears are gone")
            return []

    registry = registry_of_one()
    registry.register(Broken())
    with serving(registry) as server, caplog.at_level(logging.INFO):
        answer = ask(server)
        broken[0] = False
        assert ask(server).status == 200
    assert (answer.status, answer.text) == (500, "This failed; the exporter's log says why.\n")
    assert [record.getMessage() for record in caplog.records] == ["page failed"]
    assert vars(caplog.records[0])["error"] == "RuntimeError: the pears are gone"


def test_failures_without_end_do_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Some lines a minute tell as much as a thousand."""

    def fail() -> str:
        raise RuntimeError("again")

    with serving(ready=fail) as server, caplog.at_level(logging.INFO):
        assert {ask(server, "/-/ready").status for _ in range(30)} == {500}
    assert 1 <= len(caplog.records) <= 10


# Where it listens


def test_the_url_leads_to_it() -> None:
    """What the startup line prints can be opened, also where all addresses are listened on."""
    for host in ("127.0.0.1", "localhost", ""):
        with serving(host=host) as server:
            assert server.url == f"http://{host or 'localhost'}:{server.port}"
            assert ask(server).status == 200


def has_ipv6() -> bool:
    """Whether this machine has ::1."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
@pytest.mark.parametrize("host", ["", "::", "0:0::0"])
def test_no_host_means_both_families(host: str) -> None:
    """127.0.0.1 and ::1 answer on one port, as with Go's [::], and a host in IPv6 is written in brackets."""
    with serving(host=host) as server:
        for address in ("127.0.0.1", "::1"):
            connection = http.client.HTTPConnection(address, server.port, timeout=PATIENCE_SECONDS)
            connection.request("GET", "/-/healthy")
            assert connection.getresponse().read() == b"Healthy.\n"
            connection.close()
    with serving(host="::1") as server:
        assert server.url == f"http://[::1]:{server.port}"


def test_an_address_that_can_not_be_had_is_a_sentence_at_the_start() -> None:
    """The flag, the address and the way out, with the exit code of a wrong setting."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        cases = {
            ("127.0.0.1", port): f"127.0.0.1:{port}, which another program listens on: end that one or choose",
            ("192.0.2.1", 9797): "192.0.2.1:9797, which is no address of this machine: use one that is",
            ("no-such-host.invalid", 9797): "no-such-host.invalid:9797, whose host has no address: use an address",
        }
        for (host, number), sentence in cases.items():
            with pytest.raises(WrongSettingError) as caught, serving(host=host, port=number):
                pass
            assert str(caught.value).startswith(f"--web.listen-address is {sentence}")
            assert caught.value.exit_code == 2


def test_stopping_is_quick_and_frees_the_port_whoever_is_connected() -> None:
    """Silent, half-sent and idle connections do not hold it up, and a second stop is harmless."""
    with serving() as server, ExitStack() as stack:
        for opening in (b"", b"GET /metrics HT", b"GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n"):
            for _ in range(20):
                stack.enter_context(connected(server)).sendall(opening)
        ask(server)
        port, start = server.port, time.monotonic()
        server.stop()
        assert time.monotonic() - start < web_clients.FIRST_REQUEST_SECONDS / 2
        server.stop()
        with serving(port=port) as successor:
            assert ask(successor).status == 200


# Strangers


@pytest.mark.parametrize("size", [20_000, 1_000_000])
def test_a_header_that_is_too_large_ends_the_connection(size: int) -> None:
    """16 KiB are plenty; nobody makes the server keep more."""
    with serving() as server, connected(server) as connection, suppress(ConnectionError):
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\nX: " + b"a" * size + b"\r\n\r\n")
        assert not connection.recv(4096).startswith(b"HTTP/1.1 200")
        assert is_closed_by_the_server(connection)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /metrics?name[]=%ff%fe HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        MULTIPART + b"Content-Length: 3\r\n\r\nabc",
        b"\x00" * 5000 + b"\r\n\r\n",
    ],
)
def test_garbage_is_turned_away_without_a_word_in_the_log(garbage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """No garbage is answered with 200, fills the log or holds up the next scrape."""
    with serving() as server, caplog.at_level(logging.DEBUG), connected(server) as connection:
        connection.sendall(garbage)
        status = connection.recv(65536)[:15]
        assert not status.startswith(b"HTTP/1.1 200")
        assert ask(server).status == 200
    assert [r.getMessage() for r in caplog.records if r.name != "asyncio"] == []


@pytest.mark.parametrize("opening", [b"", b"GET /metrics HTTP/1.1\r\nHo"], ids=["silent", "half-sent"])
def test_who_asks_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch, opening: bytes) -> None:
    """A connection without a whole request is closed when its time is over, however slowly it drips."""
    monkeypatch.setattr(web_clients, "FIRST_REQUEST_SECONDS", 0.3)
    monkeypatch.setattr(web, "ROUND_SECONDS", 0.05)
    with serving() as server, connected(server) as connection:
        connection.sendall(opening)
        assert is_closed_by_the_server(connection)


def test_who_sends_half_a_body_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that never ends is not waited for."""
    monkeypatch.setattr(web_clients, "FIRST_REQUEST_SECONDS", 0.3)
    monkeypatch.setattr(web, "ROUND_SECONDS", 0.05)
    with serving() as server, connected(server) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\nab")
        assert is_closed_by_the_server(connection)


def test_who_does_not_take_the_answer_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer nobody reads is not kept in memory for ever."""
    monkeypatch.setattr(web_clients, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(web, "ROUND_SECONDS", 0.05)
    registry = CollectorRegistry()
    gauge = Gauge("large", "Large.", ("name",), registry=registry)
    for n in range(400):
        gauge.labels(f"{n}" * 20_000)
    with serving(registry) as server, connected(server) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n")
        poll = select.poll()
        poll.register(connection, select.POLLHUP | select.POLLERR)
        assert poll.poll(PATIENCE_SECONDS * 1000)


def test_a_scraper_that_leaves_before_its_answer_was_shown_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its next scrape has the 0 of a new series that the lost answer would have had."""
    monkeypatch.setattr(web_clients, "ANSWER_INTERVAL_SECONDS", 1.0)
    apples = Counter("apples", "Apples.", ("sort",), registry=(registry := CollectorRegistry()))
    began_seconds = time.time()
    zero_first = ZeroFirst({"apples_total"}, lambda: began_seconds)
    scrape = b"GET /metrics HTTP/1.1\r\nHost: a\r\nX-Prometheus-Scrape-Timeout-Seconds: 10\r\n\r\n"
    with serving(registry, zero_first=zero_first) as server:
        with connected(server) as connection:
            connection.sendall(scrape)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            apples.labels("new").inc(5)
            # The second answer on a connection waits a little, and by then nobody is there.
            connection.sendall(scrape)
            time.sleep(0.3 * web_clients.ANSWER_INTERVAL_SECONDS)
        time.sleep(0.9 * web_clients.ANSWER_INTERVAL_SECONDS)
        shown = [ask(server, X_Prometheus_Scrape_Timeout_Seconds="10").text for _ in range(2)]
    assert ['apples_total{sort="new"} 0.0' in text for text in shown] == [True, False]


def test_a_connection_is_kept_for_the_next_scrape() -> None:
    """Prometheus asks again on the same connection; it is not a client to be dropped."""
    with serving() as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
        local = set()
        for _ in range(3):
            connection.request("GET", "/metrics")
            assert connection.getresponse().read()
            local.add(connection.sock.getsockname())
        connection.close()
    assert len(local) == 1


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Let this process open some thousand sockets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 6000
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.fail(f"this test opens {wanted} sockets, and the hard limit of descriptors is {hard}: raise it")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


HALF_A_HANDSHAKE = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40


@pytest.mark.parametrize("with_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.usefixtures("many_descriptors")
def test_a_thousand_slow_clients_do_not_hold_up_a_scrape(
    with_tls: bool,  # noqa: FBT001 - a parameter of pytest
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With 1,000 connections silent, half-sent or stuck in the handshake for an hour, each scrape is answered."""
    monkeypatch.setattr(web_clients, "FIRST_REQUEST_SECONDS", 3600.0)
    config = read_web_config(tls_file(tmp_path, authority)) if with_tls else None
    tls = client_context(authority) if with_tls else None
    openings = (b"", HALF_A_HANDSHAKE, b"\x16") if with_tls else (b"", b"G", b"GET /metrics HTTP/1.1\r\nHost:")
    with serving(web_config=config) as server, ExitStack() as stack:
        for n in range(1000):
            stack.enter_context(connected(server)).sendall(openings[n % 3])
        for _ in range(5):
            assert ask(server, tls=tls).status == 200


def test_descriptors_are_left_to_the_rest_of_the_process() -> None:
    """The number of connections is bounded, by half of a small limit of the process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert web_clients.max_connections() == min(web_clients.MAX_CONNECTIONS, soft // 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
    try:
        assert web_clients.max_connections() == 150
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
def test_at_the_limit_the_longest_silent_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A newcomer is served, and the first of the silent ones is the one that goes."""
    monkeypatch.setattr(web_clients, "FIRST_REQUEST_SECONDS", 3600.0)
    with serving() as server, ExitStack() as stack:
        silent = [stack.enter_context(connected(server)) for _ in range(web_clients.MAX_CONNECTIONS)]
        assert ask(server).status == 200
        assert is_closed_by_the_server(silent[0])
        silent[-1].sendall(b"GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n")
        assert silent[-1].recv(4096).startswith(b"HTTP/1.1 200")


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Let this process open nothing more for a while."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (max(int(entry.name) for entry in Path("/proc/self/fd").iterdir()) + 1, hard)
    )
    fillers = []
    try:
        with suppress(OSError):
            while True:
                fillers.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for filler in fillers:
            os.close(filler)


def test_a_process_out_of_descriptors_still_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the process can open nothing more, silent connections are closed for a scrape."""
    request = b"GET /-/healthy HTTP/1.1\r\nHost: a\r\n\r\n"
    monkeypatch.setattr(web_clients, "FIRST_REQUEST_SECONDS", 3600.0)
    with serving() as server, ExitStack() as stack:
        held = [stack.enter_context(connected(server)) for _ in range(20)]
        held[-1].sendall(request)
        assert held[-1].recv(4096).startswith(b"HTTP/1.1 200")
        scraper = stack.enter_context(socket.socket())
        scraper.settimeout(PATIENCE_SECONDS)
        with no_descriptor_left():
            scraper.connect(("127.0.0.1", server.port))
            scraper.sendall(request)
            assert scraper.recv(4096).startswith(b"HTTP/1.1 200")
        assert is_closed_by_the_server(held[0])


class FakeStream:
    """A connection that only knows whether it is closed."""

    def __init__(self) -> None:
        self.closed = False

    def writing(self) -> bool:
        """Say no."""
        return False

    def close(self) -> None:
        """Note it."""
        self.closed = True


def test_a_client_that_asked_may_stay_until_its_next_scrape() -> None:
    """Ten seconds for the first request; then long enough for a scrape a minute, and no longer."""
    now = [0.0]
    clients = Clients(10, busy=lambda: False, monotonic=lambda: now[0])
    silent, scraper = FakeStream(), FakeStream()
    for stream in (silent, scraper):
        clients.on_connect(stream)  # type: ignore[arg-type]
    clients.on_request(scraper)  # type: ignore[arg-type]
    now[0] = 9.9
    clients.drop_late()
    assert (silent.closed, scraper.closed) == (False, False)
    now[0] = 10.0
    clients.drop_late()
    assert (silent.closed, scraper.closed) == (True, False)
    now[0] = 74.9
    clients.drop_late()
    assert (silent.closed, scraper.closed) == (True, False)
    now[0] = 75.0
    clients.drop_late()
    assert (silent.closed, scraper.closed) == (True, True)
    assert len(clients) == 0


def test_the_death_of_its_thread_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw ends the thread, and not in silence: `run` hears of it and ends the process."""
    monkeypatch.setattr(web, "ROUND_SECONDS", 0.01)
    told: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    fails = [False]

    class Failing(Clients):
        def drop_late(self) -> None:
            if fails[0] and not len(self):  # a connection would be left open by the thread that dies
                raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(web, "Clients", Failing)
    with serving() as server:
        assert ask(server).status == 200
        fails[0] = True
        wait_until(lambda: told, "it was not told")
        wait_until(lambda: not server.running, "it still runs")
    assert str(told[0].exc_value) == "nobody foresaw this"


def test_a_thread_that_can_not_begin_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who starts the server is raised what went wrong, such as that there is no memory, and its address is free."""

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(web, "ClientsServer", fail)
    with pytest.raises(MemoryError), serving():
        pass


# TLS


def test_metrics_over_tls(authority: Authority, tmp_path: Path) -> None:
    """A client that knows the authority reads them, and one that speaks plain HTTP gets nothing."""
    with serving(web_config=read_web_config(tls_file(tmp_path, authority))) as server:
        assert server.url == f"https://127.0.0.1:{server.port}"
        assert "apples_total 3.0" in ask(server, tls=client_context(authority)).text
        with pytest.raises((http.client.HTTPException, OSError)):
            ask(server)
        with pytest.raises(ssl.SSLCertVerificationError):
            ask(server, tls=ssl.create_default_context())


def test_an_old_tls_version_is_refused(authority: Authority, tmp_path: Path) -> None:
    """min_version holds."""
    path = tls_file(tmp_path, authority, more="  min_version: TLS13\n")
    old = client_context(authority)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with serving(web_config=read_web_config(path)) as server:
        assert ask(server, tls=client_context(authority)).status == 200
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(server, tls=old)


def test_client_certificates_are_verified(authority: Authority, tmp_path: Path) -> None:
    """With RequireAndVerifyClientCert only who holds a certificate of the CA reads anything."""
    more = f"  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: {authority.certificate}\n"
    path = tls_file(tmp_path, authority, more=more)
    stranger_directory = tmp_path / "stranger"
    stranger_directory.mkdir()
    known, unknown = client_context(authority), client_context(authority)
    for context, signed in ((known, authority.sign("client")), (unknown, Authority(stranger_directory).sign("client"))):
        context.load_cert_chain(signed.certificate, signed.key)
    with serving(web_config=read_web_config(path)) as server:
        assert ask(server, tls=known).status == 200
        for context in (client_context(authority), unknown):
            with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
                ask(server, tls=context)


def serial_of(server: WebServer) -> int:
    """Return the serial number of the certificate that the server shows now."""
    from cryptography import x509  # noqa: PLC0415 - only here

    pem = ssl.get_server_certificate(("127.0.0.1", server.port), timeout=PATIENCE_SECONDS)
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def wait_until(condition: Any, what: str) -> None:  # noqa: ANN401 - a callable that gives anything
    """Ask again and again, for the time of patience."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def test_a_renewed_certificate_is_taken_up(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """New connections see it without a restart; a broken renewal leaves the old one in use, and is told once."""
    monkeypatch.setattr(web, "ROUND_SECONDS", 0.02)
    config = read_web_config(tls_file(tmp_path, authority, "renewed"))
    with serving(web_config=config) as server, caplog.at_level(logging.INFO):
        first = serial_of(server)
        second = authority.sign("renewed")
        wait_until(lambda: serial_of(server) == second.serial, "the renewed certificate was not taken up")
        assert second.serial != first
        caplog.clear()
        second.certificate.write_text("-----BEGIN CERTIFICATE-----\nrubbish\n")
        wait_until(lambda: caplog.records, "the broken renewal was not told")
        for _ in range(10):
            assert serial_of(server) == second.serial
        assert [record.getMessage() for record in caplog.records] == [
            "changed web configuration is wrong, the old one stays in use"
        ]
        third = authority.sign("renewed")
        wait_until(lambda: serial_of(server) == third.serial, "the repaired certificate was not taken up")


@pytest.mark.parametrize(
    "text", ["? [a]\n: b\n", "tls_server_config: [a]\n", "a: !!bool b\n", "basic_auth_users: {a: [b]}\n"]
)
def test_a_change_to_something_that_is_no_configuration_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    """Keys and values of the wrong kind are told once, and the server goes on with what it had."""
    monkeypatch.setattr(web, "ROUND_SECONDS", 0.02)
    path = Path(passwords_file(tmp_path, {"alice": "old"}))
    with serving(web_config=read_web_config(str(path))) as server, caplog.at_level(logging.INFO):
        path.write_text(text)
        wait_until(lambda: caplog.records, "it was not told")
        assert ask(server, Authorization=basic("alice", "old")).status == 200
        assert server.running
    assert [record.getMessage() for record in caplog.records] == [
        "changed web configuration is wrong, the old one stays in use"
    ]


# Passwords


def passwords_file(directory: Path, users: dict[str, str], cost: int = 4) -> str:
    """Write a configuration with these users and return its path."""
    path = directory / "passwords.yml"
    hashes = {user: bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode() for user, password in users.items()}
    path.write_text("basic_auth_users:\n" + "".join(f"  {user}: {text}\n" for user, text in hashes.items()))
    return str(path)


@pytest.mark.parametrize("path", ["/metrics", "/-/healthy", "/-/ready", "/", "/nothing"])
def test_a_right_password_is_needed_for_everything(tmp_path: Path, path: str) -> None:
    """As with exporter-toolkit, nothing is shown to who has none."""
    users = {"alice": "correct horse", "bob": "pässwörd: with colons"}
    with serving(web_config=read_web_config(passwords_file(tmp_path, users))) as server:
        for user, password in users.items():
            for _ in range(2):
                assert ask(server, path, Authorization=basic(user, password)).status in {200, 404}
        for header in (
            basic("alice", "wrong"),
            basic("alice", users["bob"]),
            basic("mallory", "correct horse"),
            basic("", ""),
            basic("alice", "x" * 5000),
            basic("alice", "correct horse\0"),
            "Basic",
            "Basic !!!",
            "Basic " + base64.b64encode(b"alice").decode(),
            "Basic " + base64.b64encode(b"\xff:\xff").decode(),
            "Bearer correct horse",
        ):
            answer = ask(server, path, Authorization=header)
            assert answer.status == 401, header
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")
            assert answer.text == "A user and a password are needed.\n"
        assert ask(server, path).status == 401


def test_a_flood_of_wrong_passwords_does_not_hold_up_who_is_known(tmp_path: Path) -> None:
    """Its checks are few at a time and off the loop, the rest is refused; a right password is remembered."""
    config = read_web_config(passwords_file(tmp_path, {"alice": "correct horse"}, cost=10))
    right = basic("alice", "correct horse")
    done = threading.Event()
    with serving(web_config=config) as server, ThreadPoolExecutor(40) as pool:
        assert ask(server, Authorization=right).status == 200

        def guess(n: int) -> set[int]:
            seen = set()
            while not done.is_set():
                seen.add(ask(server, Authorization=basic("alice", f"guess {n}")).status)
            return seen

        guesses = [pool.submit(guess, n) for n in range(40)]
        try:
            for _ in range(10):
                # One that had to wait for a check would be turned away in such a flood.
                assert ask(server, Authorization=right).status == 200
        finally:
            done.set()
        statuses = set[int]().union(*(future.result() for future in guesses))
    assert statuses == {401, 429}


def test_speed_tells_a_stranger_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong password and an unknown user cost a check each time; only a right password is remembered."""
    config = read_web_config(passwords_file(tmp_path, {"alice": "correct horse"}))
    check_password = bcrypt.checkpw
    checked: list[bytes] = []

    def checkpw(password: bytes, hashed_password: bytes) -> bool:
        checked.append(hashed_password)
        return check_password(password, hashed_password)

    monkeypatch.setattr(bcrypt, "checkpw", checkpw)
    with serving(web_config=config) as server:

        def checks(user: str, password: str, status: int) -> int:
            before = len(checked)
            for _ in range(4):
                assert ask(server, Authorization=basic(user, password)).status == status
            return len(checked) - before

        assert checks("alice", "wrong", 401) == 4
        assert checks("mallory", "wrong", 401) == 4
        assert checks("mallory", "correct horse", 401) == 4
        assert checks("alice", "correct horse", 200) == 1
        assert checks("mallory", "correct horse", 401) == 4
    assert set(checked) == {config.users["alice"]}, "a check of another cost would take another time"


def test_a_changed_password_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old one stops working without a restart, although it was remembered."""
    monkeypatch.setattr(web, "ROUND_SECONDS", 0.02)
    with serving(web_config=read_web_config(passwords_file(tmp_path, {"alice": "old"}))) as server:
        assert ask(server, Authorization=basic("alice", "old")).status == 200
        passwords_file(tmp_path, {"alice": "new"})
        wait_until(lambda: ask(server, Authorization=basic("alice", "new")).status == 200, "not taken up")
        assert ask(server, Authorization=basic("alice", "old")).status == 401


def test_a_user_who_was_renamed_is_let_in_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old name with the same password was remembered as right, and its hash is now another user's."""
    monkeypatch.setattr(web, "ROUND_SECONDS", 0.02)
    path = Path(passwords_file(tmp_path, {"alice": "correct horse"}))
    with serving(web_config=read_web_config(str(path))) as server:
        assert ask(server, Authorization=basic("alice", "correct horse")).status == 200
        path.write_text(path.read_text().replace("alice", "alison"))
        wait_until(lambda: ask(server, Authorization=basic("alison", "correct horse")).status == 200, "not taken up")
        assert ask(server, Authorization=basic("alice", "correct horse")).status == 401


def test_no_password_reaches_the_log_or_an_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither right ones nor wrong ones nor their hashes are ever repeated."""
    config = read_web_config(passwords_file(tmp_path, {"alice": "correct horse"}))
    with serving(web_config=config) as server, caplog.at_level(logging.DEBUG):
        answers = [
            ask(server, p, Authorization=basic("alice", w)) for p in ("/", "/x") for w in ("correct horse", "guess")
        ]
    told = caplog.text + "".join(a.text + str(a.headers) for a in answers)
    for secret in ("correct horse", "guess", config.users["alice"].decode(), basic("alice", "guess").split()[1]):
        assert secret not in told


def test_headers_of_the_file_are_sent() -> None:
    """They replace ours, and an empty one is left out."""
    headers = {"X-Frame-Options": "deny", "Content-Security-Policy": "default-src 'self'", "X-Content-Type-Options": ""}
    with serving(web_config=WebConfig(path="", headers=headers)) as server:
        for path in ("/", "/metrics", "/nothing"):
            got = ask(server, path).headers
            assert (got["X-Frame-Options"], got["Content-Security-Policy"]) == ("deny", "default-src 'self'")
            assert "X-Content-Type-Options" not in got
