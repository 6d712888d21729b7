"""What SQS may do with the messages of a standard queue, at its worst."""

from __future__ import annotations

import heapq
import time
from array import array
from collections import deque
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from fake_sqs.errors import SqsError

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable, Sequence

    from fake_sqs.messages import Messages

HANDLE_PREFIX = "AQEB" + "wJnKyrHigUMZj6rYigCgxlaS3SLy0a" * 5
"""Real receipt handles are this long; ours end with their key in 16 hexadecimal digits."""
TIMES_BITS = 32
"""A delivery's key is the message's number and, in the low bits, how often it had been handed out by then."""
FOUR_DAYS_SECONDS = 345_600


class Clock:
    """The server's Unix time: the real one, and what tests added to it."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        """Return Unix time on this clock; the machine's own clock may be set without any effect on it."""
        return time.monotonic() + self._offset

    def advance(self, seconds: float) -> None:
        """Let so much time pass at once."""
        self._offset += seconds


@dataclass(slots=True)
class Behaviour:
    """How unkind the server is. Fractions are of messages, except `hide`, which is of receives."""

    duplicate_in_batch: float = 0.0
    """Handed out twice in one answer; only the later handle is valid."""
    duplicate_across_batches: float = 0.0
    """Put back at once when handed out, so that the next receive gets a copy and the first handle goes stale."""
    return_after_delete: float = 0.0
    """Back in the queue after a confirmed delete, `return_after_seconds` later."""
    return_after_seconds: float = 0.0
    hide: float = 0.0
    """Receives that see only some of the messages; without a wait, perhaps none."""
    in_flight_limit: int = 120_000
    """https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html"""
    page_size: int = 1_000
    """How many queues a page of ListQueues or ListDeadLetterSourceQueues holds at most."""
    dead_polls_receive: bool = False
    """Whether a long poll whose client went away is still given messages, which are then in flight for nobody."""


@dataclass(slots=True)
class Counters:
    """Sums over all queues, for the account."""

    deliveries: int = 0
    handed_out: int = 0
    deleted: int = 0
    stale_deletes: int = 0
    returned_after_delete: int = 0
    duplicates: int = 0
    dead_lettered: int = 0
    expired: int = 0


@dataclass(slots=True)
class Redrive:
    """Where messages go that were received too often."""

    queue: Queue
    max_receive_count: int


@dataclass(frozen=True, slots=True)
class World:
    """What all queues of one server share."""

    messages: Messages
    clock: Clock
    behaviour: Behaviour
    counters: Counters
    random: random.Random


