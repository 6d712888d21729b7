"""What happened, by name: one call writes the log line, counts it and traces it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from contextlib import nullcontext
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from exporter.errors import LedgerError, QueueUnavailableError
    from exporter.metrics import Health
    from exporter.sqs import QueueAttributes
    from exporter.sqs.calls import Answer, Deleted, Failed, Received

log = logging.getLogger("exporter")

FLOOD_WINDOW_SECONDS = 60.0
LINES_PER_WINDOW = 5
_UNTRACED: AbstractContextManager[None] = nullcontext()


class Telemetry(Protocol):
    """What OpenTelemetry is told, where it is on: of each call and each turn once, never of each message."""

    def call(self, answer: Answer) -> AbstractContextManager[None]:
        """Tell of a call that was answered or failed; log lines written meanwhile are its own."""

    def processing(self, received: Sequence[Received]) -> AbstractContextManager[None]:
        """Tell of a turn while it parses and records what these answers brought."""

    def not_recorded(self) -> None:
        """Tell that the turn could not record what it parsed."""


class Flood:
    """Lets the first few lines of a kind through in each minute, and counts the rest."""

    def __init__(self) -> None:
        self._window_ends_at = 0.0
        self._lines: Counter[str] = Counter()
        self._held_back: Counter[str] = Counter()

    def passes(self, kind: str, most: int = LINES_PER_WINDOW) -> bool:
        """Whether one more line of `kind` may be written now."""
        now = time.monotonic()
        if now >= self._window_ends_at:
            self._window_ends_at = now + FLOOD_WINDOW_SECONDS
            self._lines.clear()
        self._lines[kind] += 1
        if self._lines[kind] <= most:
            return True
        self._held_back[kind] += 1
        return False

    def held_back(self, kind: str) -> dict[str, int]:
        """How many lines of `kind` were held back since it was asked last, as a field of the next line."""
        count = self._held_back.pop(kind, 0)
        return {"similar_lines_held_back": count} if count else {}


class Instrumentation:
    """The one place where the loop's happenings become log lines and metrics.

    WARNING: something needs a look, nothing is lost. ERROR: the exporter stopped taking messages.
    """

    def __init__(self, health: Health, queue_name: str, telemetry: Telemetry | None = None) -> None:
        self._health = health
        self._queue_name = queue_name
        self._telemetry = telemetry
        self._flood = Flood()
        self._was_ready = False

    def receive_succeeded(self, answer: Received) -> None:
        """A receive was answered as it should. An empty long poll is not observed: it takes as long as it waits."""
        self._health.receive_succeeded(time.time())
        if answer.messages or answer.released:
            with self._telling_of(answer):
                self._health.observe_request("receive", answer.answered_at - answer.sent_at)
                for reason, count in answer.released.items():
                    detail = f"{count} messages of an answer, they come back after the visibility timeout"
                    self._warn("messages can't be used", reason, detail)

    def receive_failed(self, answer: Failed) -> None:
        """A receive failed; it is made anew after a jittered wait."""
        self._health.receive_failed(answer.reason)
        with self._telling_of(answer):
            self._warn("receive failed", answer.reason, answer.detail)

    def receives_in_flight(self, count: int) -> None:
        """So many receives are under way now."""
        self._health.set_receives_in_flight(count)

    def receives_abandoned(self, count: int) -> None:
        """Long polls were still open when the shutdown timeout was over."""
        log.info(
            "long polls abandoned: what SQS handed to them comes back after the visibility timeout",
            extra={"queue": self._queue_name, "receives": count},
        )

    def deletes_answered(self, answer: Deleted) -> None:
        """A batch delete was answered: some entries confirmed, the others not."""
        self._health.observe_request("delete", answer.answered_at - answer.sent_at)
        if answer.confirmed:
            self._health.messages_deleted(len(answer.confirmed))
        with self._telling_of(answer):
            for reason, count in Counter(reason for _, reason in answer.failed).items():
                self._health.delete_failed(reason, count)
                self._warn("deletes not confirmed, they are tried again", reason, f"{count} entries of a batch delete")

    def deletes_failed(self, answer: Failed) -> None:
        """A whole batch delete failed."""
        self._health.delete_failed(answer.reason, len(answer.deletions))
        with self._telling_of(answer):
            self._warn("batch delete failed, it is tried again", answer.reason, answer.detail)

    def processing(self, received: Sequence[Received]) -> AbstractContextManager[None]:
        """What these answers brought is parsed and recorded meanwhile."""
        return _UNTRACED if self._telemetry is None else self._telemetry.processing(received)

    def not_recorded(self) -> None:
        """What this turn parsed could not be recorded: SQS delivers it again."""
        if self._telemetry is not None:
            self._telemetry.not_recorded()

    def message_rejected(self, message_id: str, reason: str, body: bytes, *, left: bool) -> None:
        """A message is not an event. Its body is never shown: a hash is enough to find it again."""
        if self._flood.passes(reason):
            log.warning(
                "message is not an event",
                extra={
                    "queue": self._queue_name,
                    "reason": reason,
                    "message_id": message_id[:128],
                    "body_bytes": len(body),
                    "body_sha256": hashlib.sha256(body).hexdigest(),
                    "action": "left to the redrive policy" if left else "deleted",
                    **self._flood.held_back(reason),
                },
            )

    def committed(self, seconds: float) -> None:
        """A turn was committed to the ledger."""
        self._health.observe_commit(seconds)

    def events_counted(self, event_ages_seconds: list[float], message_ages_seconds: list[float]) -> None:
        """Events of one commit were counted; how old they and their messages were."""
        self._health.observe_event_ages(event_ages_seconds)
        self._health.observe_message_ages(message_ages_seconds)

    def ledger_failed(self, error: LedgerError) -> None:
        """The ledger can't be written: no receives and no deletes until it can."""
        self._health.ledger_failed(error.reason)
        kind = f"ledger {error.reason}"
        if self._flood.passes(kind, 1):
            log.error(
                "ledger failed, no messages are taken until it works again",
                extra={
                    "queue": self._queue_name,
                    "reason": error.reason,
                    "error": str(error),
                    **self._flood.held_back(kind),
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

    def _telling_of(self, answer: Answer) -> AbstractContextManager[None]:
        return _UNTRACED if self._telemetry is None else self._telemetry.call(answer)

    def _warn(self, what: str, reason: str, detail: str) -> None:
        kind = f"{what} {reason}"
        if self._flood.passes(kind, 1):
            log.warning(
                what,
                extra={
                    "queue": self._queue_name,
                    "reason": reason,
                    "detail": detail,
                    **self._flood.held_back(kind),
                },
            )
