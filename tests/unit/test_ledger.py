"""What the SQLite ledger counts, remembers and forgets, through its contract and with clocks moved by hand."""

from __future__ import annotations

import os
import re
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from one_queue import ARN, QUEUE, WINDOW_SECONDS, OneQueue, Opened

from exporter.errors import LedgerError
from exporter.events.event import Event
from exporter.ledger import OTHER, Delivery, QueueBatch, QueueIdentity, Snapshot
from exporter.ledger.message_ids import remembered_ids
from exporter.ledger.sqlite.ledger import SqliteLedger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def open_ledger(tmp_path: Path) -> Iterator[Opened]:
    """Open the ledger of the test, closing the one before."""
    opened = Opened(tmp_path / "ledger.db")
    yield opened
    opened.close()


numbers = count(1)


def new_id() -> bytes:
    """Make an id that no other message has."""
    return next(numbers).to_bytes(16, "big")


def event(name: str = "purchase", nano: int = 0, at: float | None = 5.0) -> Event:
    """Make an event."""
    return Event((name,), nano, at)


def purchases(number: int) -> list[Delivery]:
    """Make new messages."""
    return [Delivery(new_id(), event(nano=10)) for _ in range(number)]


def assert_accounted(snapshot: Snapshot) -> None:
    """Every delivery is counted, a duplicate, rejected or released."""
    rest = snapshot.duplicate + sum(snapshot.rejected.values()) + sum(snapshot.released.values())
    assert snapshot.received == snapshot.counted + snapshot.events_forgotten + rest


def remember_and_settle(ledger: OneQueue, number: int) -> None:
    """Count new messages whose deletes are confirmed."""
    deliveries = purchases(number)
    ledger.record(deliveries, {})
    ledger.settle(delivery.message_id for delivery in deliveries)
    ledger.flush()


def wait(opened: Opened, ledger: OneQueue, seconds: int) -> None:
    """Let time pass in which nothing is received, as the consumer does: with a flush every second."""
    for _ in range(seconds):
        opened.clock.monotonic += 1
        ledger.flush()


def test_a_new_ledger_shows_its_types_at_zero(open_ledger: Opened) -> None:
    """Prometheus sees the first event as an increase, because the series is there before it."""
    snapshot = open_ledger(bound=False, types=("purchase", "page_view")).snapshot
    assert set(snapshot.types) == {"purchase", "page_view", OTHER}
    assert {totals.count for totals in snapshot.types.values()} == {0}
    assert {totals.created_seconds for totals in snapshot.types.values()} == {open_ledger.clock.wall}
    assert (snapshot.queue_name, snapshot.queue_arn, snapshot.received) == ("orders", None, 0)
    assert snapshot.oldest_message_seconds is None


def test_outcomes_are_counted_exactly(open_ledger: Opened) -> None:
    """Counts, sums of both signs, the newest timestamp and unreadable ones are those of the events."""
    ledger = open_ledger()
    huge = 10**24 + 1
    outcomes: list[Event | str] = [event(nano=huge, at=3), event(nano=huge, at=7.5), event(nano=-5, at=1), "too_large"]
    outcomes += [event("page_view", 0, None), "too_large", "invalid_json"]
    fresh = ledger.record([Delivery(new_id(), outcome) for outcome in outcomes], {"md5_mismatch": 2})
    assert fresh == [True] * 7
    for snapshot in (ledger.snapshot, open_ledger().snapshot):
        totals = snapshot.types["purchase"]
        assert (totals.count, totals.value_nano, totals.negative_nano) == (3, 2 * huge, 5)
        assert totals.last_occurred_seconds == 7.5
        assert snapshot.types["page_view"].last_occurred_seconds is None
        assert snapshot.timestamps_unreadable == 1
        assert snapshot.rejected == {"too_large": 2, "invalid_json": 1}
        assert snapshot.released == {"md5_mismatch": 2}
        assert (snapshot.received, snapshot.counted) == (9, 4)
        assert_accounted(snapshot)


@pytest.mark.parametrize("at", [3, -0.0])
def test_a_timestamp_that_sqlite_writes_otherwise_is_no_damage(open_ledger: Opened, at: float) -> None:
    """It gives back 3.0 and 0.0, and each row has a checksum of its text."""
    open_ledger().record([Delivery(new_id(), event(at=at))], {})
    assert open_ledger().snapshot.types["purchase"].last_occurred_seconds == at


