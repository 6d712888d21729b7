"""An SQS endpoint that answers what a test tells it to: for answers that no real implementation gives on request."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_SECONDS = 60
"""A deadline: where all is well it is not waited for."""


@dataclass
class Answer:
    """What to answer; `None` as body closes the connection without an answer."""

    body: Any
    status: int = 200


def refusal(code: str, status: int = 400, message: str = "") -> Answer:
    """SQS's way to say no."""
    return Answer({"__type": f"com.amazonaws.sqs#{code}", "message": message}, status)


@dataclass
class StubSqs:
    """Set `answers[operation]` to a function of the request; `requests` holds what came."""

    url: str
    answers: dict[str, Callable[[dict[str, Any]], Answer]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    came: threading.Condition = field(default_factory=threading.Condition)

    def count(self, operation: str) -> int:
        """Tell how often the operation was asked for."""
        return [name for name, _ in self.requests].count(operation)

    def wait_for(self, operation: str, times: int) -> None:
        """Wait until the operation was asked for so many times."""
        with self.came:
            assert self.came.wait_for(lambda: self.count(operation) >= times, PATIENCE_SECONDS)


@contextmanager
def stub_sqs() -> Iterator[StubSqs]:
    """Serve until the context ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            operation = self.headers["X-Amz-Target"].rpartition(".")[2]
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with stub.came:
                stub.requests.append((operation, request))
                stub.came.notify_all()
            answer = stub.answers[operation](request)
            if answer.body is None:
                self.close_connection = True
                return
            body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub = StubSqs(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
