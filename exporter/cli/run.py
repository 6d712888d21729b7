"""`run`: builds the parts in the order data flows, starts them, and stops them in the order written here."""

from __future__ import annotations

import gc
import logging
import os
import sys
import time
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING

from exporter.cli.advice import advice
from exporter.cli.build import this_build
from exporter.cli.command_line import configure
from exporter.cli.descriptors import DescriptorLimit
from exporter.cli.opening import open_ledger, say_if_new, taken_up
from exporter.cli.process import handle_first_signals, signals, threads_that_must_live
from exporter.cli.terminal import Counting
from exporter.cli.views import Views
from exporter.consumer.loop import Consumer
from exporter.consumer.options import QueueOptions
from exporter.consumer.recorder import Recorder
from exporter.errors import WrongSettingError
from exporter.events.event import EventParser
from exporter.ledger.sqlite.ledger import SqliteLedger
from exporter.sqs.aws import connect
from exporter.sqs.client import Client
from exporter.sqs.housekeeping import Housekeeping
from exporter.sqs.names import is_prefix
from exporter.summary import Summary
from exporter.telemetry import logs
from exporter.telemetry.instrumentation import Instrumentation
from exporter.telemetry.metrics import Health, names, new_registry
from exporter.telemetry.otlp import environment as open_telemetry
from exporter.telemetry.readiness import Readiness
from exporter.web import WebServer
from exporter.web.config import read_web_config
from exporter.web.zero_first import ZeroFirst

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from prometheus_client import CollectorRegistry

    from exporter.cli.command_line import Invocation
    from exporter.cli.demo_show import DemoShow
    from exporter.ledger.postgres.ledger import PostgresLedger
    from exporter.settings import Settings
    from exporter.sqs.aws import Connection
    from exporter.telemetry.otlp.environment import Wanted
    from exporter.telemetry.otlp.running import OpenTelemetry

log = logging.getLogger("exporter")

SWITCH_SECONDS = 0.001
MAX_CONNECTIONS = 512
"""How many connections to SQS are kept alive when they are idle; each request in flight has one of its own."""


def execute(invocation: Invocation) -> int:
    """Count the queue's events. Raises ExporterError."""
    return run(configure(invocation))


def run(settings: Settings, connection: Connection | None = None, show: DemoShow | None = None) -> int:
    """Count the queues' events until a signal comes, or until they are empty where that was asked for.

    `connection` is for an SQS of one's own; without it AWS's own settings say which. `show` follows a demo. Raises
    ExporterError.
    """
    handle_first_signals()
    started_seconds = time.time()
    descriptors = DescriptorLimit(settings.sqs.max_receives, lambda: len(housekeeping.queues))
    descriptors.require(len(settings.queue))
    telemetry_wanted = open_telemetry.wanted(os.environ)
    connection = connection or connect(queues=settings.queue)
    web_config = read_web_config(str(settings.web.config_file)) if settings.web.config_file else None

    with ExitStack() as stopping:
        ledger = open_ledger(settings)
        stopping.callback(ledger.close)
        housekeeping = Housekeeping(
            connection,
            settings.queue,
            advice=lambda attributes: (*advice(attributes, settings), *descriptors.shortage_once()),
        )
        if not isinstance(ledger, SqliteLedger):
            housekeeping.repeat("PostgreSQL's address", ledger.target.resolve)
        registry = new_registry()
        telemetry = None
        if telemetry_wanted is not None:
            telemetry = _open_telemetry(telemetry_wanted, connection, registry, ledger, housekeeping)
        instrumentation = Instrumentation(Health(registry), None if telemetry is None else telemetry.telemetry)
        readiness = Readiness(
            commit_started_at=lambda: ledger.commit_started_at,
            prefix_problems=lambda: housekeeping.prefix_problems,
            notes=lambda: _notes(housekeeping, summary, descriptors),
        )
        client = Client(
            max_connections=MAX_CONNECTIONS,
            request_trace_context=telemetry_wanted is not None and telemetry_wanted.traces is not None,
        )
        consumer = Consumer(
            client=client,
            recorder=Recorder(ledger, instrumentation, readiness),
            housekeeping=housekeeping,
            instrumentation=instrumentation,
            readiness=readiness,
            options=lambda queue: queue_options(settings, queue),
            max_receives=settings.sqs.max_receives,
            shutdown_timeout_seconds=settings.shutdown.timeout_seconds,
            until_empty=settings.until_empty,
            until_empty_timeout_seconds=settings.until_empty_timeout_seconds,
        )
        views = Views(settings, ledger, housekeeping, readiness, started_seconds=started_seconds)
        registry.register(views.ledger_collector())
        registry.register(views.state_collector(telemetry))
        summary = Summary(
            lambda: ledger.snapshots,
            sys.stdout,
            settings.summary.interval_seconds,
            show_queue=len(settings.queue) > 1 or is_prefix(settings.queue[0]),
        )
        web = WebServer(
            registry,
            host=settings.web.host,
            port=settings.web.port,
            telemetry_path=settings.web.telemetry_path,
            created_timestamps=settings.web.created_timestamps,
            web_config=web_config,
            healthy=readiness.healthy,
            ready=views.ready,
            page=views.landing_page,
            zero_first=ZeroFirst(
                (names.EVENTS.name, names.VALUES.name, names.NEGATIVES.name),
                lambda: max(started_seconds, ledger.speaking_since_seconds),
            )
            if settings.web.zero_first
            else None,
            speaking=lambda: ledger.speaker,
        )

        # From before anybody is told that it listens: who stops it then is to see it end in order, too.
        with signals(consumer, ledger, show), threads_that_must_live(consumer):
            web.start()
            stopping.callback(web.stop)
            stopping.callback(summary.stop)
            _say_what_starts(settings, connection, ledger, web)
            summary.start()
            housekeeping.start()
            stopping.callback(housekeeping.stop)
            stopping.callback(client.close)
            if telemetry is not None:
                telemetry.start()
                stopping.callback(telemetry.stop)
            # What stands from here on is never garbage: a look through all of it holds every thread up for 50 ms.
            gc.freeze()
            # A thread that wants Python's lock gets it after this long. The default of 5 ms, after each call into
            # SQLite and libcurl, would hold the consumer up for tens of milliseconds while a large exposition is
            # encoded.
            sys.setswitchinterval(SWITCH_SECONDS)
            with _progress(settings, ledger, show):
                consumer.run()
        # The lease is given back at the very end, when all was said; a file holds what was settled once it is closed.
        if isinstance(ledger, SqliteLedger):
            ledger.close()
        else:
            ledger.finish()
        summary.stop()
        _say_what_stopped(ledger, show)
    return 0


