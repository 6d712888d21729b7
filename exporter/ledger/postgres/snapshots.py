"""Makes the snapshots of the queues from the rows of one statement."""

from __future__ import annotations

from collections import defaultdict
from types import MappingProxyType
from typing import TYPE_CHECKING

from exporter.ledger import OVERFLOW_LIMITS, SeriesTotals, Snapshot, together
from exporter.ledger.postgres.flow import optional_float, text
from exporter.ledger.postgres.queue import Known
from exporter.ledger.postgres.statements import (
    DUPLICATE,
    EVENTS_FORGOTTEN,
    EVENTS_WITHOUT_ID,
    FORGOTTEN_EARLY,
    IDS,
    OVERFLOWED,
    REJECTED,
    RELEASED,
    TIMESTAMPS_UNREADABLE,
    UNSETTLED,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exporter.ledger.postgres.connection import Row, Rows
    from exporter.ledger.postgres.schema import Selected
    from exporter.ledger.series import Caps, Key


def known(rows: Rows) -> dict[int, Known]:
    """Return what bounds how many more messages may be taken, by the queue's row."""
    counts = _counts(rows)
    return {
        int(text(row[1])): Known(
            clock_seconds=int(text(row[4])),
            newest_mark_seconds=None if row[6] is None else int(row[6]),
            ids=counts[int(text(row[1]))].get(IDS, 0),
            replicas=int(text(row[7])),
        )
        for row in rows
        if row[0] == b"queue"
    }


def snapshots(rows: Rows, ledger: Selected, caps: Caps) -> Mapping[str, Snapshot]:
    """Return the snapshot of every queue, by its name."""
    counts = _counts(rows)
    series = _series(rows, caps)
    return MappingProxyType(
        {
            text(row[2]): _snapshot(row, series[int(text(row[1]))], counts[int(text(row[1]))], ledger, caps)
            for row in rows
            if row[0] == b"queue"
        }
    )


def _snapshot(
    row: Row, series: dict[Key, SeriesTotals], counts: dict[str, int], ledger: Selected, caps: Caps
) -> Snapshot:
    rejected, released, overflowed = (_by_reason(counts, prefix) for prefix in (REJECTED, RELEASED, OVERFLOWED))
    duplicate, forgotten = counts.get(DUPLICATE, 0), counts.get(EVENTS_FORGOTTEN, 0)
    accounted = sum(totals.count for totals in series.values()) + sum(rejected.values()) + sum(released.values())
    return Snapshot(
        ledger=ledger.name,
        queue_name=text(row[2]),
        queue_arn=text(row[3]),
        created_seconds=ledger.created_seconds,
        instance_id=ledger.instance_id,
        label_names=caps.label_names,
        series=MappingProxyType(series),
        # Each delivery is written once, as what it was: that it was received follows.
        received=accounted + duplicate + forgotten,
        duplicate=duplicate,
        rejected=MappingProxyType(rejected),
        released=MappingProxyType(released),
        timestamps_unreadable=counts.get(TIMESTAMPS_UNREADABLE, 0),
        forgotten_early=counts.get(FORGOTTEN_EARLY, 0),
        overflowed=MappingProxyType({limit: overflowed.get(limit, 0) for limit in OVERFLOW_LIMITS}),
        without_event_id=counts.get(EVENTS_WITHOUT_ID, 0),
        events_forgotten=forgotten,
        messages=counts.get(IDS, 0),
        unsettled_messages=counts.get(UNSETTLED, 0),
        oldest_message_seconds=optional_float(row[5]),
    )


def _counts(rows: Rows) -> defaultdict[int, dict[str, int]]:
    counts: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for row in rows:
        if row[0] == b"count":
            counts[int(text(row[1]))][text(row[2])] = int(text(row[3]))
    return counts


def _series(rows: Rows, caps: Caps) -> defaultdict[int, dict[Key, SeriesTotals]]:
    series: defaultdict[int, dict[Key, SeriesTotals]] = defaultdict(dict)
    for row in rows:
        if row[0] != b"series":
            continue
        totals = SeriesTotals(
            count=int(text(row[4])),
            value_nano=int(text(row[5])),
            negative_nano=int(text(row[6])),
            last_occurred_seconds=optional_float(row[7]),
            created_seconds=float(text(row[8])),
        )
        of_queue, key = series[int(text(row[1]))], caps.key(text(row[2]), text(row[3]))
        before = of_queue.get(key)
        of_queue[key] = totals if before is None else together((before, totals))
    return series


def _by_reason(counts: dict[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): count for name, count in counts.items() if name.startswith(prefix)}
