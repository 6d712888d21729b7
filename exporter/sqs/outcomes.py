"""What became of a request: SQS's answer, or why there is none that can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pycurl

from exporter.errors import one_line
from exporter.sqs.answers import ChangedVisibility, Deleted, Failed, Received
from exporter.sqs.http import MAX_ANSWER_BYTES
from exporter.sqs.parsing import MalformedAnswerError, parse_batch, parse_receive
from exporter.sqs.reasons import codes_and_message, reason_of_error, reason_of_transfer
from exporter.sqs.requests import BATCH_IDS

if TYPE_CHECKING:
    from exporter.sqs.answers import Answer
    from exporter.sqs.http import Call

_ANSWERED = frozenset({"empty_early", "malformed", "out_of_memory", "request", "too_large"})
"""Reasons for which an attempt at a FIFO queue is not repeated: it would be answered in the same way."""


def answer_to(call: Call, now: float) -> Answer:
    """Return what came of a call that ended at `now` (monotonic seconds), and give the call back to its queue."""
    if call.curl_code:
        return _broken(call, now)
    status = call.handle.getinfo(pycurl.RESPONSE_CODE)
    body = call.take_body()
    try:
        if not 200 <= status < 300:  # noqa: PLR2004 - the statuses that are success
            return _refused(call, status, body, now)
        if call.operation == "receive":
            return _received(call, body, now)
        return _batch_answered(call, body, now)
    except MalformedAnswerError as error:
        return failed(call, "malformed", f"The answer, of {len(body)} bytes, is not SQS's: {error}.", now)
    except MemoryError:
        return failed(call, "out_of_memory", "There is no memory left to read the answer.", now)
    finally:
        call.queue.rest(call)


def failed(call: Call, reason: str, detail: str, now: float) -> Failed:
    """Return that a call failed, for one of `exporter.sqs.REASONS`.

    `detail` is a sentence, which is kept back where it holds a secret. The attempt of a FIFO receive is kept, to be
    repeated: its answer was lost, or this was refused and the answer to the same attempt before it was lost.
    """
    if call.attempt is not None and reason not in _ANSWERED:
        call.queue.unanswered_attempts.append(call.attempt)
    credentials, proxy_url = call.target.credentials, call.target.proxy_url
    secrets = (credentials.secret_key, credentials.token, urlsplit(proxy_url or "").password)
    if any(secret and secret in detail for secret in secrets):
        detail = "What was said holds a secret."
    return Failed(call.queue.name, call.operation, reason, one_line(detail), call.deletions, call.sent_at, now)


def _broken(call: Call, now: float) -> Failed:
    call.close()
    reason = reason_of_transfer(call.curl_code)
    too_large = f"The answer is over {MAX_ANSWER_BYTES >> 20} MiB."
    broken = f"The transfer failed: {call.error}."
    return failed(call, reason, too_large if reason == "too_large" else broken, now)


def _received(call: Call, body: bytes, now: float) -> Answer:
    messages, released = parse_receive(body, call.attribute_names)
    if not messages and not released:
        took_seconds = now - call.sent_at
        # SQS ends a long poll early for messages alone: whoever says "nothing" at once is not SQS.
        if took_seconds < call.wait_seconds / 2:
            detail = f"An empty answer came {took_seconds:.1f} s into a long poll of {call.wait_seconds} s."
            return failed(call, "empty_early", detail, now)
    return Received(
        call.queue.name,
        messages,
        released,
        call.sent_at,
        now,
        call.visibility_timeout_seconds,
        call.allowed_seconds,
    )


def _batch_answered(call: Call, body: bytes, now: float) -> Answer:
    made = Deleted if call.operation == "delete" else ChangedVisibility
    confirmed_ids, refused = parse_batch(body)
    # Nearly always all are confirmed: then there is nothing to tell apart.
    if not refused and confirmed_ids.issuperset(BATCH_IDS[: len(call.deletions)]):
        return made(call.queue.name, call.deletions, (), call.sent_at, now)
    asked = list(zip(BATCH_IDS, call.deletions, strict=False))
    confirmed = [deletion for batch_id, deletion in asked if batch_id in confirmed_ids]
    unconfirmed = [
        (deletion, refused.get(batch_id, "unconfirmed"))
        for batch_id, deletion in asked
        if batch_id not in confirmed_ids
    ]
    return made(call.queue.name, confirmed, unconfirmed, call.sent_at, now)


def _refused(call: Call, status: int, body: bytes, now: float) -> Failed:
    if status // 100 == 3:  # noqa: PLR2004 - the class of the statuses that are redirects
        return failed(call, "redirect", f"The endpoint answered {status}, a redirect, as SQS never does.", now)
    codes, message = codes_and_message(body, call.headers)
    reason = reason_of_error(status, codes, message)
    said = f"The endpoint answered {status} {codes[0] if codes else 'without an error code'}"
    # What is said of a refused delete may repeat its receipt handle.
    tellable = message and (call.operation == "receive" or reason in {"access_denied", "kms"})
    return failed(call, reason, f"{said}: {message}" if tellable else f"{said}.", now)
