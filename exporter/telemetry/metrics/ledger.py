"""The collector of everything with the label `ledger`: what the ledger keeps, and what SQS says of its queues."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from exporter.events.event import NANO
from exporter.events.event import REASONS as REJECTED_REASONS
from exporter.ledger import OVERFLOW_LIMITS, RELEASED_REASONS
from exporter.telemetry.metrics import names
from exporter.telemetry.metrics.families import counter, gauge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prometheus_client import Metric
    from prometheus_client.core import CounterMetricFamily

    from exporter.ledger import SeriesTotals, Snapshot
    from exporter.sqs import QueueAttributes, QueueDepth
    from exporter.telemetry.metrics.names import Name

QUEUE_STATES = ("visible", "in_flight", "delayed")


class _Made(NamedTuple):
    totals: SeriesTotals
    samples: tuple[Sample, Sample]


class LedgerCollector(Collector):
    """All that was committed, read from one snapshot a queue and scrape; beside it what SQS says of the queues.

    `ledger` gives the ledger's name, `snapshots`, `attributes` and `depths` what is known, by queue name. While
    `speaking` says no, all families are empty.
    """

    def __init__(  # noqa: PLR0913 - the places to look, by name
        self,
        *,
        ledger: Callable[[], str],
        snapshots: Callable[[], Mapping[str, Snapshot]],
        attributes: Callable[[], Mapping[str, QueueAttributes]],
        depths: Callable[[], Mapping[str, QueueDepth]],
        max_messages: int,
        label_names: tuple[str, ...] = (),
        speaking: Callable[[], bool] = lambda: True,
    ) -> None:
        self._ledger = ledger
        self._snapshots = snapshots
        self._attributes = attributes
        self._depths = depths
        self._max_messages = max_messages
        self._label_names = label_names
        self._speaking = speaking
        self._made: dict[tuple[str, str, str], dict[tuple[str, ...], _Made]] = {}
        """By counter, ledger and queue, then by series: what was collected last. It grows as the ledger's series do."""

    def describe(self) -> Iterable[Metric]:
        """Name the families, so that registration collects nothing and `?name[]=` finds them."""
        yield from self._counted({})
        yield from _messages({})
        yield from _memory({})
        yield gauge(names.LEDGER_MAX_MESSAGES)
        yield from _depths("", {})
        yield from _queues("", {})

    def collect(self) -> Iterable[Metric]:
        """Give every family as of one look at the snapshots."""
        if not self._speaking():
            yield from self.describe()
            return
        snapshots, ledger = self._snapshots(), self._ledger()
        yield from self._counted(snapshots)
        yield from _messages(snapshots)
        yield from _memory(snapshots)
        limit = gauge(names.LEDGER_MAX_MESSAGES)
        limit.add_metric((ledger,), self._max_messages)
        yield limit
        yield from _depths(ledger, self._depths())
        yield from _queues(ledger, self._attributes())

    def _counted(self, snapshots: Mapping[str, Snapshot]) -> Iterable[Metric]:
        """Make each family when it is asked for: with 10,000 types it takes milliseconds, others may run between."""
        yield self._series(names.EVENTS, snapshots, lambda totals: totals.count)
        yield self._series(names.VALUES, snapshots, lambda totals: totals.value_nano / NANO)
        yield self._series(names.NEGATIVES, snapshots, lambda totals: totals.negative_nano / NANO)
        last_occurred = gauge(names.LAST_OCCURRED)
        for snapshot in snapshots.values():
            for event_type, totals in snapshot.types.items():
                if totals.last_occurred_seconds is not None:
                    labels = (snapshot.ledger, snapshot.queue_name, event_type)
                    last_occurred.add_metric(labels, totals.last_occurred_seconds)
        yield last_occurred

    def _series(
        self, name: Name, snapshots: Mapping[str, Snapshot], value: Callable[[SeriesTotals], float]
    ) -> CounterMetricFamily:
        """Return a counter with a value for each series. Samples are made anew only where a commit changed the series.

        Of 10,000 types few change from one scrape to the next, and the web server knows by the samples that they did
        not. They are made here, as `add_metric` would make them in three times the time.
        """
        family = counter(name, self._label_names)
        total, created = f"{family.name}_total", f"{family.name}_created"
        label_names = (*name.labels, *self._label_names)
        for snapshot in snapshots.values():
            queue = (snapshot.ledger, snapshot.queue_name)
            made = self._made.setdefault((name.name, *queue), {})
            for series, totals in snapshot.series.items():
                one = made.get(series)
                if one is None or one.totals is not totals:
                    labels = dict(zip(label_names, (*queue, *series), strict=True))
                    samples = Sample(total, labels, value(totals)), Sample(created, labels, totals.created_seconds)
                    one = made[series] = _Made(totals, samples)
                family.samples += one.samples
        return family


