"""What happened, by name: one call writes the log line, counts it and traces it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from contextlib import nullcontext
from typing import TYPE_CHECKING, Protocol

from exporter.sqs import BATCH_SIZE
from exporter.sqs.answers import ChangedVisibility, Deleted, Failed, Received
from exporter.telemetry.logs import LogRateLimiter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from exporter.errors import InvalidEvent, LedgerError
    from exporter.sqs.answers import Answer, Message
    from exporter.telemetry.metrics.health import Health
    from exporter.telemetry.readiness import Status

log = logging.getLogger("exporter")

_UNTRACED: AbstractContextManager[None] = nullcontext()


class Telemetry(Protocol):
    """What OpenTelemetry is told, where it is on: of each iteration and each batch, never of each message."""

    def answered(self, answers: Sequence[Answer]) -> bool:
        """Measure an iteration's calls; returns whether `call` is to be told of each."""

    def call(self, answer: Answer) -> AbstractContextManager[None]:
        """Make the span of a call that was answered or failed; log lines written meanwhile are its own."""

    def processing(self, received: Sequence[Received]) -> AbstractContextManager[None]:
        """Begin a batch: what these answers brought is parsed meanwhile."""

    def recorded(self) -> None:
        """End the batch: it is committed."""

    def not_recorded(self) -> None:
        """End the batch: it could not be committed."""


