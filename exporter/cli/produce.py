"""`produce`: sends the events of a sample shop into a queue."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from exporter.cli.command_line import configure, one_queue
from exporter.cli.options import ProduceOptions
from exporter.cli.terminal import Counting
from exporter.producer import produce as producer
from exporter.producer.account import Account
from exporter.settings.sources import read_options
from exporter.sqs.names import queue_name_of
from exporter.telemetry.otlp import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.cli.command_line import Invocation
    from exporter.telemetry.otlp.sending import Sending

DEFAULT_RATE = 10.0
"""Messages a second, where neither a rate nor a count is asked for."""


def execute(invocation: Invocation) -> int:
    """Send until the count is reached or a signal comes. Raises ExporterError."""
    settings, options = configure(invocation), read_options(ProduceOptions, invocation.options)
    queue = one_queue(settings, "produce")
    account = Account()
    with _tracing(queue) as trace, Counting("produce", options.count, lambda: account.messages):
        producer.run(
            queue,
            rate=options.rate or (None if options.count else DEFAULT_RATE),
            count=options.count,
            seed=options.seed,
            invalid_fraction=options.invalid_fraction,
            duplicate_fraction=options.duplicate_fraction,
            event_ids=options.event_ids,
            trace=trace,
            account=account,
        )
    return 0


@contextlib.contextmanager
def _tracing(queue: str) -> Iterator[Sending | None]:
    wanted = environment.wanted(os.environ)
    if wanted is None or wanted.traces is None:
        yield None
        return
    from exporter.telemetry.otlp.sending import Sending  # noqa: PLC0415 - half a second, for those who ask for it

    sending = Sending(wanted, queue_name_of(queue))
    try:
        yield sending
    finally:
        sending.stop()
