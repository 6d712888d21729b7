"""ReceiveMessage and DeleteMessageBatch, many in flight at once, each with a bound on its whole length.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-making-api-requests-json.html
"""

from __future__ import annotations

import math
import time
import uuid
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pycurl

from exporter import __version__
from exporter.errors import one_line
from exporter.sqs.answers import (
    Answer,
    Deleted,
    Deletion,
    Failed,
    MalformedAnswerError,
    Message,
    Received,
    parse_delete,
    parse_receive,
)
from exporter.sqs.http import MAX_ANSWER_BYTES, Transfers
from exporter.sqs.reasons import codes_and_message, header, reason_of_error, reason_of_transfer
from exporter.sqs.requests import BATCH_IDS, BATCH_SIZE, Route
from exporter.sqs.response_memory import ResponseMemoryLimit
from exporter.sqs.signing import UnusableCredentialsError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from exporter.sqs import Target
    from exporter.sqs.answers import Operation
    from exporter.sqs.http import Transfer
    from exporter.sqs.requests import Exchange, Request

__all__ = ["Answer", "Calls", "Deleted", "Deletion", "Failed", "Message", "Received"]

RECEIVE_GRACE_SECONDS = 5.0
"""What a receive may take beyond its wait."""
DELETE_SECONDS = 10.0
"""What a batch delete may take."""


@dataclass(slots=True)
class _Call:
    operation: Operation
    route: Route
    exchange: Exchange
    sent_at: float
    allowed_seconds: float
    deletions: Sequence[Deletion] = ()
    wait_seconds: int = 0
    attempt: str | None = None

    @property
    def deadline(self) -> float:
        return self.sent_at + self.allowed_seconds


