"""Which exposition format and which encoding a request asks for.

https://www.rfc-editor.org/rfc/rfc9110.html#name-content-negotiation and
https://prometheus.io/docs/instrumenting/content_negotiation/
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

MAX_OFFERS = 32
"""Offers of one header that are looked at: Prometheus makes six."""

_QUALITY = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?", re.ASCII)
_ESCAPINGS = ("allow-utf-8", "underscores", "dots", "values")


class Kind(Enum):
    """An exposition format: its media type and its version."""

    TEXT_0 = ("text/plain", "0.0.4")
    TEXT_1 = ("text/plain", "1.0.0")
    OPENMETRICS = ("application/openmetrics-text", "1.0.0")


class Format(NamedTuple):
    """The format of an answer, and how it writes names that older Prometheus servers would not read.

    `escaping` is "" where the client did not say that it knows escaping schemes: the answer then names none either.
    """

    kind: Kind
    escaping: str = ""

    @property
    def content_type(self) -> str:
        """The header; Prometheus believes it."""
        media_type, version = self.kind.value
        escaping = f"; escaping={self.escaping}" if self.escaping else ""
        return f"{media_type}; version={version}; charset=utf-8{escaping}"


TEXT = Format(Kind.TEXT_0)
"""What everyone reads, and what is given where nothing that was asked for can be."""


class _Offer(NamedTuple):
    media_type: str
    parameters: dict[str, str]
    quality: float


@lru_cache(maxsize=64)
def choose_format(accept: str) -> Format:
    """Return the format that an `Accept` header prefers: the highest q, of those with the same q the first.

    Of several offers for one format the most specific counts. Nothing that can be given, or no header, means TEXT.
    """
    offers = _offers(accept)
    best, best_rank = TEXT, (0.0, 0, 0)
    for kind in Kind:
        matching = [(_specificity(offer, kind), -place) for place, offer in enumerate(offers)]
        specificity, place = max(matching, default=(0, 0))
        if not specificity:
            continue
        offer = offers[-place]
        rank = (offer.quality, place, specificity)
        if offer.quality and rank > best_rank:
            best, best_rank = Format(kind, _escaping(kind, offer)), rank
    return best


@lru_cache(maxsize=64)
def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an `Accept-Encoding` header allows gzip: named with a q above 0, or by `*` where it is not named."""
    qualities = {offer.media_type: offer.quality for offer in _offers(accept_encoding)}
    return qualities.get("gzip", qualities.get("x-gzip", qualities.get("*", 0.0))) > 0


def _offers(header: str) -> list[_Offer]:
    offers = []
    for text in header.split(",", MAX_OFFERS)[:MAX_OFFERS]:
        media_type, *rest = (part.strip() for part in text.split(";"))
        parameters = {}
        for parameter in rest:
            name, _, value = parameter.partition("=")
            parameters[name.strip().lower()] = value.strip().strip('"')
        quality = parameters.pop("q", "1")
        if media_type:
            offers.append(
                _Offer(media_type.lower(), parameters, float(quality) if _QUALITY.fullmatch(quality) else 0.0)
            )
    return offers


def _specificity(offer: _Offer, kind: Kind) -> int:
    """Return 0 where the offer is not for this format, else how closely it names it."""
    media_type, version = kind.value
    wanted = offer.parameters.get("version", "")
    if offer.media_type == media_type:
        if wanted:
            return 4 if wanted == version else 0
        # Who names no version of text means the old one, which everyone reads.
        return 0 if kind is Kind.TEXT_1 else 3
    if offer.media_type == f"{media_type.partition('/')[0]}/*":
        return 0 if kind is Kind.TEXT_1 else 2
    return 1 if offer.media_type == "*/*" and kind is Kind.TEXT_0 else 0


def _escaping(kind: Kind, offer: _Offer) -> str:
    if kind is Kind.TEXT_0 or (kind is Kind.OPENMETRICS and "version" not in offer.parameters):
        return ""
    wanted = offer.parameters.get("escaping", "")
    return wanted if wanted in _ESCAPINGS else "underscores"
