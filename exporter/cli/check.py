"""`check`: says whether a run would work. It counts, receives and deletes nothing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from exporter.cli.command_line import configure
from exporter.errors import LedgerError
from exporter.ledger import QueueIdentity
from exporter.ledger.sqlite.ledger import SqliteLedger
from exporter.sqs.aws import connect
from exporter.sqs.lookups import find
from exporter.telemetry.otlp import environment as open_telemetry
from exporter.web.config import read_web_config

if TYPE_CHECKING:
    from exporter.cli.command_line import Invocation
    from exporter.settings import Settings
    from exporter.sqs import QueueAttributes


def execute(invocation: Invocation) -> int:
    """Print what a run would find, a line each; returns 1 where something stands in its way. Raises ExporterError.

    The queue is asked for its attributes only: a receive would count towards its maxReceiveCount.
    """
    settings = configure(invocation)
    open_telemetry.wanted(os.environ)
    connection = connect()
    if settings.web.config_file:
        read_web_config(str(settings.web.config_file))
    print(f"settings: right; SQS in region {connection.region} at {connection.endpoint_url}")
    _, attributes = find(connection, settings.queue[0])
    print(
        f"queue: {attributes.arn}, visibility timeout {attributes.visibility_timeout_seconds} s, dead-letter queue "
        f"{attributes.dead_letter_queue_arn or 'none'}",
    )
    return _check_ledger(settings, attributes)


def _check_ledger(settings: Settings, attributes: QueueAttributes) -> int:
    path = settings.ledger.path
    if not path.exists():
        print(f"ledger: {path} is not there yet, run will make it: counts start at 0")
        return 0
    try:
        ledger = SqliteLedger(str(path), lock_timeout_seconds=0)
        try:
            if ledger.problem is not None:
                raise ledger.problem
            ledger.bind(QueueIdentity(attributes.name, attributes.arn))
            snapshots = ledger.snapshots.values()
            events, ids = sum(one.counted for one in snapshots), sum(one.messages for one in snapshots)
            print(f"ledger: {path} holds {events} events, {ids} ids remembered")
        finally:
            ledger.close()
    except LedgerError as error:
        if error.reason != "locked":
            raise
        print(f"ledger: {path} is in use, by a running exporter")
    return 0
