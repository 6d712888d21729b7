"""The landing page: what it says of queues and types, its rates and sparklines, and that all of it is only text."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from landing_examples import NANO, STARTED_SECONDS, Kept, Totals, ill, one_fails, page, rendered
from prometheus_client import CollectorRegistry, Histogram

from exporter.sqs import QueueDepth
from exporter.web.history import (
    INTERVAL_SECONDS,
    MAX_TYPES,
    MAX_TYPES_PER_QUEUE,
    RATE_SECONDS,
    WINDOW_SECONDS,
    Ages,
    History,
    Point,
    ages,
    largest,
    types_shown,
)


def text_of(html: str) -> str:
    """Return what a person reads: the text without its markup."""
    body = html.partition("<body>")[2]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)).replace("&ndash;", "-").replace("&minus;", "-")


def row_of(html: str, event_type: str) -> list[str]:
    """Return the cells of a type's row."""
    row = next(row for row in re.findall(r"<tr>.*?</tr>", html) if f"<bdi>{event_type}</bdi>" in row)
    return [text_of(f"<body>{cell}").strip() for cell in re.findall(r"<t[hd].*?</t[hd]>", row)]


def counting(per_second: float, **changes: Any) -> Any:  # noqa: ANN401 - a page by its second
    """Return pages of one queue on which one type is counted at a steady rate."""

    def at(now: float) -> Any:  # noqa: ANN401 - a page
        count = int(per_second * now)
        kept = Kept({"a": Totals(count, count * NANO // 4, count * NANO // 2, STARTED_SECONDS + now - 70)})
        return page(now, snapshots={"orders": kept}, depths={}, problems={}, **changes)

    return at


def test_a_type_has_its_count_its_exact_sum_its_rate_and_its_last_event() -> None:
    """The net of its values, to the last digit and without zeros at the end."""
    assert row_of(rendered(counting(10), seconds=600), "a") == ["a", "6,000", "-1,500", "10/s", "", "1 min 10 s ago"]
    kept = Kept({"b": Totals(3, 1, 0, None), "c": Totals(1, 10**15 * NANO + 10, 0, 1_601_978_525.0)})
    html = rendered(lambda now: page(now, snapshots={"orders": kept}))
    assert row_of(html, "b") == ["b", "3", "0.000000001", "0/s", "", "-"]
    assert row_of(html, "c")[2] == "1,000,000,000,000,000.00000001"
    assert row_of(html, "c")[5] == "2020-10-06 10:02:05"


def test_a_queue_says_what_was_received_and_what_became_of_it() -> None:
    """Received, duplicate, rejected by reason, released, backlog, dead letters, lag, and the ledger's fill."""
    text = text_of(rendered())
    for part in (
        "Ready",
        "received 700,356 0 of them left for SQS to redeliver",
        "duplicates 412",
        "rejected 37 invalid_json 31, missing_field 6",
        "backlog 184 92 in flight, 0 delayed",
        "dead letters 0 in shop-events-dead",
        "lag 340 ms",
        "ledger's fill 22%",
        "216,430 of 1,000,000 ids, 143 not yet deleted from SQS",
        "version 0.1.0",
        "up 3 h 10 min",
        "ledger shop-eu",
    ):
        assert part in text, part


def test_trouble_is_said_in_words_and_marked() -> None:
    """The reason is on top, beside the queue that it concerns, and what needs a look has another colour."""
    html = rendered(ill)
    text = text_of(html)
    assert "Not ready" in text
    assert text.count("(database or disk is full): free space on its volume") == 3
    assert 'class="state bad"' in html
    warned = re.findall(r'<div class="tile [^"]*warn"><span>([^<]*)', html)
    assert warned == ["rejected", "dead letters", "ledger's fill"]


def test_ready_with_a_problem_is_neither_green_nor_red() -> None:
    """The state on top is amber and says which queue fails; red is beside that queue alone."""
    html = rendered(one_fails)
    assert "Ready, but 1 of 2 queues: shop-orders: receives fail" in text_of(html)
    assert re.findall(r'class="(?:badge|state) (\w+)"', html) == ["warn", "warn", "bad"]
    assert re.findall(r'class="(?:badge|state) (\w+)"', rendered()) == ["good", "good"]


def test_what_is_not_known_is_left_open() -> None:
    """Before the first look at SQS, without a limit, and in a replica that does not speak."""
    empty = page(0, snapshots={"orders": Kept({})}, depths={"orders": QueueDepth()}, max_messages=0, ledger="")
    text = text_of(rendered(lambda _now: empty, ages=lambda _now: {}))
    for part in ("No event was counted yet.", "backlog -", "lag -", "ids remembered 0", "no message was invalid"):
        assert part in text, part
    silent = replace(empty, snapshots={}, depths={}, problems={"orders": None}, speaking=False)
    text = text_of(rendered(lambda _now: silent))
    assert "Another replica speaks for the ledger" in text
    assert "orders" in text


def test_names_of_strangers_stay_text() -> None:
    """Types and queues can't become markup, nor change the direction of what stands beside them."""
    evil = "<script>alert(1)</script>\"'&\u202e"
    html = rendered(
        lambda now: page(
            now,
            snapshots={evil: Kept({evil: Totals(1)}, rejected={evil: 1})},
            depths={evil: QueueDepth(1, 1, 1, evil, 1)},
            problems={evil: evil},
            state=evil,
            ledger=evil,
            version=evil,
        )
    )
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;") == 8


def test_it_needs_nothing_but_itself() -> None:
    """No script, no outside resource: what the Content-Security-Policy would block anyway."""
    html = rendered(ill)
    assert (
        re.findall(r"<(script|link|img|iframe|object|embed|form|video|audio|base)\b|\bon\w+=|@import|url\(", html) == []
    )
    assert set(re.findall(r'(?:href|src)="([^"]*)"', html)) == {
        "/metrics",
        "/-/ready",
        "/-/healthy",
        "https://github.com/sqs-event-exporter/sqs-event-exporter/tree/main/docs",
    }
    assert '<meta http-equiv="refresh" content="10">' in html


def test_the_first_request_has_a_sparkline() -> None:
    """Two seconds after the start there is a line already, and before any count one at 0."""
    assert re.search(r'<polyline points="0,\d+ 120,\d+"/>', rendered(counting(10), seconds=2))
    assert '<path d="M0 23H120"/>' in rendered(counting(10), seconds=0)


def test_many_types_are_cut_off_and_that_is_said() -> None:
    """Those with the most events are shown, fewer of each where there are many queues."""
    kept = Kept({f"type {n:05}": Totals(n) for n in range(10_000)})
    html = rendered(lambda now: page(now, snapshots={"orders": kept}))
    assert html.count("<tr>") == 1 + MAX_TYPES_PER_QUEUE
    assert "type 09999" in html
    assert "9,900 more types are in the metrics." in html
    assert len(html) < 200_000
    assert types_shown(1) == MAX_TYPES_PER_QUEUE
    assert types_shown(20) == MAX_TYPES // 20
    assert largest({"b": 1, "c": 2, "a": 1}, 2) == ["c", "b"]
    assert largest({"b": 1, "c": 2, "a": 1}, 3) == ["c", "a", "b"]


# History


def a_history(counts: dict[float, dict[str, int]]) -> History:
    """Make a history of what was counted at which second."""
    history = History()
    for now, types in counts.items():
        history.take(now, {"orders": Kept({name: Totals(n) for name, n in types.items()})}, {})  # type: ignore[dict-item]
    return history


def test_a_rate_is_that_of_the_last_minute() -> None:
    """What was long ago counts no more, and what just began is averaged over the time there was."""
    history = a_history({second: {"a": second * (1 if second < 300 else 3)} for second in range(0, 601, 5)})
    assert history.rate(601, "orders", "a", 1803) == pytest.approx(3, rel=0.01)
    assert a_history({0: {"a": 0}}).rate(2, "orders", "a", 8) == 4
    assert a_history({0: {"a": 0}}).rate(0.5, "orders", "a", 8) is None
    assert a_history({}).rate(10, "orders", "a", 8) is None
    assert a_history({0: {"a": 9}}).rate(10, "orders", "a", 8) == 0


def test_a_type_that_is_born_was_at_0_before() -> None:
    """So its first events have a rate, and its line begins at the bottom."""
    history = a_history({0: {"a": 5}, 5: {"a": 5}})
    assert history.rate(10, "orders", "new", 20) == 2
    assert history.points(10, "orders", "new", 20) == [Point(10, 0), Point(5, 0), Point(0, 4)]


def test_a_line_shows_the_last_minutes_and_its_memory_is_bounded() -> None:
    """Hours later it holds a point for each interval of the window and no more."""
    history = History()
    for second in range(20_000):
        if history.is_due(second):
            history.take(second, {"orders": Kept({"a": Totals(second)})}, {})  # type: ignore[dict-item]
    points = history.points(20_000, "orders", "a", 20_000)
    assert len(points) == WINDOW_SECONDS / INTERVAL_SECONDS + 1
    assert {point.rate for point in points} == {1}
    assert points[0].seconds_ago <= WINDOW_SECONDS


def test_the_lag_is_that_of_the_last_minute() -> None:
    """Of the messages since then, and none where none came."""
    history = History()
    history.take(0, {"orders": Kept({})}, {"orders": Ages(1000.0, 10)})  # type: ignore[dict-item]
    history.take(100, {"orders": Kept({})}, {"orders": Ages(1000.0, 10)})  # type: ignore[dict-item]
    assert history.lag_seconds(100 + RATE_SECONDS, "orders", Ages(1003.0, 12)) == 1.5
    assert history.lag_seconds(100 + RATE_SECONDS, "orders", Ages(1000.0, 10)) is None
    assert history.lag_seconds(100, "other", None) is None


def test_ages_come_from_the_histogram_of_them() -> None:
    """By queue; a registry without it has none."""
    registry = CollectorRegistry()
    assert ages(registry) == {}
    histogram = Histogram("sqs_message_age_seconds", "A.", ("queue",), registry=registry)
    for seconds in (0.5, 2.5):
        histogram.labels("orders").observe(seconds)
    assert ages(registry) == {"orders": Ages(3.0, 2)}
