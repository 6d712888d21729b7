"""Which queue, its attributes and depth, and credentials: all that blocks on boto3, on a thread of its own."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from botocore.exceptions import ClientError

from exporter.backoff import Backoff
from exporter.sqs import QueueAttributes, QueueDepth
from exporter.sqs.aws import queue_name_of, reason_of
from exporter.sqs.timeout import TimeoutRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mypy_boto3_sqs.literals import QueueAttributeNameType

    from exporter.errors import QueueUnavailableError
    from exporter.sqs import Target
    from exporter.sqs.aws import Connection

CREDENTIALS_SECONDS = 5.0
"""How often credentials are looked at; botocore asks AWS for new ones only when they are about to expire."""
WAKE_SPACING_SECONDS = 1.0
"""However often it is woken, SQS is not asked more often than this."""
LOOK_SECONDS = 15.0
"""What finding the queue, or getting new credentials, may take as a whole."""
RETRY_TICK_SECONDS = 0.1
STALE_INTERVALS = 3
MIN_VISIBILITY_SECONDS = 2
"""Handles of a shorter timeout (0 is allowed) would be over before a delete is answered: receives ask for 30 s then."""
DEFAULT_VISIBILITY_SECONDS = 30
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html"""


class Listener(Protocol):
    """Told what changed, on the housekeeping thread, once per change."""

    def queue_waiting(self, error: QueueUnavailableError) -> None:
        """Note that SQS can't be asked about the queue, for a reason other than before; it is tried again."""

    def queue_found(self, attributes: QueueAttributes) -> None:
        """Note that the queue is known, or that its attributes are not what they were."""

    def queue_recovered(self) -> None:
        """Note that SQS answers again."""

    def attributes_denied(self, sentence: str) -> None:
        """Note that the attributes may not be read: defaults stand in for them."""

    def dead_letter_queue_unreadable(self, sentence: str) -> None:
        """Note that the depth of the dead-letter queue can't be read: it is left out."""


