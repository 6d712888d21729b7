"""Writes the tables of docs/metrics.md and docs/configuration.md from the code: `make docs`. A test sees drift."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

from exporter.cli.command_line import default_text
from exporter.cli.main import COMMANDS
from exporter.events.event import REASONS as REJECTED_REASONS
from exporter.ledger import ERROR_REASONS, OVERFLOW_LIMITS, RELEASED_REASONS
from exporter.settings import Settings
from exporter.settings.setting import setting_fields
from exporter.sqs import REASONS as CALL_REASONS
from exporter.sqs.answers import Operation
from exporter.sqs.lookups import LookupOperation
from exporter.telemetry.metrics import names
from exporter.telemetry.metrics.ledger import QUEUE_STATES
from exporter.telemetry.metrics.names import STARTS_AT_0, SURVIVES, Name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from exporter.settings.setting import SettingField

DOCS = Path(__file__).parent
BEGIN, END = "<!-- made by make docs, do not edit -->", "<!-- end -->"

LABEL_VALUES = {
    "`reason` of `sqs_exporter_messages_rejected_total`": REJECTED_REASONS,
    "`reason` of `sqs_exporter_messages_released_total`": RELEASED_REASONS,
    "`reason` of `sqs_exporter_receive_errors_total` and `..._message_delete_failures_total`": CALL_REASONS,
    "`reason` of `sqs_exporter_ledger_errors_total`": ERROR_REASONS,
    "`state` of `sqs_queue_messages`": QUEUE_STATES,
    "`limit` of `sqs_exporter_events_overflowed_total`": OVERFLOW_LIMITS,
    "`operation` of `sqs_exporter_requests_total`": get_args(Operation) + get_args(LookupOperation),
    "`operation` of `sqs_exporter_request_duration_seconds`": names.OPERATIONS,
}
LABELLED = (names.EVENTS, names.VALUES, names.NEGATIVES)


def metrics() -> str:
    """Return the tables of the metrics, of their label values and of their buckets."""
    groups: dict[str, list[Name]] = {"Kept by the ledger": [], "About the queue": [], "The exporter's own health": []}
    for name in names.ALL.values():
        about_queue = name.name.startswith(("sqs_queue_", "sqs_dead_letter_queue_"))
        group = 1 if about_queue else 0 if "ledger" in name.labels else 2
        list(groups.values())[group].append(name)
    parts = []
    for title, members in groups.items():
        rows = [(f"`{n.name}`", n.kind, _labels(n), _help(n), f"`{n.otlp}` {_unit(n)}".strip()) for n in members]
        parts += [f"### {title}", "", *_table(("metric", "type", "labels", "what", "over OTLP"), rows), ""]
    parts += ["### Label values", ""]
    parts += _table(("label", "values"), [(label, _codes(values)) for label, values in LABEL_VALUES.items()])
    buckets = [(f"`{name.name}`", _numbers(name.buckets)) for name in names.ALL.values() if name.buckets]
    parts += ["", "### Buckets", "", *_table(("histogram", "upper bounds in seconds"), buckets)]
    return "\n".join(parts)


def configuration() -> str:
    """Return a table for each group of settings, and one for each command's own options."""
    groups: dict[str, list[SettingField]] = {}
    for field in setting_fields(Settings):
        groups.setdefault(field.group, []).append(field)
    parts = []
    for title, fields in groups.items():
        rows = [
            (
                f"`{field.setting.flag}`",
                f"`{field.setting.variable}`",
                _default(field),
                _text(field.setting.help),
                _text(field.setting.expected),
            )
            for field in fields
        ]
        parts += [f"### {title.rstrip('.')}", "", *_table(("flag", "variable", "default", "what", "value"), rows), ""]
    for command, described in COMMANDS.items():
        own = [
            (f"`{field.setting.flag}`", _default(field), _text(field.setting.help), _text(field.setting.expected))
            for field in described.own_fields
        ]
        if own:
            parts += [f"### Flags of {command} alone", "", *_table(("flag", "default", "what", "value"), own), ""]
    return "\n".join(parts).rstrip()


PAGES: dict[str, Callable[[], str]] = {"metrics.md": metrics, "configuration.md": configuration}


def filled(page: str) -> str:
    """Return a page with its tables as the code has them now."""
    head, _, rest = (DOCS / page).read_text(encoding="utf-8").partition(BEGIN)
    return f"{head}{BEGIN}\n\n{PAGES[page]()}\n\n{END}{rest.partition(END)[2]}"


def _table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [titles, ("---",) * len(titles), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |" for cells in lines]


def _labels(name: Name) -> str:
    return _codes(name.labels) + (", and those of `--events.labels`" if name in LABELLED else "")


def _codes(values: Iterable[str]) -> str:
    return ", ".join(f"`{value}`" for value in values)


def _help(name: Name) -> str:
    """Leave out what the page says of all metrics of a kind."""
    return _text(name.help.removesuffix(SURVIVES).removesuffix(STARTS_AT_0))


def _text(text: str) -> str:
    """Keep Markdown from reading underlines as emphasis."""
    return text.replace("__", r"\_\_")


def _unit(name: Name) -> str:
    return f"({name.unit})" if name.unit not in {"", "1"} else ""


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _default(field: SettingField) -> str:
    text = default_text(field)
    return "required" if field.required else f"`{text}`" if text else "none"


if __name__ == "__main__":
    for name_of_page in PAGES:
        (DOCS / name_of_page).write_text(filled(name_of_page), encoding="utf-8")
