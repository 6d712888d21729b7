"""Housekeeping of many queues: names, URLs and prefixes, each queue by itself whatever becomes of the others."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from fake_sqs import FakeSqs
from housekeepers import PATIENCE_SECONDS, housekeeping, wait_until

from exporter.errors import WrongSettingError
from exporter.sqs.aws import connect
from exporter.sqs.housekeeping import Housekeeping

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOK, SOURCES = "GetQueueAttributes", "ListDeadLetterSourceQueues"


@pytest.fixture
def sqs(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSqs]:
    """Start a server without a queue, and make it the one that AWS's settings name."""
    with FakeSqs(create=False) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("AWS_PROFILE", raising=False)
        yield server


def test_a_slow_and_a_denied_queue_hold_up_no_other(sqs: FakeSqs) -> None:
    """Three queues whose answers don't come, one that is denied, one that is missing: the others are renewed."""
    good = [f"good-{number}" for number in range(10)]
    slow = [f"slow-{number}" for number in range(3)]
    for name in (*good, *slow, "denied"):
        sqs.create_queue(name)
    for name in slow:
        sqs.fault("black_hole", LOOK, queue_name=name)
    sqs.fault("error", "GetQueueUrl", queue_name="denied", code="AccessDeniedException")
    with housekeeping(sqs.endpoint_url, *slow, "denied", "missing", *good) as run:
        queues = run.keeper.queues
        assert set(queues) == {*good, *slow, "denied", "missing"}
        assert all(state.named and not state.gone for state in queues.values())
        wait_until(lambda: all(run.keeper.queues[name].attributes for name in good))
        sqs.send(["{}"] * 3, queue_name="good-7")

        def depth_of_seven() -> int | None:
            depth = run.keeper.queues["good-7"].depth
            return None if depth is None else depth.visible

        wait_until(lambda: depth_of_seven() == 3)
        wait_until(lambda: run.keeper.queues["denied"].problem and run.keeper.queues["missing"].problem)
        queues = run.keeper.queues
        reasons = {name: state.problem.reason for name, state in queues.items() if state.problem}
        assert reasons == {"denied": "access_denied", "missing": "queue_not_found"}
        assert not any(queues[name].target for name in (*slow, "denied", "missing"))


def test_every_request_is_counted_by_queue_and_operation(sqs: FakeSqs) -> None:
    """What was counted is what SQS says it was asked; a URL that is known is not asked for again."""
    sqs.create_queue("one", sqs.gives_up_to("dead"))
    sqs.create_queue("shop-a")
    counted: dict[tuple[str, str], int] = {}
    with housekeeping(sqs.endpoint_url, "one", "shop-*") as run:
        sqs.wait_until(lambda account: account.calls.get(LOOK, 0) > 8)
        run.keeper.stop()
        for key, count in run.keeper.requests().items():
            counted[key] = counted.get(key, 0) + count
        assert run.keeper.requests() == {}
    looks = counted["one", "get_queue_attributes"] + counted["shop-a", "get_queue_attributes"]
    lists = counted["shop-*", "list_queues"]
    # A request is counted before it is sent. The stop may have ended the last of each before SQS had read it.
    calls = sqs.wait_until(
        lambda account: account.calls[LOOK] >= looks - 1 and account.calls["ListQueues"] >= lists - 1
    ).calls
    assert counted["one", "get_queue_url"] == 2, "its own and its dead-letter queue's, once each"
    assert calls["ListQueues"] in {lists, lists - 1}
    assert counted["shop-a", "list_dead_letter_source_queues"] == calls[SOURCES] == 1
    assert calls[LOOK] in {looks, looks - 1}


def test_a_prefix_takes_what_begins_so_and_what_appears_later(sqs: FakeSqs) -> None:
    """All pages of the list, and no queue of another name; a queue that is made later is taken up too."""
    sqs.behave(page_size=2)
    names = {f"shop-{number}" for number in range(5)}
    for name in (*names, "other"):
        sqs.create_queue(name)
    with housekeeping(sqs.endpoint_url, "shop-*") as run:
        wait_until(lambda: {name for name, state in run.keeper.queues.items() if state.target} == names)
        assert not any(state.named for state in run.keeper.queues.values())
        sqs.create_queue("shop-new")
        wait_until(lambda: "shop-new" in run.keeper.queues and run.keeper.queues["shop-new"].target)
        assert run.keeper.prefix_problems == {}


def test_a_prefix_never_takes_a_dead_letter_queue(sqs: FakeSqs) -> None:
    """It is said once, with its source; named in full it is taken."""
    for number in range(3):
        sqs.create_queue(f"shop-{number}", sqs.gives_up_to("shop-dead"))
    sqs.behave(page_size=1)
    with housekeeping(sqs.endpoint_url, "shop-*") as run:
        wait_until(
            lambda: {n for n, state in run.keeper.queues.items() if state.depth} == {"shop-0", "shop-1", "shop-2"}
        )
        wait_until(lambda: run.keeper.left_out)
        assert 'the dead-letter queue of "shop-0"' in run.keeper.left_out["shop-dead"]
        sqs.wait_until(lambda account: account.calls["ListQueues"] > 10)
        assert "shop-dead" not in run.keeper.queues
        told = [run.events.told.get().getMessage() for _ in range(run.events.told.qsize())]
        assert sum("is left out" in line for line in told) == 1
    with housekeeping(sqs.endpoint_url, "shop-*", "shop-dead") as run:
        wait_until(lambda: run.keeper.queues["shop-dead"].target)
        assert run.keeper.queues["shop-dead"].named
        assert run.keeper.left_out == {}


