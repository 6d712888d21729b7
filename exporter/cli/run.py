"""`run`: builds the parts in the order data flows, starts them, and stops them in the order written here."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from exporter.cli.build import this_build
from exporter.cli.command_line import configure
from exporter.consumer.deletions import max_delete_calls
from exporter.consumer.loop import Consumer
from exporter.consumer.recorder import Recorder
from exporter.errors import WrongSettingError
from exporter.ledger.sqlite.ledger import SqliteLedger
from exporter.sqs.aws import connect, queue_name_of
from exporter.sqs.calls import Calls
from exporter.sqs.housekeeping import Housekeeping
from exporter.summary import Summary
from exporter.telemetry.instrumentation import Instrumentation
from exporter.telemetry.metrics import Health, LedgerCollector, names, new_registry
from exporter.telemetry.otlp import environment as open_telemetry
from exporter.telemetry.readiness import Readiness
from exporter.web import LandingPage, WebServer
from exporter.web.config import read_web_config
from exporter.web.zero_first import ZeroFirst

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from exporter.cli.command_line import Invocation
    from exporter.settings import Settings
    from exporter.sqs import QueueDepth
    from exporter.sqs.aws import Connection
    from exporter.telemetry.otlp.environment import Wanted
    from exporter.telemetry.otlp.running import OpenTelemetry

log = logging.getLogger("exporter")

SWITCH_SECONDS = 0.001


def execute(invocation: Invocation) -> int:
    """Count the queue's events. Raises ExporterError."""
    return run(configure(invocation))


def run(settings: Settings, connection: Connection | None = None) -> int:
    """Count the queue's events until a signal comes, or until the queue is empty where that was asked for.

    `connection` is for an SQS of one's own; without it AWS's own settings say which. Raises ExporterError.
    """
    # As a container's first process it would not be ended by a signal that it does not handle.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    started_seconds = time.time()
    telemetry_wanted = open_telemetry.wanted(os.environ)
    queue_name = queue_name_of(settings.queue)
    connection = connection or connect()
    web_config = read_web_config(str(settings.web.config_file)) if settings.web.config_file else None

    with ExitStack() as stopping:
        ledger = SqliteLedger(
            str(settings.ledger.path),
            queue_name=queue_name,
            types=settings.events.types,
            max_types=settings.events.max_types,
            window_seconds=settings.ledger.window_seconds,
            max_ids=settings.ledger.max_ids,
        )
        stopping.callback(ledger.close)
        registry = new_registry()
        telemetry = None
        if telemetry_wanted is not None:
            telemetry = _open_telemetry(telemetry_wanted, connection, ledger, depth=lambda: housekeeping.depth)
        instrumentation = Instrumentation(
            Health(registry, queue_name), queue_name, None if telemetry is None else telemetry.telemetry
        )
        readiness = Readiness()
        housekeeping = Housekeeping(connection, settings.queue, listener=instrumentation)
        calls = Calls(
            max_connections=settings.sqs.max_receives + max_delete_calls(settings.sqs.max_receives),
            request_trace_context=telemetry_wanted is not None and telemetry_wanted.traces is not None,
        )
        consumer = Consumer(
            calls=calls,
            recorder=Recorder(ledger, instrumentation, readiness),
            housekeeping=housekeeping,
            instrumentation=instrumentation,
            readiness=readiness,
            max_receives=settings.sqs.max_receives,
            wait_seconds=settings.sqs.wait_seconds,
            on_invalid=settings.sqs.on_invalid,
            require_timestamp=settings.events.require_timestamp,
            shutdown_timeout_seconds=settings.shutdown.timeout_seconds,
            until_empty=settings.until_empty,
        )
        registry.register(
            LedgerCollector(
                queue_name,
                snapshot=lambda: ledger.snapshot,
                depth=lambda: housekeeping.depth,
                ready=lambda: readiness.why_not() is None,
                revision=this_build().revision,
            ),
        )
        summary = Summary(lambda: ledger.snapshot, sys.stdout, settings.summary.interval_seconds)
        web = WebServer(
            registry,
            host=settings.web.host,
            port=settings.web.port,
            telemetry_path=settings.web.telemetry_path,
            created_timestamps=settings.web.created_timestamps,
            web_config=web_config,
            zero_first=ZeroFirst({names.EVENTS.name, names.VALUES.name, names.NEGATIVES.name}, lambda: started_seconds),
            healthy=readiness.healthy,
            ready=readiness.why_not,
            page=lambda: LandingPage(
                version=str(this_build()),
                started_seconds=started_seconds,
                ready=readiness.why_not() is None,
                state=readiness.why_not() or "Ready: receiving and counting.",
                snapshots={queue_name: ledger.snapshot},
                depths={} if housekeeping.depth is None else {queue_name: housekeeping.depth},
                max_messages=settings.ledger.max_ids,
            ),
        )

        web.start()
        stopping.callback(web.stop)
        stopping.callback(summary.stop)
        _say_what_starts(settings, connection, ledger, web)
        summary.start()
        housekeeping.start()
        stopping.callback(housekeeping.stop)
        stopping.callback(calls.close)
        if telemetry is not None:
            telemetry.start()
            stopping.callback(telemetry.stop)
        # What stands from here on is never garbage: a look through all of it holds every thread up for 50 ms.
        gc.freeze()
        # A thread that wants Python's lock gets it after this long. The default of 5 ms, after each call into SQLite
        # and libcurl, would hold the consumer up for tens of milliseconds while a large exposition is encoded.
        sys.setswitchinterval(SWITCH_SECONDS)
        with _signals(consumer):
            consumer.run()
        ledger.close()
    return 0


@contextmanager
def _signals(consumer: Consumer) -> Iterator[None]:
    """Let the first SIGTERM or SIGINT stop the loop in order, and the second end the process at once."""

    def handle(number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        log.info("stopping", extra={"signal": signal.Signals(number).name})
        consumer.stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _open_telemetry(
    wanted: Wanted, connection: Connection, ledger: SqliteLedger, *, depth: Callable[[], QueueDepth | None]
) -> OpenTelemetry:
    from exporter.telemetry.otlp.running import OpenTelemetry  # noqa: PLC0415 - half a second, for those who ask for it

    try:
        return OpenTelemetry(
            wanted,
            queue_name=ledger.snapshot.queue_name,
            endpoint_url=connection.endpoint_url,
            snapshot=lambda: ledger.snapshot,
            depth=depth,
        )
    except (ValueError, RuntimeError, OSError) as error:
        raise WrongSettingError(f"OpenTelemetry's environment variables (OTEL_*) are wrong: {error}") from error


def _say_what_starts(settings: Settings, connection: Connection, ledger: SqliteLedger, web: WebServer) -> None:
    path = str(settings.ledger.path.absolute())
    snapshot = ledger.snapshot
    log.info(
        "starting",
        extra={
            "version": this_build().version,
            "revision": this_build().revision,
            "queue": settings.queue,
            "region": connection.region,
            "endpoint": connection.endpoint_url,
            "ledger": path,
            "events_taken_up": snapshot.counted,
            "types_taken_up": len(snapshot.types),
            "messages_remembered": snapshot.messages,
            "listening": web.url,
        },
    )
    if ledger.is_new:
        log.warning(
            "the ledger is new: counts start at 0, and messages that were counted elsewhere are not recognised",
            extra={"ledger": path},
        )
