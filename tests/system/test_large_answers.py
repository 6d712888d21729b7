"""Answers as large as SQS can make them share a limited amount of memory, and still all arrive."""

from __future__ import annotations

import json
import threading
import time
from hashlib import md5
from io import BytesIO
from typing import TYPE_CHECKING, Any

from calling import DELETIONS, QUEUE, answers, messages, receive, target
from scripted_server import PATIENCE_SECONDS, reset, response, scripted_server

from exporter.sqs import http
from exporter.sqs.answers import Deleted, Failed, Received
from exporter.sqs.http import RESPONSE_MEMORY_BYTES

if TYPE_CHECKING:
    import socket

    import pytest

    from exporter.sqs.answers import Answer
    from exporter.sqs.client import Client

MIB = 1 << 20


def large(mib: int) -> bytes:
    """Return an answer with one message of so many MiB."""
    body = "a" * (mib * MIB)
    digest = md5(body.encode(), usedforsecurity=False).hexdigest()
    message = {"MessageId": "id", "ReceiptHandle": "handle", "Body": body, "MD5OfBody": digest}
    return response(json.dumps({"Messages": [message]}).encode())


class Halves:
    """An answer that takes all the memory, and then stops until it is told to go on."""

    def __init__(self) -> None:
        self._data = large(40)
        self._sent = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, connection: socket.socket) -> None:
        """Answer."""
        connection.sendall(self._data[: RESPONSE_MEMORY_BYTES + MIB])
        self._sent.set()
        assert self.go_on.wait(PATIENCE_SECONDS)
        connection.sendall(self._data[RESPONSE_MEMORY_BYTES + MIB :])

    def takes_the_memory(self, client: Client) -> None:
        """Wait until the first half is there."""
        while not self._sent.is_set():
            assert client.wait(0.05) == []
        assert client.wait(0.05) == []


def test_more_than_fits_into_memory_arrives_one_after_the_other(client: Client) -> None:
    """Eight answers of 20 MiB in flight: no wait brings more than what fits and one that was let through."""
    with scripted_server(large(20)) as server:
        for _ in range(8):
            receive(client, target(server), wait_seconds=20)
        arrived: list[int] = []
        while sum(arrived) < 8:
            brought = client.wait(PATIENCE_SECONDS)
            assert brought
            assert all(isinstance(answer, Received) for answer in brought)
            arrived.append(len(brought))
        assert max(arrived) <= 3


def test_small_answers_do_not_wait_for_large_ones(client: Client) -> None:
    """With the memory taken by an answer that has stopped, messages of ordinary size and deletes come as always."""
    halves = Halves()
    confirmed = {"Successful": [{"Id": str(number)} for number in range(10)], "Failed": []}
    with scripted_server(halves, messages(10), confirmed) as server:
        receive(client, target(server), wait_seconds=20)
        halves.takes_the_memory(client)
        receive(client, target(server), wait_seconds=20)
        assert isinstance(answers(client)[0], Received)
        client.delete(QUEUE, target(server), DELETIONS)
        assert isinstance(answers(client)[0], Deleted)
        halves.go_on.set()
        assert isinstance(answers(client)[0], Received)


def test_a_connection_that_breaks_while_its_answer_waits_for_memory_does_no_harm(client: Client) -> None:
    """Neither does it keep the loop busy nor take any memory: what was sent after it arrives."""
    halves = Halves()

    def broken(connection: socket.socket) -> None:
        connection.sendall(large(20)[: 2 * MIB])
        reset(connection)

    with scripted_server(halves, broken, large(20)) as server:
        receive(client, target(server), wait_seconds=20)
        halves.takes_the_memory(client)
        receive(client, target(server), wait_seconds=20)
        before = time.thread_time()
        assert client.wait(0.5) == []
        assert time.thread_time() - before < 0.25
        receive(client, target(server), wait_seconds=20)
        assert client.wait(0.1) == []
        halves.go_on.set()
        arrived: list[Answer] = []
        while len(arrived) < 3:
            arrived += (brought := client.wait(PATIENCE_SECONDS))
            assert brought
        assert sorted(type(answer).__name__ for answer in arrived) == ["Failed", "Received", "Received"]


def test_an_answer_that_waited_and_then_finds_no_memory_fails_alone(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its turn comes, and the process may not have more: that is the failure of a call, and the loop goes on."""
    full = threading.Event()

    class Limited(BytesIO):
        def write(self, data: Any) -> int:  # noqa: ANN401 - whatever a buffer is
            if full.is_set():
                raise MemoryError
            return super().write(data)

    monkeypatch.setattr(http, "BytesIO", Limited)
    halves = Halves()
    with scripted_server(halves, large(20), messages(1)) as server:
        receive(client, target(server))
        halves.takes_the_memory(client)
        receive(client, target(server))
        assert client.wait(0.5) == []
        full.set()
        halves.go_on.set()
        for answer in answers(client, 2):
            assert isinstance(answer, Failed)
            assert answer.reason == "out_of_memory"
        full.clear()
        receive(client, target(server))
        assert isinstance(answers(client)[0], Received)