def test_a_queue_that_becomes_a_dead_letter_queue_is_left(sqs: FakeSqs) -> None:
    """As soon as the redrive policy that names it is read."""
    sqs.create_queue("shop-a")
    sqs.create_queue("shop-b")
    with housekeeping(sqs.endpoint_url, "shop-*") as run:
        wait_until(lambda: len(run.keeper.queues) == 2 and all(it.target for it in run.keeper.queues.values()))
        sqs.create_queue("shop-a", sqs.gives_up_to("shop-b"))
        wait_until(lambda: run.keeper.queues["shop-b"].gone)
        assert "shop-b" in run.keeper.left_out
        assert not run.keeper.queues["shop-a"].gone


def test_where_nobody_may_ask_for_sources_the_queue_is_left_out(sqs: FakeSqs) -> None:
    """The permission is named, the other queues are taken, and the queue is when it is granted."""
    sqs.create_queue("shop-a")
    sqs.create_queue("shop-b")
    denied = sqs.fault("error", SOURCES, queue_name="shop-b", code="AccessDeniedException")
    with housekeeping(sqs.endpoint_url, "shop-*") as run:
        wait_until(lambda: "shop-a" in run.keeper.queues and "shop-b" in run.keeper.left_out)
        assert "grant sqs:ListDeadLetterSourceQueues" in run.keeper.left_out["shop-b"]
        assert "shop-b" not in run.keeper.queues
        sqs.clear(denied)
        wait_until(lambda: "shop-b" in run.keeper.queues)
        assert run.keeper.left_out == {}


def test_a_prefix_that_may_not_be_listed_says_so(sqs: FakeSqs) -> None:
    """The permission is named; a prefix without queues says that too; the named queue goes on in either case."""
    sqs.create_queue("events")
    denied = sqs.fault("error", "ListQueues", queue_name="shop-", code="AccessDeniedException")
    with housekeeping(sqs.endpoint_url, "events", "shop-*") as run:
        wait_until(lambda: run.keeper.prefix_problems)
        assert "grant sqs:ListQueues" in str(run.keeper.prefix_problems["shop-*"])
        sqs.clear(denied)
        wait_until(lambda: "No queue is named" in str(run.keeper.prefix_problems.get("shop-*")))
        wait_until(lambda: run.keeper.queues["events"].target)
        sqs.create_queue("shop-a")
        wait_until(lambda: not run.keeper.prefix_problems and "shop-a" in run.keeper.queues)


@pytest.mark.parametrize("given", ["shop-a", "shop-*"])
def test_a_queue_that_is_deleted_is_gone_until_it_is_made_again(sqs: FakeSqs, given: str) -> None:
    """A named one is a problem meanwhile. That it is another queue, with the same ARN, is said."""
    sqs.create_queue("shop-a")
    with housekeeping(sqs.endpoint_url, given) as run:
        wait_until(lambda: run.keeper.queues and run.state.attributes)
        before = run.state.attributes
        assert before is not None
        sqs.advance(10)
        sqs.delete_queue("shop-a")
        wait_until(lambda: run.state.gone)
        assert run.state.depth is None
        assert (run.state.problem is not None) == (given == "shop-a")
        sqs.create_queue("shop-a")
        wait_until(lambda: not run.state.gone and run.state.attributes != before)
        after = run.state.attributes
        assert after is not None
        assert after.arn == before.arn
        assert run.state.problem is None
        while "made again" not in run.events.told.get(timeout=PATIENCE_SECONDS).getMessage():
            pass


def test_the_clock_s_skew_is_what_sqs_dates_its_answers(sqs: FakeSqs) -> None:
    """A clock that is 100 s ahead of SQS's, give or take the second to which the header is cut.

    An answer that was a second on its way is asked for again.
    """
    sqs.create_queue("events")
    keeper = Housekeeping(connect(), ["events"], interval_seconds=0.05, wall=lambda: time.time() + 100)
    assert keeper.clock_skew_seconds is None
    keeper.start()
    wait_until(lambda: keeper.clock_skew_seconds == pytest.approx(100, abs=1))
    keeper.stop()


def test_a_queue_s_url_says_its_region(sqs: FakeSqs, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is signed for there, AWS_REGION or not; requests go to the endpoint all the same."""
    sqs.create_queue("shop-a")
    sqs.create_queue("events")
    url = "https://sqs.eu-west-1.amazonaws.com/123456789012/shop-a"
    with housekeeping(sqs.endpoint_url, url, "events") as run:
        wait_until(lambda: all(state.target for state in run.keeper.queues.values()))
        regions = {name: state.target.region for name, state in run.keeper.queues.items() if state.target}
        assert regions == {"shop-a": "eu-west-1", "events": "us-east-1"}
        assert {state.target.endpoint_url for state in run.keeper.queues.values() if state.target} == {sqs.endpoint_url}
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL_SQS"):
        monkeypatch.delenv(name)
    assert connect(queues=[url]).endpoint_url == "https://sqs.eu-west-1.amazonaws.com"
    for queues in ([url, "events"], []):
        with pytest.raises(WrongSettingError, match="set AWS_REGION"):
            connect(queues=queues)


def test_a_prefix_leaves_out_a_queue_whose_name_another_has(sqs: FakeSqs) -> None:
    """The other is of another account, and named by its URL: that is the one which is served, and it is said."""
    sqs.create_queue("shop-a")
    url = f"{sqs.endpoint_url}/999999999999/shop-a"
    with housekeeping(sqs.endpoint_url, url, "shop-*") as run:
        wait_until(lambda: run.keeper.left_out)
        assert "999999999999" in run.keeper.left_out["shop-a"]
        wait_until(lambda: run.state.target)
        assert run.state.named
        assert run.state.target is not None
        assert run.state.target.queue_url == url
