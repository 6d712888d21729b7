"""The machine as `check` sees it: the ledger, the listen address, the web configuration, the OTLP endpoint."""

from __future__ import annotations

import os
import shutil
import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from exporter.cli.checks.certificate import expires_seconds
from exporter.cli.checks.finding import WRONG_SETTING, Finding, error, warning
from exporter.cli.descriptors import DescriptorLimit
from exporter.cli.postgres import inspect_postgres
from exporter.errors import ExporterError, LedgerError, WrongSettingError
from exporter.ledger.sqlite.create import exists
from exporter.ledger.sqlite.schema import os_failure
from exporter.ledger.sqlite.stopped import reading
from exporter.telemetry.otlp import environment as open_telemetry
from exporter.web.config import read_web_config
from exporter.web.server import listen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from exporter.settings import Settings
    from exporter.sqs import QueueAttributes
    from exporter.web.config import WebConfig

LEAST_FREE_BYTES = 256 * 1024 * 1024
"""As in the alert SqsExporterVolumeFilling."""
EXPIRES_SOON_SECONDS = 14 * 86_400.0
CONNECT_SECONDS = 3.0


def ledger(settings: Settings, queues: Mapping[str, QueueAttributes]) -> Iterator[Finding]:
    """Look at the ledger without writing: directory, rights, space, lock, schema, name and the queues' ARNs."""
    if settings.ledger.url is not None:
        try:
            yield Finding("ledger", inspect_postgres(settings, settings.ledger.url))
        except WrongSettingError as wrong:
            yield error("ledger", str(wrong), WRONG_SETTING)
        except LedgerError as failed:
            yield error("ledger", str(failed))
        return
    path = settings.ledger.path.absolute()
    try:
        yield from _file(settings, path, queues)
    except OSError as failed:
        yield error("ledger", str(os_failure(str(path), failed)))


def _file(settings: Settings, path: Path, queues: Mapping[str, QueueAttributes]) -> Iterator[Finding]:
    directory = path.parent
    if not directory.is_dir():
        yield error("ledger", f"the directory {directory} is not there: create it, or correct --ledger.path")
        return
    if not os.access(directory, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        yield error("ledger", f"the directory {directory} is not writable for {_user()}: {_own(directory)}")
        return
    free = shutil.disk_usage(directory).free
    if free < LEAST_FREE_BYTES:
        yield warning("ledger", f"the volume of {directory} has {free // 2**20} MiB left: an id takes about 50 bytes")
    yield from _content(settings, path, queues)


def _content(settings: Settings, path: Path, queues: Mapping[str, QueueAttributes]) -> Iterator[Finding]:
    if not exists(str(path)):
        yield Finding("ledger", f"{path} is not there yet: run makes it, and counts from 0")
        return
    try:
        with reading(str(path)) as found:
            name, snapshots = found.name, found.snapshots
    except LedgerError as failed:
        if failed.reason == "full":  # that is no place for a copy to look at, and run makes none
            yield warning("ledger", str(failed))
            return
        hint = " (a running exporter uses it all the time)" if failed.reason == "locked" else ""
        yield error("ledger", f"{failed}{hint}")
        return
    events = sum(snapshot.counted for snapshot in snapshots.values())
    ids = sum(snapshot.messages for snapshot in snapshots.values())
    yield Finding("ledger", f"{path}, named {name}, holds {events} events and {ids} ids")
    if settings.ledger.name not in {None, name}:
        yield error(
            "ledger",
            f"--ledger.name is {settings.ledger.name}, but the ledger is named {name}: use that",
            WRONG_SETTING,
        )
    for queue, attributes in queues.items():
        bound = snapshots[queue].queue_arn if queue in snapshots else None
        if bound not in {None, attributes.arn}:
            yield error(
                "ledger",
                f"its rows of {queue} belong to {bound}, not to {attributes.arn}: it is another queue; use another "
                f"--ledger.path, or sqs-event-exporter ledger rebind to go on with these counts",
            )


def _user() -> str:
    return f"uid {os.geteuid()}"


def _own(directory: Path) -> str:
    found = directory.stat()
    owner = found.st_uid
    if owner == os.geteuid():
        return f"its mode is {found.st_mode & 0o777:04o}; chmod u+rwx it, or choose another --ledger.path"
    return f"it belongs to uid {owner}; chown it to {os.geteuid()}, or choose another --ledger.path"


def descriptors(settings: Settings, queues: Mapping[str, QueueAttributes]) -> Iterator[Finding]:
    """Look whether this process may have as many files open as its calls and clients need, if run's may no more."""
    limit = DescriptorLimit(settings.sqs.max_receives, lambda: len(queues))
    try:
        limit.require(len(settings.queue))
    except ExporterError as few:
        yield error("descriptors", str(few))
    else:
        yield from (warning("descriptors", sentence) for sentence in limit.shortage_once())


def web(settings: Settings) -> Iterator[Finding]:
    """Look whether the listen address is free, whether the web configuration is right, and when certificates expire."""
    config = None
    if settings.web.config_file:
        try:
            config = read_web_config(str(settings.web.config_file))
        except WrongSettingError as wrong:
            yield error("web", str(wrong), WRONG_SETTING)
        else:
            yield from _described(config)
    address = settings.web.listen_address
    try:
        for one in listen(settings.web.host, settings.web.port):
            one.close()
    except ExporterError as taken:
        yield error("web", str(taken))
        return
    yield Finding("web", f"{address} is free")


def _described(config: WebConfig) -> Iterator[Finding]:
    tls = "TLS" if config.ssl_context is not None else "no TLS"
    yield Finding("web", f"{config.path} is right: {tls}, {len(config.users)} users")
    for file in config.files[1:]:
        expires = expires_seconds(file)
        if expires is None:
            continue
        left = expires - time.time()
        when = time.strftime("%Y-%m-%d", time.gmtime(expires))
        if left < 0:
            yield warning("web", f"the certificate {file} has expired on {when}: renew it, it is read again by itself")
        elif left < EXPIRES_SOON_SECONDS:
            yield warning("web", f"the certificate {file} expires on {when}: renew it, it is read again by itself")
        else:
            yield Finding("web", f"the certificate {file} is good until {when}")


def otlp() -> Iterator[Finding]:
    """Look whether OpenTelemetry's settings are right, and whether somebody listens where it pushes to."""
    try:
        wanted = open_telemetry.wanted(os.environ)
    except WrongSettingError as wrong:
        yield error("otlp", str(wrong), WRONG_SETTING)
        return
    if wanted is None:
        return
    endpoints = {signal.endpoint for signal in (wanted.metrics, wanted.traces) if signal is not None}
    for endpoint in sorted(endpoints):
        url = urlsplit(endpoint if "://" in endpoint else f"http://{endpoint}")
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            socket.create_connection((str(url.hostname), port), CONNECT_SECONDS).close()
        except (OSError, UnicodeError) as refused:  # the latter for a host with a part that is empty or too long
            why = (refused.strerror or type(refused).__name__) if isinstance(refused, OSError) else str(refused)
            yield warning("otlp", f"{endpoint} can't be reached ({why}): run pushes to it as soon as it can be")
        else:
            yield Finding("otlp", f"{endpoint} takes connections")
