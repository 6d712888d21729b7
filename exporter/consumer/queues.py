"""All queues of the process: which there are, which an iteration looks at, and how many receives each may send."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exporter.consumer.queue import Queue
    from exporter.sqs import QueueState
    from exporter.sqs.client import Client
    from exporter.sqs.housekeeping import Housekeeping

VISIT_ALL_SECONDS = 0.25
"""How often every queue is looked at, whatever changed without news."""


class Queues:
    """The queues that housekeeping has found so far, by name; times are monotonic seconds.

    An iteration looks at those alone that have news and those whose time has come: `to_visit`. Each queue is sure of
    one receive; `max_receives` limits what they have in flight beyond that, all together.
    """

    def __init__(
        self, *, housekeeping: Housekeeping, client: Client, take_up: Callable[[QueueState], Queue], max_receives: int
    ) -> None:
        """Begin with none; `take_up` makes a queue of what is found."""
        self._housekeeping = housekeeping
        self._client = client
        self._take_up = take_up
        self._max_receives = max_receives
        self._most = max_receives
        self._states: Mapping[str, QueueState] = {}
        self.by_name: dict[str, Queue] = {}
        self.all_found = False
        """Whether `by_name` has every queue that a prefix stands for."""
        self.to_visit: dict[str, Queue] = {}
        """Queues that may have something to send: those with news, and those whose time has come."""
        self.shortest_visibility_timeout_seconds = float("inf")
        self.next_due_at = float("-inf")
        """When one is to be visited even without news."""
        self._due_at: dict[str, float] = {}
        """When each queue is to be visited even without news."""
        self._visited_all_at = float("-inf")
        self._waiting: dict[str, Queue] = {}
        """Queues that want more receives than there were left, the one that waits longest first."""
        self._without_receives: set[str] = set()
        """Queues without a receive in flight: each is sure of one, unless it is gone."""

    def follow_housekeeping(self) -> None:
        """Take up what the housekeeping thread found out; the mapping is another one where anything changed."""
        self.all_found = self._housekeeping.all_found  # before the queues are looked at, or one could be missed
        states = self._housekeeping.queues
        if states is self._states:
            return
        self._states = states
        for name, state in states.items():
            if name not in self.by_name:
                self.by_name[name] = self._take_up(state)
            self.by_name[name].follow(state)
            self._note_receives(name)
        self._most = max(self._max_receives, sum(not state.gone for state in states.values()))
        self.shortest_visibility_timeout_seconds = min(
            (queue.visibility_timeout_seconds for name, queue in self.by_name.items() if not states[name].gone),
            default=float("inf"),
        )
        self.visit_all()

    def visit_all(self) -> None:
        """Let this iteration look at every queue."""
        self.to_visit.update(self.by_name)

    def choose_due(self, now: float) -> None:
        """Visit the queues whose time has come; and now and then all, whatever changed without news."""
        if now - self._visited_all_at >= VISIT_ALL_SECONDS:
            self._visited_all_at = now
            self.to_visit.update(self.by_name)
        elif now >= self.next_due_at:
            self.to_visit.update({name: self.by_name[name] for name, at in self._due_at.items() if at <= now})

    def answered(self, name: str) -> Queue:
        """Return the queue that a request of was answered, and let this iteration look at it."""
        queue = self.to_visit[name] = self.by_name[name]
        self._note_receives(name)
        return queue

    def send_receives(self, now: float) -> None:
        """Send receives: at least one for each queue that wants one, and the others where there is need."""
        free = max(0, self._most - self._client.receives_in_flight() - len(self._without_receives))
        for name, queue in self.to_visit.items():
            wanted = queue.wanted_receives(now)
            if not wanted:
                continue
            own = 1 if name in self._without_receives else 0
            # What there is beyond one for each goes to those that wait for it already.
            count = own if self._waiting else min(wanted, own + free)
            free -= count - own
            self._send(name, queue, count)
            if count < wanted:
                self._waiting[name] = queue
        while free and self._waiting:
            name = next(iter(self._waiting))
            queue = self._waiting.pop(name)
            count = min(free, queue.wanted_receives(now))
            free -= count
            self._send(name, queue, count)
            if not free:
                self._waiting[name] = queue

    def plan(self, now: float, *, receiving: bool) -> None:
        """Note when the queues that were visited want to be visited again.

        Unless receives could be sent (`receiving`), the next iteration looks at the same queues again.
        """
        for name, queue in self.to_visit.items():
            self._due_at[name] = queue.due_at(now)
            if name in self._without_receives:
                queue.readiness.receives_wait(now)
        self.next_due_at = min(self._due_at.values(), default=float("inf"))
        if receiving:
            self.to_visit = {name: queue for name, queue in self.to_visit.items() if queue.look_again}

    def _send(self, name: str, queue: Queue, count: int) -> None:
        if count:
            queue.send_receives(count)
            self._note_receives(name)

    def _note_receives(self, name: str) -> None:
        if self._client.receives_in_flight(name) or self._states[name].gone:
            self._without_receives.discard(name)
        else:
            self._without_receives.add(name)
