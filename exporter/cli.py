"""The command line: which commands there are, what each needs, and how the program ends."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from exporter import failpoint, logs
from exporter.build import PROGRAM
from exporter.command_line import Command, Invocation, read_command_line
from exporter.errors import ExporterError, WrongSettingError
from exporter.settings import Settings
from exporter.settings.setting import Group, Setting, places
from exporter.settings.sources import read_options, read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.otlp.sending import Sending

INTERRUPTED = 128 + signal.SIGINT
PIPE_CLOSED = 128 + signal.SIGPIPE


class PeekOptions(Group):
    """What peek shows."""

    count: Annotated[
        int,
        Field(ge=1, le=1_000),
        Setting("count", "how many messages to show at most", "a whole number from 1 to 1000", "N"),
    ] = 10


class ProduceOptions(Group):
    """What produce sends."""

    rate: Annotated[
        float | None,
        Field(gt=0, le=1_000_000, allow_inf_nan=False),
        Setting("rate", "messages a second; default 10, or as fast as it goes with --count", "a number above 0", "N"),
    ] = None
    count: Annotated[
        int | None,
        Field(ge=1),
        Setting(
            "count", "how many messages to send, instead of sending until it is stopped", "a whole number above 0", "N"
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


EVERY = frozenset(place.setting.key for place in places(Settings))
SHARED = frozenset({"queue", "config.file", "log.level", "log.format"})
DEFAULT_RATE = 10.0
DEMO_INTERVAL = "2s"
COMMANDS = {
    "run": Command("count the events of a queue", EVERY),
    "demo": Command(
        "show it all, on an SQS of its own and with a producer",
        EVERY - {"queue", "until-empty"},
        defaults={"ledger.path": "a temporary file", "summary.interval": DEMO_INTERVAL},
        # Neither a real queue nor a real ledger is touched because a variable or a file happens to name it.
        flag_only={"queue", "ledger.path"},
    ),
    "produce": Command("send events into a queue, and account for them at the end", SHARED, ProduceOptions),
    "check": Command("say whether settings, queue and ledger are fit for run", EVERY - {"until-empty"}),
    "peek": Command(
        "show how some messages would be counted, and leave them in the queue",
        SHARED | {"events.require-timestamp"},
        PeekOptions,
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 2 for a wrong usage or setting, 1 for what fails later."""
    try:
        code = _main(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except ExporterError as error:
        print(f"{PROGRAM}: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more at exit, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    return code


def _main(arguments: Sequence[str]) -> int:
    try:
        invocation = read_command_line(arguments, COMMANDS)
    except SystemExit:
        return 0
    if invocation is None:
        return WrongSettingError.exit_code
    failpoint.arm(os.environ)
    if invocation.command == "demo":
        return _demo(invocation)
    settings = read_settings(invocation.settings, os.environ)
    options = read_options(COMMANDS[invocation.command].options or Group, invocation.options)
    logs.configure(settings.log.level, settings.log.format)
    if isinstance(options, ProduceOptions):
        return _produce(settings.queue, options)
    from exporter import app, inspection

    if isinstance(options, PeekOptions):
        return inspection.peek(settings, count=options.count)
    return inspection.check(settings) if invocation.command == "check" else app.run(settings)


def _demo(invocation: Invocation) -> int:
    from exporter import app, demo

    with tempfile.TemporaryDirectory(prefix=f"{PROGRAM}-") as directory:
        settings = read_settings(
            invocation.settings,
            os.environ,
            defaults={
                "queue": demo.QUEUE,
                "ledger.path": str(Path(directory, "ledger.db")),
                "summary.interval": DEMO_INTERVAL,
            },
            flag_only=COMMANDS["demo"].flag_only,
        )
        logs.configure(settings.log.level, settings.log.format)
        return app.demo(settings)


def _produce(queue: str, options: ProduceOptions) -> int:
    from exporter import produce

    with _tracing(queue) as trace:
        produce.run(
            queue,
            rate=options.rate or (None if options.count else DEFAULT_RATE),
            count=options.count,
            seed=options.seed,
            invalid_fraction=options.invalid_fraction,
            duplicate_fraction=options.duplicate_fraction,
            trace=trace,
        )
    return 0


@contextlib.contextmanager
def _tracing(queue: str) -> Iterator[Sending | None]:
    from exporter.otlp import environment

    wanted = environment.wanted(os.environ)
    if wanted is None or wanted.traces is None:
        yield None
        return
    from exporter.otlp.sending import Sending
    from exporter.sqs.connection import queue_name_of

    sending = Sending(wanted, queue_name_of(queue))
    try:
        yield sending
    finally:
        sending.stop()
