"""Amazon SQS: `client` sends the requests of the hot path, `housekeeping` looks after the queues with boto3."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter.errors import QueueUnavailableError

BATCH_SIZE = 10
"""The most messages of a receive, and entries of a batch request.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_ReceiveMessage.html
"""

REASONS = (
    "access_denied",  # IAM says no
    "clock_skew",  # the signature's time is not SQS's
    "connection",  # refused, reset, closed early, no route, name not resolved
    "credentials",  # none, unknown, expired
    "empty_early",  # an empty answer long before the long poll's wait was over
    "kms",  # the key of the queue can't be used now
    "malformed",  # an answer that is not what SQS says it answers
    "out_of_memory",  # this process may not have more
    "over_limit",  # too many messages in flight
    "queue_not_found",
    "redirect",
    "request",  # SQS refused the request for another reason (4xx)
    "server",  # 5xx
    "throttled",
    "timeout",  # no whole answer within the deadline
    "tls",  # certificate or handshake
    "too_large",  # an answer over 64 MiB
    "unconfirmed",  # a batch delete whose answer names this entry neither as successful nor as failed
)
"""Every reason a call to SQS can fail for: label values are bounded."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a request is signed with. Never shown by `repr`."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Target:
    """All that a call needs to reach the queue. Immutable; the housekeeping thread publishes a new one on change."""

    endpoint_url: str
    """Requests go here, never to the host in `queue_url`."""
    region: str
    queue_url: str
    credentials: Credentials
    proxy_url: str | None = field(default=None, repr=False)
    """Not shown by `repr`, because it can hold a password."""
    ca_bundle: str | None = None
    """Path of the CA certificates; None: certifi's or botocore's own."""


@dataclass(frozen=True, slots=True)
class QueueAttributes:
    """What GetQueueAttributes said of the queue.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_GetQueueAttributes.html
    """

    name: str
    arn: str
    visibility_timeout_seconds: int = 30
    """What receives ask for: the queue's own, or 30 where that is too short to delete within (`lookups`)."""
    retention_seconds: int | None = None
    dead_letter_queue_arn: str | None = None
    """From the redrive policy; None where the queue has none."""
    max_receive_count: int | None = None
    """From the redrive policy: a message that was received so often goes to the dead-letter queue."""
    kms_key_id: str | None = None
    """The customer's or AWS's key that encrypts the messages; None for SQS's own and for no encryption."""
    created_seconds: int | None = None
    """Unix time of creation: a queue that was deleted and made again has the same ARN, and another one of these."""
    assumed: bool = False
    """Whether they may not be read: then nobody knows whether there is a redrive policy."""

    @property
    def fifo(self) -> bool:
        """Whether receives should carry a ReceiveRequestAttemptId."""
        return self.name.endswith(".fifo")


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """Approximate numbers of messages; None where SQS did not say."""

    visible: int | None = None
    in_flight: int | None = None
    delayed: int | None = None
    dead_letter_queue: str | None = None
    """Its name."""
    dead_letter_visible: int | None = None


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