def test_a_message_counts_once(open_ledger: Opened) -> None:
    """The second delivery is a duplicate: in one batch, in a later one, after a restart, and of a rejected message."""
    ledger = open_ledger()
    message, rejected = Delivery(new_id(), event(nano=10)), Delivery(new_id(), "invalid_json")
    assert ledger.record([message, message, rejected], {}) == [True, False, True]
    assert ledger.record([rejected, message], {}) == [False, False]
    ledger = open_ledger()
    assert ledger.record([message, rejected, *purchases(1)], {}) == [False, False, True]
    assert ledger.snapshot.types["purchase"].value_nano == 20
    assert ledger.snapshot.rejected == {"invalid_json": 1}
    assert ledger.snapshot.duplicate == 5
    assert_accounted(ledger.snapshot)


def test_a_snapshot_never_changes(open_ledger: Opened) -> None:
    """A reader on another thread keeps what it read: a commit publishes a new snapshot."""
    ledger = open_ledger()
    before = ledger.snapshot
    seen = (before.received, before.counted, dict(before.types))
    ledger.record(purchases(3), {})
    assert (before.received, before.counted, dict(before.types)) == seen
    assert ledger.snapshot.counted == 3
    with pytest.raises(TypeError):
        ledger.snapshot.series["purchase",] = before.series[OTHER,]  # type: ignore[index]


def test_everything_survives_a_restart(open_ledger: Opened) -> None:
    """Totals, creation times, the identity and the memory of ids are the same after closing and opening."""
    ledger = open_ledger(types=("page_view",))
    deliveries = purchases(5)
    ledger.record(deliveries, {"md5_mismatch": 1})
    open_ledger.clock.wall += 100
    ledger.settle([deliveries[0].message_id])
    ledger.advance(7.25)
    ledger.flush()
    before = ledger.snapshot
    open_ledger.clock.wall += 1_000
    ledger = open_ledger(bound=False, types=("page_view",))
    assert ledger.snapshot == before
    assert ledger.snapshot.unsettled_messages == 4


def test_types_beyond_the_cap_are_counted_as_other(open_ledger: Opened) -> None:
    """A type is admitted for good, the cap is not used up by the configured ones, and totals stay exact."""
    settings: dict[str, Any] = {"types": ("shown",), "max_types": 2}
    ledger = open_ledger(**settings)
    names = ("a", "b", "c", "d", "a", "c", "shown")
    ledger.record([Delivery(new_id(), event(name, 1)) for name in names], {})
    ledger = open_ledger(**settings)
    ledger.record([Delivery(new_id(), event(name, 1)) for name in ("e", "b")], {})
    counts = {name: totals.count for name, totals in ledger.snapshot.types.items()}
    assert counts == {"a": 2, "b": 2, "shown": 1, OTHER: 4}
    assert ledger.snapshot.types[OTHER].value_nano == 4


def test_a_cap_of_zero_admits_only_the_configured_types(open_ledger: Opened) -> None:
    """`max_types=0` counts everything else as other."""
    ledger = open_ledger(types=("a",), max_types=0)
    ledger.record([Delivery(new_id(), event("a")), Delivery(new_id(), event("b"))], {})
    assert {name: totals.count for name, totals in ledger.snapshot.types.items()} == {"a": 1, OTHER: 1}


def test_a_series_begins_when_it_is_first_shown(open_ledger: Opened) -> None:
    """The creation time is the commit's that showed the type first, and no restart changes it."""
    ledger = open_ledger()
    born = open_ledger.clock.wall = open_ledger.clock.wall + 10
    ledger.record(purchases(1), {})
    open_ledger.clock.wall += 10
    ledger.record(purchases(1), {})
    assert open_ledger().snapshot.types["purchase"].created_seconds == born


