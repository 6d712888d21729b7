"""Which queues there are, their attributes and depths, and credentials: all that blocks on boto3."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from exporter.backoff import Backoff
from exporter.errors import QueueUnavailableError
from exporter.sqs.aws import reason_of
from exporter.sqs.lookups import Look, QueueLookup, list_queues
from exporter.sqs.names import by_name, is_prefix, region_of
from exporter.sqs.timeout import TimeLimitedCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from exporter.sqs import Credentials, QueueAttributes, QueueDepth, Target
    from exporter.sqs.aws import Connection

CREDENTIALS_SECONDS = 5.0
"""How often credentials are looked at; botocore asks AWS for new ones only when they are about to expire."""
PREFIX_SECONDS = 60.0
"""How often SQS is asked which queues a prefix stands for."""
SOURCES_SECONDS = 300.0
"""How often SQS is asked whether a queue that a prefix found is another's dead-letter queue."""
WAKE_SPACING_SECONDS = 1.0
"""However often it is woken, SQS is not asked about a queue more often than this."""
LOOK_SECONDS = 15.0
"""What each thing that is asked may take as a whole."""
RETRY_TICK_SECONDS = 0.1
IDLE_TICK_SECONDS = 5.0
STALE_INTERVALS = 3
MAX_UNFINISHED = 4

log = logging.getLogger("exporter")


@dataclass(frozen=True, slots=True)
class QueueState:
    """What is known of one queue."""

    name: str
    target: Target | None = None
    """How to reach it; None until it is found."""
    attributes: QueueAttributes | None = None
    """None until it is found. The same object for as long as nothing changed."""
    depth: QueueDepth | None = None
    """How many messages wait; None where SQS does not say, or has not said for three intervals."""
    problem: QueueUnavailableError | None = None
    """Why SQS can't be asked about it now: a sentence with the way out."""
    gone: bool = False
    """Not to be received from any more: it was deleted, or a prefix found it and it became a dead-letter queue.

    A named queue that is gone has a `problem` too. It is False again when the queue is back.
    """
    named: bool = True
    """Whether the settings name it; False: a prefix found it."""


class _Task:
    """Something that is asked again and again, each time on a thread: what, how often, and who takes the answer."""

    __slots__ = ("ask", "backoff", "began_at", "due_at", "failed", "interval_seconds", "take", "under_way")

    def __init__(
        self,
        ask: Callable[[], Any],
        take: Callable[[Any], None],
        failed: Callable[[Exception], None],
        interval_seconds: float,
    ) -> None:
        self.ask = ask
        self.take = take
        self.failed = failed
        self.interval_seconds = interval_seconds
        self.backoff = Backoff()
        self.began_at = self.due_at = float("-inf")
        self.under_way = False

    def due(self, now: float) -> bool:
        return not self.under_way and now >= self.due_at and self.backoff.due(now)


