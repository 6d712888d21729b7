"""Which queues there are, their attributes and depths, and credentials: all that blocks on boto3."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import replace
from email.utils import parsedate_to_datetime
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from exporter.sqs import QueueState
from exporter.sqs.failures import reason_of
from exporter.sqs.lookups import Look, QueueLookup
from exporter.sqs.names import by_name, is_prefix, region_of
from exporter.sqs.news import QueueNews
from exporter.sqs.prefixes import LIST_SECONDS, Prefixes
from exporter.sqs.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from exporter.errors import QueueUnavailableError
    from exporter.sqs import Credentials, QueueAttributes
    from exporter.sqs.aws import Connection
    from exporter.sqs.lookups import LookupOperation

CREDENTIALS_SECONDS = 5.0
"""How often credentials are looked at; botocore asks AWS for new ones only when they are about to expire."""
STALE_INTERVALS = 3


class Housekeeping:
    """Publishes what boto3 finds out. Any thread may read the properties: they hold immutable values, replaced whole.

    `names` are names of queues, their URLs, which are taken as they are, and prefixes such as `shop-*`. No queue's
    slow or failing call holds up another's. `advice` gives sentences about a queue's attributes that are worth a
    warning: each is logged once. Raises WrongSettingError where a name is none, or two queues have one.
    """

    def __init__(  # noqa: PLR0913 - by name, and with defaults
        self,
        connection: Connection,
        names: Sequence[str],
        *,
        interval_seconds: float = 60.0,
        prefix_seconds: float = LIST_SECONDS,
        advice: Callable[[QueueAttributes], Iterable[str]] = lambda _attributes: (),
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._interval_seconds = interval_seconds
        self._news = QueueNews(advice)
        self._monotonic = monotonic
        self._wall = wall
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str]] = Counter()
        self._clock_skew_seconds: float | None = None
        self._named = by_name(names)
        self._lookups: dict[str, QueueLookup] = {}
        self._queues: Mapping[str, QueueState] = MappingProxyType({})
        self._depth_read_at: dict[str, float] = {}
        self._woken: set[str] = set()
        self._schedule = Schedule(monotonic)
        self._prefixes = Prefixes(
            filter(is_prefix, names),
            connection,
            self._schedule,
            named=self._named,
            count=self._count,
            served=self._serves,
            take=self._take_up,
            leave=self._leave,
            list_seconds=prefix_seconds,
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)
        connections = {connection.region: connection}
        for name, queue in self._named.items():
            region = region_of(queue) or connection.region
            if region not in connections:
                connections[region] = connection.in_region(region)
            self._take_up(QueueLookup(connections[region], queue, partial(self._count, name)))
        for used in connections.values():
            used.client.meta.events.register("after-call.sqs", self._note_date)
        self._schedule.add(
            ("credentials", ""),
            connection.credentials,
            self._credentials_found,
            self._credentials_failed,
            CREDENTIALS_SECONDS,
        )

    @property
    def queues(self) -> Mapping[str, QueueState]:
        """The queues that are named, from the start, and those that a prefix has found, by name."""
        return self._queues

    @property
    def all_found(self) -> bool:
        """Whether every queue is in `queues` that a prefix stands for now, but for those that are left out."""
        return self._prefixes.all_found

    @property
    def left_out(self) -> Mapping[str, str]:
        """The queues that a prefix does not take, each with a sentence that says why, by name."""
        return self._prefixes.left_out

    @property
    def prefix_problems(self) -> Mapping[str, QueueUnavailableError]:
        """Why a prefix finds no queue now: a sentence with the way out, by prefix."""
        return self._prefixes.problems

    @property
    def clock_skew_seconds(self) -> float | None:
        """How far this machine's clock is ahead of SQS's, give or take half a second; None: SQS has not said yet."""
        return self._clock_skew_seconds

    def requests(self) -> Mapping[tuple[str, str], int]:
        """Return how many requests were made since the last call, by queue (or prefix) and operation."""
        with self._lock:
            requests, self._requests = self._requests, Counter()
        return requests

    def repeat(self, name: str, call: Callable[[], None]) -> None:
        """Have the thread make another call that may wait, before it is started and then every interval.

        An exception of the call is the caller's to keep: it is not looked at here.
        """
        self._schedule.add((name, ""), call, lambda _: None, lambda _: None, self._interval_seconds)

    def start(self) -> None:
        """Begin to look, on a daemon thread."""
        self._thread.start()

    def wake(self, queue: str) -> None:
        """Look at the queue again now: a call failed in a way that a look may explain or mend."""
        self._woken.add(queue)
        self._schedule.wake()

    def stop(self) -> None:
        """End the thread; one that waits for SQS is not waited for longer than a second."""
        self._stopping.set()
        self._schedule.wake()
        if self._thread.ident is not None:
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while not self._stopping.is_set():
            while self._woken:
                self._schedule.bring_forward(("queue", self._woken.pop()))
            self._drop_stale_depths()
            self._schedule.run_once()

    def _serves(self, name: str) -> bool:
        return name in self._queues and (self._queues[name].named or not self._queues[name].gone)

    def _take_up(self, lookup: QueueLookup) -> None:
        """Begin to look after a queue, or go on where it had gone."""
        name = lookup.name
        self._lookups[name] = lookup
        self._publish(replace(self._queues.get(name, QueueState(name, named=name in self._named)), gone=False))
        self._schedule.add(
            ("queue", name),
            lookup.look,
            partial(self._looked, name),
            partial(self._look_failed, name),
            self._interval_seconds,
        )

    def _leave(self, name: str) -> None:
        """Look after a queue that a prefix found no more."""
        self._schedule.remove(("queue", name))
        self._schedule.remove(("dead letters", name))
        self._publish(replace(self._queues[name], gone=True, depth=None, problem=None))

    def _looked(self, name: str, look: Look) -> None:
        before = self._queues[name]
        attributes = look.attributes
        if attributes is None:
            self._news.attributes_denied(name)
            attributes = before.attributes or self._lookups[name].assumed_attributes(look.target)
        else:
            self._news.attributes_read(name)
        self._follow_dead_letters(name, attributes)
        depth = look.depth
        if depth is not None:
            self._depth_read_at[name] = self._monotonic()
            name_of_dead = _name_in(attributes.dead_letter_queue_arn)
            same = before.depth is not None and before.depth.dead_letter_queue == name_of_dead
            depth = replace(
                depth,
                dead_letter_queue=name_of_dead,
                dead_letter_visible=before.depth.dead_letter_visible if before.depth and same else None,
            )
        if attributes == before.attributes:
            attributes = before.attributes
        self._publish(
            replace(
                before,
                target=before.target if look.target == before.target else look.target,
                attributes=attributes,
                depth=depth,
                problem=None,
                gone=False,
            )
        )
        self._news.found(before, attributes)
        if attributes.dead_letter_queue_arn is not None:
            self._prefixes.redrive_policy_read(attributes.dead_letter_queue_arn.rpartition(":")[2])

    def _look_failed(self, name: str, error: Exception) -> None:
        before = self._queues[name]
        problem = self._lookups[name].connection.unavailable(self._lookups[name].queue, error)
        known = before.attributes is not None or not before.named
        gone = before.gone or (known and problem.reason == "queue_not_found")
        if gone and not before.named:
            # Deleted on purpose, for all that is known: it is not looked for until a prefix finds it again.
            self._leave(name)
            self._prefixes.queue_gone(name)
            self._news.gone(name, problem)
            return
        self._publish(replace(before, problem=problem, gone=gone, depth=None if gone else before.depth))
        self._news.failed(before, problem)

    def _drop_stale_depths(self) -> None:
        oldest = self._monotonic() - STALE_INTERVALS * self._interval_seconds
        for name, read_at in list(self._depth_read_at.items()):
            if read_at < oldest:
                del self._depth_read_at[name]
                self._publish(replace(self._queues[name], depth=None))

    def _follow_dead_letters(self, name: str, attributes: QueueAttributes) -> None:
        key = "dead letters", name
        arn = attributes.dead_letter_queue_arn
        if arn is None:
            self._schedule.remove(key)
            return
        known = self._queues[name].attributes
        if key not in self._schedule or known is None or known.dead_letter_queue_arn != arn:
            self._schedule.add(
                key,
                partial(self._lookups[name].visible_in, arn),
                partial(self._dead_letters_read, name, arn),
                partial(self._dead_letters_failed, name, arn),
                self._interval_seconds,
                # Mostly it is denied, for good.
                retry_seconds=self._interval_seconds,
            )

    def _dead_letters_read(self, name: str, arn: str, visible: int | None) -> None:
        self._news.dead_letters_read(name)
        self._publish_dead_letters(name, arn, visible)

    def _dead_letters_failed(self, name: str, arn: str, error: Exception) -> None:
        self._publish_dead_letters(name, arn, None)
        self._news.dead_letters_failed(name, _name_in(arn), reason_of(error))

    def _publish_dead_letters(self, name: str, arn: str, visible: int | None) -> None:
        state = self._queues[name]
        if state.depth is not None:
            depth = replace(state.depth, dead_letter_queue=_name_in(arn), dead_letter_visible=visible)
            self._publish(replace(state, depth=depth))

    def _credentials_found(self, credentials: Credentials) -> None:
        for state in self._queues.values():
            if state.target is not None and state.target.credentials != credentials:
                self._publish(replace(state, target=replace(state.target, credentials=credentials)))

    def _credentials_failed(self, error: Exception) -> None:
        for name in list(self._queues):
            if ("queue", name) in self._schedule:
                self._look_failed(name, error)
                self._schedule.bring_forward(("queue", name))

    def _publish(self, state: QueueState) -> None:
        self._queues = MappingProxyType({**self._queues, state.name: state})

    def _count(self, queue: str, operation: LookupOperation) -> None:
        with self._lock:
            self._requests[queue, operation] += 1

    def _note_date(self, http_response: Any, **_: object) -> None:  # noqa: ANN401 - botocore's, which has no types
        try:
            sqs_seconds = parsedate_to_datetime(http_response.headers["Date"]).timestamp()
        except (KeyError, OverflowError, TypeError, ValueError):
            return
        # The header is cut to whole seconds: SQS meant a moment within the one that follows.
        self._clock_skew_seconds = self._wall() - (sqs_seconds + 0.5)


def _name_in(arn: str | None) -> str | None:
    return None if arn is None else arn.rpartition(":")[2]
