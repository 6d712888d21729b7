"""Receives and batch deletes over real HTTP, against a server that says whatever a test makes it say."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest
from calling import DELETIONS, QUEUE_URL, Clock, answers, failure, messages, receive, target
from scripted_server import PATIENCE_SECONDS, response, scripted_server

from exporter.sqs.calls import Calls, Deleted, Deletion, Received

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator


@pytest.fixture
def calls() -> Iterator[Calls]:
    """Return calls with their usual bounds."""
    made = Calls(max_connections=64)
    yield made
    made.close()


def test_a_receive_brings_messages(calls: Calls) -> None:
    """The request is what SQS documents, signed; the answer brings what it holds and when."""
    with scripted_server(messages(3)) as server:
        before = time.monotonic()
        receive(calls, target(server), wait_seconds=20, visibility_timeout_seconds=45)
        assert (calls.receives_in_flight, calls.deletes_in_flight) == (1, 0)
        (answer,) = answers(calls)
    assert isinstance(answer, Received)
    assert [message.message_id for message in answer.messages] == ["id-0", "id-1", "id-2"]
    assert before <= answer.sent_at <= answer.answered_at <= time.monotonic()
    assert (calls.receives_in_flight, calls.deletes_in_flight) == (0, 0)
    (request,) = server.requests
    assert request.line == "POST / HTTP/1.1"
    assert request.json == {
        "QueueUrl": QUEUE_URL,
        "MaxNumberOfMessages": 10,
        "WaitTimeSeconds": 20,
        "VisibilityTimeout": 45,
        "MessageSystemAttributeNames": ["SentTimestamp"],
    }
    assert request.headers["content-type"] == "application/x-amz-json-1.0"
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert request.headers["x-amz-target"] == "AmazonSQS.ReceiveMessage"
    assert request.headers["x-amz-security-token"] == "a-token"
    assert request.headers["user-agent"].startswith("sqs-event-exporter/")
    assert not request.headers.keys() & {"expect", "accept", "accept-encoding"}


def test_trace_context_is_asked_for_on_request() -> None:
    """Only who wants it pays for it."""
    with scripted_server(messages(1)) as server:
        calls = Calls(max_connections=2, request_trace_context=True)
        receive(calls, target(server))
        answers(calls)
        calls.close()
    assert server.requests[0].json["MessageSystemAttributeNames"] == ["SentTimestamp", "AWSTraceHeader"]
    assert server.requests[0].json["MessageAttributeNames"] == ["traceparent", "tracestate"]


def test_a_delete_says_what_to_delete_and_believes_what_is_confirmed(calls: Calls) -> None:
    """Handles arrive as they were, whatever characters they hold; each deletion has its own outcome."""
    handles = ['quote" and \\', "line\nbreak", "größe \U0001f600", "AQEB+/=="]
    deletions = [Deletion(bytes(16), handle, 1.0) for handle in handles]
    answer = {
        "Successful": [{"Id": "0"}, {"Id": "2"}, {"Id": "9"}, {"Id": "x"}],
        "Failed": [{"Id": "2", "Code": "InternalError", "SenderFault": False}, {"Id": "1", "Code": "OverLimit"}],
    }
    with scripted_server(answer) as server:
        calls.delete(target(server), deletions)
        assert (calls.receives_in_flight, calls.deletes_in_flight) == (0, 1)
        (deleted,) = answers(calls)
    assert isinstance(deleted, Deleted)
    assert deleted.confirmed == [deletions[0]]
    assert deleted.failed == [
        (deletions[1], "over_limit"),
        (deletions[2], "server"),
        (deletions[3], "unconfirmed"),
    ]
    (request,) = server.requests
    assert request.headers["x-amz-target"] == "AmazonSQS.DeleteMessageBatch"
    assert request.json["QueueUrl"] == QUEUE_URL
    assert request.json["Entries"] == [
        {"Id": str(number), "ReceiptHandle": handle} for number, handle in enumerate(handles)
    ]


def test_a_delete_that_is_not_answered_is_not_confirmed(calls: Calls) -> None:
    """An empty object and a page with status 200 delete nothing; the deletions come back as they were given."""
    with scripted_server({}, response(b"<html>", Content_Type="text/html")) as server:
        calls.delete(target(server), DELETIONS)
        (deleted,) = answers(calls)
        assert isinstance(deleted, Deleted)
        assert deleted.confirmed == []
        assert deleted.failed == [(deletion, "unconfirmed") for deletion in DELETIONS]
        calls.delete(target(server), DELETIONS)
        failed = failure(calls)
    assert (failed.operation, failed.reason, failed.deletions) == ("delete", "malformed", DELETIONS)


def test_more_than_ten_deletions_are_not_sent(calls: Calls) -> None:
    """SQS would refuse them all; none may get lost on the way either."""
    calls.delete(target(1), DELETIONS * 2)
    failed = failure(calls)
    assert (failed.reason, failed.deletions) == ("request", DELETIONS * 2)


def test_connections_are_kept_alive(calls: Calls) -> None:
    """A receive and a delete after the other, twenty times, over one connection."""
    with scripted_server(messages(1)) as server:
        for _ in range(20):
            receive(calls, target(server))
            answers(calls)
            calls.delete(target(server), DELETIONS[:1])
            answers(calls)
        assert (len(server.requests), server.connections) == (40, 1)


def test_many_calls_are_in_flight_at_once(calls: Calls) -> None:
    """Forty receives are all with the server before it answers the first; then all answers are there."""
    together = threading.Barrier(40)

    def answer_when_all_are_there(connection: socket.socket) -> None:
        together.wait(PATIENCE_SECONDS)
        connection.sendall(response(messages(1)))

    with scripted_server(answer_when_all_are_there) as server:
        for _ in range(40):
            receive(calls, target(server))
        assert calls.receives_in_flight == 40
        assert all(isinstance(answer, Received) for answer in answers(calls, 40))


def test_all_that_has_arrived_is_returned_together(calls: Calls) -> None:
    """One wait takes in every answer that is there, so that they share a commit."""
    arrive = threading.Event()

    def answer_late(connection: socket.socket) -> None:
        arrive.wait(PATIENCE_SECONDS)
        connection.sendall(response(messages(1)))
        sent.release()

    sent = threading.Semaphore(0)
    with scripted_server(answer_late) as server:
        for _ in range(5):
            receive(calls, target(server))
        assert calls.wait(0.05) == []
        server.wait_for(lambda it: len(it.requests) == 5)
        arrive.set()
        for _ in range(5):
            assert sent.acquire(timeout=PATIENCE_SECONDS)
        assert len(calls.wait(1.0)) == 5


def test_a_receive_is_signed_once_a_second(calls: Calls) -> None:
    """Within a second all receives are the same bytes; the next second has a signature of its own."""
    clock = Clock()
    calls = Calls(max_connections=2, wall=clock)
    with scripted_server(messages(1)) as server:
        for seconds in (0.1, 0.9, 1.0):
            clock.seconds = 1_000_000 + seconds
            receive(calls, target(server))
            answers(calls)
        calls.close()
    dates = [request.headers["x-amz-date"] for request in server.requests]
    signatures = [request.headers["authorization"] for request in server.requests]
    assert dates == ["19700112T134640Z", "19700112T134640Z", "19700112T134641Z"]
    assert signatures[0] == signatures[1] != signatures[2]
