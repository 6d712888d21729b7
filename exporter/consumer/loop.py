"""The loop: wait, record, delete, receive. `run_once` is one iteration, `run` repeats it until it is told to stop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from exporter.consumer.deletions import Deletions, max_delete_calls
from exporter.consumer.pacing import Pacing
from exporter.errors import InvalidEvent, WrongSettingError
from exporter.events.event import parse
from exporter.ledger import Delivery, QueueIdentity, failpoint
from exporter.ledger.message_ids import remembered_ids
from exporter.sqs import BATCH_SIZE
from exporter.sqs.answers import Deleted, Deletion, Failed, Received

if TYPE_CHECKING:
    from collections.abc import Sequence

    from exporter.consumer.recorder import Recorder
    from exporter.sqs import QueueAttributes
    from exporter.sqs.answers import Answer
    from exporter.sqs.client import Client
    from exporter.sqs.housekeeping import Housekeeping
    from exporter.telemetry.instrumentation import Instrumentation
    from exporter.telemetry.readiness import Readiness

ITERATION_SECONDS = 0.25
"""The longest an iteration waits for answers: how soon a signal or news of the queue is noticed."""
FIRST_ITERATIONS_SECONDS = 0.02
"""The same while the queue is not known yet: it is often found within milliseconds."""
DELETE_GRACE_SECONDS = 0.5
"""What the last deletes are given after the shutdown timeout is over."""
UNTIL_EMPTY_WAIT_SECONDS = 1
"""Long enough for SQS to ask all its servers, short enough not to wait 20 s for the end."""

OnInvalid = Literal["auto", "delete", "leave"]


class Consumer:
    """One thread, one loop, no locks: everything here runs on the thread that calls `run`.

    A signal handler may call `stop`.
    """

    def __init__(  # noqa: PLR0913 - the parts and the plain values that the loop needs, by name
        self,
        *,
        queue_name: str,
        client: Client,
        recorder: Recorder,
        housekeeping: Housekeeping,
        instrumentation: Instrumentation,
        readiness: Readiness,
        max_receives: int,
        wait_seconds: int,
        on_invalid: OnInvalid,
        require_timestamp: bool,
        shutdown_timeout_seconds: float,
        until_empty: bool = False,
    ) -> None:
        self._queue_name = queue_name
        self._client = client
        self._recorder = recorder
        self._housekeeping = housekeeping
        self._instrumentation = instrumentation
        self._readiness = readiness
        self._wait_seconds = min(wait_seconds, UNTIL_EMPTY_WAIT_SECONDS) if until_empty else wait_seconds
        self._on_invalid = on_invalid
        self._require_timestamp = require_timestamp
        self._shutdown_timeout_seconds = shutdown_timeout_seconds
        self._until_empty = until_empty

        self._pacing = Pacing(max_receives)
        self._deletions = Deletions()
        self._max_delete_calls = max_delete_calls(max_receives)
        self._queue: QueueAttributes | None = None
        self._covered_until = float("-inf")
        self._drained = False
        self._stopping = False
        self._stop_at = float("inf")

    def stop(self) -> None:
        """Ask the loop to end: no new receives; what arrives within the shutdown timeout is counted and deleted."""
        if not self._stopping:
            self._stop_at = time.monotonic() + self._shutdown_timeout_seconds
            self._stopping = True
            self._readiness.set("stopping", "shutting down: no new receives, what is under way is finished")

    def run(self) -> None:
        """Repeat until `stop` was called and all is settled or late, or (`until_empty`) the queue is empty."""
        while not self._done(time.monotonic()):
            self.run_once()
        abandoned = sum(self._client.abandon().values())
        if abandoned:
            self._instrumentation.receives_abandoned(abandoned)

    def run_once(self) -> None:
        """Wait for answers; record their messages in one commit; send their deletes and the next receives."""
        answers = self._client.wait(ITERATION_SECONDS if self._queue else FIRST_ITERATIONS_SECONDS)
        self._instrumentation.answered(answers)
        received = self._sort(answers)
        if received:
            with self._instrumentation.processing(received):
                self._record(received)
        now = time.monotonic()
        self._recorder.keep(now)
        if not self._recorder.working:
            self._deletions.drop()
        self._follow_the_queue()
        self._send_deletes(now)
        self._send_receives(now)
        self._readiness.iterated(now)
        self._instrumentation.readiness(self._readiness.why_not())
        self._instrumentation.receives_in_flight(self._client.receives_in_flight())

    def _done(self, now: float) -> bool:
        receiving = self._client.receives_in_flight()
        deleting = self._deletions.unconfirmed
        if self._is_empty() and self._recorder.working and not receiving and not deleting:
            return True
        if not self._stopping:
            return False
        if receiving:
            return now >= self._stop_at
        return not deleting or now >= self._stop_at + DELETE_GRACE_SECONDS

    def _is_empty(self) -> bool:
        """Whether the queue has nothing more to give, where the end was asked for; undeleted messages come back."""
        return self._until_empty and self._drained and not self._deletions.denied

    def _sort(self, answers: Sequence[Answer]) -> list[Received]:
        """Take in what needs no commit; return the answers that brought messages."""
        received: list[Received] = []
        for answer in answers:
            if isinstance(answer, Received):
                self._receive_succeeded(answer)
                if answer.messages or answer.released:
                    received.append(answer)
            elif isinstance(answer, Deleted):
                self._delete_answered(answer)
            elif isinstance(answer, Failed):
                self._call_failed(answer)
        return received

    def _receive_succeeded(self, answer: Received) -> None:
        self._drained = not answer.messages and not answer.released
        if answer.released and not answer.messages:
            # Going on at once would run through the queue and bring its messages nearer to the dead-letter queue.
            detail = f"none of the {sum(answer.released.values())} messages of an answer could be used"
            self._pacing.failed(answer.answered_at)
            self._readiness.receive_failed(answer.answered_at, next(iter(answer.released)), detail)
            return
        self._recorder.advance(max(0.0, answer.answered_at - max(answer.sent_at, self._covered_until)))
        self._covered_until = max(self._covered_until, answer.answered_at)
        self._pacing.answered(len(answer.messages), answer.sent_at)
        self._readiness.receive_succeeded(answer.answered_at)

    def _delete_answered(self, answer: Deleted) -> None:
        refused = [deletion for deletion, _ in answer.failed]
        if not answer.confirmed:
            reason = answer.failed[0][1]
            self._deletes_failed(refused, answer.answered_at, reason, f"none of {len(refused)} deletes was confirmed")
            return
        self._recorder.settle(
            [deletion.message_id for deletion in answer.confirmed if answer.answered_at < deletion.valid_until]
        )
        self._deletions.confirmed(answer.confirmed)
        self._deletions.refused(refused, answer.answered_at)
        self._readiness.deletes_succeeded()

    def _call_failed(self, answer: Failed) -> None:
        if answer.operation == "receive":
            self._pacing.failed(answer.answered_at)
            self._readiness.receive_failed(answer.answered_at, answer.reason, answer.detail)
        else:
            self._deletes_failed(answer.deletions, answer.answered_at, answer.reason, answer.detail)
        self._housekeeping.wake(self._queue_name)

    def _deletes_failed(self, deletions: Sequence[Deletion], at: float, reason: str, detail: str) -> None:
        if self._deletions.failed(deletions, at, denied=reason == "access_denied"):
            self._readiness.deletes_failed(at, reason, detail)

    def _record(self, received: Sequence[Received]) -> None:
        """Commit all that these answers brought; only then are its deletes due."""
        for answer in received:
            self._recorder.release(answer.released)
        deliveries, deletions, left = self._parse(received)
        fresh = self._recorder.record(deliveries)
        if fresh is None:
            self._instrumentation.not_recorded()
            return
        self._deletions.add(deletions)
        if left:
            self._recorder.settle(left)
        self._observe(received, deliveries, fresh)

    def _parse(self, received: Sequence[Received]) -> tuple[list[Delivery], list[Deletion], list[bytes]]:
        """Return what to record, what to delete after that, and the ids that the redrive policy will take care of."""
        now_seconds = time.time()
        leave = self._leaves_invalid()
        visibility_timeout_seconds = self._queue.visibility_timeout_seconds if self._queue else 0
        deliveries: list[Delivery] = []
        deletions: list[Deletion] = []
        left: list[bytes] = []
        for answer in received:
            # SQS starts the visibility timeout somewhere between request and answer: the request is the safe side.
            valid_until = answer.sent_at + visibility_timeout_seconds
            message_ids = remembered_ids([message.message_id for message in answer.messages])
            for message, message_id in zip(answer.messages, message_ids, strict=True):
                try:
                    event = parse(message.body, now_seconds=now_seconds, require_timestamp=self._require_timestamp)
                except InvalidEvent as invalid:
                    self._instrumentation.message_rejected(message.message_id, invalid.reason, message.body, left=leave)
                    deliveries.append(Delivery(message_id, invalid.reason))
                    if leave:
                        left.append(message_id)
                        continue
                else:
                    deliveries.append(Delivery(message_id, event))
                deletions.append(Deletion(message_id, message.receipt_handle, valid_until))
        return deliveries, deletions, left

    def _leaves_invalid(self) -> bool:
        if self._on_invalid == "auto":
            return self._queue is not None and self._queue.dead_letter_queue_arn is not None
        return self._on_invalid == "leave"

    def _observe(self, received: Sequence[Received], deliveries: Sequence[Delivery], fresh: Sequence[bool]) -> None:
        """Show how old the events and messages were that this commit counted; below 0 where a clock runs ahead."""
        now_seconds = time.time()
        event_ages_seconds = []
        message_ages_seconds = []
        messages = (message for answer in received for message in answer.messages)
        for message, delivery, is_fresh in zip(messages, deliveries, fresh, strict=True):
            outcome = delivery.outcome
            if is_fresh and not isinstance(outcome, str):
                if outcome.occurred_at_seconds is not None:
                    event_ages_seconds.append(now_seconds - outcome.occurred_at_seconds)
                if message.sent_at_seconds is not None:
                    message_ages_seconds.append(now_seconds - message.sent_at_seconds)
        self._instrumentation.events_counted(event_ages_seconds, message_ages_seconds)

    def _follow_the_queue(self) -> None:
        """Take over what the housekeeping thread found out."""
        problem = self._housekeeping.queues[self._queue_name].problem
        if problem is None:
            self._readiness.clear("queue")
        else:
            self._readiness.set("queue", str(problem))
        attributes = self._housekeeping.queues[self._queue_name].attributes
        if attributes is None or attributes == self._queue or not self._recorder.working:
            return
        if self._queue is None and self._on_invalid == "leave" and attributes.dead_letter_queue_arn is None:
            raise WrongSettingError(
                f"--sqs.on-invalid is leave, but queue {attributes.name} has no redrive policy that would ever take "
                f"the messages away: use delete or auto, or give the queue a dead-letter queue",
            )
        self._recorder.bind(
            QueueIdentity(
                attributes.name,
                attributes.arn,
                attributes.visibility_timeout_seconds,
                attributes.retention_seconds,
            )
        )
        self._queue = attributes

    def _send_deletes(self, now: float) -> None:
        target = self._housekeeping.queues[self._queue_name].target
        if target is None or not self._recorder.working:
            return
        for batch in self._deletions.batches(now, self._max_delete_calls - self._client.deletes_in_flight()):
            self._client.delete(self._queue_name, target, batch)
            failpoint.reach("during_delete")

    def _send_receives(self, now: float) -> None:
        target = self._housekeeping.queues[self._queue_name].target
        if target is None or self._queue is None:
            return
        in_flight = self._client.receives_in_flight()
        wanted = self._pacing.wanted(in_flight, now)
        allowed = self._deletions.receives(wanted, now) if self._may_receive() else 0
        allowed = max(0, min(allowed, self._recorder.capacity // BATCH_SIZE - in_flight))
        if wanted and not (allowed or in_flight):
            self._readiness.receives_pause(now)
        # A handle has to outlive the long poll that brought it, or no delete of it could ever be trusted.
        wait_seconds = min(self._wait_seconds, max(1, self._queue.visibility_timeout_seconds - 5))
        for _ in range(allowed):
            self._client.receive(
                self._queue_name,
                target,
                wait_seconds=wait_seconds,
                visibility_timeout_seconds=self._queue.visibility_timeout_seconds,
                fifo=self._queue.fifo,
            )

    def _may_receive(self) -> bool:
        if self._stopping or not self._recorder.working or self._is_empty():
            return False
        limited = self._recorder.limited
        if limited is None:
            self._readiness.clear("limited")
        else:
            self._readiness.set("limited", limited)
        return True
