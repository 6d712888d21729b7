"""Receives and batch deletes over real HTTP, against a server that says whatever a test makes it say."""

from __future__ import annotations

import select
import socket
import threading
import time

from calling import DELETIONS, QUEUE, QUEUE_URL, Clock, answers, drive, failure, messages, receive, target
from fake_sqs import FakeSqs
from scripted_server import PATIENCE_SECONDS, hang_up, response, say_nothing, scripted_server

from exporter.sqs.answers import ChangedVisibility, Deleted, Deletion, Received
from exporter.sqs.client import Client


def test_a_receive_brings_messages(client: Client) -> None:
    """The request is what SQS documents, signed; the answer brings what it holds and when."""
    with scripted_server(messages(3)) as server:
        before = time.monotonic()
        receive(client, target(server), wait_seconds=20, visibility_timeout_seconds=45)
        assert (client.receives_in_flight(), client.deletes_in_flight()) == (1, 0)
        (answer,) = answers(client)
    assert isinstance(answer, Received)
    assert [message.message_id for message in answer.messages] == ["id-0", "id-1", "id-2"]
    assert before <= answer.sent_at <= answer.answered_at <= time.monotonic()
    assert (client.receives_in_flight(), client.deletes_in_flight()) == (0, 0)
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
        client = Client(max_connections=2, request_trace_context=True)
        receive(client, target(server))
        answers(client)
        client.close()
    assert server.requests[0].json["MessageSystemAttributeNames"] == ["SentTimestamp", "AWSTraceHeader"]
    assert server.requests[0].json["MessageAttributeNames"] == ["traceparent", "tracestate"]


def test_a_delete_says_what_to_delete_and_believes_what_is_confirmed(client: Client) -> None:
    """Handles arrive as they were, whatever characters they hold; each deletion has its own outcome."""
    handles = ['quote" and \\', "line\nbreak", "größe \U0001f600", "AQEB+/=="]
    deletions = [Deletion(bytes(16), handle, 1.0) for handle in handles]
    answer = {
        "Successful": [{"Id": "0"}, {"Id": "2"}, {"Id": "9"}, {"Id": "x"}],
        "Failed": [{"Id": "2", "Code": "InternalError", "SenderFault": False}, {"Id": "1", "Code": "OverLimit"}],
    }
    with scripted_server(answer) as server:
        client.delete(QUEUE, target(server), deletions)
        assert (client.receives_in_flight(), client.deletes_in_flight()) == (0, 1)
        (deleted,) = answers(client)
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


def test_a_delete_that_is_not_answered_is_not_confirmed(client: Client) -> None:
    """An empty object and a page with status 200 delete nothing; the deletions come back as they were given."""
    with scripted_server({}, response(b"<html>", Content_Type="text/html")) as server:
        client.delete(QUEUE, target(server), DELETIONS)
        (deleted,) = answers(client)
        assert isinstance(deleted, Deleted)
        assert deleted.confirmed == []
        assert deleted.failed == [(deletion, "unconfirmed") for deletion in DELETIONS]
        client.delete(QUEUE, target(server), DELETIONS)
        failed = failure(client)
    assert (failed.operation, failed.reason, failed.deletions) == ("delete", "malformed", DELETIONS)


def test_messages_are_made_visible_again(client: Client) -> None:
    """The request sets their visibility timeouts to 0; each has its own outcome, and a failure says what failed."""
    answer = {"Successful": [{"Id": "0"}], "Failed": [{"Id": "1", "Code": "MessageNotInflight", "SenderFault": True}]}
    with scripted_server(answer, response({}, "500 Internal Server Error")) as server:
        client.make_visible(QUEUE, target(server), DELETIONS[:2])
        assert client.deletes_in_flight(QUEUE) == 1
        (changed,) = answers(client)
        assert isinstance(changed, ChangedVisibility)
        assert (changed.queue, changed.confirmed) == (QUEUE, DELETIONS[:1])
        assert changed.failed == [(DELETIONS[1], "request")]
        client.make_visible(QUEUE, target(server), DELETIONS[:2])
        failed = failure(client)
        assert (failed.operation, failed.reason, failed.deletions) == ("change_visibility", "server", DELETIONS[:2])
    request = server.requests[0]
    assert request.headers["x-amz-target"] == "AmazonSQS.ChangeMessageVisibilityBatch"
    assert request.json["Entries"] == [
        {"Id": str(number), "ReceiptHandle": f"handle-{number}", "VisibilityTimeout": 0} for number in range(2)
    ]


def test_each_queue_has_its_own_requests(client: Client) -> None:
    """Targets, counts, answers and failures are told apart by the queue's name; `abandon` counts them so too."""
    with scripted_server(messages(1), say_nothing, hang_up) as server:
        one = target(server, queue_url="https://sqs.example/1/one")
        two = target(server, queue_url="https://sqs.example/1/two")
        client.receive("one", one, wait_seconds=0, visibility_timeout_seconds=45)
        (answer,) = answers(client)
        assert isinstance(answer, Received)
        assert (answer.queue, answer.visibility_timeout_seconds, answer.allowed_seconds) == ("one", 45, 5.0)
        client.receive("one", one, wait_seconds=20, visibility_timeout_seconds=45)
        drive(client, server, 2)
        client.receive("two", two, wait_seconds=0, visibility_timeout_seconds=30)
        assert (client.receives_in_flight("one"), client.receives_in_flight("two")) == (1, 1)
        failed = failure(client)
        assert (failed.queue, failed.reason) == ("two", "connection")
        assert (client.receives_in_flight(), client.receives_in_flight("three")) == (1, 0)
        assert client.abandon_receives() == {"one": 1}
    urls = [request.json["QueueUrl"] for request in server.requests]
    assert urls == [one.queue_url, one.queue_url, two.queue_url]