class Calls:
    """The calls in flight. All of it belongs to one thread."""

    def __init__(  # noqa: PLR0913 - by name, and all but one have a default
        self,
        *,
        max_connections: int,
        request_trace_context: bool = False,
        user_agent: str = f"sqs-event-exporter/{__version__}",
        receive_grace_seconds: float = RECEIVE_GRACE_SECONDS,
        delete_seconds: float = DELETE_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Keep at most `max_connections` alive; ask for the messages' trace context if `request_trace_context`."""
        self._request_trace_context = request_trace_context
        self._user_agent = user_agent
        self._receive_grace_seconds = receive_grace_seconds
        self._delete_seconds = delete_seconds
        self._monotonic = monotonic
        self._wall = wall
        self._clock_offset_seconds = 0.0
        self._transfers = Transfers(max_connections)
        self._response_memory = ResponseMemoryLimit()
        self._route: Route | None = None
        self._in_flight: dict[pycurl.Curl, _Call] = {}
        self._receives_in_flight = 0
        self._next_deadline = math.inf
        self._failed_at_once: list[Answer] = []
        self._unanswered_attempts: list[str] = []

    @property
    def receives_in_flight(self) -> int:
        """How many receives have been sent and not answered yet."""
        return self._receives_in_flight

    @property
    def deletes_in_flight(self) -> int:
        """How many batch deletes have been sent and not answered yet."""
        return len(self._in_flight) - self._receives_in_flight

    def receive(
        self, target: Target, *, wait_seconds: int, visibility_timeout_seconds: int, fifo: bool = False
    ) -> None:
        """Send one receive of up to ten messages. Whatever becomes of it, `wait` returns it."""
        attempt = None
        if fifo:
            # An attempt whose answer was lost is repeated by its id: SQS then gives the same messages again, at once.
            attempt = self._unanswered_attempts.pop() if self._unanswered_attempts else str(uuid.uuid4())
        try:
            route = self._route_to(target)
            request = route.receive(
                self._signing_time(),
                wait_seconds=wait_seconds,
                visibility_timeout_seconds=visibility_timeout_seconds,
                trace_context=self._request_trace_context,
                attempt=attempt,
            )
            call = self._start("receive", route, request, wait_seconds + self._receive_grace_seconds)
        except (ValueError, pycurl.error) as error:
            self._not_sent("receive", (), error)
        else:
            call.wait_seconds, call.attempt = wait_seconds, attempt
            self._receives_in_flight += 1

    def delete(self, target: Target, deletions: Sequence[Deletion]) -> None:
        """Send one batch delete, of at most ten. Whatever becomes of it, `wait` returns it."""
        try:
            if len(deletions) > BATCH_SIZE:
                raise ValueError(f"a batch delete takes at most {BATCH_SIZE}")  # noqa: TRY301 - told like the others
            route = self._route_to(target)
            request = route.delete(self._signing_time(), [deletion.receipt_handle for deletion in deletions])
            call = self._start("delete", route, request, self._delete_seconds)
        except (ValueError, pycurl.error) as error:
            self._not_sent("delete", deletions, error)
        else:
            call.deletions = deletions

    def wait(self, timeout_seconds: float) -> list[Answer]:
        """Return all answers that have arrived, as soon as there is one; after `timeout_seconds` at the latest.

        Calls move in here alone. A signal's handler runs at once, but the wait goes on after it.
        """
        answers, self._failed_at_once = self._failed_at_once, []
        self._response_memory.resume()
        until_deadline = max(0.0, self._next_deadline - self._monotonic())
        ended = self._transfers.wait(0.0 if answers else min(timeout_seconds, until_deadline))
        now = self._monotonic()
        for transfer in ended:
            call = self._in_flight.pop(transfer.handle)
            self._receives_in_flight -= call.operation == "receive"
            answers.append(self._answer(call, transfer, now))
        if now >= self._next_deadline:
            answers.extend(self._drop_late(now))
        return answers

    def abandon(self) -> int:
        """Drop what is in flight; return how many receives that were."""
        receives = self._receives_in_flight
        for call in self._in_flight.values():
            self._drop(call)
        self._in_flight.clear()
        self._receives_in_flight = 0
        self._next_deadline = math.inf
        return receives

    def close(self) -> None:
        """Drop what is in flight and close all connections."""
        self.abandon()
        if self._route is not None:
            self._route.close()
        self._transfers.close()

    def _signing_time(self) -> int:
        return int(self._wall() + self._clock_offset_seconds)

    def _route_to(self, target: Target) -> Route:
        if self._route is not None:
            if target is self._route.target or target == self._route.target:
                return self._route
            self._route.close()
            self._route = None
        self._route = Route(target, self._user_agent, self._response_memory)
        return self._route

    def _start(self, operation: Operation, route: Route, request: Request, allowed_seconds: float) -> _Call:
        exchange = route.exchange(operation)
        exchange.carry(request)
        self._transfers.start(exchange.handle)
        call = _Call(operation, route, exchange, self._monotonic(), allowed_seconds)
        self._in_flight[exchange.handle] = call
        self._next_deadline = min(self._next_deadline, call.deadline)
        return call

    def _not_sent(self, operation: Operation, deletions: Sequence[Deletion], error: Exception) -> None:
        reason = "credentials" if isinstance(error, UnusableCredentialsError) else "request"
        now = self._monotonic()
        detail = one_line(f"The request can't be made: {error}.")
        self._failed_at_once.append(Failed(operation, reason, detail, deletions, now, now))

    def _answer(self, call: _Call, transfer: Transfer, now: float) -> Answer:
        if transfer.curl_code:
            call.exchange.close()
            reason = reason_of_transfer(transfer.curl_code)
            too_large = f"The answer is over {MAX_ANSWER_BYTES >> 20} MiB."
            failed = f"The transfer failed: {transfer.error}."
            return self._failed(call, reason, too_large if reason == "too_large" else failed, now)
        status = call.exchange.handle.getinfo(pycurl.RESPONSE_CODE)
        body = call.exchange.take_body()
        try:
            if not 200 <= status < 300:  # noqa: PLR2004 - the statuses that are success
                return self._refused(call, status, body, now)
            if call.operation == "receive":
                return self._received(call, body, now)
            return self._deleted(call, body, now)
        except MalformedAnswerError as error:
            return self._failed(call, "malformed", f"The answer, of {len(body)} bytes, is not SQS's: {error}.", now)
        finally:
            if call.route is self._route:
                call.route.rest(call.operation, call.exchange)
            else:
                call.exchange.close()

    def _received(self, call: _Call, body: bytes, now: float) -> Answer:
        messages, released = parse_receive(body)
        if not messages and not released:
            took_seconds = now - call.sent_at
            # SQS ends a long poll early for messages alone: whoever says "nothing" at once is not SQS.
            if took_seconds < call.wait_seconds / 2:
                detail = f"An empty answer came {took_seconds:.1f} s into a long poll of {call.wait_seconds} s."
                return self._failed(call, "empty_early", detail, now)
        return Received(messages, released, call.sent_at, now)

    def _deleted(self, call: _Call, body: bytes, now: float) -> Deleted:
        confirmed_ids, refused = parse_delete(body)
        # Nearly always all are confirmed: then there is nothing to tell apart.
        if not refused and confirmed_ids.issuperset(BATCH_IDS[: len(call.deletions)]):
            return Deleted(call.deletions, (), call.sent_at, now)
        asked = list(zip(BATCH_IDS, call.deletions, strict=False))
        confirmed = [deletion for batch_id, deletion in asked if batch_id in confirmed_ids]
        failed = [
            (deletion, refused.get(batch_id, "unconfirmed"))
            for batch_id, deletion in asked
            if batch_id not in confirmed_ids
        ]
        return Deleted(confirmed, failed, call.sent_at, now)

    def _refused(self, call: _Call, status: int, body: bytes, now: float) -> Failed:
        if status // 100 == 3:  # noqa: PLR2004 - the class of the statuses that are redirects
            return self._failed(
                call, "redirect", f"The endpoint answered {status}, a redirect, as SQS never does.", now
            )
        headers = call.exchange.headers
        codes, message = codes_and_message(body, headers)
        reason = reason_of_error(status, codes, message)
        if reason == "clock_skew":
            self._learn_clock_offset(header(headers, "date"))
        said = f"The endpoint answered {status} {codes[0] if codes else 'without an error code'}"
        # What is said of a refused delete may repeat its receipt handle.
        tellable = message and (call.operation == "receive" or reason in {"access_denied", "kms"})
        return self._failed(call, reason, f"{said}: {message}" if tellable else f"{said}.", now)

    def _learn_clock_offset(self, date: str) -> None:
        try:
            self._clock_offset_seconds = parsedate_to_datetime(date).timestamp() - self._wall()
        except (ValueError, OverflowError):
            return

    def _failed(self, call: _Call, reason: str, detail: str, now: float) -> Failed:
        if call.attempt is not None and reason in {"connection", "server", "timeout"}:
            self._unanswered_attempts.append(call.attempt)
        target = call.route.target
        secrets = (target.credentials.secret_key, target.credentials.token, urlsplit(target.proxy_url or "").password)
        if any(secret and secret in detail for secret in secrets):
            detail = "What was said holds a secret."
        return Failed(call.operation, reason, one_line(detail), call.deletions, call.sent_at, now)

    def _drop(self, call: _Call) -> None:
        self._transfers.drop(call.exchange.handle)
        call.exchange.close()

    def _drop_late(self, now: float) -> list[Answer]:
        late = [call for call in self._in_flight.values() if now >= call.deadline]
        answers: list[Answer] = []
        for call in late:
            del self._in_flight[call.exchange.handle]
            self._receives_in_flight -= call.operation == "receive"
            self._drop(call)
            detail = f"No whole answer came within {call.allowed_seconds:g} s."
            answers.append(self._failed(call, "timeout", detail, now))
        self._next_deadline = min((call.deadline for call in self._in_flight.values()), default=math.inf)
        return answers
