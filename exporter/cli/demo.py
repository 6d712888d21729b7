"""`demo`: a run on an SQS of its own, with a producer for each queue, a temporary ledger and nothing to set up."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from exporter.cli import embedded_sqs
from exporter.cli.demo_show import DemoShow
from exporter.cli.options import DEMO_FLAG_ONLY, DEMO_SUMMARY_INTERVAL, DemoOptions
from exporter.cli.run import run
from exporter.cli.temporary import temporary_directory
from exporter.cli.terminal import on_a_terminal
from exporter.settings.sources import read_options, read_settings
from exporter.telemetry import logs

if TYPE_CHECKING:
    from exporter.cli.command_line import Invocation

log = logging.getLogger("exporter")

SHUTDOWN_SECONDS = 1.5
"""Nobody who ends a demo waits for its last long poll."""


def execute(invocation: Invocation) -> int:
    """Run until a signal comes, then prove that what was sent was counted. Raises ExporterError."""
    # The table says what the summary and the log would.
    live = on_a_terminal() and sys.stdout is not None and sys.stdout.isatty()
    options = read_options(DemoOptions, invocation.options)
    with temporary_directory() as directory:
        settings = read_settings(
            invocation.settings,
            os.environ,
            defaults={
                "queue": embedded_sqs.QUEUE,
                "ledger.path": str(directory / "ledger.db"),
                "summary.interval": "0" if live else DEMO_SUMMARY_INTERVAL,
                **({"log.level": "error"} if live else {}),
            },
            flag_only=DEMO_FLAG_ONLY,
        )
        logs.configure(settings.log.level, settings.log.format)
        shutdown = settings.shutdown.model_copy(
            update={"timeout_seconds": min(settings.shutdown.timeout_seconds, SHUTDOWN_SECONDS)},
        )
        if live:
            logs.say("starting an SQS of its own, which takes some seconds")
        with embedded_sqs.running(queues=options.queues) as sqs:
            page = f"http://{'' if settings.web.host else 'localhost'}{settings.web.listen_address}/"
            log.info(
                "events are on their way: their counts follow on stdout, and in the browser as a page and as metrics",
                extra={"page": page, "end_it_with": "Ctrl-C"},
            )
            return run(
                settings.model_copy(update={"queue": sqs.queues, "shutdown": shutdown}),
                sqs.connection,
                DemoShow(sqs, page, live=live),
            )
