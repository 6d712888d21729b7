"""Which commands there are, what each needs, and how the program ends.

The module of a command has its name and an `execute`. It is imported when it is asked for, so that `--help` and a wrong
flag are answered at once.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING

from exporter.cli.build import PROGRAM
from exporter.cli.command_line import Command, read_command_line
from exporter.cli.options import (
    DEMO_FLAG_ONLY,
    DEMO_SUMMARY_INTERVAL,
    CheckOptions,
    DemoOptions,
    LedgerActionOptions,
    PeekOptions,
    ProduceOptions,
)
from exporter.errors import ExporterError, WrongSettingError
from exporter.ledger import failpoint
from exporter.settings import Settings
from exporter.settings.setting import setting_fields
from exporter.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED = 128 + signal.SIGINT
PIPE_CLOSED = 128 + signal.SIGPIPE
CANNOT_WRITE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EBADF, errno.EFBIG})
"""What a full or broken stdout answers."""


EVERY = frozenset(field.setting.key for field in setting_fields(Settings))
READING = frozenset(
    f"events.{name}"
    for name in ("type-field", "value-field", "timestamp-field", "require-timestamp", "id-field", "envelope", "labels")
)
SHARED = frozenset({"queue", "config.file", "log.level", "log.format"})
LEDGER = frozenset({"ledger.path", "ledger.url", "config.file", "log.level", "log.format"})
COMMANDS = {
    "run": Command(
        "count the events of the queues",
        EVERY,
        (
            "run --queue orders --ledger.path /var/lib/orders/ledger.db",
            "run --queue 'shop-*' --ledger.path ledger.db --events.type-field detail.kind --events.labels country",
            "run --queue orders --ledger.url postgresql://exporter@db.example/shop",
            "run --config.file exporter.yml --until-empty",
        ),
    ),
    "demo": Command(
        "show it all, on an SQS of its own and with a producer",
        EVERY - {"queue", "until-empty"},
        ("demo", "demo --queues 3"),
        DemoOptions,
        defaults={"ledger.path": "a temporary file", "summary.interval": DEMO_SUMMARY_INTERVAL},
        flag_only=DEMO_FLAG_ONLY,
    ),
    "produce": Command(
        "send events into a queue, and account for them at the end",
        SHARED,
        ("produce --queue orders --count 1000",),
        ProduceOptions,
    ),
    "check": Command(
        "say line by line whether run will work here",
        EVERY - {"until-empty", "until-empty-timeout"},
        (
            "check --queue orders --ledger.path /var/lib/orders/ledger.db",
            "check --queue orders --print-iam-policy",
        ),
        CheckOptions,
    ),
    "peek": Command(
        "show how some messages would be counted, and give them back",
        SHARED | READING,
        ("peek --queue orders", "peek --queue orders --events.envelope sns"),
        PeekOptions,
    ),
    **{
        f"ledger {action}": Command(
            what,
            LEDGER | ({"ledger.name"} if action in {"show", "restore", "export"} else frozenset()),
            (f"ledger {action} --ledger.path ledger.db{rest}",),
            LedgerActionOptions,
            option_keys=option_keys,
        )
        for action, what, option_keys, rest in (
            ("show", "show what a stopped ledger holds, or one in PostgreSQL", {"format"}, ""),
            ("verify", "look through a stopped ledger: every row, and whether the accounts add up", (), ""),
            ("backup", "copy a stopped ledger to another file", {"to"}, " --to backup.db"),
            (
                "restore",
                "put a backup in place, under a new name, so that no counter falls",
                {"from"},
                " --from backup.db",
            ),
            (
                "export",
                "write a stopped ledger, a file or in PostgreSQL, to stdout as lines of JSON",
                (),
                " >ledger.jsonl",
            ),
            (
                "import",
                "make a ledger, a file or in PostgreSQL, of what export wrote, from stdin",
                (),
                " <ledger.jsonl",
            ),
            (
                "forget-type",
                "take a type of events away, with all that was counted of it",
                {"type", "queue"},
                " --type page_veiw",
            ),
            (
                "rebind",
                "let a queue's rows belong to another queue of the same name",
                {"queue", "arn"},
                " --queue orders --arn arn:aws:sqs:eu-west-1:123456789012:orders",
            ),
        )
    },
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code: 2 for a wrong usage or setting, 1 for what fails later."""
    _open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        # A path or a type may hold what the terminal's encoding has no letter for.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _main(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except ExporterError as error:
        logs.say(f"{PROGRAM}: {' '.join(str(error).split())}")
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes stdout once more at exit, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except OSError as error:
        if error.errno not in CANNOT_WRITE or error.filename is not None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        logs.say(f"{PROGRAM}: stdout can't be written: {error.strerror}")
        return ExporterError.exit_code
    return code


def _open_closed_streams() -> None:
    """Let nothing else, such as the ledger, be opened as a standard stream that was closed (`>&-`)."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - until the process ends


def _main(arguments: Sequence[str]) -> int:
    try:
        invocation = read_command_line(arguments, COMMANDS)
    except SystemExit:
        return 0
    if invocation is None:
        return WrongSettingError.exit_code
    failpoint.arm(os.environ)
    command = import_module(f"exporter.cli.{invocation.command.partition(' ')[0]}")
    return int(command.execute(invocation))
