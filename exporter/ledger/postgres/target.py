"""Where PostgreSQL is: the URL, and the addresses of its hosts, which are looked up on another thread."""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from exporter.errors import LedgerError, WrongSettingError, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

_DEFAULTS: dict[str, Any] = {
    "application_name": "sqs-event-exporter",
    "client_encoding": "utf8",
    "gssencmode": "disable",  # asking for a ticket may wait for another network
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


class Target:
    """A `postgresql://` URL. `resolve` waits for the resolver and belongs on a thread that may; all else never waits.

    What the URL leaves out comes from libpq's own places, PGPASSFILE and PGHOST among them. A host that only a service
    file names is looked up by libpq itself. https://www.postgresql.org/docs/current/libpq-connect.html
    """

    def __init__(self, url: str) -> None:
        try:
            self._parameters = {**_DEFAULTS, **conninfo_to_dict(url)}
        except psycopg.Error as error:
            raise WrongSettingError(
                f"--ledger.url: {one_line(str(error))}; an example: postgresql://exporter@db.example:5432/shop",
            ) from None
        self._hosts = str(self._parameters.get("host") or os.environ.get("PGHOST", "")).split(",")
        self._addresses: dict[str, Sequence[str]] = {}
        self.problem: LedgerError | None = None
        """Why a host's name could not be resolved."""

    def __str__(self) -> str:
        """Where it is, without user and password."""
        database = self._parameters.get("dbname", os.environ.get("PGDATABASE", ""))
        port = self._parameters.get("port", os.environ.get("PGPORT", "5432"))
        return f"{','.join(self._hosts) or 'the local socket'} port {port}" + (f" ({database})" if database else "")

    @property
    def unresolved(self) -> bool:
        """Whether `resolve` has to be called before a connection can be made."""
        if "hostaddr" in self._parameters or "service" in self._parameters:
            return False
        return any(_is_name(host) and host not in self._addresses for host in self._hosts)

    def resolve(self) -> None:
        """Look up the hosts, again at each call; a host that can't be found keeps the addresses that it had."""
        problem = None
        for host in filter(_is_name, self._hosts):
            try:
                found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            except OSError as error:
                problem = LedgerError("unavailable", f"the host {host} of --ledger.url can't be resolved: {error}")
            else:
                self._addresses[host] = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        self.problem = problem

    def conninfo(self) -> str:
        """Return what a connection is made with: each address of each host, in order. The names stay, for TLS."""
        if "hostaddr" in self._parameters or "service" in self._parameters or self._hosts == [""]:
            return make_conninfo("", **self._parameters)
        ports = str(self._parameters.get("port") or os.environ.get("PGPORT", "5432")).split(",")
        ports = ports * len(self._hosts) if len(ports) == 1 else ports
        places = [
            (host, port, address)
            for host, port in zip(self._hosts, ports, strict=True)
            for address in (self._addresses[host] if _is_name(host) else [host if _is_address(host) else ""])
        ]
        hosts, ports, addresses = (",".join(column) for column in zip(*places, strict=True))  # type: ignore[assignment]
        return make_conninfo("", **{**self._parameters, "host": hosts, "port": ports, "hostaddr": addresses})


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_name(host: str) -> bool:
    return bool(host) and not host.startswith(("/", "@")) and not _is_address(host)
