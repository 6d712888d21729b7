"""The registry as text: the format a scraper asked for, narrowed to the names it asked for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client import CollectorRegistry

_KNOWN_FORMAT = re.compile(
    r"\s*(application/openmetrics-text(\s*;\s*version=1\.0\.0)?|text/plain\s*;\s*version=(0\.0\.4|1\.0\.0))"
    r"(\s*;\s*(q|escaping|charset)=[A-Za-z0-9.-]*)*\s*"
)


class Exposition(NamedTuple):
    """An answer to a scrape; `content_type` names the format, and Prometheus believes it."""

    content_type: str
    body: bytes


def expose(registry: CollectorRegistry, accept: str, names: Sequence[str], *, created_timestamps: bool) -> Exposition:
    """Collect and encode what the `Accept` header and the `name[]` parameters ask for; no names means everything.

    https://prometheus.io/docs/instrumenting/content_negotiation/
    """
    encode, content_type = choose_encoder(_known_formats(accept))
    source: Collector = registry.restricted_registry(names) if names else registry
    if not (created_timestamps and content_type.startswith("application/openmetrics-text")):
        source = _WithoutCreated(source)
    return Exposition(content_type, encode(source))


def _known_formats(accept: str) -> str:
    """Drop what a stranger may make up: the encoders fail on some version numbers and repeat the others."""
    return ",".join(offer for offer in accept.split(",") if _KNOWN_FORMAT.fullmatch(offer))


class _WithoutCreated(Collector):
    """Leaves out `_created`, which a default Prometheus stores as one more series for every counter."""

    def __init__(self, source: Collector) -> None:
        self._source = source

    def collect(self) -> Iterable[Metric]:
        for family in self._source.collect():
            created = f"{family.name}_created"
            if any(sample.name == created for sample in family.samples):
                trimmed = Metric(family.name, family.documentation, family.type)
                trimmed.samples = [sample for sample in family.samples if sample.name != created]
                yield trimmed
            else:
                yield family