class Instrumentation:
    """The one place where the loop's happenings become log lines and metrics.

    WARNING: something needs a look, nothing is lost. ERROR: the exporter stopped taking messages.
    """

    def __init__(self, health: Health, telemetry: Telemetry | None = None) -> None:
        self._health = health
        self._telemetry = telemetry
        self._log_rate_limiter = LogRateLimiter()
        self._told_why_not: dict[str, str | None] = {}

    def queue_taken_up(self, queue: str) -> None:
        """A queue was named, or found under a prefix: its series begin."""
        self._health.take_up(queue)
        self._told_why_not[queue] = ""

    def answered(self, answers: Sequence[Answer]) -> None:
        """Calls were answered, or failed.

        Of receives only those are timed that came back full: another one took as long as it waited for messages.
        """
        telemetry = self._telemetry if self._telemetry is not None and self._telemetry.answered(answers) else None
        durations: dict[tuple[str, str], list[float]] = {}
        requests: dict[tuple[str, str], int] = {}
        deleted: dict[str, int] = {}
        received: set[str] = set()
        for answer in answers:
            queue = answer.queue
            if isinstance(answer, Received):
                operation = "receive"
                received.add(queue)
                if len(answer.messages) == BATCH_SIZE:
                    durations.setdefault((queue, operation), []).append(answer.answered_at - answer.sent_at)
            elif isinstance(answer, Deleted):
                operation = "delete"
                durations.setdefault((queue, operation), []).append(answer.answered_at - answer.sent_at)
                deleted[queue] = deleted.get(queue, 0) + len(answer.confirmed)
            else:
                operation = answer.operation if isinstance(answer, Failed) else "change_visibility"
            requests[queue, operation] = requests.get((queue, operation), 0) + 1
            if telemetry is None:
                self._tell_of(answer)
            else:
                with telemetry.call(answer):
                    self._tell_of(answer)
        self.requests_made(requests)
        for queue in received:
            self._health.receive_succeeded(queue, time.time())
        for (queue, operation), seconds in durations.items():
            self._health.observe_requests(queue, operation, seconds)
        for queue, count in deleted.items():
            self._health.messages_deleted(queue, count)

    def requests_made(self, requests: Mapping[tuple[str, str], int]) -> None:
        """So many requests were made, by queue and operation: what SQS bills."""
        for (queue, operation), count in requests.items():
            self._health.requests_made(queue, operation, count)

    def receives_in_flight(self, queue: str, count: int) -> None:
        """So many receives are under way now."""
        self._health.set_receives_in_flight(queue, count)

    def receives_abandoned(self, receives: Mapping[str, int]) -> None:
        """Long polls were still open when the shutdown timeout was over."""
        for queue, count in receives.items():
            log.info(
                "long polls abandoned: what SQS handed to them comes back after the visibility timeout",
                extra={"queue": queue, "receives": count},
            )

    def processing(self, received: Sequence[Received]) -> AbstractContextManager[None]:
        """What these answers brought is parsed and submitted meanwhile."""
        return _UNTRACED if self._telemetry is None else self._telemetry.processing(received)

    def not_recorded(self) -> None:
        """What was submitted could not be recorded: SQS delivers it again."""
        if self._telemetry is not None:
            self._telemetry.not_recorded()

    def message_rejected(self, queue: str, message: Message, invalid: InvalidEvent, *, left: bool) -> None:
        """A message is not an event. Its body is never shown: a hash is enough to find it again."""
        if self._log_rate_limiter.allow(invalid.reason):
            log.warning(
                "message is not an event",
                extra={
                    "queue": queue,
                    "reason": invalid.reason,
                    **({"field": invalid.field, "kind": invalid.kind} if invalid.field else {}),
                    "message_id": message.message_id[:128],
                    "body_bytes": len(message.body),
                    "body_sha256": hashlib.sha256(message.body).hexdigest(),
                    "action": "left to the redrive policy" if left else "deleted",
                    **self._log_rate_limiter.suppressed(invalid.reason),
                },
            )

    def committed(self, seconds: float) -> None:
        """A batch was committed to the ledger."""
        self._health.observe_commit(seconds)
        if self._telemetry is not None:
            self._telemetry.recorded()

    def events_counted(self, queue: str, event_ages_seconds: list[float], message_ages_seconds: list[float]) -> None:
        """Events of one commit were counted; how old they and their messages were."""
        self._health.observe_event_ages(queue, event_ages_seconds)
        self._health.observe_message_ages(queue, message_ages_seconds)

    def ledger_failed(self, error: LedgerError) -> None:
        """The ledger can't be written: no receives and no deletes until it can."""
        self._health.ledger_failed(error.reason)
        kind = f"ledger {error.reason}"
        if self._log_rate_limiter.allow(kind, 1):
            log.error(
                "ledger failed, no messages are taken until it works again",
                extra={
                    "reason": error.reason,
                    "error": str(error),
                    **self._log_rate_limiter.suppressed(kind),
                },
            )

    def ledger_recovered(self) -> None:
        """The ledger was reopened."""
        log.info("ledger works again")

    def readiness(self, status: Status) -> None:
        """`/-/ready` answers so now; of each queue only a change between ready and not is worth a line."""
        for queue, why_not in status.queues.items():
            told = self._told_why_not.get(queue, "")
            if (why_not is None) == (told is None):
                continue
            if why_not is None:
                log.info("ready", extra={"queue": queue})
            elif told is None:
                log.warning("not ready", extra={"queue": queue, "why": why_not})
            self._told_why_not[queue] = why_not

    def _tell_of(self, answer: Answer) -> None:
        """Count what went wrong, and say it."""
        queue = answer.queue
        if isinstance(answer, Received):
            for reason, count in answer.released.items():
                detail = f"{count} messages of an answer, they come back after the visibility timeout"
                self._warn(queue, "messages can't be used", reason, detail)
        elif isinstance(answer, Deleted | ChangedVisibility):
            if isinstance(answer, Deleted) and answer.failed:
                for reason, count in Counter(reason for _, reason in answer.failed).items():
                    self._health.delete_failed(queue, reason, count)
                    detail = f"{count} entries of a batch delete"
                    self._warn(queue, "deletes not confirmed, they are tried again", reason, detail)
        elif answer.operation == "receive":
            self._health.receive_failed(queue, answer.reason)
            self._warn(queue, "receive failed", answer.reason, answer.detail)
        elif answer.operation == "delete":
            self._health.delete_failed(queue, answer.reason, len(answer.deletions))
            self._warn(queue, "batch delete failed, it is tried again", answer.reason, answer.detail)
        else:
            what = "messages of a FIFO queue could not be given back at once, their groups wait"
            self._warn(queue, what, answer.reason, answer.detail)

    def _warn(self, queue: str, what: str, reason: str, detail: str) -> None:
        kind = f"{queue} {what} {reason}"
        if self._log_rate_limiter.allow(kind, 1):
            log.warning(
                what,
                extra={
                    "queue": queue,
                    "reason": reason,
                    "detail": detail,
                    **self._log_rate_limiter.suppressed(kind),
                },
            )
