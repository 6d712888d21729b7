"""What the consumer's unit tests put around it: a clock, a ledger, an SQS and its housekeeping, set by hand."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from exporter.consumer.loop import Consumer
from exporter.consumer.options import QueueOptions
from exporter.consumer.recorder import Recorder
from exporter.events.event import EventMapping, EventParser
from exporter.ledger import Completed
from exporter.ledger.message_ids import remembered_ids
from exporter.sqs import Credentials, QueueAttributes, QueueDepth, QueueState, Target
from exporter.sqs.answers import Deleted, Failed, Message, Received
from exporter.telemetry.instrumentation import Instrumentation
from exporter.telemetry.metrics.health import Health
from exporter.telemetry.readiness import Readiness

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from exporter.consumer.options import OnInvalid
    from exporter.errors import LedgerError
    from exporter.ledger import Batch, QueueIdentity, Snapshot
    from exporter.sqs.answers import Answer, Deletion

WALL_SECONDS = 1_600_000_000.0
BODY = b'{"type": "purchase", "value": 1}'


class Clock:
    """Monotonic time that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time that was set."""
        return self.now


class HandMadeLedger:
    """Keeps the contract in memory. With `slow` a commit ends only when the test says so."""

    name = "hand-made"
    speaker = True
    speaking_since_seconds = 0.0

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.slow = False
        self.problem: LedgerError | None = None
        self.fails_with: LedgerError | None = None
        """What the next commit ends with."""
        self.commit_started_at: float | None = None
        self.identities: dict[str, QueueIdentity] = {}
        self.refused: dict[str, LedgerError] = {}
        self.clocks: Counter[str] = Counter()
        self.settled: defaultdict[str, list[bytes]] = defaultdict(list)
        self.submitted: list[Batch] = []
        self.remembered: set[tuple[str, bytes]] = set()
        self.counted: Counter[str] = Counter()
        self.released: Counter[str] = Counter()
        self.limits: dict[str, str] = {}
        self.capacities: dict[str, int] = {}
        self.reopened = 0
        self._ended: Completed | None = None

    @property
    def snapshots(self) -> Mapping[str, Snapshot]:
        """Nobody looks at them here."""
        return {}

    def bind(self, queue: QueueIdentity) -> None:
        """Take the queue up at once."""
        self.identities[queue.name] = queue

    def bound(self, queue: str) -> bool:
        """Whether it was taken up."""
        if queue in self.refused:
            raise self.refused[queue]
        return queue in self.identities

    def limited(self, queue: str) -> str | None:
        """Return what the test set."""
        return self.limits.get(queue)

    def capacity(self, queue: str) -> int:
        """Return what the test set."""
        return self.capacities.get(queue, 1_000_000)

    def advance(self, queue: str, seconds: float) -> None:
        """Add up."""
        self.clocks[queue] += seconds  # type: ignore[assignment]  # seconds are no whole number

    def submit(self, batch: Batch) -> None:
        """Commit at once, or when the test says so."""
        assert self.commit_started_at is None, "a commit is under way already"
        assert self._ended is None, "nobody has asked how the one before ended"
        self.submitted.append(batch)
        self.commit_started_at = self._clock.now
        if not self.slow:
            self.end()

    def end(self) -> None:
        """Let the commit under way end."""
        assert self.commit_started_at is not None
        started_at, self.commit_started_at = self.commit_started_at, None
        error, self.fails_with = self.fails_with, None
        if error is not None:
            self.problem = error
            self._ended = Completed(None, error, self._clock.now - started_at)
            return
        fresh: dict[str, list[bool]] = {}
        for queue, one in self.submitted[-1].items():
            fresh[queue] = [(queue, delivery.message_id) not in self.remembered for delivery in one.deliveries]
            self.remembered.update((queue, delivery.message_id) for delivery in one.deliveries)
            self.counted[queue] += sum(fresh[queue])
            self.released.update(one.released)
        self._ended = Completed(fresh, None, self._clock.now - started_at)

    def completed(self) -> Completed | None:
        """Return how it ended, once."""
        ended, self._ended = self._ended, None
        return ended

    def settle(self, queue: str, message_ids: Iterable[bytes]) -> None:
        """Remember it."""
        self.settled[queue] += message_ids

    def reopen(self) -> None:
        """Count the tries."""
        self.reopened += 1

    def descriptor(self) -> tuple[int, int] | None:
        """Nothing to wait for."""
        return None

    def deadline(self) -> float | None:
        """No deadline either."""
        return None

    def close(self) -> None:
        """Nothing to write."""


@dataclass
class Sent:
    """A request that was sent, and when."""

    queue: str
    at: float
    wait_seconds: int = 0
    visibility_timeout_seconds: int = 0
    deletions: Sequence[Deletion] = ()


class HandMadeSqs:
    """Stands where the network would: it notes what was sent, and `wait` returns the answers that a test laid out."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.receives: list[Sent] = []
        """In flight."""
        self.deletes: list[Sent] = []
        self.made_visible: list[Sent] = []
        self.waits: list[float] = []
        self.abandoned: Counter[str] = Counter()
        self._answers: list[Answer] = []

    # What the consumer calls

    def wait(self, timeout_seconds: float, also: tuple[int, int] | None = None) -> list[Answer]:
        """Return what was laid out."""
        assert also is None
        self.waits.append(timeout_seconds)
        answers, self._answers = self._answers, []
        return answers

    def receive(
        self,
        queue: str,
        _target: Target,
        *,
        wait_seconds: int,
        visibility_timeout_seconds: int,
        fifo: bool = False,  # noqa: ARG002 - as the client's
        attribute_names: tuple[str, ...] = (),  # noqa: ARG002 - as the client's
    ) -> None:
        """Note a receive."""
        self.receives.append(Sent(queue, self._clock.now, wait_seconds, visibility_timeout_seconds))

    def delete(self, queue: str, _target: Target, deletions: Sequence[Deletion]) -> None:
        """Note a batch delete."""
        assert len(deletions) <= 10
        self.deletes.append(Sent(queue, self._clock.now, deletions=deletions))

    def make_visible(self, queue: str, _target: Target, deletions: Sequence[Deletion]) -> None:
        """Note a change of visibility."""
        self.made_visible.append(Sent(queue, self._clock.now, deletions=deletions))

    def receives_in_flight(self, queue: str | None = None) -> int:
        """How many receives are not answered."""
        return sum(queue in {None, sent.queue} for sent in self.receives)

    def deletes_in_flight(self, queue: str | None = None) -> int:
        """How many batch requests are not answered."""
        return sum(queue in {None, sent.queue} for sent in (*self.deletes, *self.made_visible))

    def abandon_receives(self) -> Mapping[str, int]:
        """Drop the receives."""
        abandoned = Counter(sent.queue for sent in self.receives)
        self.receives.clear()
        self.abandoned += abandoned
        return abandoned

    # What a test lays out

    def answer_receive(
        self,
        queue: str,
        *ids: str,
        body: bytes = BODY,
        released: Mapping[str, int] | None = None,
        allowed_seconds: float = 25.0,
    ) -> None:
        """Answer the oldest receive of the queue with messages of these ids."""
        sent = next(one for one in self.receives if one.queue == queue)
        self.receives.remove(sent)
        messages = [Message(name, f"handle of {name}", body, WALL_SECONDS, None, None, None, {}) for name in ids]
        self._answers.append(
            Received(
                queue,
                messages,
                released or {},
                sent.at,
                self._clock.now,
                sent.visibility_timeout_seconds,
                allowed_seconds,
            )
        )

    def fail_receive(self, queue: str, reason: str) -> None:
        """Let the oldest receive of the queue fail."""
        sent = next(one for one in self.receives if one.queue == queue)
        self.receives.remove(sent)
        self._answers.append(Failed(queue, "receive", reason, "It failed.", (), sent.at, self._clock.now))

    def confirm_delete(self, queue: str) -> None:
        """Confirm the oldest batch delete of the queue."""
        sent = next(one for one in self.deletes if one.queue == queue)
        self.deletes.remove(sent)
        self._answers.append(Deleted(queue, sent.deletions, (), sent.at, self._clock.now))

    def fail_delete(self, queue: str, reason: str) -> None:
        """Let the oldest batch delete of the queue fail."""
        sent = next(one for one in self.deletes if one.queue == queue)
        self.deletes.remove(sent)
        self._answers.append(Failed(queue, "delete", reason, "It failed.", sent.deletions, sent.at, self._clock.now))

    def fail_visible(self, queue: str, reason: str) -> None:
        """Let the oldest change of visibility fail."""
        sent = next(one for one in self.made_visible if one.queue == queue)
        self.made_visible.remove(sent)
        self._answers.append(
            Failed(queue, "change_visibility", reason, "It failed.", sent.deletions, sent.at, self._clock.now)
        )


