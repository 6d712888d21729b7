"""Whether the exporter does its job now, and if not, why: one sentence for `/-/ready`, the log and the landing page."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SIGN_OF_LIFE_SECONDS = 28.0
"""A long poll lasts 20 s and is given 5 s more; without an answer after this, SQS is out of reach."""
FAILING_SECONDS = 5.0
"""How long calls may fail in a row (one reset, one throttled call) before it is worth anyone's attention."""
DELETES_TRIED_SECONDS = 60.0
"""After this long without a failed delete none is left to try: their messages are gone, or come back."""
ITERATION_LIMIT_SECONDS = 60.0
"""How long an iteration of the loop may take before a restart is the better choice."""
STUCK_SECONDS = 5.0
"""How long an iteration, or a commit, may take before it is what stands in the way."""
AT_ONCE = frozenset({"access_denied", "credentials", "queue_not_found", "kms", "tls", "clock_skew"})
"""Failures that do not pass by themselves within seconds."""


@dataclass(frozen=True, slots=True)
class Status:
    """What `/-/ready` answers, as of one moment."""

    ready: bool
    """False where the ledger or every queue fails."""
    sentence: str
    """One line: "Ready.", or what stands in the way and where."""
    queues: Mapping[str, str | None] = field(default_factory=dict)
    """By queue: why nothing is counted from it, or None."""
    gone: tuple[str, ...] = ()
    """Queues of a prefix that are no longer consumed, which is no fault; they are not in `queues`."""


@dataclass(frozen=True, slots=True)
class _Failing:
    """Calls that have failed since `since`, last at `last` for this reason (monotonic seconds)."""

    since: float
    last: float
    reason: str
    detail: str

    def lasts(self, now: float) -> bool:
        return self.reason in AT_ONCE or now - self.since >= FAILING_SECONDS


class _Obstacles:
    """What stands in the way until it is cleared; of several, the one set first is told.

    Written by one thread, read by any: the mapping is replaced whole.
    """

    def __init__(self) -> None:
        self._sentences: dict[str, str] = {}

    def set(self, part: str, sentence: str) -> None:
        """Say what stands in the way."""
        if self._sentences.get(part) != sentence:
            self._sentences = {**self._sentences, part: sentence}

    def clear(self, part: str) -> None:
        """Say that it does so no longer."""
        if part in self._sentences:
            self._sentences = {name: why for name, why in self._sentences.items() if name != part}

    @property
    def first(self) -> str | None:
        """The sentence that is told; None: nothing stands in the way."""
        return next(iter(self._sentences.values()), None)


