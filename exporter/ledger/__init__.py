"""The ledger's contract: what was counted, and which messages, committed together or not at all.

One ledger serves the queues of one process and is used by one thread, the consumer's; any thread may read `snapshots`,
whose values are immutable and replaced whole after each commit. Nothing here waits for a network or, except in the
SQLite ledger, for a disk. The order of calls in one iteration of the consumer is

    completed()                       # the end of the commit under way, if it has come: its deletes are due
    advance(queue, seconds)           # time in which receives of that queue succeeded
    submit(batch)                     # begins one commit: outcomes, ids, counters, what was settled since the last
    ... the deletes are sent; as SQS confirms them:
    settle(queue, message_ids)        # kept in memory until the next commit

A message is settled when SQS confirmed its delete while its receipt handle was valid, or when it is left to the
queue's redrive policy on purpose. An id is remembered from its commit for at least the window (on the queue's own
clock), and, while unsettled, for the queue's retention.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from exporter.errors import LedgerError
    from exporter.events.event import Event

OTHER = "__other__"
"""The type, or the value of every label, under which events beyond a cap are counted, so that totals stay exact."""

ERROR_REASONS = (
    "corrupt",
    "full",
    "io_error",
    "locked",
    "lost_commits",
    "newer_schema",
    "other_name",  # the ledger has another name than the one that was asked for
    "other_queue",
    "read_only",
    "unavailable",  # the database server can't be reached, or does not answer
    "unreadable",
    "unsafe",  # the database server could lose what it says is committed
)

RELEASED_REASONS = (
    "commit_failed",  # the commit's outcome was unknown, and the deliveries turned out not to be on disk
    "expired",  # their receipt handles expired before they could be submitted
    "ledger_unavailable",  # they arrived while the ledger could not be written
    "malformed",  # without a usable id, receipt handle, body or MD5
    "md5_mismatch",  # the body is not what SQS says it sent
)
"""Why a delivery is left to expire uncounted; the known ones are shown at 0 from the start."""

OVERFLOW_LIMITS = ("types", "series")
"""Which cap an event met that is counted under OTHER: --events.max-types or --events.max-series."""


@dataclass(frozen=True, slots=True)
class QueueIdentity:
    """Which queue the rows belong to, how late SQS can redeliver its messages, and how its events are identified.

    `retention_seconds` is None where it is unknown: 14 days, SQS's maximum, are assumed.
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html
    """

    name: str
    arn: str
    visibility_timeout_seconds: int = 30
    retention_seconds: int | None = None
    event_ids: bool = False
    """Whether events are to carry an id of their own (--events.id-field): those without are counted as such."""


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One delivery of one message: its id, and what it was found to be (an event, or the reason why it is not)."""

    message_id: bytes
    """16 bytes: the MessageId's UUID, or its BLAKE2b-16 digest where it is not a UUID; see `remembered_ids`."""
    outcome: Event | str


@dataclass(slots=True)
class QueueBatch:
    """What one commit is to record for one queue."""

    deliveries: Sequence[Delivery] = ()
    released: Mapping[str, int] = field(default_factory=dict)
    """Deliveries, by reason, that are left to expire uncounted; they have no id here."""


Batch: TypeAlias = "Mapping[str, QueueBatch]"
"""What one commit is to record, by the queue's name."""


@dataclass(frozen=True, slots=True)
class Completed:
    """How a commit ended."""

    fresh: Mapping[str, Sequence[bool]] | None
    """By queue, for each delivery of its batch in order: whether it was new (False: a duplicate by its message's id or
    its event's). None with an error."""
    error: LedgerError | None
    seconds: float
    """How long the commit took."""


class SeriesTotals(msgspec.Struct, frozen=True, gc=False):
    """Totals of one type, or of one type with one set of label values, over the ledger's whole life."""

    # A frozen dataclass takes six times as long to make, and each commit makes one for each series that it changes.
    count: int
    value_nano: int
    """Sum of the values that are not negative, in 1e-9."""
    negative_nano: int
    """Sum of the magnitudes of the negative values, in 1e-9."""
    last_occurred_seconds: float | None
    """Newest `occurred_at` counted, Unix time."""
    created_seconds: float
    """When the series began, Unix time; a restart does not change it."""