def test_the_wait_ends_for_another_descriptor_too(client: Client) -> None:
    """At once where it is ready, with whatever answers have arrived; otherwise the wait is as without it."""
    ours, theirs = socket.socketpair()
    with ours, theirs, scripted_server(say_nothing, messages(1)) as server:
        receive(client, target(server), wait_seconds=20)
        assert client.wait(0.02, (ours.fileno(), select.POLLIN)) == []
        theirs.send(b"x")
        began = time.monotonic()
        assert client.wait(PATIENCE_SECONDS, (ours.fileno(), select.POLLIN)) == []
        assert time.monotonic() - began < PATIENCE_SECONDS / 2
        receive(client, target(server))
        came = answers(client)
        assert isinstance(came[0], Received)


def test_message_attributes_are_asked_for_by_name(client: Client) -> None:
    """They come as text, binary ones are left out, and one whose MD5 is wrong is released."""
    with FakeSqs(seed=1) as sqs:
        sqs.send(
            ["{}"],
            message_attributes={
                "type": {"DataType": "String", "StringValue": "purchase \u20ac"},
                "value": {"DataType": "Number.cents", "StringValue": "12.50"},
                "blob": {"DataType": "Binary", "BinaryValue": "AAH/"},
                "other": {"DataType": "String", "StringValue": "not asked for"},
            },
        )
        to = target(sqs.port, queue_url=sqs.queue_url)
        receive(client, to, attribute_names=("type", "value", "blob", "missing"), visibility_timeout_seconds=0)
        (answer,) = answers(client)
        assert isinstance(answer, Received)
        assert answer.messages[0].attributes == {"type": "purchase \u20ac", "value": "12.50"}
        receive(client, to, visibility_timeout_seconds=0)
        (answer,) = answers(client)
        assert isinstance(answer, Received)
        assert answer.messages[0].attributes == {}


def test_more_than_ten_deletions_are_not_sent(client: Client) -> None:
    """SQS would refuse them all; none may get lost on the way either."""
    client.delete(QUEUE, target(1), DELETIONS * 2)
    failed = failure(client)
    assert (failed.reason, failed.deletions) == ("request", DELETIONS * 2)


def test_connections_are_kept_alive(client: Client) -> None:
    """A receive and a delete after the other, twenty times, over one connection."""
    with scripted_server(messages(1)) as server:
        for _ in range(20):
            receive(client, target(server))
            answers(client)
            client.delete(QUEUE, target(server), DELETIONS[:1])
            answers(client)
        assert (len(server.requests), server.connections) == (40, 1)


def test_many_calls_are_in_flight_at_once(client: Client) -> None:
    """Forty receives are all with the server before it answers the first; then all answers are there."""
    together = threading.Barrier(40)

    def answer_when_all_are_there(connection: socket.socket) -> None:
        together.wait(PATIENCE_SECONDS)
        connection.sendall(response(messages(1)))

    with scripted_server(answer_when_all_are_there) as server:
        for _ in range(40):
            receive(client, target(server), wait_seconds=20)
        assert client.receives_in_flight() == 40
        assert all(isinstance(answer, Received) for answer in answers(client, 40))


def test_all_that_has_arrived_is_returned_together(client: Client) -> None:
    """One wait takes in every answer that is there, so that they share a commit."""
    arrive = threading.Event()

    def answer_late(connection: socket.socket) -> None:
        arrive.wait(PATIENCE_SECONDS)
        connection.sendall(response(messages(1)))
        sent.release()

    sent = threading.Semaphore(0)
    with scripted_server(answer_late) as server:
        for _ in range(5):
            receive(client, target(server), wait_seconds=20)
        drive(client, server, 5)
        arrive.set()
        for _ in range(5):
            assert sent.acquire(timeout=PATIENCE_SECONDS)
        assert len(client.wait(1.0)) == 5


def test_a_receive_is_signed_once_a_second(client: Client) -> None:
    """Within a second all receives are the same bytes; the next second has a signature of its own."""
    clock = Clock()
    client = Client(max_connections=2, wall=clock)
    with scripted_server(messages(1)) as server:
        for seconds in (0.1, 0.9, 1.0):
            clock.seconds = 1_000_000 + seconds
            receive(client, target(server))
            answers(client)
        client.close()
    dates = [request.headers["x-amz-date"] for request in server.requests]
    signatures = [request.headers["authorization"] for request in server.requests]
    assert dates == ["19700112T134640Z", "19700112T134640Z", "19700112T134641Z"]
    assert signatures[0] == signatures[1] != signatures[2]
