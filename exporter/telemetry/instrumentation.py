"""What happened, by name: one call writes the log line, counts it and traces it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from contextlib import nullcontext
from typing import TYPE_CHECKING, Protocol

from exporter.sqs.answers import Deleted, Failed, Received
from exporter.telemetry.logs import LogRateLimiter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from exporter.errors import LedgerError, QueueUnavailableError
    from exporter.sqs import QueueAttributes
    from exporter.sqs.answers import Answer
    from exporter.telemetry.metrics import Health

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

    def __init__(self, health: Health, queue_name: str, telemetry: Telemetry | None = None) -> None:
        self._health = health
        self._queue_name = queue_name
        self._telemetry = telemetry
        self._log_rate_limiter = LogRateLimiter()
        self._was_ready = False

    def answered(self, answers: Sequence[Answer]) -> None:
        """Calls were answered, or failed. An empty long poll is not observed: it takes as long as it waits."""
        telemetry = self._telemetry if self._telemetry is not None and self._telemetry.answered(answers) else None
        receives_seconds: list[float] = []
        deletes_seconds: list[float] = []
        deleted = 0
        received = False
        for answer in answers:
            if isinstance(answer, Received):
                received = True
                if not answer.messages and not answer.released:
                    continue
                receives_seconds.append(answer.answered_at - answer.sent_at)
            elif isinstance(answer, Deleted):
                deletes_seconds.append(answer.answered_at - answer.sent_at)
                deleted += len(answer.confirmed)
            if telemetry is None:
                self._tell_of(answer)
            else:
                with telemetry.call(answer):
                    self._tell_of(answer)
        if received:
            self._health.receive_succeeded(time.time())
        if receives_seconds:
            self._health.observe_requests("receive", receives_seconds)
        if deletes_seconds:
            self._health.observe_requests("delete", deletes_seconds)
            self._health.messages_deleted(deleted)

    def receives_in_flight(self, count: int) -> None:
        """So many receives are under way now."""
        self._health.set_receives_in_flight(count)

    def receives_abandoned(self, count: int) -> None:
        """Long polls were still open when the shutdown timeout was over."""
        log.info(
            "long polls abandoned: what SQS handed to them comes back after the visibility timeout",
            extra={"queue": self._queue_name, "receives": count},
        )

    def processing(self, received: Sequence[Received]) -> AbstractContextManager[None]:
        """What these answers brought is parsed and recorded meanwhile."""
        return _UNTRACED if self._telemetry is None else self._telemetry.processing(received)

    def not_recorded(self) -> None:
        """What this batch parsed could not be recorded: SQS delivers it again."""
        if self._telemetry is not None:
            self._telemetry.not_recorded()

    def message_rejected(self, message_id: str, reason: str, body: bytes, *, left: bool) -> None:
        """A message is not an event. Its body is never shown: a hash is enough to find it again."""
        if self._log_rate_limiter.allow(reason):
            log.warning(
                "message is not an event",
                extra={
                    "queue": self._queue_name,
                    "reason": reason,
                    "message_id": message_id[:128],
                    "body_bytes": len(body),
                    "body_sha256": hashlib.sha256(body).hexdigest(),
                    "action": "left to the redrive policy" if left else "deleted",
                    **self._log_rate_limiter.suppressed(reason),
                },
            )

    def committed(self, seconds: float) -> None:
        """A batch was committed to the ledger."""
        self._health.observe_commit(seconds)
        if self._telemetry is not None:
            self._telemetry.recorded()

    def events_counted(self, event_ages_seconds: list[float], message_ages_seconds: list[float]) -> None:
        """Events of one commit were counted; how old they and their messages were."""
        self._health.observe_event_ages(event_ages_seconds)
        self._health.observe_message_ages(message_ages_seconds)

    def ledger_failed(self, error: LedgerError) -> None:
        """The ledger can't be written: no receives and no deletes until it can."""
        self._health.ledger_failed(error.reason)
        kind = f"ledger {error.reason}"
        if self._log_rate_limiter.allow(kind, 1):
            log.error(
                "ledger failed, no messages are taken until it works again",
                extra={
                    "queue": self._queue_name,
                    "reason": error.reason,
                    "error": str(error),
                    **self._log_rate_limiter.suppressed(kind),
                },
            )

    def ledger_recovered(self) -> None:
        """The ledger was reopened."""
        log.info("ledger works again", extra={"queue": self._queue_name})

    def readiness(self, why_not: str | None) -> None:
        """`/-/ready` answers so now; only a change is worth a line."""
        ready = why_not is None
        if ready == self._was_ready:
            return
        self._was_ready = ready
        if ready:
            log.info("ready", extra={"queue": self._queue_name})
        else:
            log.warning("not ready", extra={"queue": self._queue_name, "why": why_not})

    def queue_waiting(self, error: QueueUnavailableError) -> None:
        """The queue can't be found or asked; it is looked for until it can."""
        log.warning(
            "waiting for the queue",
            extra={"queue": self._queue_name, "reason": error.reason, "error": str(error)},
        )

    def queue_found(self, attributes: QueueAttributes) -> None:
        """The queue is there, or its attributes changed."""
        log.info(
            "queue found",
            extra={
                "queue": self._queue_name,
                "arn": attributes.arn,
                "visibility_timeout_seconds": attributes.visibility_timeout_seconds,
                "retention_seconds": attributes.retention_seconds,
                "dead_letter_queue": attributes.dead_letter_queue_arn,
            },
        )

    def queue_recovered(self) -> None:
        """The queue can be asked again."""
        log.info("queue can be asked again", extra={"queue": self._queue_name})

    def attributes_denied(self, sentence: str) -> None:
        """GetQueueAttributes is denied: defaults are assumed."""
        log.warning(sentence, extra={"queue": self._queue_name})

    def dead_letter_queue_unreadable(self, sentence: str) -> None:
        """The dead-letter queue's depth can't be read."""
        log.warning(sentence, extra={"queue": self._queue_name})

    def _tell_of(self, answer: Answer) -> None:
        """Count what went wrong, and say it."""
        if isinstance(answer, Received):
            for reason, count in answer.released.items():
                detail = f"{count} messages of an answer, they come back after the visibility timeout"
                self._warn("messages can't be used", reason, detail)
        elif isinstance(answer, Deleted):
            if answer.failed:
                for reason, count in Counter(reason for _, reason in answer.failed).items():
                    self._health.delete_failed(reason, count)
                    detail = f"{count} entries of a batch delete"
                    self._warn("deletes not confirmed, they are tried again", reason, detail)
        elif not isinstance(answer, Failed):
            return
        elif answer.operation == "receive":
            self._health.receive_failed(answer.reason)
            self._warn("receive failed", answer.reason, answer.detail)
        else:
            self._health.delete_failed(answer.reason, len(answer.deletions))
            self._warn("batch delete failed, it is tried again", answer.reason, answer.detail)

    def _warn(self, what: str, reason: str, detail: str) -> None:
        kind = f"{what} {reason}"
        if self._log_rate_limiter.allow(kind, 1):
            log.warning(
                what,
                extra={
                    "queue": self._queue_name,
                    "reason": reason,
                    "detail": detail,
                    **self._log_rate_limiter.suppressed(kind),
                },
            )
