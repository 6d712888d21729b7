"""The description of a setting (flag, variable, help, what is expected), and the types of values that settings have."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from exporter.settings.duration import parse_duration
from exporter.sqs.names import is_prefix, is_queue

VARIABLE_PREFIX = "EXPORTER_"
RESERVED_PATHS = frozenset({"/", "/-/healthy", "/-/ready"})

_HOST_AND_PORT = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<host>[\w.-]*)):(?P<port>[0-9]{1,5})", re.ASCII
)
_TELEMETRY_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class Setting:
    """How people meet a setting: `key` is its flag without dashes, and its name in the file."""

    key: str
    help: str
    expected: str
    """What would be right, after the word "use"."""
    placeholder: str
    old_variable: str | None = None
    """The variable that sets it in the place of the derived one, where people had one before."""
    several: bool = False
    """Whether its flag may be given several times."""

    @property
    def flag(self) -> str:
        """As on the command line: `--ledger.path`."""
        return f"--{self.key}"

    @property
    def derived_variable(self) -> str:
        """The flag's name as a variable: `EXPORTER_LEDGER__PATH`."""
        return VARIABLE_PREFIX + self.key.upper().replace(".", "__").replace("-", "_")

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return self.old_variable or self.derived_variable


def split_listen_address(text: str) -> tuple[str, int]:
    """Split `host:port` (`[::1]:9797` for IPv6) into host, "" for all addresses, and port. Raises ValueError."""
    found = _HOST_AND_PORT.fullmatch(text)
    if found is None or int(found["port"]) > 65_535:  # noqa: PLR2004 - the highest port there is
        message = "not host:port"
        raise ValueError(message)
    return found["v6"] or found["host"] or "", int(found["port"])


def _require(condition: object) -> None:
    """Raise the ValueError that pydantic collects; the user reads the setting's own rule instead of its text."""
    if not condition:
        message = "against the rule"
        raise ValueError(message)


def _queue(text: str) -> str:
    _require(is_queue(text) or is_prefix(text))
    return text


def _queue_name_or_prefix(text: str) -> str:
    _require("://" not in text and (is_queue(text) or is_prefix(text)))
    return text


def _listen_address(text: str) -> str:
    split_listen_address(text)
    return text


def _telemetry_path(text: str) -> str:
    _require(_TELEMETRY_PATH.fullmatch(text) and text not in RESERVED_PATHS)
    return text


def _event_type(text: str) -> str:
    _require(0 < len(text) <= 128 and not text.startswith("__") and not _CONTROL.search(text))  # noqa: PLR2004 - as in events
    return text


def _path(path: Path) -> Path:
    _require(path.name and not _CONTROL.search(str(path)))
    return path


def _comma_list(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _seconds(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _level(value: object) -> object:
    lower = value.lower() if isinstance(value, str) else value
    return "warning" if lower == "warn" else lower


Seconds = Annotated[float, BeforeValidator(_seconds)]
NonEmptyPath = Annotated[Path, AfterValidator(_path)]
Queues = Annotated[
    tuple[Annotated[str, AfterValidator(_queue)], ...], BeforeValidator(_comma_list), Field(min_length=1)
]
LedgerName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,63}$")]
LedgerUrl = Annotated[str, Field(pattern=r"^postgres(ql)?://")]
QueueNameOrPrefix = Annotated[str, AfterValidator(_queue_name_or_prefix)]
ListenAddress = Annotated[str, AfterValidator(_listen_address)]
TelemetryPath = Annotated[str, AfterValidator(_telemetry_path)]
EventTypes = Annotated[tuple[Annotated[str, AfterValidator(_event_type)], ...], BeforeValidator(_comma_list)]
Level = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_level)]


class Group(BaseModel):
    """Settings that belong together. Unknown fields are refused, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class SettingField:
    """One setting in a model: the names that lead to the field, its default and its group's docstring."""

    path: tuple[str, ...]
    setting: Setting
    default: object
    required: bool
    group: str


def setting_fields(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[SettingField]:
    """Every setting of a model and of the groups in it, in the order in which they are written."""
    for name, field in model.model_fields.items():
        group = field.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            yield from setting_fields(group, (*above, name))
            continue
        for setting in field.metadata:
            if isinstance(setting, Setting):
                yield SettingField(
                    (*above, name), setting, field.default, field.is_required(), (model.__doc__ or "").strip()
                )