class Housekeeping:
    """Publishes what boto3 finds out. Any thread may read the properties: they hold immutable values, replaced whole.

    `names` are names of queues, their URLs, which are taken as they are, and prefixes such as `shop-*`. No queue's
    slow or failing call holds up another's. Raises WrongSettingError where a name is none, or two queues have one.
    """

    def __init__(  # noqa: PLR0913 - by name, and with defaults
        self,
        connection: Connection,
        names: Sequence[str],
        *,
        interval_seconds: float = 60.0,
        prefix_seconds: float = PREFIX_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._connection = connection
        self._interval_seconds = interval_seconds
        self._monotonic = monotonic
        self._wall = wall
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str]] = Counter()
        self._clock_skew_seconds: float | None = None
        self._lookups: dict[str, QueueLookup] = {}
        self._queues: Mapping[str, QueueState] = MappingProxyType({})
        self._left_out: Mapping[str, str] = MappingProxyType({})
        self._prefix_problems: Mapping[str, QueueUnavailableError] = MappingProxyType({})
        self._depth_read_at: dict[str, float] = {}
        self._told: set[tuple[str, str]] = set()
        self._calls: TimeLimitedCalls[tuple[str, str]] = TimeLimitedCalls(LOOK_SECONDS)
        self._tasks: dict[tuple[str, str], _Task] = {
            ("credentials", ""): _Task(
                connection.credentials, self._credentials_found, self._credentials_failed, CREDENTIALS_SECONDS
            )
        }
        self._woken: set[str] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)
        self._named = by_name(names)
        connections = {connection.region: connection}
        for name, queue in self._named.items():
            region = region_of(queue) or connection.region
            if region not in connections:
                connections[region] = connection.in_region(region)
            self._follow(name, queue, connections[region])
            self._publish(QueueState(name))
            self._look_after(name)
        for prefix in names:
            if is_prefix(prefix):
                self._tasks["prefix", prefix] = _Task(
                    partial(list_queues, connection, prefix, partial(self._count, prefix)),
                    partial(self._prefix_listed, prefix),
                    partial(self._prefix_failed, prefix),
                    prefix_seconds,
                )
        for used in connections.values():
            used.client.meta.events.register("after-call.sqs", self._note_date)

    @property
    def queues(self) -> Mapping[str, QueueState]:
        """The queues that are named, from the start, and those that a prefix has found, by name."""
        return self._queues

    @property
    def left_out(self) -> Mapping[str, str]:
        """The queues that a prefix does not take, each with a sentence that says why, by name."""
        return self._left_out

    @property
    def prefix_problems(self) -> Mapping[str, QueueUnavailableError]:
        """Why a prefix finds no queue now: a sentence with the way out, by prefix."""
        return self._prefix_problems

    @property
    def clock_skew_seconds(self) -> float | None:
        """How far this machine's clock is ahead of SQS's, give or take half a second; None: SQS has not said yet."""
        return self._clock_skew_seconds

    def requests(self) -> Mapping[tuple[str, str], int]:
        """Return how many requests were made since the last call, by queue (or prefix) and operation."""
        with self._lock:
            requests, self._requests = self._requests, Counter()
        return requests

    def start(self) -> None:
        """Begin to look, on a daemon thread."""
        self._thread.start()

    def wake(self, queue: str) -> None:
        """Look at the queue again now: a call failed in a way that a look may explain or mend."""
        self._woken.add(queue)
        self._calls.wake()

    def stop(self) -> None:
        """End the thread; one that waits for SQS is not waited for longer than a second."""
        self._stopping.set()
        self._calls.wake()
        if self._thread.ident is not None:
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while not self._stopping.is_set():
            now = self._monotonic()
            self._bring_forward(now)
            self._begin(now)
            self._drop_stale_depths(now)
            for key, outcome in self._calls.wait(self._idle_seconds(now)):
                self._ended(key, outcome)

    def _idle_seconds(self, now: float) -> float:
        waiting = [task for task in self._tasks.values() if not task.under_way]
        if any(task.due(now) or not task.backoff.due(now) for task in waiting):
            return RETRY_TICK_SECONDS
        return min(IDLE_TICK_SECONDS, *(task.due_at - now for task in waiting), IDLE_TICK_SECONDS)

    def _bring_forward(self, now: float) -> None:
        while self._woken:
            task = self._tasks.get(("queue", self._woken.pop()))
            if task is not None:
                task.due_at = min(task.due_at, max(now, task.began_at + WAKE_SPACING_SECONDS))

    def _begin(self, now: float) -> None:
        for key, task in sorted(self._tasks.items(), key=lambda item: item[1].due_at):
            if not task.due(now):
                continue
            try:
                task.under_way = self._calls.start(key, task.ask)
            except RuntimeError as error:
                self._ended(key, error)
            task.began_at = now

    def _ended(self, key: tuple[str, str], outcome: object) -> None:
        task = self._tasks.get(key)
        if task is None:
            return
        now = self._monotonic()
        task.under_way = False
        try:
            if isinstance(outcome, BaseException):
                raise outcome  # noqa: TRY301 - failed like what can't be taken
            task.take(outcome)
        except Exception as error:  # noqa: BLE001 - whatever an answer makes boto3 raise, the thread has to go on
            task.backoff.failed(now)
            task.failed(error)
        else:
            task.due_at = task.began_at + task.interval_seconds
            task.backoff.succeeded()

    # Queues

    def _follow(self, name: str, queue: str, connection: Connection) -> None:
        self._lookups[name] = QueueLookup(connection, queue, partial(self._count, name))

    def _look_after(self, name: str) -> None:
        self._tasks["queue", name] = _Task(
            self._lookups[name].look,
            partial(self._looked, name),
            partial(self._look_failed, name),
            self._interval_seconds,
        )

    def _looked(self, name: str, look: Look) -> None:
        before = self._queues[name]
        attributes = look.attributes
        if attributes is None:
            self._tell_once(
                name,
                "attributes",
                f'The attributes of queue "{name}" may not be read: grant sqs:GetQueueAttributes, or '
                f"its depth stays unknown and a visibility timeout of 30 s and a retention of 14 days are assumed",
            )
            attributes = before.attributes or self._lookups[name].assumed_attributes(look.target)
        else:
            self._told.discard((name, "attributes"))
        self._read_dead_letters(name, attributes)
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
        self._tell_what_changed(before, attributes)
        self._leave_out_dead_letter_queues()

    def _tell_what_changed(self, before: QueueState, attributes: QueueAttributes) -> None:
        known = before.attributes
        if attributes is not known:
            log.info(
                "queue found",
                extra={
                    "queue": before.name,
                    "arn": attributes.arn,
                    "visibility_timeout_seconds": attributes.visibility_timeout_seconds,
                    "retention_seconds": attributes.retention_seconds,
                    "dead_letter_queue": attributes.dead_letter_queue_arn,
                },
            )
            if known is not None and known.created_seconds != attributes.created_seconds is not None:
                log.warning(
                    "queue was deleted and made again: what it held is lost, and its ARN is the same",
                    extra={"queue": before.name, "arn": attributes.arn},
                )
        if known is not None and (before.problem is not None or before.gone):
            log.info("queue can be asked again", extra={"queue": before.name})

    def _look_failed(self, name: str, error: Exception) -> None:
        before = self._queues[name]
        problem = self._lookups[name].connection.unavailable(self._lookups[name].queue, error)
        gone = before.gone or (problem.reason == "queue_not_found" and before.attributes is not None)
        if gone and not before.named:
            # Deleted on purpose, for all that is known: nothing is looked for until a prefix finds it again.
            del self._tasks["queue", name]
            self._tasks.pop(("sources", name), None)
            self._tasks.pop(("dead letters", name), None)
            self._publish(replace(before, gone=True, depth=None, problem=None))
            log.warning("queue is gone", extra={"queue": name, "error": str(problem)})
            return
        self._publish(replace(before, problem=problem, gone=gone, depth=None if gone else before.depth))
        if before.problem is None or before.problem.reason != problem.reason:
            log.warning("waiting for the queue", extra={"queue": name, "reason": problem.reason, "error": str(problem)})

    def _drop_stale_depths(self, now: float) -> None:
        for name, read_at in list(self._depth_read_at.items()):
            if now - read_at > STALE_INTERVALS * self._interval_seconds:
                del self._depth_read_at[name]
                self._publish(replace(self._queues[name], depth=None))

    # Their dead-letter queues

    def _read_dead_letters(self, name: str, attributes: QueueAttributes) -> None:
        key = "dead letters", name
        arn = attributes.dead_letter_queue_arn
        if arn is None:
            self._tasks.pop(key, None)
        elif key not in self._tasks or arn != (self._queues[name].attributes or attributes).dead_letter_queue_arn:
            self._tasks[key] = _Task(
                partial(self._lookups[name].visible_in, arn),
                partial(self._dead_letters_read, name, arn),
                partial(self._dead_letters_failed, name, arn),
                self._interval_seconds,
            )

    def _dead_letters_read(self, name: str, arn: str, visible: int | None) -> None:
        self._told.discard((name, "dead letters"))
        self._publish_dead_letters(name, arn, visible)

    def _dead_letters_failed(self, name: str, arn: str, error: Exception) -> None:
        self._publish_dead_letters(name, arn, None)
        self._tell_once(
            name,
            "dead letters",
            f'The depth of dead-letter queue "{_name_in(arn)}" is left out ({reason_of(error)}): grant '
            f"sqs:GetQueueUrl and sqs:GetQueueAttributes on it to see it",
        )

    def _publish_dead_letters(self, name: str, arn: str, visible: int | None) -> None:
        state = self._queues[name]
        if state.depth is not None:
            depth = replace(state.depth, dead_letter_queue=_name_in(arn), dead_letter_visible=visible)
            self._publish(replace(state, depth=depth))

    # Prefixes

    def _prefix_listed(self, prefix: str, urls: Mapping[str, str]) -> None:
        for name in urls:
            state = self._queues.get(name)
            if name in self._named or (state is not None and not state.gone) or ("sources", name) in self._tasks:
                continue
            self._follow(name, name, self._connection)
            self._tasks["sources", name] = _Task(
                self._lookups[name].sources,
                partial(self._sources_listed, name),
                partial(self._sources_failed, name),
                SOURCES_SECONDS,
            )
        if urls:
            self._set_prefix_problem(prefix, None)
        else:
            self._set_prefix_problem(prefix, self._none_begins_with(prefix))

    def _none_begins_with(self, prefix: str) -> QueueUnavailableError:
        place = f"in region {self._connection.region} at {self._connection.endpoint_url}"
        return QueueUnavailableError(
            "queue_not_found", f'No queue is named "{prefix}" {place}: create one, or correct --queue or AWS_REGION'
        )

    def _prefix_failed(self, prefix: str, error: Exception) -> None:
        problem = self._connection.unavailable(prefix, error)
        if problem.reason == "access_denied":
            problem = QueueUnavailableError(
                problem.reason, f'The queues of "{prefix}" may not be listed: grant sqs:ListQueues, or name them'
            )
        self._set_prefix_problem(prefix, problem)

    def _set_prefix_problem(self, prefix: str, problem: QueueUnavailableError | None) -> None:
        before = self._prefix_problems.get(prefix)
        problems = {name: one for name, one in self._prefix_problems.items() if name != prefix}
        if problem is not None:
            problems[prefix] = problem
            if before is None or before.reason != problem.reason:
                log.warning("waiting for queues of a prefix", extra={"prefix": prefix, "error": str(problem)})
        self._prefix_problems = MappingProxyType(problems)

    def _sources_listed(self, name: str, sources: Iterable[str]) -> None:
        sources = sorted({*sources, *self._known_sources(name)})
        if sources:
            self._leave_out(
                name, f'Queue "{name}" is left out: it is the dead-letter queue of "{sources[0]}"; name it to count it'
            )
            return
        if name in self._left_out:
            self._left_out = MappingProxyType({it: why for it, why in self._left_out.items() if it != name})
        state = self._queues.get(name)
        if state is None or state.gone:
            self._publish(replace(state or QueueState(name, named=False), gone=False))
            self._look_after(name)

    def _sources_failed(self, name: str, error: Exception) -> None:
        reason = reason_of(error)
        if name in self._queues and not self._queues[name].gone:
            # It was none a while ago, and is counted: one call that fails is no reason to stop.
            return
        if reason == "queue_not_found":
            del self._tasks["sources", name]
            return
        way_out = "grant sqs:ListDeadLetterSourceQueues on it" if reason == "access_denied" else "it is asked again"
        self._leave_out(
            name,
            f'Queue "{name}" is left out, because SQS does not say whether it is a dead-letter queue ({reason}): '
            f"{way_out}, or name the queue in full",
        )

    def _known_sources(self, name: str) -> Iterable[str]:
        """Yield the queues whose redrive policy, read already, says that their dead-letter queue is this one."""
        for state in self._queues.values():
            attributes = state.attributes
            if attributes is not None and not state.gone and _name_in(attributes.dead_letter_queue_arn) == name:
                yield state.name

    def _leave_out_dead_letter_queues(self) -> None:
        for state in self._queues.values():
            if not state.named and not state.gone:
                for source in self._known_sources(state.name):
                    self._leave_out(
                        state.name,
                        f'Queue "{state.name}" is left out: it is the dead-letter queue of "{source}"; name it to '
                        f"count it",
                    )
                    break

    def _leave_out(self, name: str, sentence: str) -> None:
        if self._left_out.get(name) != sentence:
            log.warning(sentence, extra={"queue": name})
            self._left_out = MappingProxyType({**self._left_out, name: sentence})
        state = self._queues.get(name)
        if state is not None and not state.gone:
            self._tasks.pop(("queue", name), None)
            self._tasks.pop(("dead letters", name), None)
            self._publish(replace(state, gone=True, depth=None, problem=None))

    # Credentials

    def _credentials_found(self, credentials: Credentials) -> None:
        for state in self._queues.values():
            if state.target is not None and state.target.credentials != credentials:
                self._publish(replace(state, target=replace(state.target, credentials=credentials)))

    def _credentials_failed(self, error: Exception) -> None:
        for name in list(self._queues):
            if ("queue", name) in self._tasks:
                self._look_failed(name, error)
                self._tasks["queue", name].due_at = float("-inf")

    # All

    def _publish(self, state: QueueState) -> None:
        self._queues = MappingProxyType({**self._queues, state.name: state})

    def _tell_once(self, name: str, subject: str, sentence: str) -> None:
        if (name, subject) not in self._told:
            self._told.add((name, subject))
            log.warning(sentence, extra={"queue": name})

    def _count(self, queue: str, operation: str) -> None:
        with self._lock:
            self._requests[queue, operation] += 1

    def _note_date(self, http_response: Any, **_: object) -> None:  # noqa: ANN401 - botocore's, which has no types
        try:
            sqs_seconds = parsedate_to_datetime(http_response.headers["Date"]).timestamp()
        except (KeyError, TypeError, ValueError):
            return
        # The header is cut to whole seconds: SQS meant a moment within the one that follows.
        self._clock_skew_seconds = self._wall() - (sqs_seconds + 0.5)


def _name_in(arn: str | None) -> str | None:
    return None if arn is None else arn.rpartition(":")[2]
