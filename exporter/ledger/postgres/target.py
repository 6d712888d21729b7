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
            raise _wrong(str(error)) from None
        self._hosts = str(self._parameters.get("host") or os.environ.get("PGHOST", "")).split(",")
        if len(self._ports()) not in {1, len(self._hosts)} and not self._left_to_libpq:
            raise _wrong(f"{len(self._ports())} ports for {len(self._hosts)} hosts")
        self._addresses: dict[str, Sequence[str]] = {}
        self.problem: LedgerError | None = None
        """Why a host's name could not be resolved; the others may do."""

    def __str__(self) -> str:
        """Where it is, without user and password."""
        if "service" in self._parameters:
            return f"service {self._parameters['service']}"
        database = self._parameters.get("dbname", os.environ.get("PGDATABASE", ""))
        port = self._parameters.get("port", os.environ.get("PGPORT", "5432"))
        host = ",".join(self._hosts) or self._parameters.get("hostaddr", "the local socket")
        return f"{host} port {port}" + (f" ({database})" if database else "")

    @property
    def unresolved(self) -> bool:
        """Whether `resolve` has to be called before a connection can be made."""
        if self._left_to_libpq:
            return False
        return not self._places() or any(_is_name(host) and host not in self._addresses for host in self._hosts)

    @property
    def _left_to_libpq(self) -> bool:
        """Whether libpq is to find out where the hosts are."""
        return "hostaddr" in self._parameters or "service" in self._parameters or self._hosts == [""]

    def resolve(self) -> None:
        """Look up the hosts, again at each call; one that can't be found keeps the addresses that it had, or none."""
        problem = None
        for host in filter(_is_name, self._hosts):
            try:
                found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:  # UnicodeError: it can't be a name at all
                self._addresses.setdefault(host, ())
                problem = LedgerError("unavailable", f"the host {host} of --ledger.url can't be resolved: {error}")
            else:
                self._addresses[host] = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        self.problem = problem

    def conninfo(self) -> str:
        """Return what a connection is made with: each address of each host, in order. The names stay, for TLS."""
        return self.conninfos()[0]

    def conninfos(self) -> list[str]:
        """Return what to make a connection with, one after the other where there is no answer: another host is first.

        Without a wait libpq stays with a host that is silent, and goes on to the next only where one refuses.
        """
        if self._left_to_libpq:
            return [make_conninfo("", **self._parameters)]
        places = self._places()
        return [self._conninfo(places[first:] + places[:first]) for first in range(len(places))]

    def _conninfo(self, places: Sequence[tuple[str, str, str]]) -> str:
        host, port, hostaddr = (",".join(column) for column in zip(*places, strict=True))
        return make_conninfo("", **{**self._parameters, "host": host, "port": port, "hostaddr": hostaddr})

    def _places(self) -> list[tuple[str, str, str]]:
        """Return host, port and address of each place where the server may be, as far as it was found."""
        ports = self._ports()
        return [
            (host, port, address)
            for host, port in zip(self._hosts, ports * len(self._hosts) if len(ports) == 1 else ports, strict=True)
            for address in (self._addresses.get(host, ()) if _is_name(host) else [host if _is_address(host) else ""])
        ]

    def _ports(self) -> list[str]:
        return str(self._parameters.get("port") or os.environ.get("PGPORT", "5432")).split(",")


def _wrong(why: str) -> WrongSettingError:
    return WrongSettingError(
        f"--ledger.url: {one_line(why)}; an example: postgresql://exporter@db.example:5432/shop",
    )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_name(host: str) -> bool:
    return bool(host) and not host.startswith(("/", "@")) and not _is_address(host)