def queue_options(settings: Settings, queue: str) -> QueueOptions:
    """Return how the settings want a queue to be consumed."""
    mapping = settings.event_mapping(queue)
    return QueueOptions(
        parser=EventParser(mapping),
        on_invalid=settings.sqs.on_invalid,
        max_receives=settings.sqs.max_receives,
        wait_seconds=settings.sqs.wait_seconds,
        batch_window_seconds=settings.sqs.batch_window_seconds,
        until_empty=settings.until_empty,
        event_ids=bool(mapping.id_field),
    )


def _notes(housekeeping: Housekeeping, summary: Summary, descriptors: DescriptorLimit) -> list[str]:
    """Return what `/-/ready` says beside: what does not keep the exporter from counting."""
    found = (logs.stuck(), summary.stuck(), descriptors.shortage())
    return [*(sentence for sentence in found if sentence is not None), *housekeeping.left_out.values()]


def _progress(
    settings: Settings, ledger: SqliteLedger | PostgresLedger, show: DemoShow | None
) -> AbstractContextManager[object]:
    """Show a person at a terminal how far it is: a demo its table, a run that ends by itself a bar."""
    if show is not None:
        show.started(lambda: ledger.snapshots)
    if not settings.until_empty:
        return nullcontext()
    before = sum(snapshot.received for snapshot in ledger.snapshots.values())
    return Counting(
        "run",
        None,
        lambda: sum(snapshot.received for snapshot in ledger.snapshots.values()) - before,
    )


def _open_telemetry(
    wanted: Wanted,
    connection: Connection,
    registry: CollectorRegistry,
    ledger: SqliteLedger | PostgresLedger,
    housekeeping: Housekeeping,
) -> OpenTelemetry:
    from exporter.telemetry.otlp.running import OpenTelemetry  # noqa: PLC0415 - half a second, for those who ask for it

    def queue_url(queue: str) -> str | None:
        state = housekeeping.queues.get(queue)
        return None if state is None or state.target is None else state.target.queue_url

    try:
        return OpenTelemetry(
            wanted,
            registry=registry,
            endpoint_url=connection.endpoint_url,
            ledger=lambda: ledger.name,
            queue_url=queue_url,
        )
    except (ValueError, RuntimeError, OSError) as error:
        raise WrongSettingError(f"OpenTelemetry's environment variables (OTEL_*) are wrong: {error}") from error


def _say_what_starts(
    settings: Settings, connection: Connection, ledger: SqliteLedger | PostgresLedger, web: WebServer
) -> None:
    path = str(settings.ledger.path.absolute()) if isinstance(ledger, SqliteLedger) else str(ledger.target)
    log.info(
        "starting",
        extra={
            "version": this_build().version,
            "revision": this_build().revision,
            "queue": ",".join(settings.queue),
            "region": connection.region,
            "endpoint": connection.endpoint_url,
            "ledger": path,
            "ledger_name": ledger.name,
            **taken_up(ledger),
            "listening": web.url,
        },
    )
    say_if_new(ledger, settings.ledger.path)


def _say_what_stopped(ledger: SqliteLedger | PostgresLedger, show: DemoShow | None) -> None:
    snapshots = ledger.snapshots.values()
    log.info(
        "stopped",
        extra={
            "events": sum(snapshot.counted for snapshot in snapshots),
            "received": sum(snapshot.received for snapshot in snapshots),
            "duplicate": sum(snapshot.duplicate for snapshot in snapshots),
            "rejected": sum(sum(snapshot.rejected.values()) for snapshot in snapshots),
            "unsettled_messages": sum(snapshot.unsettled_messages for snapshot in snapshots),
        },
    )
    if show is not None:
        show.ended()
