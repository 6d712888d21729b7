"""Which of `exporter.sqs.REASONS` an error of SQS or of libcurl stands for.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/CommonErrors.html
https://curl.se/libcurl/c/libcurl-errors.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import pycurl

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_NAMES = {
    "access_denied": ("AccessDenied", "AuthorizationError", "NotAuthorized", "UnauthorizedOperation"),
    "clock_skew": ("RequestExpired", "RequestInTheFuture", "RequestTimeTooSkewed"),
    "credentials": (
        "AuthFailure",
        "ExpiredToken",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidSecurityToken",
        "InvalidSignature",
        "InvalidToken",
        "MissingAuthenticationToken",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnrecognizedClient",
    ),
    "over_limit": ("OverLimit",),
    "queue_not_found": ("InvalidAddress", "NonExistentQueue", "QueueDoesNotExist"),
    "server": ("InternalError", "InternalFailure", "InternalServerError", "ServiceUnavailable"),
    "throttled": (
        "BandwidthLimitExceeded",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "SlowDown",
        "Throttled",
        "Throttling",
        "TooManyRequests",
    ),
}
_REASONS = {name.lower(): reason for reason, names in _NAMES.items() for name in names}
_TOO_MANY_REQUESTS = 429
_SERVER_ERRORS = 500

_SKEWED = re.compile("signature (expired|not yet current)", re.IGNORECASE)

_CURLE_TOO_LARGE = 100
"""Headers without end; pycurl has no name for it."""
_CURL_REASONS = {
    pycurl.E_OPERATION_TIMEDOUT: "timeout",
    pycurl.E_OUT_OF_MEMORY: "out_of_memory",
    pycurl.E_WRITE_ERROR: "out_of_memory",  # what has arrived could not be kept
    pycurl.E_FILESIZE_EXCEEDED: "too_large",
    pycurl.E_FTP_WEIRD_SERVER_REPLY: "malformed",  # the name of old for any protocol's
    pycurl.E_UNSUPPORTED_PROTOCOL: "malformed",  # no HTTP at the other end, or one before 1.0
    _CURLE_TOO_LARGE: "malformed",
    pycurl.E_URL_MALFORMAT: "request",
    **dict.fromkeys(
        (
            pycurl.E_PEER_FAILED_VERIFICATION,
            pycurl.E_SSL_CACERT_BADFILE,
            pycurl.E_SSL_CERTPROBLEM,
            pycurl.E_SSL_CIPHER,
            pycurl.E_SSL_CONNECT_ERROR,
            pycurl.E_SSL_ENGINE_INITFAILED,
            pycurl.E_SSL_ISSUER_ERROR,
            pycurl.E_SSL_SHUTDOWN_FAILED,
        ),
        "tls",
    ),
}


def reason_of_error(status: int, codes: Iterable[str], message: str = "") -> str:
    """Return the reason for an error answer: `codes` are all the names that SQS gave it, the most telling first."""
    if _SKEWED.search(message):
        return "clock_skew"
    for code in codes:
        name = code.lower().removesuffix("exception")
        if name.startswith("kms"):
            return "kms"
        reason = _REASONS.get(name) or _REASONS.get(name.rpartition(".")[2])
        if reason is not None:
            return reason
    if status == _TOO_MANY_REQUESTS:
        return "throttled"
    return "server" if status >= _SERVER_ERRORS else "request"


def reason_of_transfer(curl_code: int) -> str:
    """Return the reason for a transfer that libcurl gave up."""
    return _CURL_REASONS.get(curl_code, "connection")


def codes_and_message(body: bytes, headers: Sequence[bytes]) -> tuple[list[str], str]:
    """Return what an error answer calls its error, and its message up to the first line break.

    After that SQS may repeat the request, security token included. Empty where there is nothing of the kind.
    """
    try:
        report = msgspec.json.decode(body, type=dict[str, object])
    except (ValueError, RecursionError):
        report = {}
    message = report.get("message") or report.get("Message")
    named = (report.get("__type"), header(headers, "x-amzn-errortype"), header(headers, "x-amzn-query-error"))
    # SQS writes a namespace before "#" and, after ":" or ";", where to read on or whose fault it is.
    codes = [re.split("[:;]", name.rpartition("#")[2])[0] for name in named if isinstance(name, str) and name]
    return codes, message.partition("\n")[0] if isinstance(message, str) else ""


def header(headers: Sequence[bytes], name: str) -> str:
    """Return the value of the last header of that name among the raw lines of an answer, "" without one."""
    start = f"{name}:".encode()
    for line in reversed(headers):
        if line[: len(start)].lower() == start:
            return line[len(start) :].strip().decode("latin-1")
    return ""
