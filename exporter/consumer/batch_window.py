"""How long a queue's next receive and its deletes wait, so that few requests are nearly empty: SQS bills each."""

from __future__ import annotations

import math

from exporter.sqs import BATCH_SIZE

EXPECTED_A_RECEIVE = 12
"""So many messages are waited for, where ten fit: the few that are left make the next batch full as well."""
SHORTEST_WAIT = 0.05
"""Part of the window. Above 240 messages a second several receives are sent together, and share a commit."""
LONGEST_AFTER_FULL = 0.1
"""Part of the window. A full batch may be the start of a backlog, of which the rate of late says nothing."""
SHRINK = 0.75
"""What is left of the wait after each round of full batches."""
BACKLOG_BELOW = 0.01
"""Part of the window. A wait that has shrunk below this is none any more."""
DELETE_WINDOWS = 5
"""A delete is not urgent, its message is counted: at one message a second, one window would never gather two."""
VISIBILITY_PART = 0.25
"""The part of the visibility timeout after which a delete waits no longer."""
MEASURED_SECONDS = 0.05
"""The rate is taken anew after so long: single answers of several receives in flight say nothing about it."""
REMEMBERED = 0.6
"""The weight of what was measured before, at each new measurement: the last three or so count."""
ROUND_TRIP_DRIFT = 1.1
"""How fast the shortest round trip may grow again, at each answer."""


class BatchWindow:
    """One queue's policy of when to ask SQS. It has no clock: times are given, in monotonic seconds.

    - After an answer with one to nine messages the next receive waits until it can be expected to come back full, by
      the rate of late, but at most `window_seconds`; at high rates several receives are sent together.
    - Each full answer shortens the wait, which is none after a few of them: a backlog never waits. Nor does the
      first message of a quiet queue: after an empty answer the next long poll opens at once.
    - Messages that were in the queue already when it was asked before, a window ago or longer, are a backlog, too, of
      which SQS gives less than ten at a time: nothing waits. (So nothing does on a queue that delays its messages.)
    - Deletes gather to ten for at most five windows and a quarter of the visibility timeout; ten go with the next
      receives.

    With a window of 0 nothing ever waits. AWS Lambda has the same setting, MaximumBatchingWindowInSeconds:
    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
    """

    def __init__(self, window_seconds: float) -> None:
        self._window_seconds = window_seconds
        self._wait_seconds = 0.0
        self._receives = 1
        self._emptied_at = -math.inf
        self._round_trip_seconds = math.inf
        self._per_second = 0.0
        self._measured_at = -math.inf
        self._messages = self._seconds = 0.0

    @property
    def receives(self) -> int:
        """How many receives to send together at `receives_due_at`; 0: nothing waits, send what pacing allows."""
        return self._receives if self._wait_seconds else 0

    @property
    def receives_due_at(self) -> float:
        """From when on receives may be sent; minus infinity: at once."""
        return self._emptied_at + self._wait_seconds if self._wait_seconds else -math.inf

    def answered(self, messages: int, sent_at: float, answered_at: float, oldest_seconds: float = 0.0) -> None:
        """Note an answer with so many messages, usable or not, to a receive that was sent at `sent_at`.

        `oldest_seconds` is how long the oldest of them was in the queue; it is asked of those with one to nine.
        """
        self._messages += messages
        if answered_at - self._measured_at >= MEASURED_SECONDS:
            self._measure(answered_at)
        if messages >= BATCH_SIZE and not self._wait_seconds:
            return
        was_left = oldest_seconds > answered_at - self._emptied_at + self._window_seconds
        self._see_the_queue_emptied(sent_at, answered_at)
        if not messages or was_left:
            self._wait_seconds = 0.0
        elif messages < BATCH_SIZE:
            self._wait_for_full_batches()
        else:
            self._wait_less()

    def deletes_due_at(
        self, waiting: int, oldest_waiting_at: float, visibility_timeout_seconds: float, *, fifo: bool = False
    ) -> float:
        """When so many waiting deletes are to be sent, the oldest of a message received at `oldest_waiting_at`.

        Ten go with the next receives, so that the loop wakes up once for both. Those of a FIFO queue are due at once:
        its group gives nothing more while they wait.
        """
        held_seconds = min(DELETE_WINDOWS * self._window_seconds, VISIBILITY_PART * visibility_timeout_seconds)
        if fifo or not held_seconds:
            return -math.inf
        held_until = oldest_waiting_at + held_seconds
        return min(held_until, self.receives_due_at) if waiting >= BATCH_SIZE else held_until

    def restart(self) -> None:
        """Wait for nothing until the next answer: a receive failed."""
        self._wait_seconds = 0.0

    def end(self) -> None:
        """From now on nothing waits: the program is stopping."""
        self._window_seconds = self._wait_seconds = 0.0

    def _see_the_queue_emptied(self, sent_at: float, answered_at: float) -> None:
        """Count the wait from when SQS took the messages out, which is about half a round trip before the answer.

        The next receive needs the other half to get there. A long poll takes longer than a round trip: the shortest
        of late is it, and no more than a part of the window, since nothing shorter may have been seen yet.
        """
        longest = min(ROUND_TRIP_DRIFT * self._round_trip_seconds, LONGEST_AFTER_FULL * self._window_seconds)
        self._round_trip_seconds = min(answered_at - sent_at, longest)
        self._emptied_at = max(self._emptied_at, answered_at - self._round_trip_seconds)

    def _measure(self, answered_at: float) -> None:
        """Take the rate of late: a weighted mean of the last few measurements, in which a lull counts as one window."""
        self._seconds += min(answered_at - self._measured_at, self._window_seconds)
        self._measured_at = answered_at
        self._per_second = self._messages / self._seconds if self._seconds else 0.0
        self._messages *= REMEMBERED
        self._seconds *= REMEMBERED

    def _wait_for_full_batches(self) -> None:
        if not self._per_second:
            self._receives, self._wait_seconds = 1, self._window_seconds
            return
        seconds_a_receive = EXPECTED_A_RECEIVE / self._per_second
        self._receives = max(1, math.ceil(SHORTEST_WAIT * self._window_seconds / seconds_a_receive))
        self._wait_seconds = min(self._window_seconds, self._receives * seconds_a_receive)

    def _wait_less(self) -> None:
        longest = min(self._wait_seconds, LONGEST_AFTER_FULL * self._window_seconds)
        self._wait_seconds = longest * SHRINK ** (1 / self._receives)
        if self._wait_seconds < BACKLOG_BELOW * self._window_seconds:
            self._wait_seconds = 0.0