class Housekeeping:
    """Publishes what boto3 finds out. Any thread may read the properties: they hold immutable values, replaced whole.

    `queue` is a name or a URL; a URL is taken as it is. Raises WrongSettingError where it is neither.
    """

    def __init__(
        self,
        connection: Connection,
        queue: str,
        *,
        listener: Listener,
        interval_seconds: float = 30.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connection = connection
        self._queue = queue
        self._name = queue_name_of(queue)
        self._listener = listener
        self._interval_seconds = interval_seconds
        self._timeout_runner = TimeoutRunner(LOOK_SECONDS)
        self._monotonic = monotonic
        self._target: Target | None = None
        self._attributes: QueueAttributes | None = None
        self._problem: QueueUnavailableError | None = None
        self._depth: tuple[float, QueueDepth] | None = None
        self._attributes_denied = False
        self._dead_letter_queue_unreadable = False
        self._backoff = Backoff()
        self._looked_at = self._due_at = float("-inf")
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)

    @property
    def target(self) -> Target | None:
        """How to reach the queue; None until it is found."""
        return self._target

    @property
    def attributes(self) -> QueueAttributes | None:
        """What is known of the queue; None until it is found. The same object for as long as nothing changed."""
        return self._attributes

    @property
    def depth(self) -> QueueDepth | None:
        """How many messages wait; None where SQS does not say, or has not said for three intervals."""
        if self._depth is None:
            return None
        read_at, depth = self._depth
        return depth if self._monotonic() - read_at <= STALE_INTERVALS * self._interval_seconds else None

    @property
    def problem(self) -> QueueUnavailableError | None:
        """Why SQS can't be asked about the queue now: a sentence with the way out."""
        return self._problem

    def start(self) -> None:
        """Begin to look, on a daemon thread."""
        self._thread.start()

    def wake(self) -> None:
        """Look again now: a call failed in a way that a look may explain or mend."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread; one that waits for SQS is not waited for longer than a second."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=1.0)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._turn()
            if self._problem is not None:
                self._stopping.wait(RETRY_TICK_SECONDS)
            else:
                left_seconds = self._due_at - self._monotonic()
                self._wake.wait(min(CREDENTIALS_SECONDS, max(0.0, left_seconds)))

    def _turn(self) -> None:
        now = self._monotonic()
        if self._wake.is_set():
            self._wake.clear()
            self._due_at = min(self._due_at, self._looked_at + WAKE_SPACING_SECONDS)
        if self._problem is not None and not self._backoff.due(now):
            return
        try:
            if self._problem is not None or now >= self._due_at:
                self._looked_at, self._due_at = now, now + self._interval_seconds
                self._look()
            elif self._target is not None:
                url = self._target.queue_url
                self._publish_target(self._timeout_runner.run(lambda: self._connection.target(url)))
        except Exception as error:  # noqa: BLE001 - whatever an answer makes boto3 raise, the thread has to go on
            self._fail(error, now)

    def _look(self) -> None:
        target, attributes, depth = self._timeout_runner.run(self._ask)
        self._publish_target(target)
        self._recovered(attributes)
        self._depth = (self._monotonic(), self._with_dead_letters(depth, attributes)) if depth else None

    def _ask(self) -> tuple[Target, QueueAttributes, QueueDepth | None]:
        # Publishes nothing: when it is late, nobody waits for it any more.
        url = self._connection.queue_url(self._queue)
        target = self._connection.target(url)
        return target, *self._read(url)

    def _read(self, url: str) -> tuple[QueueAttributes, QueueDepth | None]:
        try:
            # A 200 that is not SQS's leaves botocore with an empty answer: the KeyError is wanted.
            said = self._connection.client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        except ClientError as error:
            if reason_of(error) != "access_denied":
                raise
            if not self._attributes_denied:
                self._attributes_denied = True
                self._listener.attributes_denied(
                    f'The attributes of queue "{self._name}" may not be read: grant sqs:GetQueueAttributes, or '
                    f"its depth stays unknown and a visibility timeout of 30 s and a retention of 14 days are assumed",
                )
            return self._attributes or self._assumed_attributes(url), None
        self._attributes_denied = False
        return attributes_of(self._name, said), _depth_of(said)

    def _assumed_attributes(self, url: str) -> QueueAttributes:
        meta = self._connection.client.meta
        account = url.rpartition("/")[0].rpartition("/")[2]
        return QueueAttributes(self._name, f"arn:{meta.partition}:sqs:{meta.region_name}:{account}:{self._name}")

    def _with_dead_letters(self, depth: QueueDepth, attributes: QueueAttributes) -> QueueDepth:
        if attributes.dead_letter_queue_arn is None:
            return depth
        account, name = attributes.dead_letter_queue_arn.split(":")[-2:]
        try:
            visible = self._timeout_runner.run(lambda: self._visible_in(account, name))
            self._dead_letter_queue_unreadable = False
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the other queue is no problem of this one
            visible = None
            if not self._dead_letter_queue_unreadable:
                self._dead_letter_queue_unreadable = True
                self._listener.dead_letter_queue_unreadable(
                    f'The depth of dead-letter queue "{name}" is left out ({reason_of(error)}): grant sqs:GetQueueUrl '
                    f"and sqs:GetQueueAttributes on it to see it",
                )
        return replace(depth, dead_letter_queue=name, dead_letter_visible=visible)

    def _visible_in(self, account: str, name: str) -> int | None:
        client = self._connection.client
        url = client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
        said = client.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
        return _number(said["Attributes"], "ApproximateNumberOfMessages")

    def _publish_target(self, target: Target) -> None:
        if target != self._target:
            self._target = target

    def _recovered(self, attributes: QueueAttributes) -> None:
        known, problem = self._attributes, self._problem
        if attributes != known:
            self._attributes = attributes
            self._listener.queue_found(attributes)
        self._problem = None
        self._backoff.succeeded()
        if problem is not None and known is not None:
            self._listener.queue_recovered()

    def _fail(self, error: Exception, now: float) -> None:
        problem = self._connection.unavailable(self._queue, error)
        self._backoff.failed(now)
        same = self._problem is not None and self._problem.reason == problem.reason
        self._problem = problem
        if not same:
            self._listener.queue_waiting(problem)


def find(connection: Connection, queue: str) -> tuple[str, QueueAttributes]:
    """Return the queue's URL and attributes, asked for once. Raises QueueUnavailableError."""
    try:
        url = connection.queue_url(queue)
        said = connection.client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    except Exception as error:
        raise connection.unavailable(queue, error) from error
    return url, attributes_of(queue_name_of(queue), said)


def attributes_of(name: str, said: Mapping[QueueAttributeNameType, str]) -> QueueAttributes:
    """Read what GetQueueAttributes said of the queue. Raises KeyError or ValueError where that is not what SQS says."""
    visibility_timeout_seconds = _number(said, "VisibilityTimeout") or 0
    policy = said.get("RedrivePolicy")
    return QueueAttributes(
        name=name,
        arn=said["QueueArn"],
        visibility_timeout_seconds=(
            visibility_timeout_seconds
            if visibility_timeout_seconds >= MIN_VISIBILITY_SECONDS
            else DEFAULT_VISIBILITY_SECONDS
        ),
        retention_seconds=_number(said, "MessageRetentionPeriod"),
        dead_letter_queue_arn=json.loads(policy)["deadLetterTargetArn"] if policy else None,
    )


def _depth_of(said: Mapping[QueueAttributeNameType, str]) -> QueueDepth:
    return QueueDepth(
        visible=_number(said, "ApproximateNumberOfMessages"),
        in_flight=_number(said, "ApproximateNumberOfMessagesNotVisible"),
        delayed=_number(said, "ApproximateNumberOfMessagesDelayed"),
    )


def _number(said: Mapping[QueueAttributeNameType, str], name: QueueAttributeNameType) -> int | None:
    text = said.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else None