def test_rows_belong_to_a_queue_by_its_arn(open_ledger: Opened) -> None:
    """The same name with another ARN is another queue: it is refused, and the totals stay as they were."""
    open_ledger().record(purchases(1), {})
    ledger = open_ledger(bound=False)
    assert ledger.snapshot.queue_arn == ARN
    elsewhere = QueueIdentity("orders", "arn:aws:sqs:elsewhere:1:orders")
    with pytest.raises(LedgerError, match=r"belongs to the queue .*:orders, not to .*:elsewhere:") as caught:
        ledger.bind(elsewhere)
    assert caught.value.reason == "other_queue"
    ledger.bind(QUEUE)
    assert ledger.record(purchases(1), {}) == [True]


def test_queues_in_one_file_have_nothing_in_common(open_ledger: Opened) -> None:
    """Each queue has totals and a memory of its own, and neither forgets what the other does."""
    message = Delivery(new_id(), event())
    open_ledger().record([message], {})
    ledger = open_ledger(queue=QueueIdentity("other", "arn:aws:sqs:eu-central-1:123456789012:other"))
    assert ledger.snapshot.received == 0
    assert ledger.record([message], {}) == [True]
    ledger.settle([message.message_id])
    ledger.advance(2 * WINDOW_SECONDS)
    ledger.record(purchases(1), {})
    ledger = open_ledger()
    assert (ledger.snapshot.messages, ledger.snapshot.received) == (1, 1)
    assert ledger.record([message], {}) == [False]


def test_ids_are_forgotten_after_the_window(open_ledger: Opened) -> None:
    """A settled id goes when the window has passed on the ledger's own clock, not before, and not by other clocks."""
    ledger = open_ledger()
    first = purchases(4)
    ledger.record(first, {})
    ledger.settle(delivery.message_id for delivery in first)
    open_ledger.clock.wall += 10 * WINDOW_SECONDS
    open_ledger.clock.monotonic += 10 * WINDOW_SECONDS
    ledger.flush()
    ledger.advance(WINDOW_SECONDS - 1)
    ledger.record(purchases(1), {})
    assert ledger.snapshot.messages == 5
    ledger.advance(1)
    ledger.flush()
    assert ledger.snapshot.messages == 1
    assert ledger.snapshot.forgotten_early == 0


def test_the_window_is_at_least_twice_the_visibility_timeout(open_ledger: Opened) -> None:
    """SQS redelivers after the visibility timeout: a shorter memory would count twice."""
    ledger = open_ledger(window_seconds=10, bound=False)
    ledger.bind(QueueIdentity("orders", ARN, visibility_timeout_seconds=100))
    message = purchases(1)
    ledger.record(message, {})
    ledger.settle([message[0].message_id])
    ledger.advance(199)
    ledger.flush()
    assert ledger.snapshot.messages == 1
    ledger.advance(1)
    ledger.flush()
    assert ledger.snapshot.messages == 0


@pytest.mark.parametrize("jump_seconds", [-1e9, 1e9])
def test_downtime_and_clock_jumps_forget_nothing(open_ledger: Opened, jump_seconds: float) -> None:
    """Only seconds in which receives succeeded count; they are saved with commits."""
    ledger = open_ledger()
    message = purchases(1)
    ledger.record(message, {})
    ledger.settle([message[0].message_id])
    ledger.advance(WINDOW_SECONDS - 10)
    ledger.flush()
    open_ledger.clock.wall += jump_seconds
    ledger = open_ledger()
    ledger.advance(5)
    assert ledger.record(message, {}) == [False]


def test_a_duplicate_is_remembered_anew(open_ledger: Opened) -> None:
    """The window counts from the last delivery, and the redelivered message is unsettled again."""
    ledger = open_ledger()
    message = purchases(1)
    ledger.record(message, {})
    ledger.settle([message[0].message_id])
    for _ in range(5):
        ledger.advance(WINDOW_SECONDS - 1)
        assert ledger.record(message, {}) == [False]
        assert ledger.snapshot.unsettled_messages == 1
        ledger.settle([message[0].message_id])
    ledger = open_ledger()
    ledger.advance(WINDOW_SECONDS)
    ledger.flush()
    assert ledger.snapshot.messages == 0