def _messages(snapshots: Mapping[str, Snapshot]) -> tuple[Metric, ...]:
    received, duplicate = counter(names.RECEIVED), counter(names.DUPLICATE)
    rejected, released = counter(names.REJECTED), counter(names.RELEASED)
    unreadable, overflowed = counter(names.TIMESTAMPS_UNREADABLE), counter(names.OVERFLOWED)
    without_id, forgotten = counter(names.WITHOUT_ID), counter(names.FORGOTTEN)
    for snapshot in snapshots.values():
        queue, created = (snapshot.ledger, snapshot.queue_name), snapshot.created_seconds
        received.add_metric(queue, snapshot.received, created)
        duplicate.add_metric(queue, snapshot.duplicate, created)
        unreadable.add_metric(queue, snapshot.timestamps_unreadable, created)
        without_id.add_metric(queue, snapshot.without_event_id, created)
        forgotten.add_metric(queue, snapshot.events_forgotten, created)
        _by(rejected, queue, REJECTED_REASONS, snapshot.rejected, created)
        _by(released, queue, RELEASED_REASONS, snapshot.released, created)
        _by(overflowed, queue, OVERFLOW_LIMITS, snapshot.overflowed, created)
    return received, duplicate, rejected, released, unreadable, overflowed, without_id, forgotten


def _by(
    family: CounterMetricFamily,
    queue: tuple[str, str],
    known: Iterable[str],
    counts: Mapping[str, int],
    created_seconds: float,
) -> None:
    """Add a series for each label value that is known in advance, at 0 if nothing was counted, and for each other."""
    for value, count in (dict.fromkeys(known, 0) | dict(counts)).items():
        family.add_metric((*queue, value), count, created_seconds)


def _memory(snapshots: Mapping[str, Snapshot]) -> tuple[Metric, ...]:
    remembered, unsettled = gauge(names.LEDGER_MESSAGES), gauge(names.LEDGER_UNSETTLED)
    oldest, forgotten_early = gauge(names.LEDGER_OLDEST), counter(names.LEDGER_FORGOTTEN_EARLY)
    for snapshot in snapshots.values():
        queue = (snapshot.ledger, snapshot.queue_name)
        remembered.add_metric(queue, snapshot.messages)
        unsettled.add_metric(queue, snapshot.unsettled_messages)
        forgotten_early.add_metric(queue, snapshot.forgotten_early, snapshot.created_seconds)
        if snapshot.oldest_message_seconds is not None:
            oldest.add_metric(queue, snapshot.oldest_message_seconds)
    return remembered, unsettled, oldest, forgotten_early


def _depths(ledger: str, depths: Mapping[str, QueueDepth]) -> tuple[Metric, ...]:
    messages, dead_letters = gauge(names.DEPTH), gauge(names.DEAD_LETTER_DEPTH)
    for queue, depth in depths.items():
        for state in QUEUE_STATES:
            count = getattr(depth, state)
            if count is not None:
                messages.add_metric((ledger, queue, state), count)
        if depth.dead_letter_queue is not None and depth.dead_letter_visible is not None:
            dead_letters.add_metric((ledger, queue, depth.dead_letter_queue), depth.dead_letter_visible)
    return messages, dead_letters


def _queues(ledger: str, attributes: Mapping[str, QueueAttributes]) -> tuple[Metric, ...]:
    info, visibility_timeout, retention = (
        gauge(names.QUEUE_INFO),
        gauge(names.VISIBILITY_TIMEOUT),
        gauge(names.RETENTION),
    )
    for queue, said in attributes.items():
        # arn:aws:sqs:REGION:ACCOUNT:NAME, https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html
        _, _, _, region, account, *_ = (*said.arn.split(":"), "", "", "", "", "")
        info.add_metric((ledger, queue, account, region), 1)
        visibility_timeout.add_metric((ledger, queue), said.visibility_timeout_seconds)
        if said.retention_seconds is not None:
            retention.add_metric((ledger, queue), said.retention_seconds)
    return info, visibility_timeout, retention