class HandMadeHousekeeping:
    """Publishes the queues that a test names."""

    def __init__(self) -> None:
        self.queues: Mapping[str, QueueState] = {}
        self.all_found = True
        self.clock_skew_seconds: float | None = None
        self.woken: list[str] = []

    def wake(self, queue: str) -> None:
        """Note it."""
        self.woken.append(queue)

    def requests(self) -> Mapping[tuple[str, str], int]:
        """None were made."""
        return {}

    def publish(  # noqa: PLR0913 - what is known of a queue, by name
        self,
        name: str,
        *,
        named: bool = True,
        visibility_timeout_seconds: int = 30,
        dead_letter_queue_arn: str | None = None,
        depth: QueueDepth | None = None,
        gone: bool = False,
    ) -> None:
        """Publish a queue as found."""
        state = QueueState(
            name=name,
            target=Target("http://sqs", "eu-west-1", f"http://sqs/1/{name}", Credentials("a", "b")),
            attributes=QueueAttributes(
                name,
                f"arn:aws:sqs:eu-west-1:1:{name}",
                visibility_timeout_seconds,
                dead_letter_queue_arn=dead_letter_queue_arn,
            ),
            depth=depth,
            problem=None,
            gone=gone,
            named=named,
        )
        self.queues = {**self.queues, name: state}


