"""Events' own ids, labels and their caps, and several queues in one ledger."""

from __future__ import annotations

import errno
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from one_queue import ARN, WINDOW_SECONDS, OneQueue, Opened, commit

from exporter.errors import LedgerError
from exporter.events.event import Event
from exporter.ledger import OTHER, Delivery, QueueBatch, QueueIdentity, SeriesTotals
from exporter.ledger.series import Admission, Caps
from exporter.ledger.sqlite.ledger import SqliteLedger
from exporter.ledger.sqlite.stopped import changing, reading
from exporter.ledger.totals import add

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUEUE = QueueIdentity("orders", ARN, 30, 86_400, event_ids=True)
WITHOUT_IDS = QueueIdentity("orders", ARN, 30, 86_400)
numbers = count(1)


def message(event_id: str | None = None, *labels: str, name: str = "purchase", nano: int = 1) -> Delivery:
    """Make a new message; the event in it has an id of its own, or none."""
    own = None if event_id is None else event_id.encode().ljust(16, b"_")
    return Delivery(next(numbers).to_bytes(16, "big"), Event((name, *labels), nano, 5.0, own))


@pytest.fixture
def open_ledger(tmp_path: Path) -> Iterator[Opened]:
    """Open the ledger of the test, closing the one before."""
    opened = Opened(tmp_path / "ledger.db", QUEUE)
    yield opened
    opened.close()


def counts(ledger: OneQueue) -> dict[tuple[str, ...], int]:
    """Return how many events each series has, if any."""
    return {key: totals.count for key, totals in ledger.snapshot.series.items() if totals.count}


def test_an_event_counts_once_whatever_message_brings_it(open_ledger: Opened) -> None:
    """In one batch, in a later one, and after a restart; each message is remembered and settled for itself."""
    ledger = open_ledger()
    assert ledger.record([message("a"), message("a"), message("b")], {}) == [True, False, True]
    assert ledger.record([message("b"), message("c")], {}) == [False, True]
    ledger = open_ledger()
    assert ledger.record([message("a"), message("c"), message("d")], {}) == [False, False, True]
    snapshot = ledger.snapshot
    assert (snapshot.counted, snapshot.duplicate, snapshot.received) == (4, 4, 8)
    assert (snapshot.unsettled_messages, snapshot.messages) == (8, 8 + 4)


def test_a_rejected_message_makes_no_event_known(open_ledger: Opened) -> None:
    """So that a corrected resend counts."""
    ledger = open_ledger()
    rejected = Delivery(next(numbers).to_bytes(16, "big"), "invalid_value")
    ledger.record([rejected], {})
    again = Delivery(rejected.message_id, Event(("purchase",), 1, 5.0, b"a" * 16))
    assert ledger.record([again], {}) == [False]
    assert ledger.record([Delivery(b"m" * 16, Event(("purchase",), 1, 5.0, b"a" * 16))], {}) == [True]


def test_an_event_without_an_id_counts_by_its_message(open_ledger: Opened) -> None:
    """And that is counted where an id is expected, once for each that is new."""
    ledger = open_ledger()
    first = message()
    assert ledger.record([first, first, message(), message("a")], {}) == [True, False, True, True]
    assert ledger.snapshot.without_event_id == 2
    assert open_ledger(WITHOUT_IDS).record([message()], {}) == [True]
    assert open_ledger().snapshot.without_event_id == 2


def test_an_event_id_lives_until_its_messages_are_settled_and_the_window_longer(open_ledger: Opened) -> None:
    """However long that takes; then it is forgotten with the others."""
    ledger = open_ledger()
    first, second = message("a"), message("a")
    ledger.record([first, second], {})
    ledger.settle([first.message_id])
    for _ in range(20):
        ledger.advance(WINDOW_SECONDS)
        ledger.flush()
    ledger = open_ledger()
    retry = message("a")
    assert ledger.record([retry], {}) == [False]
    ledger.settle([second.message_id, retry.message_id])
    ledger.flush()
    ledger.advance(WINDOW_SECONDS - 1)
    ledger.flush()
    last = message("a")
    assert ledger.record([last], {}) == [False]
    ledger.settle([last.message_id])
    ledger.flush()
    ledger = open_ledger()
    ledger.advance(WINDOW_SECONDS)
    ledger.flush()
    assert ledger.snapshot.messages == 0
    assert ledger.record([message("a")], {}) == [True]
    assert ledger.snapshot.forgotten_early == 0


