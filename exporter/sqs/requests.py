"""The signed HTTP requests to one queue. Bodies and signatures that can be used again are.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-making-api-requests-json.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from exporter.sqs import BATCH_SIZE
from exporter.sqs.signing import Signer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.sqs import Target
    from exporter.sqs.answers import Operation
    from exporter.sqs.http import Call

BATCH_IDS = tuple(str(number) for number in range(BATCH_SIZE))
"""The ids of a batch request's entries, in order."""

# libcurl adds these by itself, and with the second it waits for leave to send a body.
_LEFT_OUT = ["Accept:", "Expect:"]


class _Entry(msgspec.Struct, gc=False):
    id: str = msgspec.field(name="Id")
    receipt_handle: str = msgspec.field(name="ReceiptHandle")


class _VisibleEntry(msgspec.Struct, gc=False):
    id: str = msgspec.field(name="Id")
    receipt_handle: str = msgspec.field(name="ReceiptHandle")
    visibility_timeout: int = msgspec.field(name="VisibilityTimeout", default=0)


class QueueRequests:
    """The requests to one queue: writes and signs them, and keeps the calls that are idle.

    A signed request is its body and its headers.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.receives_in_flight = 0
        self.batches_in_flight = 0
        self.unanswered_attempts: list[str] = []
        """Ids of receives from a FIFO queue that SQS may have acted on, and whose answer did not come."""
        self.target: Target | None = None
        self._idle: dict[Operation, list[Call]] = {"receive": [], "delete": [], "change_visibility": []}
        self._receive: tuple[tuple[object, ...], tuple[bytes, list[str]]] | None = None

    def aim(self, target: Target) -> Target:
        """Send what comes next to this target; returns the one in use, which may be an equal one of before.

        Raises UnusableCredentialsError or another ValueError where nothing can be signed for it.
        """
        if self.target is not None and (target is self.target or target == self.target):
            return self.target
        self.close()
        self.target = self._receive = None
        self._receive_signer = Signer(target, "ReceiveMessage")
        self._delete_signer = Signer(target, "DeleteMessageBatch")
        self._visibility_signer = Signer(target, "ChangeMessageVisibilityBatch")
        self._queue_url = target.queue_url
        self.target = target
        return target

    def idle_call(self, operation: Operation) -> Call | None:
        """Return a call that has ended well, to be used again; None where there is none."""
        idle = self._idle[operation]
        return idle.pop() if idle else None

    def rest(self, call: Call) -> None:
        """Keep a call whose transfer ended well, where its target is still the queue's."""
        if call.target is self.target:
            self._idle[call.operation].append(call)
        else:
            call.close()

    def close(self) -> None:
        """Close the calls that are idle; the connections stay, and serve those that are made next."""
        for idle in self._idle.values():
            while idle:
                idle.pop().close()

    def receive(  # noqa: PLR0913 - what a receive says, by name
        self,
        signing_time: int,
        *,
        wait_seconds: int,
        visibility_timeout_seconds: int,
        system_attribute_names: Sequence[str],
        attribute_names: Sequence[str],
        attempt: str | None,
    ) -> tuple[bytes, list[str]]:
        """Return a receive of up to ten messages: the same one for a whole second, unless it has an `attempt` id."""
        key = signing_time, wait_seconds, visibility_timeout_seconds, attribute_names
        if attempt is None and self._receive is not None and self._receive[0] == key:
            return self._receive[1]
        parameters: dict[str, object] = {
            "QueueUrl": self._queue_url,
            "MaxNumberOfMessages": BATCH_SIZE,
            "WaitTimeSeconds": wait_seconds,
            "VisibilityTimeout": visibility_timeout_seconds,
            "MessageSystemAttributeNames": system_attribute_names,
        }
        if attribute_names:
            parameters["MessageAttributeNames"] = attribute_names
        if attempt is not None:
            parameters["ReceiveRequestAttemptId"] = attempt
        request = _signed(self._receive_signer, msgspec.json.encode(parameters), signing_time)
        self._receive = (key, request) if attempt is None else None
        return request

    def delete(self, signing_time: int, receipt_handles: Sequence[str]) -> tuple[bytes, list[str]]:
        """Return a batch delete whose entries have the ids `BATCH_IDS`, in order."""
        entries = list(map(_Entry, BATCH_IDS, receipt_handles))
        body = msgspec.json.encode({"QueueUrl": self._queue_url, "Entries": entries})
        return _signed(self._delete_signer, body, signing_time)

    def make_visible(self, signing_time: int, receipt_handles: Sequence[str]) -> tuple[bytes, list[str]]:
        """Return a request, with the ids `BATCH_IDS` in order, to end the visibility timeouts of messages at once."""
        entries = list(map(_VisibleEntry, BATCH_IDS, receipt_handles))
        body = msgspec.json.encode({"QueueUrl": self._queue_url, "Entries": entries})
        return _signed(self._visibility_signer, body, signing_time)


def _signed(signer: Signer, body: bytes, signing_time: int) -> tuple[bytes, list[str]]:
    return body, [*signer.headers(body, signing_time), *_LEFT_OUT]