@dataclass
class House:
    """A consumer with everything around it. `run` makes iterations."""

    clock: Clock = field(default_factory=Clock)
    on_invalid: OnInvalid = "auto"
    max_receives: int = 16
    batch_window_seconds: float = 0.0
    until_empty: bool = False
    ledger: HandMadeLedger = field(init=False)
    sqs: HandMadeSqs = field(init=False)
    housekeeping: HandMadeHousekeeping = field(default_factory=HandMadeHousekeeping)
    readiness: Readiness = field(init=False)
    consumer: Consumer = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = HandMadeLedger(self.clock)
        self.sqs = HandMadeSqs(self.clock)
        self.readiness = Readiness(self.clock, commit_started_at=lambda: self.ledger.commit_started_at)
        instrumentation = Instrumentation(Health(CollectorRegistry()))
        parser = EventParser(EventMapping())
        self.consumer = Consumer(
            client=self.sqs,  # type: ignore[arg-type]  # what the consumer calls of it
            recorder=Recorder(self.ledger, instrumentation, self.readiness, monotonic=self.clock),
            housekeeping=self.housekeeping,  # type: ignore[arg-type]  # the same
            instrumentation=instrumentation,
            readiness=self.readiness,
            options=lambda _name: QueueOptions(
                parser=parser,
                on_invalid=self.on_invalid,
                max_receives=self.max_receives,
                wait_seconds=20,
                batch_window_seconds=self.batch_window_seconds,
                until_empty=self.until_empty,
            ),
            max_receives=self.max_receives,
            shutdown_timeout_seconds=4.0,
            until_empty=self.until_empty,
            monotonic=self.clock,
            wall=lambda: WALL_SECONDS,
        )

    def run(self, *, after_seconds: float = 0.0) -> None:
        """Let time pass, then make one iteration."""
        self.clock.now += after_seconds
        self.consumer.run_once()

    def done(self, *, after_seconds: float = 0.0) -> bool:
        """Whether `run` would end now, or so much later."""
        return self.consumer._done(self.clock.now + after_seconds)  # noqa: SLF001 - `run` asks it before each iteration

    def with_queue(self, name: str = "orders", **known: object) -> House:
        """Publish a queue and let its first receive go out."""
        self.housekeeping.publish(name, **known)  # type: ignore[arg-type]  # what `publish` takes
        self.run()
        return self


def ids_of(*names: str) -> list[bytes]:
    """Return what the ledger remembers messages of these ids by."""
    return list(remembered_ids(list(names)))
