"""What the web server answers: the metrics, health, readiness and a landing page; to GET and HEAD alone."""

from __future__ import annotations

import gzip
import traceback
from dataclasses import dataclass, field
from html import escape
from logging import getLogger
from typing import TYPE_CHECKING, cast

from prometheus_client.exposition import gzip_accepted
from tornado.web import HTTPError, RequestHandler

from exporter.telemetry.logs import LogRateLimiter
from exporter.web.exposition import expose
from exporter.web.passwords import Passwords, TooManyChecksError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from prometheus_client import CollectorRegistry
    from tornado.http1connection import HTTP1Connection

    from exporter.web.clients import Clients
    from exporter.web.config import WebConfig

log = getLogger("exporter.web")

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
}
GZIP_LEVEL = 1
"""A tenth of the CPU of the default, for an answer that is a tenth larger."""

SENTENCES = {
    400: "This request is not understood.",
    401: "A user and a password are needed.",
    404: "There is nothing here.",
    405: "Only GET and HEAD are answered.",
    429: "Too many passwords are being checked; try again in a second.",
    500: "This failed; the exporter's log says why.",
}
ERROR_HEADERS = {
    401: ("WWW-Authenticate", 'Basic realm="sqs-event-exporter", charset="UTF-8"'),
    405: ("Allow", "GET, HEAD"),
    429: ("Retry-After", "1"),
}


@dataclass(frozen=True, slots=True)
class LandingPage:
    """What `/` shows; the text is escaped there."""

    version: str
    queues: tuple[str, ...]
    state: str
    """A sentence."""


@dataclass(slots=True)
class Site:
    """All that the pages show. `config` is replaced when it is renewed."""

    registry: CollectorRegistry
    telemetry_path: str
    created_timestamps: bool
    healthy: Callable[[], bool]
    ready: Callable[[], str | None]
    page: Callable[[], LandingPage]
    config: WebConfig
    clients: Clients
    passwords: Passwords = field(default_factory=Passwords)
    log_rate_limiter: LogRateLimiter = field(default_factory=LogRateLimiter)


class Page(RequestHandler):
    """What all answers have in common. As it is, it answers 404."""

    SUPPORTED_METHODS = ("GET", "HEAD")

    @property
    def site(self) -> Site:
        """What is shown."""
        return cast("Site", self.settings["site"])

    def initialize(self) -> None:
        """Note that the client sent a whole request."""
        self.site.clients.on_request(cast("HTTP1Connection", self.request.connection).stream)

    def set_default_headers(self) -> None:
        """Set the headers of every answer; those of the configuration file win, and an empty one is left out."""
        self.clear_header("Server")
        for name, value in {**HEADERS, **self.site.config.headers}.items():
            if value:
                self.set_header(name, value)

    async def prepare(self) -> None:
        """Let in who may read."""
        users = self.site.config.users
        if not users:
            return
        try:
            right = await self.site.passwords.are_right(self.request.headers.get("Authorization", ""), users)
        except TooManyChecksError:
            raise HTTPError(429) from None
        if not right:
            raise HTTPError(401)

    def get(self) -> None:
        """Answer."""
        raise HTTPError(404)

    def head(self) -> None:
        """Answer like GET; the body is left out on the way."""
        self.get()

    def compute_etag(self) -> None:
        """Nothing here is worth caching."""

    def answer(self, text: str) -> None:
        """Answer with a line of plain text."""
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{text}\n")

    def write_error(self, status_code: int, **_kwargs: Any) -> None:  # noqa: ANN401 - Tornado's signature
        """Answer with a sentence instead of a page."""
        if status_code in ERROR_HEADERS:
            self.set_header(*ERROR_HEADERS[status_code])
        self.answer(SENTENCES.get(status_code, self._reason))

    def log_exception(
        self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Log a failure of ours in one line, and a stranger's not at all."""
        if typ is None or isinstance(value, HTTPError) or not self.site.log_rate_limiter.allow("page"):
            return
        frames = traceback.extract_tb(tb)
        log.error(
            "page failed",
            extra={
                "path": self.request.path[:80],
                "error": f"{typ.__name__}: {str(next(iter(value.args), '')) if value else ''}"[:200],
                "at": f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "",
                **self.site.log_rate_limiter.suppressed("page"),
            },
        )


class MetricsPage(Page):
    """The exposition."""

    def get(self) -> None:
        """Answer a scrape."""
        names = self.get_query_arguments("name[]", strip=False)
        exposition = expose(
            self.site.registry,
            self.request.headers.get("Accept", ""),
            names,
            created_timestamps=self.site.created_timestamps,
        )
        self.set_header("Content-Type", exposition.content_type)
        self.set_header("Vary", "Accept, Accept-Encoding")
        if gzip_accepted(self.request.headers.get("Accept-Encoding", "")):
            self.set_header("Content-Encoding", "gzip")
            self.finish(gzip.compress(exposition.body, GZIP_LEVEL))
        else:
            self.finish(exposition.body)


class HealthyPage(Page):
    """Whether the process works: a restart would help where it does not."""

    def get(self) -> None:
        """Answer 200 or 503, and a sentence."""
        healthy = self.site.healthy()
        self.set_status(200 if healthy else 503)
        self.answer("Healthy." if healthy else "Not healthy: the loop has not turned for a minute.")


class ReadyPage(Page):
    """Whether it does its job."""

    def get(self) -> None:
        """Answer 200 or 503, and a sentence."""
        why_not = self.site.ready()
        self.set_status(200 if why_not is None else 503)
        self.answer("Ready." if why_not is None else why_not)


class RootPage(Page):
    """The landing page."""

    def get(self) -> None:
        """Answer with name, version, queues, state and links."""
        page = self.site.page()
        links = (self.site.telemetry_path, "/-/healthy", "/-/ready")
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(
            TEMPLATE.format(
                version=escape(page.version),
                queues="".join(f"<li>{escape(queue)}</li>" for queue in page.queues),
                state=escape(page.state),
                links="".join(f'<li><a href="{escape(link)}">{escape(link)}</a></li>' for link in links),
            )
        )


TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>sqs-event-exporter</title>
<style>body {{ font: 1rem/1.5 sans-serif; margin: 2rem auto; max-width: 40rem; padding: 0 1rem }}</style>
</head>
<body>
<h1>sqs-event-exporter</h1>
<p>Version {version}. It counts the events in Amazon SQS queues, each exactly once.</p>
<h2>State</h2>
<p>{state}</p>
<h2>Queues</h2>
<ul>{queues}</ul>
<h2>Pages</h2>
<ul>{links}</ul>
</body>
</html>
"""
