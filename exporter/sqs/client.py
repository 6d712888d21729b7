"""Receives, batch deletes and changes of visibility of all queues: many in flight, each with a limit on its length.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-making-api-requests-json.html
"""

from __future__ import annotations

import math
import time
import uuid
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import pycurl

from exporter import __version__
from exporter.errors import one_line
from exporter.sqs import BATCH_SIZE
from exporter.sqs.answers import Failed
from exporter.sqs.http import Call, ResponseMemoryLimit, Transfers
from exporter.sqs.outcomes import answer_to, failed
from exporter.sqs.reasons import header
from exporter.sqs.requests import QueueRequests
from exporter.sqs.signing import UnusableCredentialsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from exporter.sqs import Target
    from exporter.sqs.answers import Answer, Deletion, Operation

RECEIVE_GRACE_SECONDS = 5.0
"""What a receive may take beyond its wait."""
BATCH_SECONDS = 10.0
"""What a batch request may take."""
_TRACE_ATTRIBUTES = ("traceparent", "tracestate")


class Client:
    """The requests in flight, of all queues. All of it belongs to one thread.

    Whatever becomes of a request, `wait` returns it once. `queue` is always the queue's name.
    """

    def __init__(  # noqa: PLR0913 - by name, and all but one have a default
        self,
        *,
        max_connections: int,
        request_trace_context: bool = False,
        user_agent: str = f"sqs-event-exporter/{__version__}",
        receive_grace_seconds: float = RECEIVE_GRACE_SECONDS,
        batch_seconds: float = BATCH_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Keep at most `max_connections` alive; ask for the messages' trace context if `request_trace_context`."""
        self._system_attribute_names = (
            ["SentTimestamp", "AWSTraceHeader"] if request_trace_context else ["SentTimestamp"]
        )
        self._trace_attribute_names = _TRACE_ATTRIBUTES if request_trace_context else ()
        self._user_agent = user_agent
        self._receive_grace_seconds = receive_grace_seconds
        self._batch_seconds = batch_seconds
        self._monotonic = monotonic
        self._wall = wall
        self._clock_offset_seconds = 0.0
        self._transfers = Transfers(max_connections)
        self._response_memory = ResponseMemoryLimit()
        self._queues: dict[str, QueueRequests] = {}
        self._receives_in_flight = 0
        self._next_deadline = math.inf
        self._failed_at_once: list[Answer] = []

    def receives_in_flight(self, queue: str | None = None) -> int:
        """How many receives, of one queue or of all, have been sent and not answered yet."""
        if queue is None:
            return self._receives_in_flight
        return self._queue(queue).receives_in_flight

    def deletes_in_flight(self, queue: str | None = None) -> int:
        """How many batch requests, of one queue or of all, have been sent and not answered yet."""
        if queue is None:
            return sum(one.batches_in_flight for one in self._queues.values())
        return self._queue(queue).batches_in_flight

    def receive(  # noqa: PLR0913 - what a receive says, by name
        self,
        queue: str,
        target: Target,
        *,
        wait_seconds: int,
        visibility_timeout_seconds: int,
        fifo: bool = False,
        attribute_names: tuple[str, ...] = (),
    ) -> None:
        """Send one receive of up to ten messages, with the message attributes of these names."""
        attempt = None
        one = self._queue(queue)
        if fifo:
            # An attempt whose answer was lost is repeated by its id: SQS then gives the same messages again, at once.
            attempt = one.unanswered_attempts.pop() if one.unanswered_attempts else str(uuid.uuid4())
        try:
            used = one.aim(target)
            request = one.receive(
                int(self._wall() + self._clock_offset_seconds),
                wait_seconds=wait_seconds,
                visibility_timeout_seconds=visibility_timeout_seconds,
                system_attribute_names=self._system_attribute_names,
                attribute_names=attribute_names + self._trace_attribute_names,
                attempt=attempt,
            )
            call = self._start(one, used, "receive", request, wait_seconds + self._receive_grace_seconds)
        except (ValueError, MemoryError, pycurl.error) as error:
            if attempt is not None:
                one.unanswered_attempts.append(attempt)
            self._not_sent(queue, "receive", (), error)
            return
        call.wait_seconds = wait_seconds
        call.visibility_timeout_seconds = visibility_timeout_seconds
        call.attribute_names = attribute_names
        call.attempt = attempt
        one.receives_in_flight += 1
        self._receives_in_flight += 1

    def delete(self, queue: str, target: Target, deletions: Sequence[Deletion]) -> None:
        """Send one batch delete, of at most ten."""
        self._send_batch(queue, target, "delete", deletions)

    def make_visible(self, queue: str, target: Target, deletions: Sequence[Deletion]) -> None:
        """Let at most ten messages be received again at once: ask for a visibility timeout of 0."""
        self._send_batch(queue, target, "change_visibility", deletions)

    def wait(self, timeout_seconds: float, also: tuple[int, int] | None = None) -> list[Answer]:
        """Return all answers that have arrived, as soon as there is one; after `timeout_seconds` at the latest.

        `also` is a descriptor, with the poll events that end the wait too. Requests move in here alone. A signal's
        handler runs at once, but the wait goes on after it.
        """
        answers, self._failed_at_once = self._failed_at_once, []
        self._response_memory.resume()
        until_deadline = max(0.0, self._next_deadline - self._monotonic())
        ended = self._transfers.wait(0.0 if answers else min(timeout_seconds, until_deadline), also)
        now = self._monotonic()
        for call in ended:
            self._no_longer_in_flight(call)
            answer = answer_to(call, now)
            if isinstance(answer, Failed) and answer.reason == "clock_skew":
                self._learn_clock_offset(header(call.headers, "date"))
            if self._trace_attribute_names:
                answer.headers = tuple(call.headers)
            answers.append(answer)
        if now >= self._next_deadline:
            answers.extend(self._drop_late(now))
        return answers

    def abandon_receives(self) -> Mapping[str, int]:
        """Drop the receives in flight; return how many that were, by queue."""
        receives = {one.name: one.receives_in_flight for one in self._queues.values() if one.receives_in_flight}
        for call in list(self._transfers.in_flight.values()):
            if call.operation == "receive":
                self._drop(call)
        return receives

    def close(self) -> None:
        """Drop what is in flight and close all connections."""
        for call in list(self._transfers.in_flight.values()):
            self._drop(call)
        self._next_deadline = math.inf
        for queue in self._queues.values():
            queue.close()
        self._transfers.close()

    def _queue(self, name: str) -> QueueRequests:
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = QueueRequests(name)
        return queue

    def _send_batch(self, queue: str, target: Target, operation: Operation, deletions: Sequence[Deletion]) -> None:
        one = self._queue(queue)
        try:
            if len(deletions) > BATCH_SIZE:
                raise ValueError(f"a batch request takes at most {BATCH_SIZE}")  # noqa: TRY301 - told like the others
            used = one.aim(target)
            write = one.delete if operation == "delete" else one.make_visible
            handles = [deletion.receipt_handle for deletion in deletions]
            request = write(int(self._wall() + self._clock_offset_seconds), handles)
            call = self._start(one, used, operation, request, self._batch_seconds)
        except (ValueError, MemoryError, pycurl.error) as error:
            self._not_sent(queue, operation, deletions, error)
            return
        call.deletions = deletions
        one.batches_in_flight += 1

    def _start(
        self,
        queue: QueueRequests,
        target: Target,
        operation: Operation,
        request: tuple[bytes, list[str]],
        allowed_seconds: float,
    ) -> Call:
        call = queue.idle_call(operation)
        if call is None:
            call = Call(queue, target, operation, self._user_agent, self._response_memory)
        call.carry(request)
        self._transfers.start(call)
        call.sent_at = self._monotonic()
        call.allowed_seconds = allowed_seconds
        call.deadline = call.sent_at + allowed_seconds
        self._next_deadline = min(self._next_deadline, call.deadline)
        return call

    def _not_sent(self, queue: str, operation: Operation, deletions: Sequence[Deletion], error: Exception) -> None:
        reason = "credentials" if isinstance(error, UnusableCredentialsError) else "request"
        detail = one_line(f"The request can't be made: {error}.")
        if isinstance(error, MemoryError):
            reason, detail = "out_of_memory", "There is no memory left to make the request."
        now = self._monotonic()
        self._failed_at_once.append(Failed(queue, operation, reason, detail, deletions, now, now))

    def _no_longer_in_flight(self, call: Call) -> None:
        if call.operation == "receive":
            call.queue.receives_in_flight -= 1
            self._receives_in_flight -= 1
        else:
            call.queue.batches_in_flight -= 1

    def _learn_clock_offset(self, date: str) -> None:
        try:
            self._clock_offset_seconds = parsedate_to_datetime(date).timestamp() - self._wall()
        except (ValueError, OverflowError):
            return

    def _drop(self, call: Call) -> None:
        self._no_longer_in_flight(call)
        self._transfers.drop(call)
        call.close()

    def _drop_late(self, now: float) -> list[Answer]:
        late = [call for call in self._transfers.in_flight.values() if now >= call.deadline]
        answers: list[Answer] = []
        for call in late:
            self._drop(call)
            detail = f"No whole answer came within {call.allowed_seconds:g} s."
            answers.append(failed(call, "timeout", detail, now))
        in_flight = self._transfers.in_flight.values()
        self._next_deadline = min((call.deadline for call in in_flight), default=math.inf)
        return answers
