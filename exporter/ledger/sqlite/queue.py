"""One queue of the ledger: what waits for its next commit, its clock, its limits, and what is fresh in a batch."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from exporter.ledger.sqlite.rows import Limits, Moment
from exporter.ledger.sqlite.state import Change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from exporter.ledger import Delivery, QueueBatch, QueueIdentity
    from exporter.ledger.intake import IntakeLimit
    from exporter.ledger.series import Key
    from exporter.ledger.sqlite.event_memory import Pair
    from exporter.ledger.sqlite.state import State

MAX_RETENTION_SECONDS = 14 * 24 * 3600
LONGEST_STEP_SECONDS = 2.0
LONGEST_RECEIVE_SECONDS = 25.0
"""A long poll, and what it is given beyond its wait."""


class Queue:
    """A queue whose rows are in the file; `state` is what they hold, the rest is in memory alone."""

    def __init__(self, state: State, intake: IntakeLimit, monotonic: Callable[[], float]) -> None:
        self.state = state
        self.uncounted: Counter[str] = Counter()
        """Deliveries to account for as released with the next commit."""
        self.limits: Limits | None = None
        self._intake = intake
        self._monotonic = monotonic
        self._clock_seconds = state.queue.clock_seconds
        self._age_seconds = state.queue.clock_seconds + state.queue.paused_seconds
        self._settled: list[bytes] = []
        self._settled_links: list[Pair] = []
        self._event_ids = False
        self._passed_at = monotonic()
        """Up to when time was let pass, monotonic."""
        self._advanced_seconds = 0.0
        """By how much the clock advanced since."""
        self._ahead_seconds = 0.0
        """By how much ids were let grow older while receives were slowed down. A receive that was open then may report
        those seconds again."""

    def go_on_from(self, before: Queue) -> None:
        """Take over what only memory holds, after the rows were read again; settled is what `before` did not write."""
        self._clock_seconds, self._age_seconds = before._clock_seconds, before._age_seconds
        self._ahead_seconds = before._ahead_seconds
        self._passed_at, self._advanced_seconds = before._passed_at, before._advanced_seconds
        self.uncounted = before.uncounted
        self._event_ids, self.limits = before._event_ids, before.limits
        self._intake.protected_seconds = self.limits.protected_seconds if self.limits else 0.0
        self.settle([*before._settled, *(message_id for message_id, _ in before._settled_links)])

    def limit(self, identity: QueueIdentity, window_seconds: float, id_window_seconds: float, max_ids: int) -> None:
        """Keep ids for as long as this queue's attributes ask for."""
        protected_seconds = 2.0 * identity.visibility_timeout_seconds
        self.limits = Limits(
            window_seconds=max(window_seconds, protected_seconds),
            id_window_seconds=max(id_window_seconds, protected_seconds),
            protected_seconds=protected_seconds,
            retention_seconds=identity.retention_seconds or MAX_RETENTION_SECONDS,
            max_ids=max_ids,
        )
        self._intake.protected_seconds = protected_seconds
        self._event_ids = identity.event_ids

    def limited(self) -> str | None:
        """See `Ledger.limited`."""
        self.let_time_pass()
        if self.limits is None or not self._intake.short:
            return None
        max_ids, protected_seconds = self.limits.max_ids, self.limits.protected_seconds
        return (
            f"receives are slowed down to what --ledger.max-ids {max_ids} can remember for twice the visibility "
            f"timeout, about {max_ids / protected_seconds / self._ids_per_message:,.0f} messages a second, fewer while "
            "deletes fail: raise it"
        )

    def capacity(self) -> int:
        """See `Ledger.capacity`."""
        self.let_time_pass()
        return self._intake.capacity // self._ids_per_message

    def advance(self, seconds: float) -> None:
        """See `Ledger.advance`."""
        self._clock_seconds += seconds
        self._advanced_seconds += seconds

    def settle(self, message_ids: Iterable[bytes]) -> None:
        """See `Ledger.settle`."""
        message_ids = list(message_ids)
        self._settled += self.state.memory.settle(message_ids)
        self._settled_links += self.state.events.settle(message_ids)

    def now(self, wall: float) -> Moment:
        """Return the time of a commit."""
        self.let_time_pass()
        return Moment(self._clock_seconds, self._age_seconds - self._clock_seconds, wall)

    def let_time_pass(self) -> None:
        """Let ids grow older: as the queue's clock goes, or where receives are slowed down, as time does.

        A step that is longer than the loop's own means that the process was stopped: it saw nothing that came back.
        """
        if self.limits is None:
            return
        now = self._monotonic()
        if self._intake.spread:
            elapsed_seconds = min(now - self._passed_at, LONGEST_STEP_SECONDS)
            self._age_seconds += elapsed_seconds
            self._ahead_seconds = min(self._ahead_seconds + elapsed_seconds, LONGEST_RECEIVE_SECONDS)
        else:
            # What receives that were open meanwhile report has been counted.
            counted_seconds = min(self._advanced_seconds, self._ahead_seconds)
            self._age_seconds += self._advanced_seconds - counted_seconds
            self._ahead_seconds -= counted_seconds
        self._passed_at, self._advanced_seconds = now, 0.0
        self._intake.pass_time(self._age_seconds, self.state.ids, self.state.unsettled_ids)

    def waits(self) -> bool:
        """Whether there is something that the next commit should write."""
        return bool(self._settled or self._settled_links or self.uncounted)

    def waits_for_a_flush(self, wall: float) -> bool:
        """Whether there is something that a commit without deliveries should write, or forget."""
        if self.waits() or self._clock_seconds != self.state.queue.clock_seconds:
            return True
        return self.limits is not None and self.state.prunable(self.now(wall), self.limits)

    def change(self, batch: QueueBatch | None) -> tuple[Change, list[bool]]:
        """Sort a batch: what its commit is to write, and for each delivery whether it is new."""
        change, fresh = (Change(), []) if batch is None else self._sort(batch.deliveries)
        if batch is not None and batch.released:
            change.released = self.uncounted + Counter(batch.released)
        else:
            change.released = self.uncounted
        # Copies: a commit whose outcome is unknown keeps what it wrote, and more is settled meanwhile.
        change.settled, change.settled_links = tuple(self._settled), tuple(self._settled_links)
        return change, fresh

    def begin(self, keys: Iterable[Key], arn: str | None) -> Change | None:
        """Return the change that shows series at 0 and ties the rows to a queue, or None where that is done."""
        missing = [key for key in keys if key not in self.state.snapshot.series]
        if not missing and (arn is None or self.state.queue.arn is not None):
            return None
        change, _ = self.change(None)
        change.begin, change.arn = missing, arn
        return change

    def written(self) -> None:
        """Forget what waited: it is on disk."""
        self._settled, self._settled_links = [], []
        if self.uncounted:
            self.uncounted = Counter()

    def written_after_all(self, change: Change) -> None:
        """Forget what of it waited: a commit whose outcome was unknown had written it."""
        del self._settled[: len(change.settled)]
        del self._settled_links[: len(change.settled_links)]

    @property
    def _ids_per_message(self) -> int:
        return 2 if self._event_ids else 1

    def _sort(self, deliveries: Sequence[Delivery]) -> tuple[Change, list[bool]]:
        ids = [delivery.message_id for delivery in deliveries]
        renewed = self.state.memory.known(ids)
        if self._event_ids:
            return self._sort_by_event_ids(deliveries, renewed)
        if not renewed and len(set(ids)) == len(ids):
            return Change(len(ids), [delivery.outcome for delivery in deliveries], ids), [True] * len(ids)
        seen = set(renewed)
        fresh = []
        ids = []
        outcomes = []
        for delivery in deliveries:
            message_id = delivery.message_id
            is_fresh = message_id not in seen
            fresh.append(is_fresh)
            if is_fresh:
                seen.add(message_id)
                ids.append(message_id)
                outcomes.append(delivery.outcome)
        return Change(len(deliveries), outcomes, ids, renewed), fresh

    def _sort_by_event_ids(self, deliveries: Sequence[Delivery], renewed: set[bytes]) -> tuple[Change, list[bool]]:
        """Take for new what is so by its message's id and by its event's.

        Of a message that was seen before it is not known what was made of it then, so it makes no event known.
        """
        event_ids = [
            None if isinstance(delivery.outcome, str) else delivery.outcome.event_id for delivery in deliveries
        ]
        seen = set(renewed)
        seen_events = self.state.events.known(event_id for event_id in event_ids if event_id is not None)
        change = Change(len(deliveries), outcomes := [], ids := [], renewed, links := {})
        fresh = []
        for delivery, event_id in zip(deliveries, event_ids, strict=True):
            message_id = delivery.message_id
            is_fresh = message_id not in seen
            if is_fresh:
                seen.add(message_id)
                ids.append(message_id)
                is_fresh = event_id is None or event_id not in seen_events
            fresh.append(is_fresh)
            if is_fresh:
                outcomes.append(delivery.outcome)
                if event_id is not None:
                    seen_events.add(event_id)
                elif not isinstance(delivery.outcome, str):
                    change.without_event_id += 1
            if event_id is not None and event_id in seen_events:
                links[message_id] = event_id
        return change, fresh
