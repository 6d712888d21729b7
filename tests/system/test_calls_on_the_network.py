"""How requests reach SQS: proxies, certificates, credentials, clocks; and how they are given up."""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
import ssl
import threading
import time
from contextlib import ExitStack
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest
from calling import DELETIONS, QUEUE, Clock, answers, drive, failure, messages, receive, target
from certificates import Authority
from scripted_server import hang_up, response, say_nothing, scripted_server

from exporter.sqs import Credentials
from exporter.sqs.answers import Failed, Received
from exporter.sqs.client import Client

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def closed_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_a_port_that_nobody_listens_on_is_a_failed_connection(client: Client, closed_port: int) -> None:
    """The sentence names the address."""
    receive(client, target(closed_port))
    failed = failure(client)
    assert failed.reason == "connection"
    assert str(closed_port) in failed.detail


def test_the_environment_names_no_proxy(client: Client, closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The target says which proxy to use; libcurl's own reading of the environment counts for nothing."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port}")
    with scripted_server(messages(1)) as server:
        receive(client, target(server))
        assert isinstance(answers(client)[0], Received)


def test_the_proxy_of_the_target_is_used(client: Client, closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the environment excludes the host: botocore has taken that into account."""
    monkeypatch.setenv("no_proxy", "*")
    with scripted_server(messages(1)) as proxy:
        receive(client, target(closed_port, proxy_url=f"http://user:pass@127.0.0.1:{proxy.port}"))
        assert isinstance(answers(client)[0], Received)
    assert proxy.requests[0].line == f"POST http://127.0.0.1:{closed_port}/ HTTP/1.1"
    assert proxy.requests[0].headers["host"] == f"127.0.0.1:{closed_port}"


def tls_server(authority: Authority) -> ssl.SSLContext:
    """Return what a server with a certificate of the authority needs."""
    signed = authority.sign("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(signed.certificate, signed.key)
    return context


def test_a_certificate_of_the_target_s_authority_is_accepted(client: Client, tmp_path: Path) -> None:
    """The bundle is the target's; the connection is kept alive like any other."""
    authority = Authority(tmp_path)
    with scripted_server(messages(10), tls=tls_server(authority)) as server:
        to = target(server, endpoint_url=f"https://127.0.0.1:{server.port}", ca_bundle=str(authority.certificate))
        for _ in range(3):
            receive(client, to)
            assert isinstance(answers(client)[0], Received)
        assert server.connections == 1


def test_a_certificate_that_nobody_trusts_is_refused(client: Client, tmp_path: Path) -> None:
    """Nothing is sent."""
    with scripted_server(messages(1), tls=tls_server(Authority(tmp_path))) as server:
        to = target(server, endpoint_url=f"https://127.0.0.1:{server.port}")
        receive(client, to)
        assert failure(client).reason == "tls"
        assert server.requests == []


def test_a_bundle_that_can_t_be_read_is_said(client: Client, tmp_path: Path) -> None:
    """By its path."""
    bundle = tmp_path / "missing.pem"
    with scripted_server(messages(1)) as server:
        receive(client, target(server, endpoint_url=f"https://127.0.0.1:{server.port}", ca_bundle=str(bundle)))
        failed = failure(client)
    assert failed.reason == "tls"
    assert bundle.name in failed.detail


def test_a_server_without_tls_is_a_failed_handshake(client: Client) -> None:
    """An endpoint with the wrong scheme says so."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(1)

        server = threading.Thread(target=answer)
        server.start()
        receive(client, target(1, endpoint_url=f"https://127.0.0.1:{listener.getsockname()[1]}"))
        assert failure(client).reason == "tls"
        server.join()


def test_new_credentials_sign_the_next_call(client: Client) -> None:
    """A target with refreshed credentials needs no new connections."""
    with scripted_server(messages(1)) as server:
        for access_key in ("FIRST", "SECOND"):
            receive(client, target(server, credentials=Credentials(access_key, "secret")))
            answers(client)
        assert server.connections == 1
    for request, access_key in zip(server.requests, ("FIRST", "SECOND"), strict=True):
        assert f"Credential={access_key}/" in request.headers["authorization"]
        assert "x-amz-security-token" not in request.headers


def test_credentials_may_change_while_a_call_is_in_flight(client: Client) -> None:
    """The answer to the call with the old ones is taken like any other."""
    with scripted_server(messages(1)) as server:
        receive(client, target(server, credentials=Credentials("FIRST", "secret")))
        receive(client, target(server, credentials=Credentials("SECOND", "secret")))
        assert all(isinstance(answer, Received) for answer in answers(client, 2))
        receive(client, target(server, credentials=Credentials("SECOND", "secret")))
        assert isinstance(answers(client)[0], Received)


def test_credentials_that_can_t_be_sent_are_a_failure_of_the_call(client: Client) -> None:
    """A line break at the end of a secret stops nobody's loop, and is told without the secret."""
    unusable = Credentials("AKID\n", "secret")
    with scripted_server(messages(1)) as server:
        client.delete(QUEUE, target(server, credentials=unusable), DELETIONS)
        receive(client, target(server, credentials=unusable))
        for answer in answers(client, 2):
            assert isinstance(answer, Failed)
            assert answer.reason == "credentials"
            assert "AKID" not in answer.detail
        receive(client, target(server))
        assert isinstance(answers(client)[0], Received)


def test_a_clock_that_is_wrong_is_corrected_after_one_failure() -> None:
    """From then on requests are signed with the time that SQS said it is."""
    clock = Clock(1_000_000_000)
    client = Client(max_connections=2, wall=clock)
    skewed = response(
        {"__type": "SignatureDoesNotMatch", "message": "Signature expired: 20010909T014640Z is now earlier"},
        "403 Forbidden",
        Date=formatdate(1_000_003_600, usegmt=True),
    )
    with scripted_server(skewed, messages(1)) as server:
        receive(client, target(server))
        assert failure(client).reason == "clock_skew"
        clock.seconds += 10
        receive(client, target(server))
        assert isinstance(answers(client)[0], Received)
        client.close()
    assert [request.headers["x-amz-date"] for request in server.requests] == ["20010909T014640Z", "20010909T024650Z"]


@pytest.mark.parametrize(
    "date", ["", "yesterday", "Mon, 99 Nov 2026 00:00:00 GMT", "Mon, 01 Jan 99999999999 00:00:00 GMT"]
)
def test_a_date_that_is_none_corrects_nothing(date: str) -> None:
    """The clock stays as it is."""
    client = Client(max_connections=2, wall=Clock(1_000_000_000))
    with scripted_server(response({"__type": "RequestTimeTooSkewed"}, "403 Forbidden", Date=date)) as server:
        for _ in range(2):
            receive(client, target(server))
            assert failure(client).reason == "clock_skew"
        client.close()
    assert {request.headers["x-amz-date"] for request in server.requests} == {"20010909T014640Z"}


def test_what_a_failure_says_is_one_short_line(client: Client) -> None:
    """Whatever characters the endpoint sends, and however many."""
    denied = {"__type": "AccessDeniedException", "message": "\x1b[31mUser is not authorized\t" + "x" * 500}
    with scripted_server(response(denied, "403 Forbidden")) as server:
        receive(client, target(server))
        failed = failure(client)
    assert failed.reason == "access_denied"
    assert "403 AccessDeniedException: [31mUser is not authorized xxx" in failed.detail
    assert len(failed.detail) == 200


@pytest.mark.parametrize("secret", ["a-token", "the-secret", "handle-0"])
def test_what_a_failure_says_holds_no_secrets(client: Client, secret: str) -> None:
    """Neither credentials nor receipt handles, though the endpoint repeats them."""
    echo = {"__type": "InvalidParameterValue", "message": f"The value {secret} is not valid"}
    with scripted_server(response(echo, "400 Bad Request")) as server:
        client.delete(QUEUE, target(server), DELETIONS)
        failed = failure(client)
    assert failed.reason == "request"
    assert secret not in repr(failed)


def test_an_error_is_not_mistaken_for_the_one_before(client: Client) -> None:
    """Headers of one answer say nothing about the next on the same handle."""
    over_limit = response({}, "403 Forbidden", x_amzn_errortype="OverLimit")
    with scripted_server(over_limit, response({}, "403 Forbidden")) as server:
        receive(client, target(server))
        assert failure(client).reason == "over_limit"
        receive(client, target(server))
        assert failure(client).reason == "request"


def test_the_password_of_a_proxy_is_not_told(client: Client, closed_port: int) -> None:
    """What libcurl can't read it repeats, such as the URL of a proxy."""
    receive(client, target(closed_port, proxy_url="nothing://user:pass-word@127.0.0.1:1"))
    failed = failure(client)
    assert failed.reason == "connection"
    assert "pass-word" not in failed.detail


def test_a_lost_attempt_at_a_fifo_queue_is_repeated(client: Client) -> None:
    """By its id SQS knows that the messages it gave were not received; otherwise each attempt has its own."""
    with scripted_server(hang_up, messages(1)) as server:
        for _ in range(4):
            receive(client, target(server), fifo=True)
            answers(client)
    attempts = [request.json["ReceiveRequestAttemptId"] for request in server.requests]
    assert attempts[0] == attempts[1]
    assert len(set(attempts)) == 3


def test_an_attempt_is_lost_neither_by_a_refusal_nor_by_a_request_that_is_not_sent(client: Client) -> None:
    """Until SQS has answered it, what it gave stays out of everyone's sight, and blocks its message groups."""
    throttled = response({"__type": "RequestThrottled"}, "400 Bad Request")
    with scripted_server(hang_up, throttled, messages(1)) as server:
        for credentials in (
            Credentials("AKID", "secret"),
            Credentials("AKID\n", "secret"),
            *[Credentials("AKID", "secret")] * 3,
        ):
            receive(client, target(server, credentials=credentials), fifo=True)
            answers(client)
    attempts = [request.json["ReceiveRequestAttemptId"] for request in server.requests]
    assert len(attempts) == 4
    assert attempts[0] == attempts[1] == attempts[2] != attempts[3]


def test_a_kept_connection_that_is_closed_is_replaced(client: Client) -> None:
    """A server may end a connection at any time between two requests: that fails none of them."""
    with scripted_server(messages(1), hang_up, messages(1)) as server:
        for _ in range(2):
            receive(client, target(server))
            assert isinstance(answers(client)[0], Received)
        assert (len(server.requests), server.connections) == (3, 2)


def test_receives_that_are_abandoned_never_answer(client: Client) -> None:
    """Their connections are closed, and their number is told; a delete goes on."""
    with scripted_server(say_nothing, say_nothing, say_nothing, messages(1)) as server:
        receive(client, target(server), wait_seconds=20)
        receive(client, target(server), wait_seconds=20)
        client.delete(QUEUE, target(server), DELETIONS)
        drive(client, server, 3)
        assert client.abandon_receives() == {QUEUE: 2}
        assert (client.receives_in_flight(), client.deletes_in_flight()) == (0, 1)
        server.wait_for(lambda it: len(it.closed) == 2)
        receive(client, target(server))
        assert isinstance(answers(client)[0], Received)


def test_waiting_for_nothing_takes_as_long_as_was_said(client: Client) -> None:
    """A loop that backs off neither spins nor oversleeps: the best of three, as a busy machine adds to each."""
    took_seconds = []
    cpu_began = time.thread_time()
    for _ in range(3):
        began = time.monotonic()
        assert client.wait(0.1) == []
        took_seconds.append(time.monotonic() - began)
    assert 0.1 <= min(took_seconds) < 0.5
    assert time.thread_time() - cpu_began < 0.1


def test_a_signal_is_handled_during_a_wait(client: Client) -> None:
    """Its handler runs at once, not when the wait is over: here it ends the wait."""
    ours, theirs = socket.socketpair()
    before = signal.signal(signal.SIGALRM, lambda *_: theirs.send(b"x"))
    try:
        with ours, theirs, scripted_server(say_nothing) as server:
            receive(client, target(server), wait_seconds=20)
            began = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            assert client.wait(20, (ours.fileno(), select.POLLIN)) == []
            assert time.monotonic() - began < 10
    finally:
        signal.signal(signal.SIGALRM, before)


def test_descriptors_above_a_thousand_are_waited_for(client: Client) -> None:
    """Where `select` would see nothing: many clients of the web server must not make the loop spin or sleep."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4_096), hard))
    try:
        with ExitStack() as taken, scripted_server(messages(1)) as server:
            for _ in range(1_100):
                taken.callback(os.close, os.open(os.devnull, os.O_RDONLY))
            cpu_began = time.thread_time()
            receive(client, target(server))
            assert isinstance(answers(client)[0], Received)
            assert time.thread_time() - cpu_began < 0.5
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
