"""What happened, by name: one call writes the log line, counts it and traces it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from exporter.sqs import BATCH_SIZE
from exporter.sqs.answers import ChangedVisibility, Deleted, Received
from exporter.telemetry.logs import LogRateLimiter
from exporter.telemetry.readiness import STUCK_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from exporter.errors import InvalidEvent, LedgerError
    from exporter.sqs.answers import Answer, Message
    from exporter.telemetry.metrics import Health
    from exporter.telemetry.otlp.telemetry import Telemetry
    from exporter.telemetry.readiness import Status

log = logging.getLogger("exporter")

VISIBILITY_FAILED = "messages not given back at once, they come back after the visibility timeout"
_UNTRACED: AbstractContextManager[None] = nullcontext()


@dataclass(slots=True)
class _Answered:
    """What an iteration's answers say of one queue."""

    receives: int = 0
    full_receives_seconds: list[float] = field(default_factory=list)
    """Of the receives that brought as many messages as fit: of all others it is mostly the long poll's wait."""
    deletes_seconds: list[float] = field(default_factory=list)
    deleted: int = 0


class Instrumentation:
    """The one place where the loop's happenings become log lines and metrics.

    WARNING: something needs a look, nothing is lost. ERROR: the exporter stopped taking messages. `telemetry` is None
    where OpenTelemetry is off.
    """

    def __init__(self, health: Health, telemetry: Telemetry | None = None) -> None:
        self._health = health
        self._telemetry = telemetry
        self._log_rate_limiter = LogRateLimiter()
        self._was_ready = False
        self._ledger_failing = False
        self._ready_queues: dict[str, bool] = {}

    def queue_taken_up(self, queue: str) -> None:
        """The queue is served from now on: its series begin."""
        self._health.take_up(queue)

    def answered(self, answers: Sequence[Answer]) -> None:
        """An iteration's calls were answered, or failed."""
        telemetry = self._telemetry if self._telemetry is not None and self._telemetry.answered(answers) else None
        queues: dict[str, _Answered] = {}
        for answer in answers:
            queue = queues.get(answer.queue)
            if queue is None:
                queue = queues[answer.queue] = _Answered()
            if isinstance(answer, Received):
                queue.receives += 1
                went_wrong = bool(answer.released)
                if not answer.messages and not went_wrong:
                    continue
                messages = len(answer.messages)
                if messages >= BATCH_SIZE or messages + sum(answer.released.values()) >= BATCH_SIZE:
                    queue.full_receives_seconds.append(answer.answered_at - answer.sent_at)
            elif isinstance(answer, Deleted):
                went_wrong = bool(answer.failed)
                queue.deletes_seconds.append(answer.answered_at - answer.sent_at)
                queue.deleted += len(answer.confirmed)
            else:
                went_wrong = True
                operation = "change_visibility" if isinstance(answer, ChangedVisibility) else answer.operation
                self._health.requests_made(answer.queue, operation, 1)
            if telemetry is not None:
                with telemetry.call(answer):
                    self._tell_of(answer)
            elif went_wrong:
                self._tell_of(answer)
        for name, queue in queues.items():
            self._count(name, queue)

    def _count(self, name: str, queue: _Answered) -> None:
        health = self._health
        if queue.receives:
            health.requests_made(name, "receive", queue.receives)
            health.receive_succeeded(name, time.time())
        if queue.full_receives_seconds:
            health.observe_requests(name, "receive", queue.full_receives_seconds)
        if queue.deletes_seconds:
            health.requests_made(name, "delete", len(queue.deletes_seconds))
            health.observe_requests(name, "delete", queue.deletes_seconds)
            health.messages_deleted(name, queue.deleted)

    def requests_made(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Housekeeping made so many requests, by queue (or prefix) and operation."""
        for (queue, operation), count in counts.items():
            self._health.requests_made(queue, operation, count)

    def receives_in_flight(self, queue: str, count: int) -> None:
        """So many receives of the queue are under way now."""
        self._health.set_receives_in_flight(queue, count)

    def receives_abandoned(self, counts: Mapping[str, int]) -> None:
        """Long polls were still open, by queue, when the shutdown timeout was over."""
        for queue, count in counts.items():
            self._health.requests_made(queue, "receive", count)
            log.info(
                "long polls abandoned: what SQS handed to them comes back after the visibility timeout",
                extra={"queue": queue, "receives": count},
            )

    def processing(self, received: Sequence[Received]) -> AbstractContextManager[None]:
        """A batch is begun: what these answers brought is parsed and submitted meanwhile."""
        return _UNTRACED if self._telemetry is None else self._telemetry.processing(received)

    def not_recorded(self) -> None:
        """The batch that was begun could not be committed: SQS delivers it again."""
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
                    **({"field": invalid.field, "held": invalid.kind} if invalid.field else {}),
                    "message_id": message.message_id[:128],
                    "body_bytes": len(message.body),
                    "body_sha256": hashlib.sha256(message.body).hexdigest(),
                    "action": "left to the redrive policy" if left else "deleted",
                    **self._log_rate_limiter.suppressed(invalid.reason),
                },
            )

    def committed(self, seconds: float) -> None:
        """A commit of the ledger succeeded, and with it the batch that was begun, if there was one."""
        self._health.observe_commit(seconds)
        kind = "slow commit"
        if seconds >= STUCK_SECONDS and self._log_rate_limiter.allow(kind, 1):
            log.warning(
                "a commit took long: look at the ledger's volume, or its database server",
                extra={"seconds": round(seconds, 1), **self._log_rate_limiter.suppressed(kind)},
            )
        if self._telemetry is not None:
            self._telemetry.recorded()

    def events_counted(
        self, queue: str, event_ages_seconds: Sequence[float], message_ages_seconds: Sequence[float]
    ) -> None:
        """Events of one commit were counted; how old they and their messages were."""
        self._health.observe_event_ages(queue, event_ages_seconds)
        self._health.observe_message_ages(queue, message_ages_seconds)

    def ledger_failed(self, error: LedgerError) -> None:
        """The ledger can't be written: no receives and no deletes until it can."""
        self._health.ledger_failed(error.reason)
        self._ledger_failing = True
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
        """A commit succeeded again, or for the first time where the ledger was still to be connected to."""
        if self._ledger_failing:
            self._ledger_failing = False
            log.info("ledger works again")

    def readiness(self, status: Status) -> None:
        """`/-/ready` answers so now; only a change is worth a line: of the whole, or of one queue of several."""
        before, self._ready_queues = self._ready_queues, {name: why is None for name, why in status.queues.items()}
        if status.ready != self._was_ready:
            self._was_ready = status.ready
            only = {"queue": next(iter(status.queues))} if len(status.queues) == 1 else {}
            if status.ready:
                log.info("ready", extra=only)
            else:
                log.warning("not ready", extra={**only, "why": status.sentence})
        elif status.ready:
            for name, why in status.queues.items():
                if (why is None) == before.get(name, False):
                    continue
                if why is None:
                    log.info("queue is ready", extra={"queue": name})
                else:
                    log.warning("queue is not ready", extra={"queue": name, "why": why})

    def _tell_of(self, answer: Answer) -> None:
        """Count what went wrong, and say it."""
        if isinstance(answer, Received):
            for reason, count in answer.released.items():
                detail = f"{count} messages of an answer, they come back after the visibility timeout"
                self._warn(answer.queue, "messages can't be used", reason, detail)
        elif isinstance(answer, Deleted):
            if answer.failed:
                for reason, count in Counter(reason for _, reason in answer.failed).items():
                    self._health.delete_failed(answer.queue, reason, count)
                    detail = f"{count} entries of a batch delete"
                    self._warn(answer.queue, "deletes not confirmed, they are tried again", reason, detail)
        elif isinstance(answer, ChangedVisibility):
            for reason, count in Counter(reason for _, reason in answer.failed).items():
                self._warn(answer.queue, VISIBILITY_FAILED, reason, f"{count} entries of a batch")
        elif answer.operation == "receive":
            self._health.receive_failed(answer.queue, answer.reason)
            self._warn(answer.queue, "receive failed", answer.reason, answer.detail)
        elif answer.operation == "change_visibility":
            self._warn(answer.queue, VISIBILITY_FAILED, answer.reason, answer.detail)
        else:
            self._health.delete_failed(answer.queue, answer.reason, len(answer.deletions))
            self._warn(answer.queue, "batch delete failed, it is tried again", answer.reason, answer.detail)

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
