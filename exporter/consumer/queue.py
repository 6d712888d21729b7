"""One queue as the loop sees it: how it is reached, what its answers brought, its receives and its deletes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from exporter.consumer.batch_window import BatchWindow
from exporter.consumer.deletions import Deletions
from exporter.consumer.pacing import Pacing
from exporter.errors import InvalidEvent, LedgerError, WrongSettingError
from exporter.ledger import Delivery, QueueIdentity, failpoint
from exporter.ledger.message_ids import remembered_ids
from exporter.sqs import BATCH_SIZE
from exporter.sqs.answers import Deletion

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.consumer.recorder import Recorder
    from exporter.events.event import EventParser
    from exporter.sqs import QueueAttributes, QueueDepth, Target
    from exporter.sqs.answers import Deleted, Failed, Received
    from exporter.sqs.client import Client
    from exporter.sqs.housekeeping import QueueState
    from exporter.telemetry.instrumentation import Instrumentation
    from exporter.telemetry.readiness import QueueReadiness

OnInvalid = Literal["auto", "delete", "leave"]

FIRST_WAIT_SECONDS = 1
"""The wait of a queue's first receive: an empty queue is known to be ready at once."""
UNTIL_EMPTY_WAIT_SECONDS = 1
"""Long enough for SQS to ask all its servers, short enough not to wait 20 s for the end."""
MAX_IN_FLIGHT = 120_000
"""SQS's quota of messages in flight. At it a long poll gets empty answers.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html"""
NEAR = 0.95
"""SQS's numbers are approximate: from this part of the quota on it counts as reached."""


@dataclass(frozen=True, slots=True)
class QueueOptions:
    """How a queue is consumed: plain values of the settings."""

    parser: EventParser
    on_invalid: OnInvalid
    max_receives: int
    wait_seconds: int
    batch_window_seconds: float
    until_empty: bool = False
    event_ids: bool = False
    """Whether events are to carry an id of their own."""


@dataclass(slots=True)
class Parsed:
    """What answers brought: what to commit, and what is due once it is committed."""

    received: Sequence[Received]
    deliveries: list[Delivery] = field(default_factory=list)
    deletions: list[Deletion] = field(default_factory=list)
    left: list[Deletion] = field(default_factory=list)
    """Messages that are no events, left to the queue's redrive policy."""


