"""The loop: wait, submit, delete, receive. `run_once` is one iteration, `run` repeats it until it is told to stop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from exporter.consumer.queue import Queue
from exporter.consumer.queues import Queues
from exporter.errors import ExporterError, LedgerError
from exporter.sqs.answers import Deleted, Failed, Received

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.consumer.messages import Parsed
    from exporter.consumer.options import QueueOptions
    from exporter.consumer.recorder import Recorder
    from exporter.sqs import QueueState
    from exporter.sqs.answers import Answer
    from exporter.sqs.client import Client
    from exporter.sqs.housekeeping import Housekeeping
    from exporter.telemetry.instrumentation import Instrumentation
    from exporter.telemetry.readiness import Readiness

ITERATION_SECONDS = 0.25
"""The longest an iteration waits for answers: how soon a signal or news of a queue is noticed."""
FIRST_ITERATIONS_SECONDS = 0.02
"""How long an iteration waits while no queue is known yet: it is often found within milliseconds."""
DELETE_GRACE_SECONDS = 0.5
"""What the last commit and its deletes are given after the shutdown timeout is over."""
COMMIT_MESSAGES = 1_000
"""A backlog's messages are gathered until there are so many for one commit, and share its cost."""
COMMIT_WAIT_SECONDS = 0.02
"""The longest that messages of a backlog wait for others to share their commit."""
MAX_GATHERED_MESSAGES = 2_500
"""How many messages may wait for a commit under way to end before receives pause."""


