"""What can be set, with its defaults and rules: one frozen `Settings`, read once at the start.

Each field carries a `Setting`: its flag, its environment variable, its help and the rule that a wrong value broke.
Where values come from is the business of `exporter.settings.sources`.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from exporter.events.mapping import EventMapping
from exporter.settings.events import EventsSettings, QueueSettings, all_label_names, mapping_of
from exporter.settings.setting import (
    Group,
    LedgerName,
    LedgerUrl,
    Level,
    ListenAddress,
    NonEmptyPath,
    Queues,
    Seconds,
    Setting,
    TelemetryPath,
    split_listen_address,
)


class SqsSettings(Group):
    """How messages are taken from SQS."""

    max_receives: Annotated[
        int,
        Field(ge=1, le=256),
        Setting("sqs.max-receives", "receives in flight at once", "a whole number from 1 to 256", "N"),
    ] = 16
    wait_seconds: Annotated[
        int,
        Field(ge=0, le=20),
        Setting("sqs.wait-seconds", "how long a receive waits for messages", "a whole number from 0 to 20", "N"),
    ] = 20
    batch_window_seconds: Annotated[
        Seconds,
        Field(ge=0, le=60),
        Setting(
            "sqs.batch-window",
            "how long receives and deletes wait for ten messages to gather, because SQS bills each request; 0 is off",
            "a duration up to 1m, such as 1s",
            "DURATION",
        ),
    ] = 1.0
    on_invalid: Annotated[
        Literal["auto", "delete", "leave"],
        Setting(
            "sqs.on-invalid",
            "what becomes of a message that is not an event: delete it, leave it to the queue's redrive policy, or "
            "auto: leave it where there is such a policy, else delete it",
            "auto, delete or leave",
            "WHAT",
        ),
    ] = "auto"


class LedgerSettings(Group):
    """Where the counts are kept, and how long messages are remembered."""

    path: Annotated[
        NonEmptyPath,
        Setting("ledger.path", "the file that keeps the counts", "the path of a file", "PATH"),
    ] = Path("ledger.db")
    url: Annotated[
        LedgerUrl | None,
        Setting(
            "ledger.url",
            "the PostgreSQL database that keeps the counts of several replicas, instead of a file",
            "a URL such as postgresql://exporter@db.example:5432/exporter; the password belongs in PGPASSFILE",
            "URL",
        ),
    ] = None
    name: Annotated[
        LedgerName | None,
        Setting(
            "ledger.name",
            "the ledger's name, the label `ledger` of its metrics; given when it is made, else random",
            "1 to 63 of a-z, A-Z, 0-9, . _ and -, such as shop-eu",
            "NAME",
        ),
    ] = None
    window_seconds: Annotated[
        Seconds,
        Field(ge=1, le=14 * 86_400),
        Setting(
            "ledger.window",
            "how long a message is remembered, to recognise a redelivery; at least twice the visibility timeout",
            "a duration from 1s to 14d, such as 1h",
            "DURATION",
        ),
    ] = 3_600.0
    max_ids: Annotated[
        int,
        Field(ge=1_000, le=1_000_000_000),
        Setting(
            "ledger.max-ids",
            "how many messages are remembered at most; more messages an hour than this need more",
            "a whole number from 1000 to 1000000000",
            "N",
        ),
    ] = 2_000_000


class WebSettings(Group):
    """The web server."""

    listen_address: Annotated[
        ListenAddress,
        Setting(
            "web.listen-address",
            "where to listen; without a host on all addresses, IPv4 and IPv6",
            "host:port, such as 127.0.0.1:9797, :9797 or [::1]:9797",
            "ADDRESS",
        ),
    ] = "127.0.0.1:9797"
    telemetry_path: Annotated[
        TelemetryPath,
        Setting(
            "web.telemetry-path",
            "the path of the metrics",
            "a path such as /metrics, of letters, digits and . _ ~ -, other than /-/healthy and /-/ready",
            "PATH",
        ),
    ] = "/metrics"
    config_file: Annotated[
        NonEmptyPath | None,
        Setting(
            "web.config.file", "TLS and passwords, as in Prometheus' exporter-toolkit", "the path of a file", "PATH"
        ),
    ] = None
    zero_first: Annotated[
        bool,
        Setting(
            "web.zero-first",
            "show a new series to Prometheus as 0 once before its value, so that increase() counts its first events",
            "true or false",
            "true|false",
        ),
    ] = True
    created_timestamps: Annotated[
        bool,
        Setting(
            "web.created-timestamps",
            "add _created lines to OpenMetrics; they double the series of a default Prometheus",
            "true or false",
            "true|false",
        ),
    ] = False

    @property
    def host(self) -> str:
        """The host of `listen_address` without brackets; "" means all addresses."""
        return split_listen_address(self.listen_address)[0]

    @property
    def port(self) -> int:
        """The port of `listen_address`; 0 lets the system choose."""
        return split_listen_address(self.listen_address)[1]


class SummarySettings(Group):
    """The summary on stdout."""

    interval_seconds: Annotated[
        Seconds,
        Field(ge=0, le=86_400),
        Setting(
            "summary.interval",
            "how often the summary is printed; 0 is never",
            "a duration up to 1d, such as 10s",
            "DURATION",
        ),
    ] = 10.0


class ShutdownSettings(Group):
    """The end."""

    timeout_seconds: Annotated[
        Seconds,
        Field(ge=0, le=3_600),
        Setting(
            "shutdown.timeout",
            "how long open receives may still answer after SIGTERM",
            "a duration up to 1h, such as 4s",
            "DURATION",
        ),
    ] = 4.0


class LogSettings(Group):
    """The log on stderr."""

    level: Annotated[
        Level,
        Setting("log.level", "the least that is logged", "debug, info, warn or error", "LEVEL", "LOG_LEVEL"),
    ] = "info"
    format: Annotated[
        Literal["auto", "text", "logfmt", "json"],
        Setting(
            "log.format",
            "text for people, logfmt, json, or auto: text on a terminal, else logfmt",
            "auto, text, logfmt or json",
            "FORMAT",
        ),
    ] = "auto"


class Settings(Group):
    """The queue, and all other settings."""

    queue: Annotated[
        Queues,
        Setting(
            "queue",
            "the queues: names, URLs, or prefixes such as shop-*; several with commas or by several flags",
            "a name (1 to 80 letters, digits, - and _, .fifo may follow), a URL without user, password and query, or a "
            "prefix with * at its end; several with commas, such as orders,shop-*",
            "NAME",
            "SQS_QUEUE_NAME",
            several=True,
        ),
    ]
    until_empty: Annotated[
        bool,
        Setting("until-empty", "end when the queue has nothing more to give", "true or false", "true|false"),
    ] = False
    until_empty_timeout_seconds: Annotated[
        Seconds,
        Field(ge=1, le=86_400),
        Setting(
            "until-empty-timeout",
            "with --until-empty: end with 1 when nothing has worked for so long",
            "a duration from 1s to 1d, such as 60s",
            "DURATION",
        ),
    ] = 60.0
    config_file: Annotated[
        NonEmptyPath | None,
        Setting("config.file", "a YAML file with settings, by the names of their flags", "the path of a file", "PATH"),
    ] = None
    sqs: SqsSettings = SqsSettings()
    events: EventsSettings = EventsSettings()
    ledger: LedgerSettings = LedgerSettings()
    web: WebSettings = WebSettings()
    summary: SummarySettings = SummarySettings()
    shutdown: ShutdownSettings = ShutdownSettings()
    log: LogSettings = LogSettings()
    queues: tuple[QueueSettings, ...] = ()
    """What holds for single queues, from the file alone."""

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels of every event beside its type, in the order of `EventMapping.labels`."""
        return all_label_names(self.events, self.queues)

    def event_mapping(self, queue_name: str) -> EventMapping:
        """Return how the events of the queue of that name are read."""
        return mapping_of(queue_name, self.events, self.queues)