class Queue:
    """All that belongs to one queue; used by the consumer's thread alone. Times are monotonic seconds."""

    def __init__(  # noqa: PLR0913 - the parts that it works with, by name
        self,
        name: str,
        *,
        named: bool,
        options: QueueOptions,
        client: Client,
        recorder: Recorder,
        instrumentation: Instrumentation,
        readiness: QueueReadiness,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self._named = named
        self._options = options
        self._client = client
        self._recorder = recorder
        self._instrumentation = instrumentation
        self._readiness = readiness
        self._wall = wall
        self._window = BatchWindow(0.0 if options.until_empty else options.batch_window_seconds)
        self._pacing = Pacing(options.max_receives, self._window)
        self._deletions = Deletions(self._window, fifo=name.endswith(".fifo"))
        self._target: Target | None = None
        self._attributes: QueueAttributes | None = None
        self._depth: QueueDepth | None = None
        self._bound = False
        self._gone = False
        self._received_once = False
        self._covered_until = float("-inf")
        self._visibility_denied = False
        self.gathered: list[Received] = []
        """Answers whose messages wait to be submitted."""
        self.gathered_messages = 0
        """How many messages have arrived and wait to be submitted."""
        self.drained = False
        """Whether the last answer was empty."""
        self.has_backlog = False
        """Whether the last answer was full."""
        self.limited = False
        """Whether receives are slowed down because the ledger can't remember more."""

    # What housekeeping found out

    def follow(self, state: QueueState) -> None:
        """Take over what is known of the queue now. Raises WrongSettingError and LedgerError for a queue named."""
        self._target = state.target
        self._gone = state.gone
        self._readiness.gone = state.gone and not self._named
        if state.problem is None:
            self._readiness.clear("queue")
        else:
            self._readiness.set("queue", str(state.problem))
        if state.attributes is not None and state.attributes != self._attributes:
            self._take_attributes(state.attributes)
        self._depth = state.depth
        self._tell_quota()

    def _tell_quota(self) -> None:
        """Say so where SQS answers with nothing because the quota of messages in flight is reached."""
        depth = self._depth
        in_flight = depth.in_flight if depth is not None else None
        if self.drained and depth is not None and depth.visible and in_flight and in_flight >= NEAR * MAX_IN_FLIGHT:
            self._readiness.set(
                "quota",
                f"SQS hands out no more messages, because about {in_flight} are in flight and its quota is "
                f"{MAX_IN_FLIGHT}: wait for them to come back, or look for a consumer that receives and never deletes",
            )
        else:
            self._readiness.clear("quota")

    def _take_attributes(self, attributes: QueueAttributes) -> None:
        first = self._attributes is None
        if first and self._options.on_invalid == "leave" and attributes.dead_letter_queue_arn is None:
            wrong = WrongSettingError(
                f"--sqs.on-invalid is leave, but queue {attributes.name} has no redrive policy that would ever take "
                f"the messages away: use delete or auto, or give the queue a dead-letter queue",
            )
            if self._named:
                raise wrong
            self._readiness.set("redrive", str(wrong))
            return
        self._recorder.bind(
            QueueIdentity(
                attributes.name,
                attributes.arn,
                attributes.visibility_timeout_seconds,
                attributes.retention_seconds,
                event_ids=self._options.event_ids,
            )
        )
        self._attributes = attributes

    @property
    def _ready_to_receive(self) -> bool:
        """Whether the queue is known and the ledger has taken it up."""
        if self._bound:
            return True
        if self._attributes is None:
            return False
        try:
            self._bound = self._recorder.bound(self.name)
        except LedgerError as error:
            if self._named:
                raise
            self._readiness.set("ledger", str(error))
        return self._bound

    # What SQS answered

    def receive_succeeded(self, answer: Received) -> None:
        """Take in an answer to a receive; what it brought is gathered."""
        messages = all_messages = len(answer.messages)
        self.drained = not messages and not answer.released
        self.has_backlog = messages >= BATCH_SIZE
        if answer.released:
            all_messages += sum(answer.released.values())
            self._recorder.release(self.name, answer.released)
            if not messages:
                # Going on at once would run through the queue and bring its messages nearer to the dead-letter queue.
                detail = f"none of the {sum(answer.released.values())} messages of an answer could be used"
                self._pacing.failed(answer.answered_at)
                self._readiness.receive_failed(answer.answered_at, next(iter(answer.released)), detail)
                return
        self._advance(answer)
        self._received_once = True
        oldest_seconds = 0.0 if self.has_backlog else self._oldest_seconds(answer)
        self._pacing.answered(all_messages, answer.sent_at, answer.answered_at, oldest_seconds)
        self._readiness.receive_succeeded(answer.answered_at)
        if messages:
            self._readiness.clear("quota")
            self.gathered.append(answer)
            self.gathered_messages += messages
        else:
            self._tell_quota()

    def _oldest_seconds(self, answer: Received) -> float:
        """Return how long the oldest of the messages was in the queue, as far as SQS said when they were sent."""
        sent = [message.sent_at_seconds for message in answer.messages if message.sent_at_seconds is not None]
        return self._wall() - min(sent) if sent else 0.0

    def _advance(self, answer: Received) -> None:
        """Let the queue's clock run by the time in which receives succeeded, pauses between two of them included.

        A process that was stopped, or whose machine was, finds an answer hours later. So one answer counts for no
        more than its call was allowed to take.
        """
        # Twice the window, because an iteration may be late to end a pause of one.
        since = max(answer.sent_at - 2 * self._options.batch_window_seconds, self._covered_until)
        self._covered_until = max(self._covered_until, answer.answered_at)
        seconds = min(answer.answered_at - since, answer.allowed_seconds)
        if seconds > 0:
            self._recorder.advance(self.name, seconds)

    def receive_failed(self, answer: Failed) -> None:
        """Take in that a receive failed."""
        self._pacing.failed(answer.answered_at)
        self._readiness.receive_failed(answer.answered_at, answer.reason, answer.detail)

    def deleted(self, answer: Deleted) -> None:
        """Take in an answer to a batch delete."""
        confirmed, at = answer.confirmed, answer.answered_at
        refused = [deletion for deletion, _ in answer.failed]
        if not confirmed:
            reason = answer.failed[0][1]
            self._deletes_failed(refused, at, reason, f"none of {len(refused)} deletes was confirmed")
            return
        self._recorder.settle(self.name, [one.message_id for one in confirmed if at < one.valid_until])
        self._deletions.confirmed(confirmed)
        if refused:
            self._deletions.refused(refused, at)
        self._readiness.deletes_succeeded()

    def delete_failed(self, answer: Failed) -> None:
        """Take in that a batch delete failed."""
        self._deletes_failed(answer.deletions, answer.answered_at, answer.reason, answer.detail)

    def _deletes_failed(self, deletions: Sequence[Deletion], at: float, reason: str, detail: str) -> None:
        if self._deletions.failed(deletions, at, denied=reason == "access_denied"):
            self._readiness.deletes_failed(at, reason, detail)

    def visibility_failed(self, answer: Failed) -> None:
        """Take in that messages could not be made visible: they come back after the visibility timeout."""
        self._visibility_denied = self._visibility_denied or answer.reason == "access_denied"

    # What is committed

    def parse(self, now: float) -> Parsed:
        """Read what was gathered. What expired meanwhile is released: SQS hands it out again."""
        received, self.gathered, self.gathered_messages = self.gathered, [], 0
        # SQS starts the visibility timeout somewhere between request and answer: the request is the safe side.
        expired = [answer for answer in received if answer.sent_at + answer.visibility_timeout_seconds <= now]
        if expired:
            self._recorder.release(self.name, {"expired": sum(len(answer.messages) for answer in expired)})
            received = [answer for answer in received if answer not in expired]
        parsed = Parsed(received)
        deliver, delete = parsed.deliveries.append, parsed.deletions.append
        leave = self._leaves_invalid
        wall_seconds = self._wall()
        parse = self._options.parser.parse
        for answer in received:
            messages = answer.messages
            valid_until = answer.sent_at + answer.visibility_timeout_seconds
            message_ids = remembered_ids([message.message_id for message in messages])
            for message, message_id in zip(messages, message_ids, strict=True):
                deletion = Deletion(message_id, message.receipt_handle, valid_until)
                try:
                    event = parse(
                        message.body,
                        sent_at_seconds=message.sent_at_seconds,
                        now_seconds=wall_seconds,
                        attributes=message.attributes,
                    )
                except InvalidEvent as invalid:
                    self._instrumentation.message_rejected(self.name, message, invalid, left=leave)
                    deliver(Delivery(message_id, invalid.reason))
                    if leave:
                        parsed.left.append(deletion)
                        continue
                else:
                    deliver(Delivery(message_id, event))
                delete(deletion)
        return parsed

    @property
    def _leaves_invalid(self) -> bool:
        if self._options.on_invalid == "auto":
            return self._attributes is not None and self._attributes.dead_letter_queue_arn is not None
        return self._options.on_invalid == "leave"

    def committed(self, parsed: Parsed, fresh: Sequence[bool]) -> None:
        """Take in that a batch is on disk: its deletes are due."""
        self._deletions.add(parsed.deletions)
        if parsed.left:
            self._recorder.settle(self.name, [deletion.message_id for deletion in parsed.left])
            self._make_visible(parsed.left)
        self._observe_ages(parsed, fresh)

    def _make_visible(self, left: Sequence[Deletion]) -> None:
        """Give messages back at once that block their FIFO group until the redrive policy moves them."""
        if self._attributes is None or not self._attributes.fifo or self._target is None or self._visibility_denied:
            return
        for start in range(0, len(left), BATCH_SIZE):
            self._client.make_visible(self.name, self._target, left[start : start + BATCH_SIZE])

    def _observe_ages(self, parsed: Parsed, fresh: Sequence[bool]) -> None:
        """Show how old the events and messages were that this commit counted; below 0 where a clock runs ahead."""
        wall_seconds = self._wall()
        outcomes = [delivery.outcome for delivery in parsed.deliveries]
        sent_at = [message.sent_at_seconds for answer in parsed.received for message in answer.messages]
        counted = [
            (outcome.occurred_at_seconds, at)
            for outcome, at, is_fresh in zip(outcomes, sent_at, fresh, strict=True)
            if is_fresh and not isinstance(outcome, str)
        ]
        event_ages_seconds = [wall_seconds - at for at, _ in counted if at is not None]
        message_ages_seconds = [wall_seconds - at for _, at in counted if at is not None]
        self._instrumentation.events_counted(self.name, event_ages_seconds, message_ages_seconds)

    def drop_deletes(self) -> None:
        """Forget the deletes that are not sent: nothing may go that is not known to be on disk."""
        self._deletions.drop()

    # What to send

    @property
    def visibility_timeout_seconds(self) -> float:
        """What its receives ask for; infinity while the queue is not known."""
        return float("inf") if self._attributes is None else self._attributes.visibility_timeout_seconds

    def end(self) -> None:
        """Let nothing wait for others any more: the program is stopping."""
        self._window.end()

    def send_deletes(self, now: float) -> None:
        """Send the deletes that are due."""
        if self._target is None:
            return
        free = max(2, self._options.max_receives) - self._client.deletes_in_flight(self.name)
        for batch in self._deletions.batches(now, free, self.visibility_timeout_seconds):
            self._client.delete(self.name, self._target, batch)
            failpoint.reach("during_delete")

    def wanted_receives(self, now: float) -> int:
        """How many receives to send now."""
        if self._target is None or self._gone or not self._ready_to_receive:
            return 0
        in_flight = self._client.receives_in_flight(self.name)
        wanted = self._pacing.wanted(in_flight, now)
        allowed = self._deletions.receives(wanted, now)
        if wanted:
            capacity = self._recorder.capacity(self.name) - self.gathered_messages - BATCH_SIZE * in_flight
            allowed = max(0, min(allowed, capacity // BATCH_SIZE))
        limited = self._recorder.limited(self.name)
        self.limited = limited is not None
        if limited is None:
            self._readiness.clear("limited")
        else:
            self._readiness.set("limited", limited)
        if wanted and not (allowed or in_flight):
            self._readiness.receives_pause(now)
        return allowed

    def send_receives(self, count: int) -> None:
        """Send so many receives; `wanted_receives` said that they make sense."""
        attributes, target = self._attributes, self._target
        if attributes is None or target is None:
            return
        # A handle has to outlive the long poll that brought it, or no delete of it could ever be trusted.
        wait_seconds = min(self._options.wait_seconds, max(1, attributes.visibility_timeout_seconds - 5))
        if self._options.until_empty:
            wait_seconds = min(wait_seconds, UNTIL_EMPTY_WAIT_SECONDS)
        if not self._received_once:
            wait_seconds = min(wait_seconds, FIRST_WAIT_SECONDS)
        for _ in range(count):
            self._client.receive(
                self.name,
                target,
                wait_seconds=wait_seconds,
                visibility_timeout_seconds=attributes.visibility_timeout_seconds,
                fifo=attributes.fifo,
                attribute_names=self._options.parser.attribute_names,
            )

    @property
    def look_again(self) -> bool:
        """Whether the ledger may soon let it receive: it waits to be bound, or for ids to be forgotten."""
        return self.limited or (self._attributes is not None and not self._bound)

    @property
    def unconfirmed_deletes(self) -> int:
        """How many deletes are not confirmed yet."""
        return self._deletions.unconfirmed

    @property
    def is_empty(self) -> bool:
        """Whether it has nothing more to give; undeleted messages come back."""
        return self.drained and not self._deletions.denied and not self.gathered_messages

    def due_at(self, now: float) -> float:
        """When it wants to send something next (monotonic seconds).

        What is due at `now` and was not sent waits for something else: an answer, or the ledger.
        """
        receives_due_at = self._pacing.due_at(self._client.receives_in_flight(self.name))
        deletes_due_at = self._deletions.due_at(self.visibility_timeout_seconds)
        return min((at for at in (receives_due_at, deletes_due_at) if at > now), default=float("inf"))
