"""Answers that lie, break off or never end: each fails with a reason, and none counts, deletes, hangs or spins."""

from __future__ import annotations

import gzip
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from calling import DELETIONS, QUEUE, Clock, answers, drive, failure, messages, receive, target
from scripted_server import PATIENCE_SECONDS, half_close, hang_up, reset, response, say_nothing, scripted_server

from exporter.sqs.answers import Deleted, Failed, Received
from exporter.sqs.client import RECEIVE_GRACE_SECONDS, Client

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable


LIES: list[tuple[str, Any, str]] = [
    ("truncated JSON", response(b'{"Messages": [{"MessageId": "a", "Rec'), "malformed"),
    ("HTML with status 200", response(b"<html>Sign in</html>", Content_Type="text/html"), "malformed"),
    ("no body", response(b""), "malformed"),
    ("no content", response(b"", "204 No Content"), "malformed"),
    ("another type", response([]), "malformed"),
    ("compressed without being asked", response(gzip.compress(b"{}"), Content_Encoding="gzip"), "malformed"),
    ("no HTTP", b"SSH-2.0-OpenSSH_9.2\r\n", "malformed"),
    ("a redirect", response(b"", "301 Moved Permanently", Location="http://127.0.0.1:1/"), "redirect"),
    ("half closed in the middle", half_close(response(messages(10))[:-200]), "connection"),
    ("half closed before any answer", half_close(b""), "connection"),
    ("closed in the headers", half_close(b"HTTP/1.1 200 OK\r\nContent-Le"), "malformed"),
    ("closed without an answer", hang_up, "connection"),
    ("reset", reset, "connection"),
    (
        "a chunk that breaks off",
        half_close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"),
        "connection",
    ),
    ("too long by its own account", b"HTTP/1.1 200 OK\r\nContent-Length: 67108865\r\n\r\n", "too_large"),
    ("throttled", response({"__type": "com.amazonaws.sqs#RequestThrottled"}, "400 Bad Request"), "throttled"),
    ("down", response(b"<html>Bad gateway</html>", "502 Bad Gateway"), "server"),
    ("expired credentials", response({"__type": "ExpiredTokenException"}, "403 Forbidden"), "credentials"),
    (
        "no such queue, in an older form",
        response({}, "400 Bad Request", x_amzn_query_error="AWS.SimpleQueueService.NonExistentQueue;Sender"),
        "queue_not_found",
    ),
]


@pytest.mark.parametrize(("lie", "reason"), [lie[1:] for lie in LIES], ids=[lie[0] for lie in LIES])
@pytest.mark.parametrize("operation", ["receive", "delete"])
def test_an_answer_that_lies_fails_with_its_reason(client: Client, operation: str, lie: Any, reason: str) -> None:  # noqa: ANN401 - any answer
    """It neither brings nor confirms anything, is asked for no second time, and the next call works."""
    honest: dict[str, Any] = messages(1) if operation == "receive" else {"Successful": [{"Id": "0"}]}

    def call() -> None:
        if operation == "receive":
            receive(client, target(server))
        else:
            client.delete(QUEUE, target(server), DELETIONS[:1])

    with scripted_server(lie, honest) as server:
        call()
        failed = failure(client)
        assert (failed.operation, failed.reason) == (operation, reason)
        assert failed.deletions == (() if operation == "receive" else DELETIONS[:1])
        assert len(server.requests) == 1
        call()
        assert isinstance(answers(client)[0], Received | Deleted)


def endless(connection: socket.socket) -> None:
    """Send chunks until nobody takes them any more."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    for _ in range(200):
        connection.sendall(chunk)


def test_an_answer_without_end_is_dropped_while_it_arrives(client: Client) -> None:
    """After 64 MiB, not after a deadline."""
    with scripted_server(endless, messages(1)) as server:
        receive(client, target(server), wait_seconds=20)
        assert failure(client).reason == "too_large"
        receive(client, target(server))
        assert isinstance(answers(client)[0], Received)


def drip(connection: socket.socket) -> None:
    """Send one byte after the other, each soon enough for a timeout between bytes."""
    for byte in response(messages(10)):
        connection.sendall(bytes([byte]))
        time.sleep(0.02)


@pytest.mark.parametrize("slow", [say_nothing, drip])
def test_a_call_has_a_bound_on_its_whole_length(slow: Callable[[socket.socket], None]) -> None:
    """Late ones are dropped with their connection, never read on; a call that is in time is left alone."""
    client = Client(max_connections=8, receive_grace_seconds=0.3, batch_seconds=0.2)
    with scripted_server(slow, slow, say_nothing, messages(1)) as server:
        began = time.monotonic()
        receive(client, target(server))
        client.delete(QUEUE, target(server), DELETIONS)
        receive(client, target(server), wait_seconds=20)
        late = {answer.operation: answer for answer in answers(client, 2) if isinstance(answer, Failed)}
        assert {operation: answer.reason for operation, answer in late.items()} == {
            "delete": "timeout",
            "receive": "timeout",
        }
        assert late["delete"].deletions == DELETIONS
        assert 0.3 <= time.monotonic() - began < RECEIVE_GRACE_SECONDS
        assert (client.receives_in_flight(), client.deletes_in_flight()) == (1, 0)
        server.wait_for(lambda it: len(it.closed) >= 2)
        receive(client, target(server), wait_seconds=20)
        assert isinstance(answers(client)[0], Received)
        assert server.connections == 4
        client.close()


def test_an_answer_that_arrived_while_nobody_looked_is_taken() -> None:
    """A loop that was held up beyond the deadline loses no answer that came before."""
    clock = Clock()
    client = Client(max_connections=2, monotonic=clock)
    go, sent = threading.Event(), threading.Event()

    def answer(connection: socket.socket) -> None:
        go.wait(PATIENCE_SECONDS)
        connection.sendall(response(messages(10)))
        sent.set()

    with scripted_server(messages(1), answer) as server:
        receive(client, target(server))
        answers(client)
        receive(client, target(server))
        drive(client, server, 2)
        go.set()
        assert sent.wait(PATIENCE_SECONDS)
        clock.seconds += 3_600
        (answered,) = client.wait(0)
        assert isinstance(answered, Received)
        assert len(answered.messages) == 10
        client.close()


@pytest.mark.parametrize(
    ("wait_seconds", "took_seconds", "early"), [(20, 9, True), (20, 11, False), (1, 0, True), (0, 0, False)]
)
def test_an_empty_answer_long_before_the_wait_is_over_is_a_failure(
    wait_seconds: int,
    took_seconds: int,
    early: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """Nobody should ask again at once, for ever."""
    clock = Clock()
    client = Client(max_connections=2, monotonic=clock)

    def answer(connection: socket.socket) -> None:
        clock.seconds += took_seconds
        connection.sendall(response({}))

    with scripted_server(answer) as server:
        receive(client, target(server), wait_seconds=wait_seconds)
        (answered,) = answers(client)
        client.close()
    if early:
        assert isinstance(answered, Failed)
        assert answered.reason == "empty_early"
    else:
        assert isinstance(answered, Received)
        assert not answered.messages