class Queue:
    """One queue. Messages are numbers in the table; handles say which delivery of which message they are."""

    def __init__(self, world: World, name: str, arn: str) -> None:
        self.name = name
        self.arn = arn
        self.visibility_timeout_seconds = 30.0
        self.retention_seconds = float(FOUR_DAYS_SECONDS)
        self.redrive: Redrive | None = None
        self.kms_key_id = ""
        self.created_seconds = int(world.clock.now())
        self.sent: list[range] = []
        """The numbers of the messages that were sent to it; those that were redriven to it are not among them."""
        self._world = world
        self._fresh: deque[range] = deque()
        self._returned: deque[int] = deque()
        self._delayed: list[tuple[float, int]] = []
        self._in_flight: set[int] = set()
        self._extended: dict[int, float] = {}
        self._timeouts: list[tuple[float, int, array[int]]] = []
        self._order = count()
        self._tidied_at = 0.0

    @property
    def messages(self) -> Messages:
        """The table that this queue's numbers point into."""
        return self._world.messages

    @property
    def available(self) -> int:
        """Messages that a receive could be given now, copies included."""
        return len(self._returned) + sum(map(len, self._fresh))

    @property
    def in_flight(self) -> int:
        """Deliveries that are neither deleted nor back."""
        return len(self._in_flight)

    @property
    def delayed(self) -> int:
        """Messages that become available later."""
        return len(self._delayed)

    def put(self, numbers: range) -> None:
        """Make messages available."""
        self._fresh.append(numbers)

    def send(self, numbers: range) -> None:
        """Take in messages that are new."""
        self.sent.append(numbers)
        self.put(numbers)

    def receive(
        self, limit: int, visibility_timeout_seconds: float | None, _attempt: str | None = None
    ) -> Sequence[int]:
        """Hand out up to `limit` messages; returns the key of each delivery.

        At the limit in flight there is none, as for long polls and FIFO queues: SQS refuses short polls alone.
        """
        self.tidy()
        world = self._world
        if len(self._in_flight) >= world.behaviour.in_flight_limit:
            return ()
        numbers: Sequence[int] = self._take(limit)
        if not numbers:
            return ()
        behaviour, counters = world.behaviour, world.counters
        if behaviour.duplicate_in_batch or behaviour.duplicate_across_batches:
            numbers = self._with_duplicates(numbers, limit)
        times_handed_out, in_flight = world.messages.times_handed_out, self._in_flight
        keys = array("Q")
        for number in numbers:
            times = times_handed_out[number]
            if times:
                in_flight.discard(number << TIMES_BITS | times)
            else:
                counters.handed_out += 1
            times_handed_out[number] = times + 1
            key = number << TIMES_BITS | times + 1
            in_flight.add(key)
            keys.append(key)
        counters.deliveries += len(keys)
        timeout = self.visibility_timeout_seconds if visibility_timeout_seconds is None else visibility_timeout_seconds
        self._expire_at(self._tidied_at + timeout, keys)
        return keys

    def delete(self, handle: str) -> None:
        """Remove a message. A handle that went stale removes nothing, and nobody is told. To be called after `tidy`.

        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_DeleteMessage.html
        """
        key = self._key(handle)
        number = key >> TIMES_BITS
        world = self._world
        if key not in self._in_flight:
            world.counters.stale_deletes += 1
            return
        self._in_flight.remove(key)
        if not world.messages.deleted_seconds[number]:
            world.messages.deleted_seconds[number] = self._tidied_at
            world.counters.deleted += 1
        behaviour = world.behaviour
        if behaviour.return_after_delete and world.random.random() < behaviour.return_after_delete:
            world.counters.returned_after_delete += 1
            self._put_later([number], behaviour.return_after_seconds)

    def change_visibility(self, handle: str, seconds: float) -> None:
        """Let the timeout of one delivery end so many seconds from now. To be called after `tidy`."""
        key = self._key(handle)
        if key not in self._in_flight:
            raise SqsError("MessageNotInflight", "The message is not in flight.")
        deadline = self._tidied_at + seconds
        self._extended[key] = deadline
        self._expire_at(deadline, array("Q", [key]))

    def tidy(self) -> None:
        """Bring back what is due: timeouts that have ended and delays that are over."""
        self._tidied_at = now = self._world.clock.now()
        while self._timeouts and self._timeouts[0][0] <= now:
            for key in heapq.heappop(self._timeouts)[2]:
                if key in self._in_flight and self._extended.get(key, 0.0) <= now:
                    self._extended.pop(key, None)
                    self._in_flight.remove(key)
                    self._returned.append(key >> TIMES_BITS)
        while self._delayed and self._delayed[0][0] <= now:
            self._returned.append(heapq.heappop(self._delayed)[1])

    def _take(self, limit: int) -> list[int]:
        taken: list[int] = []
        while len(taken) < limit:
            if self._returned:
                found: Sequence[int] = (self._returned.popleft(),)
            elif self._fresh:
                fresh = self._fresh.popleft()
                found = fresh[: limit - len(taken)]
                if len(fresh) > len(found):
                    self._fresh.appendleft(fresh[len(found) :])
            else:
                break
            taken.extend(self._without_redriven(self._without_expired(found)))
        return taken

    def _without_expired(self, numbers: Sequence[int]) -> Sequence[int]:
        sent_seconds = self._world.messages.sent_seconds
        oldest = self._tidied_at - self.retention_seconds
        kept = [number for number in numbers if sent_seconds[number] > oldest]
        self._world.counters.expired += len(numbers) - len(kept)
        return kept

    def _without_redriven(self, numbers: Sequence[int]) -> Sequence[int]:
        if self.redrive is None:
            return numbers
        times_handed_out, kept = self._world.messages.times_handed_out, []
        for number in numbers:
            if times_handed_out[number] < self.redrive.max_receive_count:
                kept.append(number)
            else:
                self._world.counters.dead_lettered += 1
                self.redrive.queue.put(range(number, number + 1))
        return kept

    def _with_duplicates(self, numbers: Sequence[int], limit: int) -> Sequence[int]:
        behaviour, choose, counters = self._world.behaviour, self._world.random, self._world.counters
        handed_out: list[int] = []
        for number in numbers:
            if len(handed_out) >= limit:
                self._returned.appendleft(number)
                continue
            handed_out.append(number)
            if choose.random() < behaviour.duplicate_in_batch and len(handed_out) < limit:
                counters.duplicates += 1
                handed_out.append(number)
            if choose.random() < behaviour.duplicate_across_batches:
                counters.duplicates += 1
                self._returned.append(number)
        return handed_out

    def _put_later(self, numbers: Iterable[int], delay_seconds: float) -> None:
        due = self._world.clock.now() + delay_seconds
        for number in numbers:
            heapq.heappush(self._delayed, (due, number))

    def _expire_at(self, deadline: float, keys: array[int]) -> None:
        heapq.heappush(self._timeouts, (deadline, next(self._order), keys))

    def _key(self, handle: str) -> int:
        try:
            key = int(handle[len(HANDLE_PREFIX) :], 16)
        except ValueError:
            key = -1
        if not handle.startswith(HANDLE_PREFIX) or not 0 <= key >> TIMES_BITS < len(self._world.messages):
            raise SqsError("ReceiptHandleIsInvalid", "The input receipt handle is not a valid receipt handle.")
        return key
