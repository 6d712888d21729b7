"""What the web server answers: the metrics, health, readiness and a landing page; to GET and HEAD alone."""

from __future__ import annotations

import gzip
import traceback
from dataclasses import dataclass, field
from logging import getLogger
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from exporter.telemetry.logs import LogRateLimiter
from exporter.web.exposition import GZIP_LEVEL, Wanted
from exporter.web.negotiation import accepts_gzip, choose_format
from exporter.web.passwords import Passwords, TooManyChecksError
from exporter.web.zero_first import HEADER as SCRAPER_HEADER
from exporter.web.zero_first import TRUTH

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from exporter.web.config import WebConfig
    from exporter.web.exposition import Expositions
    from exporter.web.landing import LandingPages
    from exporter.web.zero_first import ZeroFirst

log = getLogger("exporter.web")

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
}
TEXT = "text/plain; charset=utf-8"
SENTENCES = {
    400: "This request is not understood.",
    401: "A user and a password are needed.",
    404: "There is nothing here.",
    405: "Only GET and HEAD are answered.",
    429: "Too many passwords are being checked; try again in a second.",
    500: "This failed; the exporter's log says why.",
}
ERROR_HEADERS = {
    401: {"WWW-Authenticate": 'Basic realm="sqs-event-exporter", charset="UTF-8"'},
    405: {"Allow": "GET, HEAD"},
    429: {"Retry-After": "1"},
}
MAX_NAMES = 100
"""`?name[]=` parameters of one request."""


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request without its body, which no page looks at. `headers` finds a name however it is capitalised."""

    method: str
    target: str
    """A path with its query, or an absolute URI: https://www.rfc-editor.org/rfc/rfc9112.html#name-request-target"""
    headers: Mapping[str, str]
    address: str
    """Of the client."""


class Answer(NamedTuple):
    """Status, headers and body."""

    status: int
    body: bytes
    content_type: str = TEXT
    headers: Mapping[str, str] = {}


@dataclass(slots=True)
class Site:
    """All pages, and what they show. `config` is replaced when it is renewed."""

    expositions: Expositions
    telemetry_path: str
    healthy: Callable[[], bool]
    ready: Callable[[], tuple[bool, str]]
    landing_pages: LandingPages
    config: WebConfig
    zero_first: ZeroFirst | None = None
    passwords: Passwords = field(default_factory=Passwords)
    log_rate_limiter: LogRateLimiter = field(default_factory=LogRateLimiter)

    @property
    def headers(self) -> dict[str, str]:
        """Of every answer; those of the configuration file win, and an empty one is left out."""
        return {name: value for name, value in {**HEADERS, **self.config.headers}.items() if value}

    async def answer(self, request: Request) -> Answer:
        """Answer who may read; a failure of ours is an answer too, and a line in the log."""
        try:
            status = await self._turned_away(request)
            return await self._page(request) if status is None else _error(status)
        except Exception as error:  # noqa: BLE001 - whatever a page raises
            self._log(request.target, error)
            return _error(500)

    async def _turned_away(self, request: Request) -> int | None:
        """Return the status for who may not read or may not do that; None for the others."""
        if request.method not in {"GET", "HEAD"}:
            return 405
        users = self.config.users
        if not users:
            return None
        try:
            right = await self.passwords.are_right(request.headers.get("Authorization", ""), users)
        except TooManyChecksError:
            return 429
        return None if right else 401

    async def _page(self, request: Request) -> Answer:
        path, query = _path_and_query(request.target)
        if path == self.telemetry_path:
            return await self._metrics(request, query)
        if path == "/-/healthy":
            return self._healthy()
        if path == "/-/ready":
            return self._ready()
        if path == "/":
            return self._landing_page(request)
        return _error(404)

    async def _metrics(self, request: Request, query: str) -> Answer:
        try:
            names = parse_qs(query, errors="strict", max_num_fields=MAX_NAMES).get("name[]", ())
        except ValueError:
            return _error(400)
        scraper = request.address if SCRAPER_HEADER in request.headers else None
        view = TRUTH if self.zero_first is None or scraper is None else self.zero_first.view(scraper)
        wanted = Wanted(choose_format(request.headers.get("Accept", "")), frozenset(names), view)
        exposition = await self.expositions.get(wanted)
        if self.zero_first is not None and request.method == "GET":
            self.zero_first.shown(view, exposition.up_to, scraper)
        headers = {"Vary": "Accept, Accept-Encoding"}
        if not accepts_gzip(request.headers.get("Accept-Encoding", "")):
            return Answer(200, exposition.body, exposition.content_type, headers)
        return Answer(200, exposition.packed, exposition.content_type, {**headers, "Content-Encoding": "gzip"})

    def _healthy(self) -> Answer:
        if self.healthy():
            return _sentence(200, "Healthy.")
        return _sentence(503, "Not healthy: the loop has stood still for a minute.")

    def _ready(self) -> Answer:
        ready, sentence = self.ready()
        return _sentence(200 if ready else 503, sentence)

    def _landing_page(self, request: Request) -> Answer:
        body, content_type = self.landing_pages.body(), "text/html; charset=utf-8"
        if not accepts_gzip(request.headers.get("Accept-Encoding", "")):
            return Answer(200, body, content_type)
        return Answer(200, gzip.compress(body, GZIP_LEVEL), content_type, {"Content-Encoding": "gzip"})

    def take_counts(self) -> None:
        """Remember what the landing page's sparklines show. A failure is a line in the log: scrapes go on."""
        try:
            self.landing_pages.take()
        except Exception as error:  # noqa: BLE001 - whatever it reads from others
            self._log("/", error)

    def _log(self, path: str, error: Exception) -> None:
        """Log a failure of ours in one line."""
        if not self.log_rate_limiter.allow("page"):
            return
        frames = traceback.extract_tb(error.__traceback__)
        log.error(
            "page failed",
            extra={
                "path": path[:80],
                "error": f"{type(error).__name__}: {next(iter(error.args), '')}"[:200],
                "at": f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "",
                **self.log_rate_limiter.suppressed("page"),
            },
        )


def _path_and_query(target: str) -> tuple[str, str]:
    """Split a request's target; of an absolute URI, as proxies send it, only path and query count."""
    if not target.startswith("/"):
        try:
            parts = urlsplit(target)
        except ValueError:
            return "", ""
        if parts.scheme not in {"http", "https"}:
            return "", ""
        return unquote(parts.path or "/"), parts.query
    path, _, query = target.partition("?")
    return unquote(path), query


def _sentence(status: int, text: str) -> Answer:
    return Answer(status, f"{text}\n".encode())


def _error(status: int) -> Answer:
    return Answer(status, f"{SENTENCES[status]}\n".encode(), headers=ERROR_HEADERS.get(status, {}))
