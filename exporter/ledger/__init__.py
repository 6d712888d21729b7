"""The ledger's contract: what was counted, and which messages, committed together or not at all.

One ledger serves one queue and is used by one thread, the consumer's; any thread may read `snapshot`, which is
immutable and swapped after each commit. The order of calls in one iteration of the consumer is

    advance(seconds)                  # time in which receives of this queue succeeded
    record(deliveries, released)      # one commit: outcomes, ids, counters, what was settled since the last
    ... the deletes are sent; as SQS confirms them:
    settle(message_ids)               # kept in memory until the next commit

A message is settled when SQS confirmed its delete while its receipt handle was valid, or when it is left to the
queue's redrive policy on purpose. An id is remembered from its commit for at least the window (on the ledger's own
clock), and, while unsettled, for the queue's retention.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from exporter.events.event import Event

OTHER_TYPE = "__other__"
"""Events of types beyond the cap are counted under this one, so that totals stay exact."""

ERROR_REASONS = (
    "corrupt",
    "full",
    "io_error",
    "locked",
    "lost_commits",
    "newer_schema",
    "other_queue",
    "read_only",
    "unreadable",
)

RELEASED_REASONS = (
    "commit_failed",  # the commit's outcome was unknown, and the deliveries turned out not to be on disk
    "ledger_unavailable",  # they arrived while the ledger could not be written
    "malformed",  # without a usable id, receipt handle, body or MD5
    "md5_mismatch",  # the body is not what SQS says it sent
)
"""Why a delivery is left to expire uncounted; the known ones are shown at 0 from the start."""


@dataclass(frozen=True, slots=True)
class QueueIdentity:
    """Which queue the rows belong to, and the two times of it that bound what SQS can redeliver.

    `retention_seconds` is None where it is unknown: 14 days, SQS's maximum, are assumed.
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html
    """

    name: str
    arn: str
    visibility_timeout_seconds: int = 30
    retention_seconds: int | None = None


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """One delivery of one message: its id, and what it was found to be (an event, or the reason why it is not)."""

    message_id: bytes
    """16 bytes: the MessageId's UUID, or its BLAKE2b-16 digest where it is not a UUID; see `remembered_ids`."""
    outcome: Event | str


@dataclass(frozen=True, slots=True)
class SeriesTotals:
    """Totals of one type, or of one type with one set of label values, over the ledger's whole life."""

    count: int
    value_nano: int
    """Sum of the values that are not negative, in 1e-9."""
    negative_nano: int
    """Sum of the magnitudes of the negative values, in 1e-9."""
    last_occurred_seconds: float | None
    """Newest `occurred_at` counted, Unix time."""
    created_seconds: float
    """When the series began, Unix time; a restart does not change it."""


@dataclass(frozen=True)
class Snapshot:
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
    """What the consumer, the collector and the summary rely on, whatever keeps it."""

    @property
    def snapshot(self) -> Snapshot:
        """The latest committed state. Safe to read from any thread; never waits."""

    @property
    def limited(self) -> str | None:
        """Why receives are slowed down (a sentence: there is hardly room for more ids), or None."""

    @property
    def capacity(self) -> int:
        """How many more messages may be taken now; the caller subtracts those that it has asked for already.

        It grows again by commits and flushes, so while `limited` something of both is wanted every second.
        """

    def bind(self, queue: QueueIdentity) -> None:
        """Tie the ledger to the queue, before the first `record` and again whenever its attributes changed.

        Raises LedgerError("other_queue") where the rows of that name belong to another ARN.
        """

    def advance(self, seconds: float) -> None:
        """Let the ledger's own clock run: seconds in which receives of the queue succeeded. Saved with commits."""

    def record(self, deliveries: Sequence[Delivery], released: Mapping[str, int]) -> list[bool]:
        """Commit the outcomes of one batch; returns for each delivery whether it was new (False: a duplicate).

        `released` counts deliveries, by reason, that are left to expire uncounted; they have no id here. After a
        LedgerError nothing in memory changed and the outcome is unknown until `reopen`.
        """

    def settle(self, message_ids: Iterable[bytes]) -> None:
        """Mark messages as gone from the queue (or left to its redrive policy). Written with a later commit."""

    def flush(self) -> None:
        """Commit what was settled and the clock without new deliveries: when idle, and at shutdown."""

    def reopen(self) -> None:
        """Close, open again and rebuild memory and totals from disk, after a LedgerError.

        Deliveries of the failed `record` that turn out not to be on disk are counted as released
        (`commit_failed`) with the next commit; those that are, as they were recorded.
        """

    def close(self) -> None:
        """Flush and close. Safe to call twice."""


def sum_by_type(series: Mapping[tuple[str, ...], SeriesTotals]) -> dict[str, SeriesTotals]:
    """Sum up all label sets of each type; the series of a type began with its oldest."""
    types: dict[str, SeriesTotals] = {}
    for (name, *_), totals in series.items():
        before = types.get(name)
        types[name] = totals if before is None else _together(before, totals)
    return types


def _together(one: SeriesTotals, other: SeriesTotals) -> SeriesTotals:
    times = [at for at in (one.last_occurred_seconds, other.last_occurred_seconds) if at is not None]
    return SeriesTotals(
        one.count + other.count,
        one.value_nano + other.value_nano,
        one.negative_nano + other.negative_nano,
        max(times, default=None),
        min(one.created_seconds, other.created_seconds),
    )