def test_the_window_of_events_may_be_longer(open_ledger: Opened) -> None:
    """`id_window_seconds` keeps events when the ids of their messages are gone."""
    ledger = open_ledger(id_window_seconds=10 * WINDOW_SECONDS)
    first = message("a")
    ledger.record([first], {})
    ledger.settle([first.message_id])
    ledger.flush()
    for _ in range(9):
        ledger.advance(WINDOW_SECONDS)
        ledger.flush()
    assert ledger.snapshot.messages == 1
    ledger = open_ledger(id_window_seconds=10 * WINDOW_SECONDS)
    assert ledger.record([message("a")], {}) == [False]


def test_event_ids_count_as_ids(open_ledger: Opened) -> None:
    """Each message takes two of `max_ids`, and settled events are forgotten early like settled messages."""
    now = [0.0]
    ledger = open_ledger(max_ids=40, monotonic=lambda: now[0])
    assert ledger.capacity == 20
    deliveries = [message(str(number)) for number in range(20)]
    ledger.record(deliveries, {})
    assert (ledger.snapshot.messages, ledger.capacity) == (40, 0)
    assert "--ledger.max-ids 40" in str(ledger.limited)
    ledger.settle(delivery.message_id for delivery in deliveries)
    ledger.flush()
    for _ in range(62):
        now[0] += 1
        ledger.flush()
    assert ledger.capacity == 20
    assert ledger.snapshot.forgotten_early >= 10


