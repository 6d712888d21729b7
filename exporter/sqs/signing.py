"""Signature Version 4, as far as the calls of the hot path need it. Pure: no clock, no I/O.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hmac
import time
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from exporter.sqs import Target

CONTENT_TYPE = "application/x-amz-json-1.0"

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SIGNED_HEADERS = "content-type;host;x-amz-date;x-amz-target"
_SIGNED_HEADERS_WITH_TOKEN = "content-type;host;x-amz-date;x-amz-security-token;x-amz-target"  # noqa: S105 - names, no secret


class UnusableCredentialsError(ValueError):
    """No header could carry the access key or the session token; often a line break at the end of a secret."""


class Signer:
    """Signs the requests of one operation to one target.

    All that does not depend on the body is worked out once a second, the derived key once a day.
    """

    def __init__(self, target: Target, operation: str) -> None:
        """Raise UnusableCredentialsError, or ValueError where the endpoint or the region can't be signed for."""
        credentials = target.credentials
        self._secret_key = credentials.secret_key
        self._token = credentials.token
        self._region = target.region
        self._access_key = credentials.access_key
        self._operation = f"AmazonSQS.{operation}"
        self._path = quote(urlsplit(target.endpoint_url).path or "/", safe="/~")
        self._host = host_of(target.endpoint_url)
        if not (_fits_in_a_header(self._host) and _fits_in_a_header(self._region)):
            raise ValueError("the endpoint's host or the region holds a character that it can't")
        if not (_fits_in_a_header(self._access_key) and (self._token is None or _fits_in_a_header(self._token))):
            raise UnusableCredentialsError("the access key or the session token is empty, or holds a space or worse")
        self._second = -1
        self._day = ""
        self._signature = hmac.new(b"", digestmod=sha256)
        """Begun with the day's derived key; each request's is a copy that goes on."""
        self._headers: list[str] = []
        self._canonical_head = ""
        self._string_head = ""
        self._authorization_head = ""

    def headers(self, body: bytes, unix_seconds: int) -> list[str]:
        """Return the headers, `Name: value`, that a POST of `body` needs; they are valid for some minutes."""
        if unix_seconds != self._second:
            self._enter(unix_seconds)
        canonical_request = f"{self._canonical_head}{sha256(body).hexdigest()}"
        string_to_sign = f"{self._string_head}{sha256(canonical_request.encode()).hexdigest()}"
        signature = self._signature.copy()
        signature.update(string_to_sign.encode())
        return [*self._headers, f"{self._authorization_head}{signature.hexdigest()}"]

    def _enter(self, unix_seconds: int) -> None:
        date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(unix_seconds))
        day = date[:8]
        if day != self._day:
            key = f"AWS4{self._secret_key}".encode()
            for part in (day, self._region, "sqs", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._signature, self._day = hmac.new(key, digestmod=sha256), day
        token, signed = f"x-amz-security-token:{self._token}\n", _SIGNED_HEADERS_WITH_TOKEN
        if self._token is None:
            token, signed = "", _SIGNED_HEADERS
        self._canonical_head = (
            f"POST\n{self._path}\n\ncontent-type:{CONTENT_TYPE}\nhost:{self._host}\nx-amz-date:{date}\n{token}"
            f"x-amz-target:{self._operation}\n\n{signed}\n"
        )
        scope = f"{day}/{self._region}/sqs/aws4_request"
        self._string_head = f"AWS4-HMAC-SHA256\n{date}\n{scope}\n"
        self._authorization_head = (
            f"Authorization: AWS4-HMAC-SHA256 Credential={self._access_key}/{scope}, SignedHeaders={signed}, Signature="
        )
        self._headers = [
            f"Content-Type: {CONTENT_TYPE}",
            f"Host: {self._host}",
            f"X-Amz-Date: {date}",
            *([] if self._token is None else [f"X-Amz-Security-Token: {self._token}"]),
            f"X-Amz-Target: {self._operation}",
        ]
        self._second = unix_seconds


def host_of(endpoint_url: str) -> str:
    """Return the Host header for an endpoint: lower case, the port only where it is not the scheme's own."""
    parts = urlsplit(endpoint_url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    if parts.port is None or parts.port == _DEFAULT_PORTS.get(parts.scheme):
        return host
    return f"{host}:{parts.port}"


def _fits_in_a_header(value: str) -> bool:
    return value.isascii() and value.isprintable() and " " not in value and value != ""
