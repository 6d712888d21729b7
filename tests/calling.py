"""What the tests of the client share: a queue at a scripted server, and its answers."""

from __future__ import annotations

import time
from dataclasses import replace
from hashlib import md5
from typing import TYPE_CHECKING, Any

from scripted_server import PATIENCE_SECONDS, ScriptedServer

from exporter.sqs import REASONS, Credentials, Target
from exporter.sqs.answers import Deletion, Failed

if TYPE_CHECKING:
    from exporter.sqs.answers import Answer
    from exporter.sqs.client import Client

QUEUE = "queue"
QUEUE_URL = f"https://sqs.example/1/{QUEUE}"
DELETIONS = [Deletion(bytes([number]) * 16, f"handle-{number}", 1.0) for number in range(10)]


def messages(count: int) -> dict[str, Any]:
    """Return the answer to a receive that brings so many messages."""
    digest = md5(b"body", usedforsecurity=False).hexdigest()
    return {
        "Messages": [
            {"MessageId": f"id-{number}", "ReceiptHandle": f"handle-{number}", "Body": "body", "MD5OfBody": digest}
            for number in range(count)
        ]
    }


def target(server: ScriptedServer | int, **changes: Any) -> Target:  # noqa: ANN401 - any of its fields
    """Return the queue at the server (or port)."""
    port = server if isinstance(server, int) else server.port
    endpoint_url = f"http://127.0.0.1:{port}"
    given = Target(endpoint_url, "eu-west-1", QUEUE_URL, Credentials("AKID", "the-secret", "a-token"))
    return replace(given, **changes)


def receive(client: Client, to: Target, **changes: Any) -> None:  # noqa: ANN401 - any of its parameters
    """Send a receive that does not wait for messages."""
    client.receive(QUEUE, to, **{"wait_seconds": 0, "visibility_timeout_seconds": 30} | changes)


def drive(client: Client, server: ScriptedServer, requests: int) -> None:
    """Let the client send until the server has had so many requests; none may be answered meanwhile."""
    end = time.monotonic() + PATIENCE_SECONDS
    while len(server.requests) < requests:
        assert time.monotonic() < end
        assert client.wait(0.01) == []


def answers(client: Client, count: int = 1) -> list[Answer]:
    """Wait for so many answers, and see that there are no more."""
    came: list[Answer] = []
    end = time.monotonic() + PATIENCE_SECONDS
    while len(came) < count and time.monotonic() < end:
        came += client.wait(1.0)
    assert len(came) == count
    assert client.wait(0) == []
    return came


def failure(client: Client) -> Failed:
    """Wait for the one answer, which is that the call failed."""
    (answer,) = answers(client)
    assert isinstance(answer, Failed)
    assert answer.reason in REASONS
    assert len(answer.detail) <= 200
    assert answer.detail.isprintable()
    assert answer.sent_at <= answer.answered_at <= time.monotonic()
    return answer


class Clock:
    """Stands still, or lies, as a test wants."""

    def __init__(self, seconds: float = 1_000_000.0) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        """Tell the time."""
        return self.seconds