class QueueReadiness(_Obstacles):
    """Whether one queue is received from and deleted from."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self.gone = False
        """Whether a prefix found it once and it is not to be consumed any more: deleted, or a dead-letter queue now."""
        self._monotonic = monotonic
        self._succeeded_at: float | None = None
        self._not_asked_until = float("-inf")
        self._receives_failing: _Failing | None = None
        self._deletes_failing: _Failing | None = None

    def receive_succeeded(self, at: float) -> None:
        """SQS answered a receive as it should at `at` (monotonic seconds)."""
        self._succeeded_at = at
        self._receives_failing = None

    def receive_failed(self, at: float, reason: str, detail: str) -> None:
        """A receive failed at `at` (monotonic seconds), or brought nothing that can be used."""
        self._receives_failing = _again(self._receives_failing, at, reason, detail)

    def receives_pause(self, at: float) -> None:
        """Nothing is asked of SQS at `at` (monotonic seconds): its silence says nothing."""
        self._not_asked_until = at

    def receives_wait(self, at: float) -> None:
        """No receive is in flight at `at` (monotonic seconds), which is a pause unless it follows a failure."""
        if self._receives_failing is None:
            self.receives_pause(at)

    def deletes_succeeded(self) -> None:
        """SQS confirmed a delete."""
        self._deletes_failing = None
        self.clear("deletes")

    def deletes_failed(self, at: float, reason: str, detail: str) -> None:
        """Nothing of a batch delete was confirmed at `at` (monotonic seconds)."""
        self._deletes_failing = _again(self._deletes_failing, at, reason, detail)
        if reason == "access_denied":
            self.set(
                "deletes", f"SQS denies sqs:DeleteMessage, so no messages are taken: grant it on the queue ({detail})"
            )

    def why_not(self) -> str | None:
        """Return None when ready, else why not."""
        if (obstacle := self.first) is not None:
            return obstacle
        now = self._monotonic()
        receives, deletes = self._receives_failing, self._deletes_failing
        if receives is not None and (receives.lasts(now) or self._succeeded_at is None):
            return f"receives fail ({receives.reason}): {receives.detail}"
        if deletes is not None and deletes.lasts(now) and now - deletes.last < DELETES_TRIED_SECONDS:
            return f"deletes fail ({deletes.reason}), so messages come back and are recognised: {deletes.detail}"
        if self._succeeded_at is None:
            return "no receive has succeeded yet"
        silent_seconds = now - max(self._succeeded_at, self._not_asked_until)
        if silent_seconds >= SIGN_OF_LIFE_SECONDS:
            return f"SQS has not answered a receive for {silent_seconds:.0f} s"
        return None


class Readiness(_Obstacles):
    """Whether the whole does its job: the loop, the ledger, and each queue.

    `commit_started_at` tells when the commit under way began (monotonic seconds), None where there is none, and
    `prefix_problems` why prefixes such as `shop-*` find no queues, by prefix. `notes` are sentences about what does not
    keep it from counting. The consumer's thread writes, any thread may read.
    """

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        commit_started_at: Callable[[], float | None] = lambda: None,
        prefix_problems: Callable[[], Mapping[str, Exception]] = dict,
        notes: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._commit_started_at = commit_started_at
        self._prefix_problems = prefix_problems
        self._notes = notes
        self._iterated_at = monotonic()
        self._queues: dict[str, QueueReadiness] = {}

    def add_queue(self, name: str) -> QueueReadiness:
        """Begin to tell of a queue."""
        queue = QueueReadiness(self._monotonic)
        self._queues = {**self._queues, name: queue}
        return queue

    def iterated(self, now: float) -> None:
        """The loop has ended an iteration at `now` (monotonic seconds).

        In a long one, of a slow volume or a paused process, nobody listened to SQS: its silence says nothing.
        """
        if now - self._iterated_at >= STUCK_SECONDS:
            for queue in self._queues.values():
                queue.receives_pause(now)
        self._iterated_at = now

    def healthy(self) -> bool:
        """Whether the loop goes on. An outage of SQS leaves it healthy: a restart would mend nothing."""
        return self._monotonic() - self._iterated_at < ITERATION_LIMIT_SECONDS

    def status(self) -> Status:
        """Return what there is to say now."""
        whole = self._whole()
        queues = {name: queue.why_not() for name, queue in self._queues.items() if not queue.gone}
        gone = tuple(name for name, queue in self._queues.items() if queue.gone)
        if whole is not None:
            return Status(ready=False, sentence=whole, queues=dict.fromkeys(queues, whole), gone=gone)
        problems = [f"{prefix}: {problem}" for prefix, problem in self._prefix_problems().items()]
        notes = self._notes()
        if not queues:
            why = problems or ["every queue is gone" if gone else "no queue is found yet"]
            return Status(ready=False, sentence="; ".join([*why, *notes]), gone=gone)
        beside = [*problems, *notes]
        failing = [f"{name}: {why}" if len(queues) > 1 else why for name, why in queues.items() if why is not None]
        ready = len(failing) < len(queues)
        sentence = "; ".join(failing + beside)
        if ready and failing:
            sentence = f"Ready, but {len(failing)} of {len(queues)} queues: {sentence}"
        elif ready:
            sentence = f"Ready, but {sentence}" if beside else "Ready."
        return Status(ready=ready, sentence=sentence, queues=queues, gone=gone)

    def _whole(self) -> str | None:
        """Return what keeps every queue from being counted."""
        now = self._monotonic()
        started_at = self._commit_started_at()
        if started_at is not None and now - started_at >= STUCK_SECONDS:
            return (
                f"the ledger's commit has been under way for {now - started_at:.0f} s: look at the ledger's volume, or "
                f"its database server"
            )
        if (obstacle := self.first) is not None:
            return obstacle
        if now - self._iterated_at >= STUCK_SECONDS:
            return f"the loop has been busy with one iteration for {now - self._iterated_at:.0f} s"
        return None


def _again(failing: _Failing | None, at: float, reason: str, detail: str) -> _Failing:
    if failing is None:
        return _Failing(at, at, reason, detail)
    return replace(failing, last=at, reason=reason, detail=detail)
