"""What is sent: bodies and signatures, worked out as rarely as possible, and the handles that carry them, used again.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-making-api-requests-json.html
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import pycurl

from exporter.sqs.http import handle_for
from exporter.sqs.signing import Signer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.sqs import Target
    from exporter.sqs.answers import Operation
    from exporter.sqs.response_memory import ResponseMemoryLimit

BATCH_SIZE = 10
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html"""
BATCH_IDS = tuple(str(number) for number in range(BATCH_SIZE))

# libcurl adds these by itself, and with the second it waits for leave to send a body.
_LEFT_OUT = ["Accept:", "Expect:"]


class Request(NamedTuple):
    """A signed request."""

    body: bytes
    headers: list[str]


class _Entry(msgspec.Struct, gc=False):
    id: str = msgspec.field(name="Id")
    receipt_handle: str = msgspec.field(name="ReceiptHandle")


class Exchange:
    """A libcurl handle and what its answer is gathered in."""

    def __init__(self, target: Target, user_agent: str, response_memory: ResponseMemoryLimit) -> None:
        self.handle = handle_for(target, user_agent)
        self.headers: list[bytes] = []
        """The raw lines of the answer's headers, a proxy's before them."""
        self._body = BytesIO()
        self._response_memory = response_memory
        self._request: Request | None = None
        self.handle.setopt(pycurl.WRITEFUNCTION, self._gather)
        self.handle.setopt(pycurl.HEADERFUNCTION, self.headers.append)

    def carry(self, request: Request) -> None:
        """Make the next transfer this request."""
        self.headers.clear()
        if request is not self._request:
            self.handle.setopt(pycurl.POSTFIELDS, request.body)
            self.handle.setopt(pycurl.HTTPHEADER, request.headers)
            self._request = request

    def take_body(self) -> bytes:
        """Return the answer's body and make room for the next."""
        body = self._body.getvalue()
        self._response_memory.give_back(self.handle, len(body))
        self._body.seek(0)
        self._body.truncate()
        return body

    def close(self) -> None:
        """Close the handle; what has arrived is lost."""
        self.take_body()
        self.handle.close()

    def _gather(self, chunk: bytes) -> int | None:
        if not self._response_memory.takes(self.handle, self._body.tell(), len(chunk)):
            return pycurl.WRITEFUNC_PAUSE
        self._body.write(chunk)
        return None


class Route:
    """What all calls to one target share: its signers, its URL as it stands in bodies, and handles that are idle."""

    def __init__(self, target: Target, user_agent: str, response_memory: ResponseMemoryLimit) -> None:
        """Raise UnusableCredentialsError or another ValueError where nothing can be signed for the target."""
        self.target = target
        self._user_agent = user_agent
        self._response_memory = response_memory
        self._receive_signer = Signer(target, "ReceiveMessage")
        self._delete_signer = Signer(target, "DeleteMessageBatch")
        self._receive_request: tuple[tuple[int, int, int], Request] | None = None
        self._idle: dict[Operation, list[Exchange]] = {"receive": [], "delete": []}

    def receive(
        self,
        signing_time: int,
        *,
        wait_seconds: int,
        visibility_timeout_seconds: int,
        trace_context: bool,
        attempt: str | None,
    ) -> Request:
        """Return a receive of up to ten messages: the same one for a whole second, unless it has an `attempt` id."""
        key = signing_time, wait_seconds, visibility_timeout_seconds
        if attempt is None and self._receive_request is not None and self._receive_request[0] == key:
            return self._receive_request[1]
        parameters: dict[str, object] = {
            "QueueUrl": self.target.queue_url,
            "MaxNumberOfMessages": BATCH_SIZE,
            "WaitTimeSeconds": wait_seconds,
            "VisibilityTimeout": visibility_timeout_seconds,
            "MessageSystemAttributeNames": ["SentTimestamp"],
        }
        if trace_context:
            parameters["MessageSystemAttributeNames"] = ["SentTimestamp", "AWSTraceHeader"]
            parameters["MessageAttributeNames"] = ["traceparent", "tracestate"]
        if attempt is not None:
            parameters["ReceiveRequestAttemptId"] = attempt
        request = _signed(self._receive_signer, msgspec.json.encode(parameters), signing_time)
        self._receive_request = (key, request) if attempt is None else None
        return request

    def delete(self, signing_time: int, receipt_handles: Sequence[str]) -> Request:
        """Return a batch delete whose entries have the ids `BATCH_IDS`, in order."""
        entries = list(map(_Entry, BATCH_IDS, receipt_handles))
        body = msgspec.json.encode({"QueueUrl": self.target.queue_url, "Entries": entries})
        return _signed(self._delete_signer, body, signing_time)

    def exchange(self, operation: Operation) -> Exchange:
        """Return a handle that is idle, or a new one."""
        idle = self._idle[operation]
        return idle.pop() if idle else Exchange(self.target, self._user_agent, self._response_memory)

    def rest(self, operation: Operation, exchange: Exchange) -> None:
        """Take back a handle whose transfer ended well."""
        self._idle[operation].append(exchange)

    def close(self) -> None:
        """Close the handles that are idle; the connections stay, and serve the handles of the next route."""
        for idle in self._idle.values():
            while idle:
                idle.pop().close()


def _signed(signer: Signer, body: bytes, signing_time: int) -> Request:
    return Request(body, [*signer.headers(body, signing_time), *_LEFT_OUT])
