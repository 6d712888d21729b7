"""`demo`: a run on an SQS of its own, with a producer, a temporary ledger and nothing to set up."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.cli import embedded_sqs
from exporter.cli.build import PROGRAM
from exporter.cli.options import DEMO_FLAG_ONLY, DEMO_SUMMARY_INTERVAL
from exporter.cli.run import run
from exporter.settings.sources import read_settings
from exporter.telemetry import logs

if TYPE_CHECKING:
    from exporter.cli.command_line import Invocation

log = logging.getLogger("exporter")

SHUTDOWN_SECONDS = 1.5
"""Nobody who ends a demo waits for its last long poll."""


def execute(invocation: Invocation) -> int:
    """Run until a signal comes. Raises ExporterError."""
    with tempfile.TemporaryDirectory(prefix=f"{PROGRAM}-") as directory:
        settings = read_settings(
            invocation.settings,
            os.environ,
            defaults={
                "queue": embedded_sqs.QUEUE,
                "ledger.path": str(Path(directory, "ledger.db")),
                "summary.interval": DEMO_SUMMARY_INTERVAL,
            },
            flag_only=DEMO_FLAG_ONLY,
        )
        logs.configure(settings.log.level, settings.log.format)
        shutdown = settings.shutdown.model_copy(
            update={"timeout_seconds": min(settings.shutdown.timeout_seconds, SHUTDOWN_SECONDS)},
        )
        with embedded_sqs.running() as sqs:
            log.info(
                "events are on their way: their counts follow on stdout, and in the browser as a page and as metrics",
                extra={"page": f"http://{settings.web.listen_address}/", "end_it_with": "Ctrl-C"},
            )
            return run(settings.model_copy(update={"queue": (sqs.queue,), "shutdown": shutdown}), sqs.connection)
