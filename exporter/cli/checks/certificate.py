"""Reads when the certificates in a PEM file expire. Python's ssl tells that only for a peer's certificate.

https://www.rfc-editor.org/rfc/rfc5280#section-4.1 (Certificate, TBSCertificate, Validity)
"""

from __future__ import annotations

import re
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_VERSION = 0xA0
_UTC_TIME = 0x17
_LONG_LENGTH = 0x80


def expires_seconds(file: Path) -> float | None:
    """Return when the first of its certificates to expire does, Unix time; None where the file holds none."""
    try:
        found = [_not_after(ssl.PEM_cert_to_DER_cert(pem)) for pem in _PEM.findall(file.read_text("ascii"))]
    except (OSError, ValueError, IndexError):
        return None
    return min(found, default=None)


def _not_after(certificate: bytes) -> float:
    fields = [*_fields(_first(_first(certificate)))]
    # A version, which is optional, then serial number, signature algorithm, issuer and validity.
    validity = fields[4 if fields[0][0] == _VERSION else 3][1]
    (_, (tag, text)) = _fields(validity)
    form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(text.decode("ascii"), form).replace(tzinfo=UTC).timestamp()


def _first(der: bytes) -> bytes:
    return next(_fields(der))[1]


def _fields(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Take a sequence apart into tags and contents."""
    at = 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & _LONG_LENGTH:
            size = length & ~_LONG_LENGTH
            length, at = int.from_bytes(der[at : at + size]), at + size
        yield tag, der[at : at + length]
        at += length