class Snapshot(msgspec.Struct, frozen=True, dict=True):
    """All that was committed for one queue, as of one commit. Immutable; no mapping is changed after publication.

    In every snapshot received = counted + events_forgotten + duplicate + sum of rejected + sum of released.
    """

    ledger: str
    """The ledger's own name."""
    queue_name: str
    queue_arn: str | None
    """None until the rows were bound to the queue for the first time."""
    created_seconds: float
    """When the ledger was made, Unix time."""
    instance_id: str
    """Made once with the ledger: a UUID."""
    label_names: tuple[str, ...]
    series: Mapping[tuple[str, ...], SeriesTotals]
    """By type and label values, in the order of `label_names`."""
    received: int
    duplicate: int
    rejected: Mapping[str, int]
    released: Mapping[str, int]
    timestamps_unreadable: int
    forgotten_early: int
    overflowed: Mapping[str, int]
    """Events counted under OTHER, by the cap that they met (OVERFLOW_LIMITS; both are always there)."""
    without_event_id: int
    """Events counted by their MessageId although they were to carry an id of their own."""
    events_forgotten: int
    """Events that were counted and taken away on purpose, with their type."""
    messages: int
    """Ids remembered: messages' and events'. --ledger.max-ids limits them."""
    unsettled_messages: int
    """Messages not yet known to be deleted."""
    oldest_message_seconds: float | None
    """When the oldest remembered id was committed, Unix time."""

    @cached_property
    def types(self) -> Mapping[str, SeriesTotals]:
        """Totals by type: all label sets of a type summed up. Computed at the first use."""
        return sum_by_type(self.series)

    @property
    def counted(self) -> int:
        """Events counted, of all types."""
        return sum(totals.count for totals in self.series.values())


class Ledger(Protocol):
    """What both ledgers, SQLite's and PostgreSQL's, offer to the consumer, the metrics and the summary."""

    @property
    def name(self) -> str:
        """The ledger's own name: the label `ledger` of all that it keeps. Empty until it was opened once."""

    @property
    def snapshots(self) -> Mapping[str, Snapshot]:
        """The latest committed state of every queue that the ledger knows, by name. Any thread may read, at no wait."""

    @property
    def speaker(self) -> bool:
        """Whether this process shows what the ledger keeps, now. Of replicas that share a ledger at most one does."""

    @property
    def speaking_since_seconds(self) -> float:
        """Since when it shows it, Unix time; 0 where no other process can have shown it before."""

    @property
    def problem(self) -> LedgerError | None:
        """Why nothing can be committed now: it is connecting or reopening, or a commit failed. None: it works."""

    @property
    def commit_started_at(self) -> float | None:
        """When the commit under way was submitted, monotonic time. None: none is."""

    def bind(self, queue: QueueIdentity) -> None:
        """Ask that the queue be taken up, and again whenever its attributes changed; see `bound` for the answer."""

    def bound(self, queue: str) -> bool:
        """Whether deliveries of this queue may be submitted.

        Raises LedgerError("other_queue") where the rows of that name belong to another ARN.
        """

    def limited(self, queue: str) -> str | None:
        """Return why this queue's receives are slowed down by --ledger.max-ids (a sentence, with what to raise)."""

    def capacity(self, queue: str) -> int:
        """Return how many more messages of this queue may be taken now without going beyond the limits.

        What is gathered or in flight counts against it; the caller subtracts that. It grows with `advance`.
        """

    def advance(self, queue: str, seconds: float) -> None:
        """Let the queue's own clock run: seconds in which receives of it succeeded. Saved with commits."""

    def submit(self, batch: Batch) -> None:
        """Begin to commit a batch, and whatever else waits to be written; `completed` tells its end.

        At most one commit is under way: `completed` has to have returned the one before. An empty mapping writes
        what was settled and the clocks, and forgets ids that are due. Deliveries of a queue that is not `bound` are a
        mistake.
        While there is a `problem` nothing is written: the deliveries count as released (`ledger_unavailable`).
        """

    def completed(self) -> Completed | None:
        """Return the end of the commit under way, once; None: nothing has ended. Also moves connecting on.

        After an error the outcome is unknown until reopened: deliveries of that commit which turn out not to be on
        disk count as released (`commit_failed`) with the next commit; those that are, as they were submitted.
        """

    def settle(self, queue: str, message_ids: Iterable[bytes]) -> None:
        """Mark messages as gone from the queue (or left to its redrive policy). Written with a later commit."""

    def reopen(self) -> None:
        """Begin to open again after a failure, and to find out what became of the last commit.

        It is done when `problem` is None; where that failed, `problem` says why, and the caller asks again later.
        """

    def descriptor(self) -> tuple[int, int] | None:
        """Return what to wait for, (file descriptor, `select.POLL*` events), so that `completed` may have news."""

    def deadline(self) -> float | None:
        """Return the monotonic time at which `completed` wants to be called even if the descriptor is silent."""

    def close(self) -> None:
        """Write what waits if that is possible at once, and close. Safe to call twice."""


def sum_by_type(series: Mapping[tuple[str, ...], SeriesTotals]) -> dict[str, SeriesTotals]:
    """Sum up all label sets of each type."""
    types: dict[str, list[SeriesTotals]] = {}
    for (name, *_), totals in series.items():
        types.setdefault(name, []).append(totals)
    return {name: together(parts) for name, parts in types.items()}


def together(parts: Sequence[SeriesTotals]) -> SeriesTotals:
    """Sum up series; together they began with the oldest of them."""
    if len(parts) == 1:
        return parts[0]
    return SeriesTotals(
        sum(totals.count for totals in parts),
        sum(totals.value_nano for totals in parts),
        sum(totals.negative_nano for totals in parts),
        max((at for totals in parts if (at := totals.last_occurred_seconds) is not None), default=None),
        min(totals.created_seconds for totals in parts),
    )
