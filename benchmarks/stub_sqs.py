"""An SQS that costs next to nothing, in a process of its own, so that what is measured is its client.

It hands out each message once, forgets about visibility and signatures, and counts what it gives and what is deleted.
Answers are rendered ahead but for the ids; one thread on bare sockets sends them.
"""

from __future__ import annotations

import multiprocessing
from typing import Self, TypeVar

from stub_events import Load, Report
from stub_server import serve

START_SECONDS = 20.0

T = TypeVar("T")


class StubSqs:
    """The stub, as the measuring process sees it; a context manager.

    `certificate` is a PEM file and its key's, `authority` that of who signed it: with them the stub speaks TLS.
    """

    def __init__(self, certificate: tuple[str, str] | None = None, authority: str | None = None) -> None:
        self._authority = authority
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, certificate), daemon=True)
        self._process.start()
        self.endpoint_url = f"{'https' if certificate else 'http'}://127.0.0.1:{self._said(int, START_SECONDS)}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()
        self._connection.close()

    @property
    def environment(self) -> dict[str, str]:
        """What leads a client here."""
        trusted = {"AWS_CA_BUNDLE": self._authority} if self._authority else {}
        return {
            **trusted,
            "AWS_ENDPOINT_URL_SQS": self.endpoint_url,
            "AWS_DEFAULT_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }

    def release(self) -> None:
        """Answer all long polls that are open, so that a client which was told to end does."""
        self._connection.send("release")

    def load(self, load: Load) -> None:
        """Put messages into the queues, by tens where they don't come at a rate."""
        self._connection.send(load)

    def finished(self, timeout_seconds: float = 300.0) -> Report:
        """Wait until all messages of the load are deleted."""
        return self._said(Report, timeout_seconds)

    def watch(self) -> None:
        """Note when the next receive comes; `next_receive` says it."""
        self._connection.send("watch")

    def next_receive(self, timeout_seconds: float = 60.0) -> float:
        """Wait for the first receive after `watch`; returns when it came, in monotonic seconds."""
        return self._said(float, timeout_seconds)

    def receives(self) -> int:
        """How many receives have come so far."""
        self._connection.send("receives")
        return self._said(int, START_SECONDS)

    def requests(self) -> int:
        """How many requests of any kind have come so far."""
        self._connection.send("requests")
        return self._said(int, START_SECONDS)

    def _said(self, kind: type[T], timeout_seconds: float) -> T:
        if not self._connection.poll(timeout_seconds):
            raise TimeoutError(f"the stub has not said {kind.__name__} within {timeout_seconds:.0f} s")
        said = self._connection.recv()
        if not isinstance(said, kind):
            raise TypeError(f"the stub said {said!r} instead of {kind.__name__}")
        return said
