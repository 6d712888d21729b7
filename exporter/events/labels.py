"""Which series an event counts under: its type and the values of the labels that were configured."""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from exporter.events.fields import attribute_name, parse_path

MAX_CHARACTERS = 128
"""The longest type, and the longest value of a label."""
INVALID_LABEL = "__invalid__"
"""What stands for the value of a label that can't be shown."""

MAX_LABELS = 10
RESERVED_LABELS = frozenset({"queue", "type", "ledger", "le", "instance", "job", "cluster", "pod", "node"})
"""Ours, Prometheus' own, and what a scrape in Kubernetes adds: shipped rules join by `cluster` and blank the others."""
LABELS_RULE = (
    "names with paths, such as currency,country=shipping.country: at most 10 different names of letters, digits and _, "
    "none of queue, type, ledger, le, instance, job, cluster, pod and node, none that starts with __"
)

# https://prometheus.io/docs/concepts/data_model/#metric-names-and-labels
_LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
_LABEL = re.compile(r'\s*([^=,"]*?)\s*(?:=\s*((?:"(?:[^"\\]|\\.)*"|[^",])*?)\s*)?(?:,|$)')

_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LONGEST_BYTES = 2 + MAX_CHARACTERS * len(r"\ud83d\uded2")
SHORT_BYTES = 256

_decode_string = msgspec.json.Decoder(str).decode


def parse_labels(text: str) -> tuple[tuple[str, str], ...]:
    """Return the names and fields of `name=field,...`, where `name` alone means the field of that name.

    Raises ValueError with a sentence that says what would be right.
    """
    labels: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        found = _LABEL.match(text, at)
        if found is None:
            raise ValueError(f"{text[at:]!r} is not a label: use {LABELS_RULE}")
        at = found.end()
        if found[1] or found[2] is not None:
            labels.append((found[1], found[1] if found[2] is None else found[2]))
    check_label_names([name for name, _ in labels])
    for _, field in labels:
        if attribute_name(field) is None:
            parse_path(field)
    return tuple(labels)


def check_label_names(names: list[str]) -> None:
    """Raise ValueError where Prometheus or this program can't have labels of these names."""
    for name in names:
        if not _LABEL_NAME.fullmatch(name) or name in RESERVED_LABELS or names.count(name) > 1:
            raise ValueError(f"a label can't be called {name!r}: use {LABELS_RULE}")
    if len(names) > MAX_LABELS:
        raise ValueError(f"{len(names)} labels are too many: use {LABELS_RULE}")


def series(type_text: bytes, *label_texts: bytes) -> tuple[str, ...] | None:
    """Return the type and the label values that stand in these JSON texts; None where the type is not one.

    A type is a string of 1 to 128 characters without control characters and half surrogate pairs that doesn't start
    with `__`. A label takes strings, numbers and booleans; absent and null are empty, and what is not fit for a label
    is `INVALID_LABEL`.
    """
    name = _shown(type_text) if type_text.startswith(b'"') else None
    return (name, *map(_label, label_texts)) if name else None


short_series = lru_cache(maxsize=4096)(series)
"""The same for texts of up to `SHORT_BYTES` together: types and label sets are few.

This and the caches of values and timestamps hold less than 16 MiB, whatever strangers send.
"""


def _label(text: bytes) -> str:
    if text in {b"", b"null"}:
        return ""
    value = None
    if text.startswith(b'"'):
        value = _shown(text)
    elif not text.startswith((b"{", b"[")) and len(text) <= MAX_CHARACTERS:
        value = text.decode()
    return INVALID_LABEL if value is None else value


def _shown(text: bytes) -> str | None:
    """Return the string in JSON `text` if it is fit to be shown as the value of a label, else None."""
    try:
        value = _decode_string(text) if len(text) <= _LONGEST_BYTES else None
    except msgspec.DecodeError:
        return None
    if value is None or len(value) > MAX_CHARACTERS or value.startswith("__") or _CONTROL_CHARACTER.search(value):
        return None
    return value