def test_an_unsettled_id_lives_until_the_retention(open_ledger: Opened) -> None:
    """However often the window passes, what may still be in the queue is remembered; afterwards it is not."""
    ledger = open_ledger()
    message = purchases(1)
    ledger.record(message, {})
    hours = QUEUE.retention_seconds // WINDOW_SECONDS  # type: ignore[operator]
    for hour in range(1, hours):
        ledger.advance(WINDOW_SECONDS)
        ledger.record(purchases(1), {})
        if hour % 6 == 0:
            ledger = open_ledger()
        assert ledger.snapshot.messages == hour + 1
    assert ledger.snapshot.unsettled_messages == hours
    ledger.advance(WINDOW_SECONDS)
    ledger.record(purchases(1), {})
    assert ledger.snapshot.messages == hours
    assert ledger.record(message, {}) == [True]
    assert ledger.snapshot.forgotten_early == 0


def test_what_is_settled_late_is_forgotten_like_the_rest(open_ledger: Opened) -> None:
    """An id that outlived the window because it was unsettled goes with the row that carries it on."""
    ledger = open_ledger()
    message = purchases(1)
    ledger.record(message, {})
    ledger.advance(WINDOW_SECONDS + 1)
    ledger.flush()
    assert ledger.snapshot.unsettled_messages == 1
    ledger.settle([message[0].message_id])
    ledger.flush()
    assert (ledger.snapshot.messages, ledger.snapshot.unsettled_messages) == (1, 0)
    ledger = open_ledger()
    ledger.advance(WINDOW_SECONDS + 1)
    ledger.flush()
    assert ledger.snapshot.messages == 0


def test_deletes_that_fail_for_ever_do_not_pin_the_memory(open_ledger: Opened) -> None:
    """With one percent never deleted, a day's memory is an hour's traffic and the one percent."""
    ledger = open_ledger()
    for _ in range(48):
        for _ in range(10):
            deliveries = purchases(100)
            ledger.record(deliveries, {})
            ledger.settle(delivery.message_id for delivery in deliveries[1:])
            ledger.advance(WINDOW_SECONDS / 10)
    ledger.flush()
    snapshot = ledger.snapshot
    assert 23 * 10 <= snapshot.unsettled_messages <= 25 * 10
    assert snapshot.messages <= 10 * 100 + 25 * 10
    assert snapshot.forgotten_early == 0


def test_settling_what_is_unknown_is_no_error(open_ledger: Opened) -> None:
    """A delete of a message that was forgotten or never recorded changes nothing."""
    ledger = open_ledger()
    ledger.settle([new_id()])
    before = ledger.snapshot
    ledger.flush()
    assert ledger.snapshot is before


def test_max_ids_drops_the_oldest_settled_ones(open_ledger: Opened) -> None:
    """The oldest settled ids go first, before the memory is full, and are counted; unsettled ones stay."""
    ledger = open_ledger(max_ids=20)
    kept = purchases(1)
    ledger.record([*kept, *(old := purchases(4))], {})
    ledger.settle(delivery.message_id for delivery in old)
    ledger.advance(60)
    ledger.record(purchases(8), {})
    snapshot = ledger.snapshot
    assert (snapshot.messages, snapshot.forgotten_early) == (9, 4)
    ledger = open_ledger(max_ids=20)
    assert ledger.snapshot.forgotten_early == 4
    assert ledger.record(kept, {}) == [False]


def test_max_ids_never_drops_what_is_young(open_ledger: Opened) -> None:
    """Settled ids younger than twice the visibility timeout stay: nothing more is taken, and a sentence says why."""
    ledger = open_ledger(max_ids=20)
    remember_and_settle(ledger, 20)
    ledger.advance(59)
    ledger.flush()
    assert (ledger.snapshot.messages, ledger.capacity) == (20, 0)
    assert "--ledger.max-ids 20" in str(ledger.limited)


def test_ids_grow_old_while_nothing_can_be_received(open_ledger: Opened) -> None:
    """The ledger's clock stands still without receives: where the memory is full, time that passes counts as age."""
    ledger = open_ledger(max_ids=20)
    remember_and_settle(ledger, 20)
    wait(open_ledger, ledger, 59)
    assert (ledger.snapshot.messages, ledger.capacity) == (20, 0)
    wait(open_ledger, ledger, 1)
    assert (ledger.snapshot.messages, ledger.snapshot.forgotten_early) == (0, 20)
    wait(open_ledger, ledger, 1)
    assert ledger.capacity >= 20


