"""What may happen to exporters, and which alerts fire then: all of them, so that one cause is seen to page once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from simulated_exporter import (
    AGE_BUCKETS,
    DAY,
    HOUR,
    MINUTE,
    WEEK,
    Series,
    always,
    changed,
    gone,
    growing,
    histogram,
    ledger,
    process,
    switched,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Value = Callable[[float], float | None]
    Labels = Mapping[str, str]

JOB = {"job": "shop"}
TARGET = {**JOB, "instance": "exporter:9797"}
QUEUE = {**JOB, "queue": "events"}
ON_TARGET = {**TARGET, "queue": "events"}
KEPT = {**JOB, "instance": "orders", "ledger": "orders", "queue": "events"}


class Scenario(NamedTuple):
    """Series, and what fires at a time of them: alert and labels, but for the severity."""

    series: list[Series]
    at: float
    firing: tuple[tuple[str, Labels], ...] = ()


def without_instance(target: Labels) -> dict[str, str]:
    """Return the labels of a target that stay when it moves."""
    return {name: value for name, value in target.items() if name != "instance"}


def healthy(target: Labels = TARGET, name: str = "orders", queue: str = "events") -> list[Series]:
    """Return all series of an exporter with one queue."""
    return process(target, [queue]) + ledger(without_instance(target), name, queue)


def healthy_but(*changes: tuple[str, Value, dict[str, str]]) -> list[Series]:
    """Return a healthy exporter but for these series: metric, value, labels."""
    series = healthy()
    for name, value, labels in changes:
        series = changed(series, name, value, **labels)
    return series


def aged(seconds: float, since: float = 0.0, until: float = float("inf"), per_second: float = 1.0) -> list[Series]:
    """Return a healthy exporter whose messages were this old when it counted them, between two times."""
    series = [one for one in healthy() if not one.name.startswith("sqs_message_age_seconds")]
    count = growing(per_second, since=since, until=until)
    return [*series, *histogram("sqs_message_age_seconds", ON_TARGET, seconds, count, AGE_BUCKETS)]


def stalled(target: Labels = TARGET, name: str = "orders") -> list[Series]:
    """Return an exporter whose queue has messages, and that has received none since minute 10."""
    series = process(target) + ledger(
        without_instance(target), name, types={"purchase": growing(1.0, until=10 * MINUTE)}, duplicate=always(0.0)
    )
    return changed(series, "sqs_queue_messages", always(40.0), state="visible")


def down(series: list[Series], since: float, until: float = float("inf")) -> list[Series]:
    """Return the series as they are when the exporter can't be scraped for a while."""
    hidden = gone([one for one in series if one.name != "up"], since, until)
    return hidden + [one._replace(value=switched((0, 1), (since, 0), (until, 1))) for one in series if one.name == "up"]


def not_ready(series: list[Series], since: float) -> list[Series]:
    """Return the series of an exporter that is not ready any longer."""
    return changed(series, "sqs_exporter_ready", switched((0, 1), (since, 0)))


def replicas(*speakers: Value) -> list[Series]:
    """Return replicas that share a ledger, and when each of them speaks for it."""
    series = ledger(JOB)
    for number, speaks in enumerate(speakers):
        series += changed(process({**JOB, "instance": f"replica-{number}:9797"}), "sqs_exporter_speaker", speaks)
    return series


def rejecting(per_second: float, since: float = 0.0, until: float = float("inf")) -> list[Series]:
    """Return an exporter that rejects messages for a while, and accounts for them."""
    rejected = growing(per_second, since=since, until=until)
    return process(TARGET) + ledger(JOB, rejected=rejected)