class Consumer:
    """One thread, one loop, no locks: everything here runs on the thread that calls `run`.

    A signal handler may call `stop`. `options` gives how a queue is consumed, by its name.
    """

    def __init__(  # noqa: PLR0913 - the parts and the plain values that the loop needs, by name
        self,
        *,
        client: Client,
        recorder: Recorder,
        housekeeping: Housekeeping,
        instrumentation: Instrumentation,
        readiness: Readiness,
        options: Callable[[str], QueueOptions],
        max_receives: int,
        shutdown_timeout_seconds: float,
        until_empty: bool = False,
        until_empty_timeout_seconds: float = 60.0,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._recorder = recorder
        self._housekeeping = housekeeping
        self._queues = Queues(
            housekeeping=housekeeping, client=client, take_up=self._take_up, max_receives=max_receives
        )
        self._instrumentation = instrumentation
        self._readiness = readiness
        self._options = options
        self._shutdown_timeout_seconds = shutdown_timeout_seconds
        self._until_empty = until_empty
        self._until_empty_timeout_seconds = until_empty_timeout_seconds
        self._monotonic = monotonic
        self._wall = wall
        self._told_at = float("-inf")
        self._gathered: dict[str, Queue] = {}
        """Queues whose messages wait to be submitted."""
        self._gathered_messages = 0
        self._submit_at = float("inf")
        """When they are submitted even if more are on their way (monotonic seconds)."""
        self._under_way: dict[str, Parsed] = {}
        self._worked_at = monotonic()
        self._stopping = False
        self._stop_at = float("inf")
        self._failure: ExporterError | None = None

    def fail(self, error: ExporterError) -> None:
        """Ask `run` to raise this soon; any thread may call it."""
        self._failure = error

    def stop(self) -> None:
        """Ask the loop to end: no new receives; what arrives within the shutdown timeout is counted and deleted."""
        if not self._stopping:
            self._stop_at = self._monotonic() + self._shutdown_timeout_seconds
            self._stopping = True
            for queue in self._queues.by_name.values():
                queue.end()
            self._readiness.set("stopping", "shutting down: no new receives, what is under way is finished")

    def run(self) -> None:
        """Repeat until `stop` was called and all is settled or late, or (`until_empty`) every queue is empty.

        Raises ExporterError where `until_empty` was asked for and nothing has worked for its timeout, and what `fail`
        was called with.
        """
        while not self._done(self._monotonic()):
            self.run_once()
        self._abandon_receives()

    def run_once(self) -> None:
        """One iteration: wait for answers and for the commit; submit what has gathered; delete; receive."""
        answers = self._client.wait(self._wait_seconds(self._monotonic()), self._recorder.descriptor())
        self._queues.follow_housekeeping()
        self._take(answers)
        self._queues.choose_due(self._monotonic())
        self._complete()
        self._submit()
        self._delete()
        self._receive()
        self._queues.plan(self._monotonic(), receiving=self._may_receive())
        self._tell()

    # Wait

    def _wait_seconds(self, now: float) -> float:
        longest = ITERATION_SECONDS if self._queues.by_name else FIRST_ITERATIONS_SECONDS
        submit_at = float("inf") if self._recorder.under_way else self._submit_at
        return max(0.0, min(longest, min(self._queues.next_due_at, submit_at, self._recorder.deadline()) - now))

    def _take_up(self, state: QueueState) -> Queue:
        queue = Queue(
            state.name,
            named=state.named,
            options=self._options(state.name),
            client=self._client,
            recorder=self._recorder,
            instrumentation=self._instrumentation,
            readiness=self._readiness.add_queue(state.name),
            clock_skew_seconds=lambda: self._housekeeping.clock_skew_seconds,
            wall=self._wall,
        )
        self._instrumentation.queue_taken_up(state.name)
        return queue

    def _take(self, answers: Sequence[Answer]) -> None:
        """Take in what was answered; messages are gathered until they can be submitted."""
        if not answers:
            return
        self._instrumentation.answered(answers)
        for answer in answers:
            name = answer.queue
            queue = self._queues.answered(name)
            if isinstance(answer, Received):
                queue.receive_succeeded(answer)
                if answer.messages:
                    if not self._gathered:
                        self._submit_at = answer.answered_at + COMMIT_WAIT_SECONDS
                    self._gathered[name] = queue
                    self._gathered_messages += len(answer.messages)
            elif isinstance(answer, Deleted):
                queue.deleted(answer)
            elif isinstance(answer, Failed):
                self._failed(queue, answer)
            if not isinstance(answer, Failed) and not queue.deletes_fail:
                self._worked_at = answer.answered_at

    def _failed(self, queue: Queue, answer: Failed) -> None:
        if answer.operation == "receive":
            queue.receive_failed(answer)
        elif answer.operation == "delete":
            queue.delete_failed(answer)
        else:
            queue.visibility_failed(answer)
        self._housekeeping.wake(queue.name)

    # Submit

    def _complete(self) -> None:
        """Take in the end of the commit under way, if it has come."""
        ended = self._recorder.completed()
        if ended is None:
            return
        under_way, self._under_way = self._under_way, {}
        if isinstance(ended, LedgerError):
            self._instrumentation.not_recorded()
            for name, parsed in under_way.items():
                self._queues.by_name[name].not_committed(parsed)
            return
        for name, parsed in under_way.items():
            queue = self._queues.to_visit[name] = self._queues.by_name[name]
            queue.committed(parsed, ended[name])

    def _submit(self) -> None:
        """Submit what has gathered, unless a commit is under way: then it waits for that one to end."""
        now = self._monotonic()
        if not self._recorder.under_way:
            if self._gathered and not self._more_to_come(now):
                self._submit_gathered(now)
            elif not self._gathered:
                limited = any(queue.limited for queue in self._queues.by_name.values())
                self._recorder.keep(now, limited=limited, ending=self._stopping)
            self._complete()
        if not self._recorder.working:
            self._queues.visit_all()
            for queue in self._queues.by_name.values():
                queue.drop_deletes()

    def _more_to_come(self, now: float) -> bool:
        """Whether the messages that wait to be submitted should wait for others: all are of backlogs."""
        return (
            self._gathered_messages < COMMIT_MESSAGES
            and now < self._submit_at
            and self._recorder.working
            and not self._stopping
            and all(queue.has_backlog for queue in self._gathered.values())
        )

    def _submit_gathered(self, now: float) -> None:
        gathered, self._gathered, self._gathered_messages = self._gathered, {}, 0
        self._submit_at = float("inf")
        received = [answer for queue in gathered.values() for answer in queue.gathered]
        with self._instrumentation.processing(received):
            self._under_way = {name: queue.parse(now) for name, queue in gathered.items()}
            self._recorder.submit({name: parsed.deliveries for name, parsed in self._under_way.items()})

    # Delete and receive

    def _delete(self) -> None:
        if not self._recorder.working:
            return
        now = self._monotonic()
        for queue in self._queues.to_visit.values():
            queue.send_deletes(now)

    def _receive(self) -> None:
        if self._may_receive():
            self._queues.send_receives(self._monotonic())

    def _may_receive(self) -> bool:
        """Whether what is received now can be submitted before its handles expire."""
        if self._stopping or not self._recorder.working or self._gathered_messages >= MAX_GATHERED_MESSAGES:
            return False
        started_at = self._recorder.commit_started_at
        if started_at is None:
            return True
        return self._monotonic() - started_at < self._queues.shortest_visibility_timeout_seconds / 4

    def _tell(self) -> None:
        now = self._monotonic()
        self._readiness.iterated(now)
        if now - self._told_at < ITERATION_SECONDS:
            return
        self._told_at = now
        if not self._stopping:  # an end that was asked for is no obstacle
            self._instrumentation.readiness(self._readiness.status())
        for name in self._queues.by_name:
            self._instrumentation.receives_in_flight(name, self._client.receives_in_flight(name))
        self._instrumentation.requests_made(self._housekeeping.requests())

    # The end

    def _done(self, now: float) -> bool:
        if self._failure is not None:
            raise self._failure
        if self._stopping:
            if self._client.receives_in_flight():
                if now < self._stop_at:
                    return False
                self._abandon_receives()
            return not self._unfinished or now >= self._stop_at + DELETE_GRACE_SECONDS
        if not self._until_empty:
            return False
        if now - self._worked_at >= self._until_empty_timeout_seconds:
            why = self._readiness.status().sentence
            raise ExporterError(
                f"nothing has worked for --until-empty-timeout ({self._until_empty_timeout_seconds:g} s): {why}"
            )
        return (
            bool(self._queues.by_name)
            and self._queues.all_found
            and all(queue.is_empty for queue in self._queues.by_name.values())
            and self._recorder.working
            and not self._client.receives_in_flight()
            and not self._unfinished
        )

    @property
    def _unfinished(self) -> bool:
        """Whether something that was received is not committed yet, or not deleted."""
        return (
            self._gathered_messages > 0
            or self._recorder.under_way
            or self._recorder.unaccounted
            or any(queue.unconfirmed_deletes for queue in self._queues.by_name.values())
            or self._client.deletes_in_flight() > 0
        )

    def _abandon_receives(self) -> None:
        self._instrumentation.receives_abandoned(self._client.abandon_receives())