def test_no_second_makes_an_id_two_seconds_older(open_ledger: Opened) -> None:
    """Receives that were open meanwhile let the clock run: those seconds count once."""
    ledger = open_ledger(max_ids=20)
    remember_and_settle(ledger, 20)
    for _ in range(40):
        ledger.advance(1)
        wait(open_ledger, ledger, 1)
    assert ledger.snapshot.messages == 20


def test_a_receive_that_tells_of_seconds_that_have_passed_makes_no_id_older(open_ledger: Opened) -> None:
    """An answer may come in the middle of many iterations, and speak for all of them: those seconds count once."""
    ledger = open_ledger(max_ids=20)
    remember_and_settle(ledger, 20)
    for _ in range(29):
        for _ in range(4):
            open_ledger.clock.monotonic += 0.5
            assert ledger.capacity == 0
        ledger.advance(2)
    ledger.flush()
    assert ledger.snapshot.messages == 20


def test_a_process_that_is_stopped_makes_no_id_older(open_ledger: Opened) -> None:
    """What came back while it was stopped was not seen: of an hour in one piece two seconds count."""
    ledger = open_ledger(max_ids=20)
    remember_and_settle(ledger, 20)
    open_ledger.clock.monotonic += 3_600
    ledger.flush()
    assert (ledger.snapshot.messages, ledger.snapshot.forgotten_early) == (20, 0)


def test_unsettled_ids_fill_the_memory_until_they_are_settled(open_ledger: Opened) -> None:
    """What may still be in the queue is never dropped early, however long it takes."""
    ledger = open_ledger(max_ids=20)
    deliveries = purchases(20)
    ledger.record(deliveries, {})
    wait(open_ledger, ledger, 200)
    assert (ledger.snapshot.messages, ledger.capacity) == (20, 0)
    ledger.settle(delivery.message_id for delivery in deliveries)
    wait(open_ledger, ledger, 61)
    wait(open_ledger, ledger, 1)
    assert ledger.capacity >= 20


def test_a_lowered_cap_takes_effect_at_the_start(open_ledger: Opened) -> None:
    """Nothing is taken while more is remembered than it allows, and it is recovered from by flushing."""
    ledger = open_ledger()
    remember_and_settle(ledger, 100)
    ledger.advance(100)
    ledger = open_ledger(max_ids=20)
    assert ledger.capacity == 0
    ledger.flush()
    wait(open_ledger, ledger, 1)
    assert ledger.capacity >= 20
    assert ledger.snapshot.forgotten_early == 100


def test_a_quiet_time_does_not_hold_up_the_next_commit(open_ledger: Opened) -> None:
    """What is due is dropped a piece at a time: the work of one commit is bounded."""
    ledger = open_ledger()
    for _ in range(100):
        deliveries = purchases(100)
        ledger.record(deliveries, {})
        ledger.settle(delivery.message_id for delivery in deliveries)
    ledger.advance(WINDOW_SECONDS)
    ledger.record(purchases(1), {})
    assert 5_000 < ledger.snapshot.messages < 10_000
    for _ in range(10):
        ledger.flush()
    assert ledger.snapshot.messages == 1


def test_the_oldest_message_is_how_far_back_the_memory_reaches(open_ledger: Opened) -> None:
    """It moves on when the row of the oldest commit is dropped."""
    ledger = open_ledger()
    begun = open_ledger.clock.wall
    reach = []
    for _ in range(4):
        deliveries = purchases(2)
        ledger.record(deliveries, {})
        ledger.settle(delivery.message_id for delivery in deliveries)
        reach.append(ledger.snapshot.oldest_message_seconds)
        ledger.advance(WINDOW_SECONDS / 2)
        open_ledger.clock.wall += WINDOW_SECONDS / 2
    assert reach == [begun, begun, begun + WINDOW_SECONDS / 2, begun + WINDOW_SECONDS]


def test_steady_traffic_stays_small(open_ledger: Opened, tmp_path: Path) -> None:
    """At 100 messages a second file and memory stop growing after the window: dropped rows' space is used again."""
    ledger = open_ledger(window_seconds=300)
    settled: list[Delivery] = []
    for _ in range(300):
        deliveries = [Delivery(os.urandom(16), event(nano=1)) for _ in range(400)]
        ledger.settle(delivery.message_id for delivery in settled)
        ledger.record(deliveries, {})
        ledger.advance(4)
        settled = deliveries
    assert 30_000 <= ledger.snapshot.messages <= 30_400
    assert (tmp_path / "ledger.db-wal").stat().st_size < 5_000_000
    ledger.close()
    assert (tmp_path / "ledger.db").stat().st_size < 45 * 30_000