def dead_letters_together(series: list[Series]) -> list[Series]:
    """Return the series of queues with one dead-letter queue, which grows by two messages an hour."""
    return [
        one._replace(labels={**one.labels, "dead_letter_queue": "given-up"}, value=lambda at: at * 2 // HOUR)
        if one.name == "sqs_dead_letter_queue_messages"
        else one
        for one in series
    ]


def events_of_a_fortnight(**types: Value) -> list[Series]:
    """Return what the ledger counted, and little else: a fortnight is long."""
    needed = {"sqs_events_total", "up", "sqs_exporter_build_info", "sqs_exporter_ready", "sqs_queue_messages"}
    return [one for one in process(TARGET) + ledger(JOB, types=types) if one.name in needed]


def in_account(series: list[Series], account: str) -> list[Series]:
    """Return the series of a queue in another account."""
    return [
        one._replace(labels={**one.labels, "account": account}) if one.name == "sqs_queue_info" else one
        for one in series
    ]


def in_cluster(series: list[Series], **labels: str) -> list[Series]:
    """Return the series with external labels."""
    return [one._replace(labels={**one.labels, **labels}) for one in series]


DEPLOY = changed(
    changed(
        down(healthy(), 60 * MINUTE, 62 * MINUTE),
        "process_start_time_seconds",
        switched((0, 1000), (60 * MINUTE, None), (62 * MINUTE, 4720)),
    ),
    "sqs_exporter_ready",
    switched((0, 1), (60 * MINUTE, None), (62 * MINUTE, 0), (63 * MINUTE, 1)),
)
LAST_WEEK_ONLY = growing(1 / (2 * MINUTE), until=WEEK + 2 * HOUR)

QUIET: dict[str, Scenario] = {
    "an exporter that works": Scenario(healthy(), 2 * HOUR),
    "a fresh start: nothing was counted yet": Scenario(
        process(TARGET) + ledger(JOB, types={}, duplicate=always(0.0)), 30 * MINUTE
    ),
    "an idle night": Scenario(
        process(TARGET) + ledger(JOB, types={"purchase": always(75.0)}, duplicate=always(0.0)), 8 * HOUR
    ),
    "a deploy, while it is away": Scenario(DEPLOY, 61 * MINUTE),
    "a deploy, when it is back": Scenario(DEPLOY, 64 * MINUTE),
    "another job's dead target, and its crash loop": Scenario(
        [
            *healthy(),
            Series("up", {"job": "other", "instance": "other:80"}, always(0.0)),
            Series("process_start_time_seconds", {"job": "other", "instance": "other:80"}, lambda at: at // 300),
        ],
        2 * HOUR,
    ),
    "ten thousand messages that are a quarter second of work": Scenario(
        changed(
            aged(0.25, HOUR, HOUR + MINUTE, 167.0),
            "sqs_queue_messages",
            switched((0, 0), (HOUR, 10000), (HOUR + MINUTE, 0)),
            state="visible",
        ),
        65 * MINUTE,
    ),
    "a series is shown as 0 once before its value": Scenario(
        healthy_but(("sqs_events_total", lambda at: 0.0 if at == HOUR else 0.25 * at, {"type": "purchase"})),
        61 * MINUTE,
    ),
    "events have labels of their own": Scenario(
        process(TARGET) + ledger(JOB, event_labels={"currency": "EUR", "country": "DE"}), HOUR
    ),
    "what waited for twenty minutes is counted late, within four": Scenario(
        aged(1200.0, HOUR, HOUR + 4 * MINUTE), 66 * MINUTE
    ),
    "one broken message at night": Scenario(rejecting(1 / MINUTE, HOUR, HOUR + MINUTE), 70 * MINUTE),
    "a delete in a hundred is throttled": Scenario(
        healthy_but(("sqs_exporter_message_delete_failures_total", growing(0.01), {"reason": "throttled"})), 2 * HOUR
    ),
    "commits are short, and one is under way at each scrape": Scenario(
        healthy_but(("sqs_exporter_ledger_commit_started_timestamp_seconds", lambda at: at + 1 - 0.01, {})), HOUR
    ),
    "a queue's own rejects are in its dead-letter queue": Scenario(
        changed(rejecting(2 / HOUR), "sqs_dead_letter_queue_messages", lambda at: at * 2 // HOUR), 6 * HOUR
    ),
    "two queues share a dead-letter queue, and one rejects": Scenario(
        [
            *process(TARGET, ["events", "returns"]),
            *dead_letters_together(ledger(JOB, rejected=growing(2 / HOUR)) + ledger(JOB, queue="returns")),
        ],
        6 * HOUR,
    ),
    "dead letters from before, of which SQS's number flickers": Scenario(
        healthy_but(("sqs_dead_letter_queue_messages", lambda at: 7.0 if at % HOUR else 0.0, {})), 5.5 * HOUR
    ),
    "two accounts have queues of one name": Scenario(
        healthy() + in_account(healthy({**JOB, "instance": "b:9797"}, "other"), "210987654321"), 2 * HOUR
    ),
    "a queue stands still whose name is busy in another account": Scenario(
        stalled() + in_account(healthy({**JOB, "instance": "b:9797"}, "other"), "210987654321"),
        2 * HOUR,
        (("SqsExporterStalled", KEPT),),
    ),
    "replicas of one ledger take turns to speak for it": Scenario(
        replicas(switched((0, 1), (HOUR, 0)), switched((0, 0), (HOUR, 1))), 70 * MINUTE
    ),
    "the ledger's volume is used, and far from full": Scenario(
        healthy_but(("sqs_exporter_ledger_volume_available_bytes", growing(-1e5, start=5e10), {})), 8 * HOUR
    ),
    "the memory of ids is half full": Scenario(healthy_but(("sqs_exporter_ledger_messages", always(2.5e6), {})), HOUR),
    "a type that is rare was not seen for an hour": Scenario(
        events_of_a_fortnight(rare=growing(5 / HOUR, until=WEEK + 2 * HOUR), busy=growing(0.1)), WEEK + 3.5 * HOUR
    ),
    "a type goes on as last week": Scenario(
        events_of_a_fortnight(purchase=growing(20 / HOUR), busy=growing(0.1)), WEEK + 3.5 * HOUR
    ),
}

FIRING: dict[str, Scenario] = {
    "down": Scenario(down(healthy(), HOUR), 65 * MINUTE, (("SqsExporterDown", TARGET),)),
    "down for more than a day": Scenario(down(process(TARGET), HOUR), 27 * HOUR, (("SqsExporterDown", TARGET),)),
    "no exporter at all": Scenario(
        [Series("up", {"job": "other", "instance": "other:80"}, always(1.0))], HOUR, (("SqsExporterAbsent", {}),)
    ),
    "the target is gone": Scenario(gone(healthy(), HOUR), 80 * MINUTE, (("SqsExporterAbsent", JOB),)),
    "one of two clusters is gone": Scenario(
        gone(in_cluster(healthy(), cluster="eu"), HOUR) + in_cluster(healthy(), cluster="us"),
        80 * MINUTE,
        (("SqsExporterAbsent", {**JOB, "cluster": "eu"}),),
    ),
    "one of two queues is gone": Scenario(
        healthy() + gone([one for one in process(TARGET, ["old"]) if one.labels.get("queue") == "old"], HOUR),
        80 * MINUTE,
        (("SqsExporterQueueAbsent", {**JOB, "queue": "old"}),),
    ),
    "the ledger fails, so it is not ready, and messages wait": Scenario(
        changed(not_ready(stalled(), 10 * MINUTE), "sqs_exporter_ledger_errors_total", growing(0.1), reason="full"),
        HOUR,
        (("SqsExporterNotReady", TARGET), ("SqsExporterLedgerErrors", {**TARGET, "reason": "full"})),
    ),
    "one of two queues is denied": Scenario(
        healthy()
        + not_ready([one for one in process(TARGET, ["denied"]) if one.labels.get("queue") == "denied"], HOUR)
        + ledger(JOB, queue="denied"),
        80 * MINUTE,
        (("SqsExporterQueueNotReady", {**TARGET, "queue": "denied"}),),
    ),
    "SQS is out of reach of three replicas": Scenario(
        not_ready(replicas(always(1.0), always(0.0), always(0.0)), HOUR),
        90 * MINUTE,
        (
            ("SqsExporterNotReady", {**JOB, "instance": "replica-0:9797"}),
            ("SqsExporterReplicaNotReady", {**JOB, "instance": "replica-1:9797"}),
            ("SqsExporterReplicaNotReady", {**JOB, "instance": "replica-2:9797"}),
        ),
    ),
    "no replica speaks": Scenario(
        replicas(switched((0, 1), (HOUR, 0)), always(0.0)), 70 * MINUTE, (("SqsExporterNoSpeaker", JOB),)
    ),
    "messages wait and none is received": Scenario(stalled(), HOUR, (("SqsExporterStalled", KEPT),)),
    "the same with external labels, in one of two clusters": Scenario(
        in_cluster(stalled(), cluster="eu", environment="live") + in_cluster(healthy(), cluster="us"),
        HOUR,
        (("SqsExporterStalled", {**KEPT, "cluster": "eu", "environment": "live"}),),
    ),
    "counts are ten minutes behind": Scenario(aged(600.0), HOUR, (("SqsExporterLag", QUEUE),)),
    "messages wait for three of four days": Scenario(
        aged(3 * DAY), HOUR, (("SqsExporterRetentionNear", QUEUE), ("SqsExporterLag", QUEUE))
    ),
    "it starts every five minutes": Scenario(
        healthy_but(("process_start_time_seconds", lambda at: at // (5 * MINUTE), {})),
        HOUR,
        (("SqsExporterCrashLoop", TARGET),),
    ),
    "ten messages are unaccounted for": Scenario(
        process(TARGET) + ledger(JOB, lost=always(10.0)), HOUR, (("SqsExporterUnaccounted", KEPT),)
    ),
    "two ledgers count one queue": Scenario(
        healthy() + healthy({"job": "copy", "instance": "b:9797"}, "other"),
        HOUR,
        (("SqsExporterTwoLedgers", {"queue": "events", "account": "123456789012", "region": "eu-central-1"}),),
    ),
    "a tenth is rejected": Scenario(rejecting(0.1), 2 * HOUR, (("SqsExporterRejections", KEPT),)),
    "all is rejected": Scenario(
        [
            one
            for one in process(TARGET) + ledger(JOB, types={}, rejected=growing(0.1))
            if one.name != "sqs_events_total"
        ],
        2 * HOUR,
        (("SqsExporterRejections", KEPT),),
    ),
    "deletes are denied": Scenario(
        healthy_but(("sqs_exporter_message_delete_failures_total", growing(1.0), {"reason": "access_denied"})),
        HOUR,
        (("SqsExporterDeleteFailures", QUEUE),),
    ),
    "a commit does not end": Scenario(
        healthy_but(("sqs_exporter_ledger_commit_started_timestamp_seconds", always(HOUR), {})),
        HOUR + 3 * MINUTE,
        (("SqsExporterCommitOverdue", TARGET),),
    ),
    "the memory of ids is nearly full": Scenario(
        healthy_but(("sqs_exporter_ledger_messages", always(4.5e6), {})), HOUR, (("SqsExporterMemoryNearLimit", KEPT),)
    ),
    "ids are forgotten early": Scenario(
        healthy_but(("sqs_exporter_ledger_forgotten_early_total", growing(0.1), {})),
        HOUR,
        (("SqsExporterForgottenEarly", KEPT),),
    ),
    "the ledger's volume is full": Scenario(
        healthy_but(("sqs_exporter_ledger_volume_available_bytes", always(1e8), {})),
        HOUR,
        (("SqsExporterVolumeFilling", TARGET),),
    ),
    "the ledger's volume will be full tomorrow": Scenario(
        healthy_but(("sqs_exporter_ledger_volume_available_bytes", growing(-5e4, start=5e9), {})),
        8 * HOUR,
        (("SqsExporterVolumeFilling", TARGET),),
    ),
    "messages that were not rejected are given up": Scenario(
        healthy_but(("sqs_dead_letter_queue_messages", switched((0, 2), (5 * HOUR, 9)), {})),
        6 * HOUR,
        (("SqsExporterDeadLetters", {**KEPT, "dead_letter_queue": "events-dead-letters"}),),
    ),
    "types overflow": Scenario(
        healthy_but(("sqs_exporter_events_overflowed_total", growing(0.01, since=HOUR), {"limit": "types"})),
        70 * MINUTE,
        (("SqsExporterOverflow", {**KEPT, "limit": "types"}),),
    ),
    "its clock is a minute slow": Scenario(
        healthy_but(("sqs_exporter_clock_skew_seconds", always(-60.0), {})), HOUR, (("SqsExporterClockSkew", TARGET),)
    ),
    "pushes fail": Scenario(
        healthy_but(("sqs_exporter_otlp_push_failures_total", growing(1 / MINUTE), {"signal": "metrics"})),
        HOUR,
        (("SqsExporterOtlpPushFailures", {**TARGET, "signal": "metrics"}),),
    ),
    "the queue's depth is denied": Scenario(
        [one for one in healthy() if one.name != "sqs_queue_messages"], HOUR, (("SqsExporterDepthUnknown", QUEUE),)
    ),
    "a type stops that had thirty events an hour": Scenario(
        events_of_a_fortnight(purchase=LAST_WEEK_ONLY, busy=growing(0.1)),
        WEEK + 3.5 * HOUR,
        (("SqsExporterTypeSilent", {**KEPT, "type": "purchase"}),),
    ),
    "all types stop": Scenario(
        events_of_a_fortnight(purchase=LAST_WEEK_ONLY, busy=LAST_WEEK_ONLY),
        WEEK + 3.5 * HOUR,
        (("SqsExporterQueueSilent", KEPT),),
    ),
}
