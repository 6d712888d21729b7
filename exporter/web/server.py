"""The web server: Tornado on a thread and a loop of its own. It reads what others publish and never makes them wait."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
import threading
import time
from typing import TYPE_CHECKING

from exporter.errors import ExporterError, WrongSettingError
from exporter.web.clients import ANSWER_SECONDS, KEEP_ALIVE_SECONDS, Clients, max_connections
from exporter.web.config import WebConfig, read_web_config
from exporter.web.exposition import Expositions
from exporter.web.history import ages
from exporter.web.http import ClientsServer, Requests
from exporter.web.landing import LandingPages
from exporter.web.pacing import Pace, PacedSelector
from exporter.web.pages import Site

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from prometheus_client import CollectorRegistry

    from exporter.web.landing import LandingPage
    from exporter.web.zero_first import ZeroFirst

log = logging.getLogger("exporter.web")

BACKLOG = 1024
MAX_HEADER_BYTES = 16 * 1024
MAX_BODY_BYTES = 1024
"""No request has a use for a body; a small one still gets the answer that says so."""
CHUNK_BYTES = 16 * 1024
SEND_BUFFER_BYTES = 64 * 1024
"""Of each connection in the kernel, which takes as much again for its own bookkeeping."""
RECEIVE_BUFFER_BYTES = 16 * 1024
"""The largest request."""
ROUND_SECONDS = 1.0
"""How often late clients are dropped and renewed certificates looked for."""
START_SECONDS = 10.0
STOP_SECONDS = 0.5


class WebServer:
    """Serves the registry, health, readiness and the landing page until `stop`.

    `ready` gives whether it is, and a sentence. The hosts "" and "::" stand for all addresses of both families,
    and the port 0 for any that is free. `zero_first` shows new series to each Prometheus as 0 once; `speaking` is
    whether this process may show what the ledger keeps, asked again once an answer is made. Should the server's thread
    end by an exception, `threading.excepthook` hears of it.
    """

    def __init__(  # noqa: PLR0913 - each is given by its name
        self,
        registry: CollectorRegistry,
        *,
        host: str,
        port: int,
        healthy: Callable[[], bool],
        ready: Callable[[], tuple[bool, str]],
        page: Callable[[], LandingPage],
        telemetry_path: str = "/metrics",
        created_timestamps: bool = False,
        web_config: WebConfig | None = None,
        zero_first: ZeroFirst | None = None,
        speaking: Callable[[], bool] = lambda: True,
    ) -> None:
        self._registry = registry
        self._zero_first = zero_first
        self._host = "" if _is_every_address(host) else host
        self._port = port
        self._pace = Pace()
        self._site = Site(
            expositions=Expositions(
                registry,
                created_timestamps=created_timestamps,
                zero_first=zero_first,
                speaking=speaking,
                busy=lambda: self._pace.busy,
            ),
            zero_first=zero_first,
            telemetry_path=telemetry_path,
            healthy=healthy,
            ready=ready,
            landing_pages=LandingPages(page, telemetry_path, lambda: ages(registry)),
            config=web_config or WebConfig(path=""),
        )
        self._clients = Clients(max_connections(), busy=lambda: self._pace.busy)
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._started = threading.Event()
        self._failed: BaseException | None = None
        """Why its thread ended before it served."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._told = ""

    @property
    def port(self) -> int:
        """The port that is listened on, once started."""
        return int(self._sockets[0].getsockname()[1]) if self._sockets else self._port

    @property
    def url(self) -> str:
        """Where to look, once started."""
        scheme = "http" if self._site.config.ssl_context is None else "https"
        host = f"[{self._host}]" if ":" in self._host else self._host or "localhost"
        return f"{scheme}://{host}:{self.port}"

    @property
    def running(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Listen, then serve on the server's own thread. Raises WrongSettingError where the address can't be had.

        Raises what the thread raised, too, such as MemoryError, where it could not begin.
        """
        if self._zero_first is not None:
            self._zero_first.begin(self._registry.collect())
        self._sockets = listen(self._host, self._port)
        # Tornado writes a line, at times a traceback, for much that a stranger sends; what fails here is logged here.
        logging.getLogger("tornado").setLevel(logging.CRITICAL)
        self._thread.start()
        if not self._started.wait(START_SECONDS):
            raise ExporterError(f"the web server did not start within {START_SECONDS:.0f} s: start the exporter again")
        if self._failed is not None:
            raise self._failed

    def stop(self) -> None:
        """Close the address and all connections. Takes less than a second, whatever clients do; safe to call twice."""
        if self._loop is not None and self.running:
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(2 * STOP_SECONDS)

    def _run(self) -> None:
        try:
            selector = PacedSelector(self._pace, first={one.fileno() for one in self._sockets})
            with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
                runner.run(self._serve())
        except BaseException as error:
            for one in self._sockets:
                one.close()
            if self._started.is_set():
                raise
            self._failed = error
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._survive)
        server = ClientsServer(
            Requests(self._site, self._clients),
            ssl_options=self._site.config.ssl_context,
            idle_connection_timeout=KEEP_ALIVE_SECONDS,
            body_timeout=ANSWER_SECONDS,
            max_header_size=MAX_HEADER_BYTES,
            max_body_size=MAX_BODY_BYTES,
            max_buffer_size=2 * (MAX_HEADER_BYTES + CHUNK_BYTES),
            chunk_size=CHUNK_BYTES,
        )
        server.clients = self._clients
        server.add_sockets(self._sockets)
        self._site.take_counts()
        self._started.set()
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(ROUND_SECONDS):
                    await self._stopping.wait()
            except TimeoutError:
                self._clients.drop_late()
                self._renew(server)
                self._site.take_counts()
        self._pace.hurry()
        server.stop()
        self._clients.drop_parked()
        self._site.passwords.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await server.close_all_connections()
        except TimeoutError:
            log.debug("connections were still open at the end")

    def _renew(self, server: ClientsServer) -> None:
        """Take up a changed configuration or certificate. What is wrong is logged once and the old stays in use."""
        config = self._site.config
        if config.current_stamps() == config.stamps:
            return
        try:
            renewed = read_web_config(config.path)
        except WrongSettingError as error:
            self._tell(str(error))
            return
        if (renewed.ssl_context is None) != (config.ssl_context is None):
            self._tell(f"{config.path} turns TLS on or off, which takes a restart of the exporter")
            return
        self._told = ""
        self._site.config = renewed
        server.ssl_options = renewed.ssl_context
        log.info("web configuration taken up anew", extra={"path": config.path})

    def _tell(self, problem: str) -> None:
        if problem != self._told:
            self._told = problem
            log.warning("changed web configuration is wrong, the old one stays in use", extra={"error": problem})

    def _survive(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Take what no page and no connection took: out of descriptors, or a fault of ours."""
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
            # A connection that can't be accepted keeps the loop spinning: close another one, or wait for one to close.
            if not self._clients.drop_first():
                time.sleep(0.05)
        elif self._site.log_rate_limiter.allow("loop"):
            what = f"{type(error).__name__}: {error}" if error else str(context.get("message"))
            log.error("web server failed to handle a connection", extra={"error": what[:200]})


def _is_every_address(host: str) -> bool:
    """Whether it is IPv6's own word for every address, which means both families, as in Go."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.version == 6 and address.is_unspecified  # noqa: PLR2004 - its name


def listen(host: str, port: int) -> list[socket.socket]:
    """Bind to the address, in the caller's thread, so that a wrong one ends the start. Raises WrongSettingError."""
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in sorted(
            set(socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE))
        ):
            same_port = sockets[0].getsockname()[1] if sockets else port
            one = _bound(family, kind, protocol, (address[0], same_port, *address[2:]))
            if one is not None:
                sockets.append(one)
        if not sockets:
            raise OSError(errno.EADDRNOTAVAIL, "no address")  # noqa: TRY301 - as the system says it of one address
    except (OSError, OverflowError, UnicodeError) as error:
        for one in sockets:
            one.close()
        address_text = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise WrongSettingError(f"--web.listen-address is {address_text}, {_why_not(error)}") from None
    return sockets


def _bound(family: int, kind: int, protocol: int, address: tuple[Any, ...]) -> socket.socket | None:
    """Return a socket that listens; None for IPv6 where this machine has it switched off."""
    try:
        one = socket.socket(family, kind, protocol)
    except OSError as error:
        if error.errno == errno.EAFNOSUPPORT:
            return None
        raise
    try:
        one.settimeout(0)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit these. Without them the kernel keeps up to 10 MB for each client that takes no answers.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(address)
        one.listen(BACKLOG)
    except OSError as error:
        one.close()
        if family == socket.AF_INET6 and error.errno == errno.EADDRNOTAVAIL:
            return None
        raise
    return one


def _why_not(error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, socket.gaierror):
        return "whose host has no address: use an address of this machine, as 127.0.0.1, or none for all of them"
    if number == errno.EADDRINUSE:
        return "which another program listens on: end that one or choose another port"
    if number == errno.EADDRNOTAVAIL:
        return "which is no address of this machine: use one that is, as 127.0.0.1, or none for all of them"
    if number == errno.EACCES:
        return "which this user may not listen on: choose a port above 1023"
    return f"which can't be listened on ({error}): choose another"