def test_events_that_have_to_stay_let_receives_slow_down_without_standing_still(open_ledger: Opened) -> None:
    """Two fifths of the memory are ids and events of messages whose deletes fail: what comes has only the rest."""
    ledger = open_ledger(max_ids=4_000)
    ledger.record([message(f"kept {number}") for number in range(800)], {})
    ledger.advance(100)
    gap_steps = longest_gap_steps = 0
    for _ in range(1_200):
        open_ledger.clock.monotonic += 0.1
        ledger.advance(0.1)
        deliveries = [message(f"{next(numbers)}") for _ in range(min(100, ledger.capacity // 10 * 10))]
        ledger.record(deliveries, {})
        ledger.settle(delivery.message_id for delivery in deliveries)
        gap_steps = 0 if deliveries else gap_steps + 1
        longest_gap_steps = max(longest_gap_steps, gap_steps)
    assert longest_gap_steps < 40


def test_turning_ids_on_and_off_loses_and_doubles_no_message(open_ledger: Opened) -> None:
    """A message that was counted by its own id alone stays known; its event is not, whatever is read of it later."""
    first, second = message("a"), message("b")
    assert open_ledger(WITHOUT_IDS).record([first], {}) == [True]
    ledger = open_ledger()
    assert ledger.record([first, second, message("b")], {}) == [False, True, False]
    ledger = open_ledger(WITHOUT_IDS)
    assert ledger.record([first, second, message("b")], {}) == [False, False, True]
    assert open_ledger().record([message("b")], {}) == [False]


def test_label_sets_are_counted_beside_types(open_ledger: Opened) -> None:
    """Each set is a series; together they are their type."""
    ledger = open_ledger(label_names=("country", "currency"))
    for country, currency, nano in [("de", "eur", 5), ("de", "chf", -7), ("", "eur", 11), ("de", "eur", 13)]:
        ledger.record([message(None, country, currency, nano=nano)], {})
    ledger = open_ledger(label_names=("country", "currency"))
    assert counts(ledger) == {
        ("purchase", "de", "eur"): 2,
        ("purchase", "de", "chf"): 1,
        ("purchase", "", "eur"): 1,
    }
    assert ledger.snapshot.label_names == ("country", "currency")
    totals = ledger.snapshot.types["purchase"]
    assert (totals.count, totals.value_nano, totals.negative_nano) == (4, 29, 7)


def test_labels_are_added_removed_and_reordered_without_loss(open_ledger: Opened) -> None:
    """A removed label's counts are summed up, and told apart again when it comes back."""
    ledger = open_ledger(label_names=("country", "currency"))
    ledger.record([message(None, "de", "eur"), message(None, "de", "chf"), message(None, "", "")], {})
    ledger = open_ledger(label_names=("country",))
    assert counts(ledger) == {("purchase", "de"): 2, ("purchase", ""): 1}
    ledger.record([message(None, "de", nano=-5), message(None, "fr")], {})
    assert counts(ledger) == {("purchase", "de"): 3, ("purchase", ""): 1, ("purchase", "fr"): 1}
    assert ledger.snapshot.series["purchase", "de"].negative_nano == 5
    assert counts(open_ledger()) == {("purchase",): 5}
    ledger = open_ledger(label_names=("currency", "country"))
    assert counts(ledger) == {
        ("purchase", "eur", "de"): 1,
        ("purchase", "chf", "de"): 1,
        ("purchase", "", "de"): 1,
        ("purchase", "", ""): 1,
        ("purchase", "", "fr"): 1,
    }
    assert ledger.snapshot.counted == 5


def test_beyond_a_cap_types_and_sums_stay_exact(open_ledger: Opened) -> None:
    """`sum by (type)` is the truth for admitted types, whatever labels strangers send; what overflowed is counted."""
    settings: dict[str, Any] = {"label_names": ("country",), "types": ("shown",), "max_types": 2, "max_series": 3}
    ledger = open_ledger(**settings)
    sent: Counter[str] = Counter()
    for number in range(120):
        name = ("shown", "a", "b", "c", "d")[number % 5]
        sent[name] += 1
        ledger.record([message(None, f"country-{number}", name=name)], {})
        if number % 40 == 0:
            ledger = open_ledger(**settings)
    types = {name: totals.count for name, totals in ledger.snapshot.types.items()}
    assert types == {"shown": sent["shown"], "a": sent["a"], "b": sent["b"], OTHER: sent["c"] + sent["d"]}
    sets = {key for key in ledger.snapshot.series if OTHER not in key} - {("shown", "")}
    assert len(sets) == 3
    snapshot = ledger.snapshot
    assert snapshot.overflowed == {"types": sent["c"] + sent["d"], "series": 3 * 24 - 3}
    assert snapshot.series[OTHER, OTHER].count == snapshot.overflowed["types"]
    assert {key for key in snapshot.series if key[0] == OTHER} == {(OTHER, OTHER)}


def test_without_labels_there_is_no_cap_on_label_sets(open_ledger: Opened) -> None:
    """Types alone are limited by the cap on types."""
    ledger = open_ledger(max_series=0)
    ledger.record([message(name="a"), message(name="b")], {})
    assert counts(ledger) == {("a",): 1, ("b",): 1}


def test_caps_hold_within_a_batch() -> None:
    """What a batch begins is counted against the caps while it is added, and not if it fails."""
    admission = Admission(Caps(1, 2, frozenset(), ("label",)))
    events = [Event(("a", str(number)), 1, None) for number in range(4)] + [Event(("b", ""), 1, None)]
    before: dict[tuple[str, ...], SeriesTotals] = {}
    for _ in range(2):
        added = add(before, events, admission, 0.0)
        assert {key: totals.count for key, totals in added.series.items()} == {
            ("a", "0"): 1,
            ("a", "1"): 1,
            ("a", OTHER): 2,
            (OTHER, OTHER): 1,
        }
        assert added.overflowed == {"series": 2, "types": 1}
    assert added.admission.place(("a", "9")) == (("a", OTHER), "series")


def test_one_commit_serves_several_queues(open_ledger: Opened) -> None:
    """Each has totals, a clock and a memory of its own, and none forgets what another does."""
    ledger = open_ledger().ledger
    carts = QueueIdentity("carts", "arn:aws:sqs:eu-central-1:123456789012:carts", 30, 86_400)
    ledger.bind(carts)
    one = message("a")
    for _ in range(2):
        fresh = commit(ledger, {"orders": QueueBatch([one]), "carts": QueueBatch([one, message()])})
    assert fresh == {"orders": [False], "carts": [False, True]}
    ledger.settle("carts", [one.message_id])
    ledger.advance("carts", 2 * WINDOW_SECONDS)
    commit(ledger, {})
    assert {name: snapshot.messages for name, snapshot in ledger.snapshots.items()} == {"orders": 2, "carts": 2}
    open_ledger.close()
    again = SqliteLedger(str(open_ledger.path))
    assert again.snapshots == ledger.snapshots
    assert not again.bound("carts")
    again.close()


def test_a_refused_queue_alone_stops(open_ledger: Opened) -> None:
    """The rows of one name belong to another queue: the others count on."""
    ledger = open_ledger().ledger
    ledger.bind(QueueIdentity("carts", "arn:aws:sqs:eu-central-1:1:carts"))
    ledger.bind(QueueIdentity("carts", "arn:aws:sqs:eu-central-1:2:carts"))
    with pytest.raises(LedgerError) as caught:
        ledger.bound("carts")
    assert (caught.value.reason, caught.value.exit_code) == ("other_queue", 2)
    assert ledger.bound("orders")
    assert commit(ledger, {"orders": QueueBatch([message()])}) == {"orders": [True]}
    ledger.bind(QueueIdentity("carts", "arn:aws:sqs:eu-central-1:1:carts"))
    assert ledger.bound("carts")


def test_a_ledger_has_a_name_that_stays(open_ledger: Opened) -> None:
    """The one it was made under; without one, the first digits of its random id."""
    ledger = open_ledger().ledger
    assert ledger.name == ledger.snapshots["orders"].instance_id[:8] == ledger.snapshots["orders"].ledger
    with pytest.raises(LedgerError, match=r"--ledger\.name") as caught:
        open_ledger(name="shop")
    assert (caught.value.reason, caught.value.exit_code) == ("other_name", 2)
    assert open_ledger(name=ledger.name).ledger.name == ledger.name


def test_a_stopped_ledger_is_read_without_being_touched(open_ledger: Opened) -> None:
    """All that it remembers is there; its files are as they were, and one that is in use is refused."""
    ledger = open_ledger()
    settled, unsettled = message("a"), message("b")
    ledger.record([settled, unsettled], {})
    ledger.settle([settled.message_id])
    path = str(open_ledger.path)
    expected = ledger.snapshot
    open_ledger.close()
    before = {file.name: file.read_bytes() for file in open_ledger.path.parent.iterdir()}
    with reading(path) as stopped:
        assert stopped.snapshots["orders"].series == expected.series
        found = [one for seen in stopped.messages_by_age("orders") for one in seen.ids]
        assert found == [(settled.message_id, False), (unsettled.message_id, True)]
        assert {event_id[:1] for seen in stopped.events_by_age("orders") for event_id, _ in seen.ids} == {b"a", b"b"}
        assert [message_id for message_id, _ in stopped.links("orders")] == [unsettled.message_id]
        with pytest.raises(LedgerError, match="has no queue carts, only: orders"):
            stopped.messages_by_age("carts")
    assert {file.name: file.read_bytes() for file in open_ledger.path.parent.iterdir()} == before


@pytest.mark.parametrize("error", [BrokenPipeError(), OSError(errno.ENOSPC, "No space left on device"), ValueError()])
def test_what_fails_while_a_ledger_is_read_is_not_the_ledgers(open_ledger: Opened, error: Exception) -> None:
    """Where what is read goes to a stdout that is closed or full, the ledger is whole and its volume has space."""
    open_ledger()
    open_ledger.close()
    with pytest.raises(type(error)) as caught, reading(str(open_ledger.path)):
        raise error
    assert caught.value is error


@pytest.mark.parametrize("call", ["tempfile.TemporaryDirectory", "shutil.copyfile"])
def test_a_copy_that_finds_no_place_is_not_laid_to_the_ledger(
    open_ledger: Opened, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """It is read from a copy in the temporary directory, and that is what is full, or not there."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    open_ledger()
    open_ledger.close()
    monkeypatch.setattr(call, fail)
    with (
        pytest.raises(LedgerError, match="set TMPDIR to a writable directory") as caught,
        reading(str(open_ledger.path)),
    ):
        pass
    assert caught.value.reason == "full"


def test_a_type_is_forgotten_within_the_account(open_ledger: Opened) -> None:
    """What it had counted is `events_forgotten` from then on; it may come back, and counts from 0."""
    settings: dict[str, Any] = {"label_names": ("country",)}
    ledger = open_ledger(**settings)
    first = message(None, "de", name="typo")
    ledger.record([first, message(None, "fr", name="typo"), message(None, "", name="kept")], {})
    open_ledger.close()
    with changing(str(open_ledger.path)) as stopped:
        assert stopped.forget_type("orders", "typo") == 2
        assert stopped.forget_type("orders", "typo") == 0
    ledger = open_ledger(**settings)
    snapshot = ledger.snapshot
    assert (snapshot.counted, snapshot.events_forgotten, snapshot.received) == (1, 2, 3)
    assert ledger.record([first, message(None, "", name="typo")], {}) == [False, True]
    assert ledger.snapshot.types["typo"].count == 1


def test_a_copy_begins_anew_under_another_name(open_ledger: Opened) -> None:
    """Its counts and ids stay, its identity and name are others: no series of it is one that was there before."""
    ledger = open_ledger(label_names=("country",))
    first = message(None, "de")
    ledger.record([first, message(None, "")], {})
    before = ledger.snapshot
    open_ledger.close()
    with changing(str(open_ledger.path)) as stopped:
        stopped.rename("shop")
    ledger = open_ledger(label_names=("country",))
    assert ledger.ledger.name == ledger.snapshot.ledger == "shop"
    assert ledger.snapshot.instance_id != before.instance_id
    assert ledger.snapshot.series == before.series
    assert ledger.record([first], {}) == [False]


def test_rows_are_bound_to_another_queue_on_purpose(open_ledger: Opened) -> None:
    """What was counted and remembered stays."""
    first = message()
    open_ledger().record([first], {})
    open_ledger.close()
    moved = QueueIdentity("orders", "arn:aws:sqs:elsewhere:1:orders", 30, 86_400)
    with changing(str(open_ledger.path)) as stopped:
        stopped.rebind("orders", moved.arn)
    ledger = open_ledger(moved)
    assert ledger.record([first, message()], {}) == [False, True]
