"""The options that single commands have beside the settings."""

from typing import Annotated, Literal

from pydantic import Field

from exporter.settings.setting import Group, NonEmptyPath, Setting

DEMO_SUMMARY_INTERVAL = "2s"
"""How often demo prints the summary, unless its flag says otherwise."""

DEMO_FLAG_ONLY = frozenset({"queue", "ledger.path"})
"""Neither a real queue nor a real ledger is touched because a variable or a file happens to name it."""


class CheckOptions(Group):
    """What check does and prints."""

    format: Annotated[
        Literal["text", "json"],
        Setting("format", "text for people, or one JSON object", "text or json", "FORMAT"),
    ] = "text"
    receive: Annotated[
        bool,
        Setting(
            "receive",
            "also receive one message of each queue, which counts towards maxReceiveCount, and give it back",
            "true or false",
            "true|false",
        ),
    ] = False
    print_iam_policy: Annotated[
        bool,
        Setting(
            "print-iam-policy",
            "only print the IAM policy that run needs for these settings",
            "true or false",
            "true|false",
        ),
    ] = False


class LedgerActionOptions(Group):
    """What the ledger commands take beside the ledger itself; each takes some of it."""

    format: Annotated[
        Literal["text", "json"],
        Setting("format", "text for people, or one JSON object", "text or json", "FORMAT"),
    ] = "text"
    to: Annotated[
        NonEmptyPath | None,
        Setting("to", "the backup to write; default the ledger's path and .backup", "the path of a file", "PATH"),
    ] = None
    from_: Annotated[
        NonEmptyPath | None,
        Setting("from", "the backup to restore; default the ledger's path and .backup", "the path of a file", "PATH"),
    ] = None
    type: Annotated[
        Annotated[str, Field(min_length=1, max_length=128)] | None,
        Setting("type", "the type of events to forget", "a type, such as page_veiw", "TYPE"),
    ] = None
    queue: Annotated[
        str | None,
        Setting("queue", "the queue whose rows are changed, as the ledger names it", "a queue's name", "NAME"),
    ] = None
    arn: Annotated[
        str | None,
        Setting(
            "arn",
            "the queue that the rows are to belong to",
            "an ARN such as arn:aws:sqs:eu-west-1:123456789012:orders",
            "ARN",
        ),
    ] = None


class PeekOptions(Group):
    """What peek shows."""

    count: Annotated[
        int,
        Field(ge=1, le=1_000),
        Setting("count", "how many messages to show at most", "a whole number from 1 to 1000", "N"),
    ] = 10
    force: Annotated[
        bool,
        Setting(
            "force",
            "look although the queue has a redrive policy, so that looks can move messages to its dead-letter queue",
            "true or false",
            "true|false",
        ),
    ] = False


class ProduceOptions(Group):
    """What produce sends."""

    rate: Annotated[
        float | None,
        Field(ge=0.000001, le=1_000_000, allow_inf_nan=False),
        Setting(
            "rate",
            "messages a second; default 10, or as fast as it goes with --count",
            "a number from 0.000001 to 1000000",
            "N",
        ),
    ] = None
    count: Annotated[
        int | None,
        Field(ge=1, le=1_000_000_000_000),
        Setting(
            "count",
            "how many messages to send, instead of sending until it is stopped",
            "a whole number from 1 to 1000000000000",
            "N",
        ),
    ] = None
    seed: Annotated[
        int | None,
        Setting("seed", "makes the same messages again", "a whole number", "N"),
    ] = None
    invalid_fraction: Annotated[
        float,
        Field(ge=0, le=1, allow_inf_nan=False),
        Setting("invalid-fraction", "how many of the messages are not an event", "a number from 0 to 1", "F"),
    ] = 0.0
    duplicate_fraction: Annotated[
        float,
        Field(ge=0, le=1, allow_inf_nan=False),
        Setting("duplicate-fraction", "how many of the messages are sent again", "a number from 0 to 1", "F"),
    ] = 0.0
    event_ids: Annotated[
        bool,
        Setting(
            "event-ids",
            "give each event an id of its own in the field id, which a duplicate repeats (see --events.id-field)",
            "true or false",
            "true|false",
        ),
    ] = False


class DemoOptions(Group):
    """What demo shows."""

    queues: Annotated[
        int,
        Field(ge=1, le=10),
        Setting("queues", "how many queues to count, each with a producer", "a whole number from 1 to 10", "N"),
    ] = 1
