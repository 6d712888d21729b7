"""`ledger`: show, verify, back up, restore, export, import and change a ledger that no exporter has open.

It is a file; `show`, `export` and `import` also work on PostgreSQL.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.cli.options import LedgerActionOptions
from exporter.cli.postgres import export_postgres, import_postgres, read_postgres
from exporter.cli.temporary import temporary_directory
from exporter.errors import ExporterError, LedgerError, WrongSettingError, shown
from exporter.events.event import NANO
from exporter.ledger.sqlite.create import exists
from exporter.ledger.sqlite.database import in_use
from exporter.ledger.sqlite.mark import SUFFIX
from exporter.ledger.sqlite.schema import failure, failures_of
from exporter.ledger.sqlite.stopped import changing, reading
from exporter.ledger.sqlite.transfer import export_lines, import_lines
from exporter.settings.sources import read_options, read_settings
from exporter.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from exporter.cli.command_line import Invocation
    from exporter.ledger import Snapshot
    from exporter.ledger.sqlite.queue_row import Identity
    from exporter.settings import Settings

BACKUP = ".backup"
"""Where a backup is written and looked for, beside the ledger: a running exporter writes it on SIGUSR1."""
REPLACED = ".replaced"
"""Where restore moves what was there."""
ARN = re.compile(r"arn:[^:]+:sqs:[^:]*:[^:]*:[^:]+")
"""https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html; emulators leave some of it empty."""


def execute(invocation: Invocation) -> int:
    """Do what the word after `ledger` says. Raises ExporterError, also while an exporter has the ledger open."""
    # A queue is needed by no ledger command, and there has to be one.
    settings = read_settings(invocation.settings, os.environ, defaults={"queue": "none"})
    logs.configure(settings.log.level, settings.log.format)
    action = invocation.command.partition(" ")[2]
    if settings.ledger.url is not None and action not in _IN_POSTGRES:
        raise WrongSettingError(
            f"ledger {action} works on a file (--ledger.path), and --ledger.url is set: that works with ledger show, "
            f"export and import; what else there is to do in PostgreSQL is done with its own tools, such as pg_dump"
        )
    options = read_options(LedgerActionOptions, invocation.options)
    _ACTIONS[action](settings, options)
    return 0


def _show(settings: Settings, options: LedgerActionOptions) -> None:
    where, identity, snapshots = _read(settings)
    if options.format == "json":
        queues = {name: _as_json(snapshot) for name, snapshot in snapshots.items()}
        print(json.dumps({**identity._asdict(), "queues": queues}, indent=2))
        return
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(identity.created_seconds))
    print(f"{where}: ledger {identity.name}, made {made} UTC, queues: {len(snapshots)}")
    for name, snapshot in snapshots.items():
        print(f"\n{name}  {snapshot.queue_arn or 'not bound to a queue yet'}")
        print(
            f"  received {snapshot.received} = counted {snapshot.counted} + duplicate {snapshot.duplicate} + rejected "
            f"{sum(snapshot.rejected.values())} + released {sum(snapshot.released.values())}"
            + (f" + forgotten {snapshot.events_forgotten}" if snapshot.events_forgotten else "")
        )
        print(
            f"  ids remembered {snapshot.messages}, of messages not known to be deleted {snapshot.unsettled_messages}"
        )
        for type_, totals in sorted(snapshot.types.items()):
            print(f"  {type_}: {totals.count} events, sum {(totals.value_nano - totals.negative_nano) / NANO}")


def _read(settings: Settings) -> tuple[str, Identity, Mapping[str, Snapshot]]:
    """Return where the ledger is, its own row, and what it holds."""
    if settings.ledger.url is not None:
        where, identity, snapshots = read_postgres(settings, settings.ledger.url)
        return f"PostgreSQL at {where}", identity, snapshots
    with reading(str(settings.ledger.path), settings.label_names) as ledger:
        return str(settings.ledger.path), ledger.identity, ledger.snapshots


def _as_json(snapshot: Snapshot) -> dict[str, object]:
    return {
        "arn": snapshot.queue_arn,
        "received": snapshot.received,
        "counted": snapshot.counted,
        "duplicate": snapshot.duplicate,
        "rejected": dict(snapshot.rejected),
        "released": dict(snapshot.released),
        "events_forgotten": snapshot.events_forgotten,
        "messages": snapshot.messages,
        "unsettled_messages": snapshot.unsettled_messages,
        "series": [
            {
                "type": key[0],
                **({"labels": dict(zip(snapshot.label_names, key[1:], strict=True))} if snapshot.label_names else {}),
                "count": totals.count,
                "value_nano": totals.value_nano,
                "negative_nano": totals.negative_nano,
                "created_seconds": totals.created_seconds,
            }
            for key, totals in sorted(snapshot.series.items())
        ],
    }


def _verify(settings: Settings, _options: LedgerActionOptions) -> None:
    with reading(str(settings.ledger.path)) as ledger:
        ledger.check()
        events = sum(snapshot.counted for snapshot in ledger.snapshots.values())
        ids = sum(snapshot.messages for snapshot in ledger.snapshots.values())
    print(f"{settings.ledger.path} is whole: ledger {ledger.name}, {events} events, {ids} ids, every account adds up")


def _backup(settings: Settings, options: LedgerActionOptions) -> None:
    path = settings.ledger.path
    to = options.to or path.with_name(path.name + BACKUP)
    with reading(str(path)) as ledger:
        ledger.check()
        with _named_by("--to"), failures_of(str(to)):
            if exists(str(to)) and to.samefile(path):
                raise WrongSettingError(f"--to is {to}, the ledger itself: use another file")
            _require_regular_file(to)
            # Not the link itself, if it is one: that may be /dev/stdout.
            ledger.copy_to(str(to.resolve()))
    print(f"{to} holds the ledger {ledger.name} of {path}")


def _restore(settings: Settings, options: LedgerActionOptions) -> None:
    path = settings.ledger.path
    backup = options.from_ or path.with_name(path.name + BACKUP)
    with ExitStack() as open_backup:
        with _named_by("--from"):
            ledger = open_backup.enter_context(reading(str(backup)))
            ledger.check()
        before = ledger.name
        if settings.ledger.name == before:
            raise WrongSettingError(
                f"--ledger.name is {before}, the name of the backup: use another one, such as {before}-2, so that its "
                f"series begin anew and no counter falls"
            )
        name = ledger.rename(settings.ledger.name)
        moved = _move_away(path)
        ledger.copy_to(str(path))
    print(f"{path} is the backup {backup} of the ledger {before}, under the name {name}")
    if moved:
        print(f"what was there is now {path}{REPLACED}: remove it when it is needed no more")


@contextmanager
def _named_by(flag: str) -> Iterator[None]:
    """Let what is said of a file that is not the ledger itself name the flag that it comes from."""
    try:
        yield
    except LedgerError as error:
        raise LedgerError(error.reason, str(error).replace("--ledger.path", flag)) from error


def _require_regular_file(path: Path) -> None:
    """Keep a device, a pipe or a directory from being replaced. Raises LedgerError, and OSError as `exists` does."""
    if exists(str(path)) and not path.is_file():
        raise failure(str(path), "unreadable", "it is not a regular file")


def _move_away(path: Path) -> bool:
    """Move a ledger, its log and its mark out of the way; whether there was one."""
    with failures_of(str(path)):
        there = [suffix for suffix in ("", "-wal", SUFFIX) if exists(f"{path}{suffix}")]
        if not there:
            return False
        if exists(f"{path}{REPLACED}"):
            raise LedgerError(
                "unreadable",
                f"{path}{REPLACED} is there from an earlier restore: remove it first, or move it elsewhere",
            )
        _require_regular_file(path)
        if exists(str(path)) and in_use(str(path)):
            raise failure(str(path), "locked", "")
        for suffix in there:
            Path(f"{path}{suffix}").rename(f"{path}{REPLACED}{suffix}")
    return True


def _export(settings: Settings, _options: LedgerActionOptions) -> None:
    if settings.ledger.url is not None:
        for line in export_postgres(settings, settings.ledger.url):
            print(line)
        return
    with reading(str(settings.ledger.path)) as ledger:
        ledger.check()
        for line in export_lines(ledger.identity, ledger.rows()):
            print(line)


def _import(settings: Settings, _options: LedgerActionOptions) -> None:
    if sys.stdin is None or sys.stdin.isatty():
        raise ExporterError("ledger import reads an export on stdin: use `sqs-event-exporter ledger import <FILE`")
    if settings.ledger.url is not None:
        _import_into_postgres(settings.ledger.url, sys.stdin)
        return
    identity = import_lines(str(settings.ledger.path), sys.stdin)
    print(f"{settings.ledger.path} is the ledger {identity.name} as it was exported")


def _import_into_postgres(url: str, lines: Iterable[str]) -> None:
    """Make a file of the lines first: it is the proof that they are whole."""
    with temporary_directory() as directory:
        path = str(directory / "ledger.db")
        import_lines(path, lines)
        with changing(path) as ledger:
            ledger.check()
            where = import_postgres(url, ledger)
            print(f"PostgreSQL at {where} holds the ledger {ledger.name} as it was exported")


def _forget_type(settings: Settings, options: LedgerActionOptions) -> None:
    if options.type is None:
        raise WrongSettingError("--type is missing: use the type to forget, such as page_veiw")
    with changing(str(settings.ledger.path)) as ledger:
        queues = [options.queue] if options.queue else sorted(ledger.snapshots)
        forgotten = {queue: ledger.forget_type(queue, options.type) for queue in queues}
    if not any(forgotten.values()):
        raise ExporterError(f"no event of type {options.type} is counted in {settings.ledger.path}")
    for queue, events in forgotten.items():
        if events:
            print(f"{queue}: {events} events of type {options.type} are forgotten")


def _rebind(settings: Settings, options: LedgerActionOptions) -> None:
    if not options.queue or not options.arn:
        raise WrongSettingError(
            "ledger rebind needs --queue and --arn: use the queue's name and its new ARN, such as --queue orders --arn "
            "arn:aws:sqs:eu-west-1:123456789012:orders"
        )
    if not ARN.fullmatch(options.arn):
        raise WrongSettingError(
            f"--arn is {shown(options.arn)}: use the ARN of a queue, such as arn:aws:sqs:eu-west-1:123456789012:orders"
        )
    if options.arn.rpartition(":")[2] != options.queue:
        raise WrongSettingError(f"--arn is {options.arn}, which is not of a queue named {options.queue}")
    with changing(str(settings.ledger.path)) as ledger:
        if options.queue not in ledger.snapshots:
            known = ", ".join(sorted(ledger.snapshots)) or "none"
            raise LedgerError("other_queue", f"{settings.ledger.path} has no queue {options.queue}, only: {known}")
        before = ledger.snapshots[options.queue].queue_arn
        ledger.rebind(options.queue, options.arn)
    print(f"the rows of {options.queue} belong to {options.arn} now, before to {before or 'none'}")


_IN_POSTGRES = {"show", "export", "import"}
"""What --ledger.url is for, too."""

_ACTIONS = {
    "show": _show,
    "verify": _verify,
    "backup": _backup,
    "restore": _restore,
    "export": _export,
    "import": _import,
    "forget-type": _forget_type,
    "rebind": _rebind,
}