def test_closing_writes_what_was_settled(open_ledger: Opened) -> None:
    """A clean end leaves nothing unsettled that was confirmed; closing twice is safe; then nothing is recorded."""
    ledger = open_ledger()
    message = purchases(1)
    ledger.record(message, {})
    ledger.settle([message[0].message_id])
    ledger.close()
    ledger.close()
    with pytest.raises(LedgerError, match="closed"):
        ledger.record(purchases(1), {})
    assert open_ledger().snapshot.unsettled_messages == 0


@pytest.mark.parametrize(
    ("message_id", "other"),
    [
        ("4f3c5a10-0000-4000-8000-00000000000a", "4F3C5A10-0000-4000-8000-00000000000A"),
        ("4f3c5a10-0000-4000-8000-00000000000a", "4f3c5a1000004000800000000000000a"),
        ("4f3c5a10-0000-4000-8000-00000000000a", "4f3c5a10-0000-4000-8000-00000000000a\n"),
        (
            "4f3c5a10-0000-4000-8000-00000000000a",
            "4f3c5a10-0000-4000-8000-00000000000a\n4f3c5a10-0000-4000-8000-00000000000a",
        ),
        ("", "\ud800"),
    ],
)
def test_different_message_ids_stay_different(message_id: str, other: str) -> None:
    """Only the canonical text of a UUID becomes its bytes; everything else its digest, of 16 bytes too."""
    one, two = remembered_ids([message_id, other])
    assert one != two
    assert {len(one), len(two)} == {16}
    assert [*remembered_ids([message_id]), *remembered_ids([other])] == [one, two]


def test_a_uuid_is_remembered_by_its_bytes() -> None:
    """What SQS gives as an id needs no digest, whatever the ids beside it are."""
    uuid = "4f3c5a10-0000-4000-8000-00000000000a"
    for beside in (uuid, "other", f"{uuid}\n{uuid}", ""):
        ids = remembered_ids([beside, uuid])
        assert len(ids) == 2
        assert ids[1].hex() == "4f3c5a10000040008000" + "00000000000a"
    assert remembered_ids([]) == []


_UUID = "4f3c5a10-0000-4000-8000-00000000000a"


@given(
    st.lists(st.sampled_from([_UUID, _UUID[:-1], f"0{_UUID}", f"{_UUID}0", _UUID.upper(), "4f3c5a10"]), max_size=4),
    st.lists(st.tuples(st.integers(0, 160), st.sampled_from("-\n a")), max_size=3),
)
def test_an_id_is_remembered_alike_whatever_stands_beside_it(ids: list[str], changes: list[tuple[int, str]]) -> None:
    """Ids are read all at once, and no line break, hyphen or space lets one of them borrow from another."""
    text = list("|".join(ids))
    for at, character in changes:
        if at < len(text):
            text[at] = character
    changed = "".join(text).split("|")
    assert list(remembered_ids(changed)) == [one for changed_id in changed for one in remembered_ids([changed_id])]
    for changed_id in changed:
        (one,) = remembered_ids([changed_id])
        is_uuid = re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", changed_id) is not None
        assert (one.hex() == changed_id.replace("-", "")) == is_uuid


def test_a_commit_is_seen_to_be_under_way(tmp_path: Path) -> None:
    """A volume that stands still holds the consumer's thread up: others read since when, and say so."""
    ledgers: list[SqliteLedger] = []
    seen: list[float | None] = []

    def wall_clock() -> float:
        seen.extend(ledger.commit_started_at for ledger in ledgers)
        return 1_700_000_000.0

    ledger = SqliteLedger(str(tmp_path / "ledger.db"), wall_clock=wall_clock, monotonic=lambda: 50.0)
    ledger.bind(QUEUE)
    ledgers.append(ledger)
    ledger.submit({QUEUE.name: QueueBatch(purchases(1))})
    assert seen == [50.0]
    assert ledger.commit_started_at is None
    ledger.close()
