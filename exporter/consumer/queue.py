"""One queue as the loop sees it: how it is reached, what its answers brought, its receives and its deletes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exporter.consumer import quota
from exporter.consumer.batch_window import BatchWindow
from exporter.consumer.binding import Binding
from exporter.consumer.deletions import Deletions
from exporter.consumer.messages import ages_seconds, oldest_age_seconds, parse
from exporter.consumer.pacing import Pacing
from exporter.ledger import failpoint
from exporter.sqs import BATCH_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.consumer.messages import Parsed
    from exporter.consumer.options import QueueOptions
    from exporter.consumer.recorder import Recorder
    from exporter.sqs import QueueDepth, QueueState
    from exporter.sqs.answers import Deleted, Deletion, Failed, Received
    from exporter.sqs.client import Client
    from exporter.telemetry.instrumentation import Instrumentation
    from exporter.telemetry.readiness import QueueReadiness

FIRST_WAIT_SECONDS = 1
"""The wait of a queue's first receive: an empty queue is known to be ready at once."""
UNTIL_EMPTY_WAIT_SECONDS = 1
"""Long enough for SQS to ask all its servers, short enough not to wait 20 s for the end."""


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
        clock_skew_seconds: Callable[[], float | None],
        wall: Callable[[], float],
    ) -> None:
        self.name = name
        self._options = options
        self._client = client
        self._recorder = recorder
        self._instrumentation = instrumentation
        self.readiness = readiness
        """What is told of it."""
        self._clock_skew_seconds = clock_skew_seconds
        self._wall = wall
        self._window = BatchWindow(0.0 if options.until_empty else options.batch_window_seconds)
        self._pacing = Pacing(options.max_receives, self._window)
        self._deletions = Deletions(self._window, fifo=name.endswith(".fifo"))
        self._binding = Binding(name, named=named, options=options, recorder=recorder, readiness=readiness)
        self._depth: QueueDepth | None = None
        self._received_once = False
        self._covered_until = float("-inf")
        self._visibility_denied = False
        self._asked_at = self._come_back_at = float("-inf")
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
        self._binding.follow(state)
        self._depth = state.depth
        self._tell("quota", quota.reached(self._depth) if self.drained else None)

    def _tell(self, part: str, obstacle: str | None) -> None:
        if obstacle is None:
            self.readiness.clear(part)
        else:
            self.readiness.set(part, obstacle)

    # What SQS answered

    def receive_succeeded(self, answer: Received) -> None:
        """Take in an answer to a receive; what it brought is gathered."""
        messages = all_messages = len(answer.messages)
        self.drained = not messages and not answer.released
        self._asked_at = answer.sent_at
        self.has_backlog = messages >= BATCH_SIZE
        if answer.released:
            all_messages += sum(answer.released.values())
            self._recorder.release(self.name, answer.released)
            if not messages:
                # Going on at once would run through the queue and bring its messages nearer to the dead-letter queue.
                detail = f"none of the {sum(answer.released.values())} messages of an answer could be used"
                self._pacing.failed(answer.answered_at)
                self.readiness.receive_failed(answer.answered_at, next(iter(answer.released)), detail)
                return
        self._advance(answer)
        self._received_once = True
        skew_seconds = self._clock_skew_seconds()
        oldest_seconds = 0.0 if self.has_backlog else oldest_age_seconds(answer, self._wall, skew_seconds)
        self._pacing.answered(all_messages, answer.sent_at, answer.answered_at, oldest_seconds)
        self.readiness.receive_succeeded(answer.answered_at)
        self._tell("quota", quota.reached(self._depth) if self.drained else None)
        if messages:
            self.gathered.append(answer)
            self.gathered_messages += messages

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
        self.readiness.receive_failed(answer.answered_at, answer.reason, answer.detail)

    def deleted(self, answer: Deleted) -> None:
        """Take in an answer to a batch delete."""
        confirmed, at = answer.confirmed, answer.answered_at
        refused = [deletion for deletion, _ in answer.failed]
        if not confirmed:
            reason = answer.failed[0][1]
            self._deletes_failed(refused, at, reason, f"none of {len(refused)} deletes was confirmed")
            return
        settled = [one.message_id for one in confirmed if at < one.valid_until]
        if len(settled) < len(confirmed):
            self._come_back_at = max(self._come_back_at, at)  # they may have been deleted in vain
        self._recorder.settle(self.name, settled)
        self._deletions.confirmed(confirmed)
        if refused:
            self._deletions.refused(refused, at)
        self.readiness.deletes_succeeded()

    def delete_failed(self, answer: Failed) -> None:
        """Take in that a batch delete failed."""
        self._deletes_failed(answer.deletions, answer.answered_at, answer.reason, answer.detail)

    def _deletes_failed(self, deletions: Sequence[Deletion], at: float, reason: str, detail: str) -> None:
        if self._deletions.failed(deletions, at, denied=reason == "access_denied"):
            self.readiness.deletes_failed(at, reason, detail)

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
            self._come_back_at = max(self._come_back_at, now)
            received = [answer for answer in received if answer not in expired]
        leave_invalid = self._binding.leaves_invalid
        parsed = parse(received, self._options.parser, self._wall(), leave_invalid=leave_invalid)
        for message, invalid in parsed.invalid:
            self._instrumentation.message_rejected(self.name, message, invalid, left=leave_invalid)
        return parsed

    def committed(self, parsed: Parsed, fresh: Sequence[bool]) -> None:
        """Take in that a batch is on disk: its deletes are due."""
        self._deletions.add(parsed.deletions)
        if parsed.left:
            self._recorder.settle(self.name, [deletion.message_id for deletion in parsed.left])
            self._make_visible(parsed.left)
        self._instrumentation.events_counted(self.name, *ages_seconds(parsed, fresh, self._wall()))

    def not_committed(self, parsed: Parsed) -> None:
        """Take in that a batch may not be on disk: SQS hands its messages out again."""
        self._come_back_at = max([self._come_back_at, *(one.valid_until for one in (*parsed.deletions, *parsed.left))])

    def _make_visible(self, left: Sequence[Deletion]) -> None:
        """Give messages back at once that block their FIFO group until the redrive policy moves them."""
        attributes, target = self._binding.attributes, self._binding.target
        if attributes is None or target is None or self._visibility_denied:
            return
        if not attributes.fifo or attributes.dead_letter_queue_arn is None:
            return
        for start in range(0, len(left), BATCH_SIZE):
            self._client.make_visible(self.name, target, left[start : start + BATCH_SIZE])

    def drop_deletes(self) -> None:
        """Forget the deletes that are not sent: nothing may go that is not known to be on disk."""
        self._deletions.drop()

    # What to send

    @property
    def visibility_timeout_seconds(self) -> float:
        """What its receives ask for; infinity while the queue is not known."""
        return self._binding.visibility_timeout_seconds

    def end(self) -> None:
        """Let nothing wait for others any more: the program is stopping."""
        self._window.end()

    def send_deletes(self, now: float) -> None:
        """Send the deletes that are due."""
        target = self._binding.target
        if target is None:
            return
        free = max(2, self._options.max_receives) - self._client.deletes_in_flight(self.name)
        for batch in self._deletions.batches(now, free, self._binding.visibility_timeout_seconds):
            self._client.delete(self.name, target, batch)
            failpoint.reach("during_delete")

    def wanted_receives(self, now: float) -> int:
        """How many receives to send now."""
        receivable = not (self._options.until_empty and self.is_empty) and self._binding.ready_to_receive
        limited = self._recorder.limited(self.name) if receivable else None
        self.limited = limited is not None
        self._tell("limited", limited)
        if not receivable:
            return 0
        in_flight = self._client.receives_in_flight(self.name)
        wanted = self._pacing.wanted(in_flight, now)
        allowed = self._deletions.receives(wanted, now)
        if wanted:
            capacity = self._recorder.capacity(self.name) - self.gathered_messages - BATCH_SIZE * in_flight
            allowed = max(0, min(allowed, capacity // BATCH_SIZE))
        return allowed

    def send_receives(self, count: int) -> None:
        """Send so many receives; `wanted_receives` said that they make sense."""
        attributes, target = self._binding.attributes, self._binding.target
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
        return self.limited or (self._binding.attributes is not None and not self._binding.bound)

    @property
    def unconfirmed_deletes(self) -> int:
        """How many deletes are not confirmed yet."""
        return self._deletions.unconfirmed

    @property
    def deletes_fail(self) -> bool:
        """Whether SQS confirms no deletes."""
        return self._deletions.failing

    @property
    def is_empty(self) -> bool:
        """Whether it has nothing more to give; what is not counted or not deleted comes back."""
        # SQS starts the visibility timeout when it hands messages out: at the latest, at the end of the wait.
        come_back_at = max(self._come_back_at, self._deletions.come_back_at) + UNTIL_EMPTY_WAIT_SECONDS
        drained = self.drained and self._asked_at >= come_back_at and not self._deletions.denied
        return (drained or self._binding.left) and not self.gathered_messages

    def due_at(self, now: float) -> float:
        """When it wants to send something next (monotonic seconds).

        What is due at `now` and was not sent waits for something else: an answer, or the ledger.
        """
        receives_due_at = self._pacing.due_at(self._client.receives_in_flight(self.name))
        deletes_due_at = self._deletions.due_at(self._binding.visibility_timeout_seconds)
        return min((at for at in (receives_due_at, deletes_due_at) if at > now), default=float("inf"))
