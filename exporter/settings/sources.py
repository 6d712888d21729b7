"""Where settings come from: a flag, else an environment variable, else the YAML file, else the default.

Every source gives text, so that a value means the same wherever it stands, and remembers where it was found, so that
a wrong one can be named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from exporter.errors import WrongSettingError, nearest, shown
from exporter.settings import Settings
from exporter.settings.events import QueueEventsSettings, QueueSettings, all_label_names
from exporter.settings.file import Entry, read_file
from exporter.settings.setting import VARIABLE_PREFIX, Setting, setting_fields

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Found:
    """A value, still as text (or the texts of a list), and the flag, variable or line of a file that said it."""

    value: str | list[str]
    source: str


def read_settings(
    flags: Mapping[str, str],
    environment: Mapping[str, str],
    *,
    defaults: Mapping[str, str] | None = None,
    flag_only: Collection[str] = (),
) -> Settings:
    """Read every setting; the mappings of flags and defaults are by key (`ledger.path`).

    An empty variable counts as not set. `defaults` replaces defaults; what is in `flag_only` is taken from its flag or
    default alone. Raises WrongSettingError.
    """
    given, queues = _given(flags, environment, flag_only)
    if "ledger.path" in given and "ledger.url" in given:
        raise WrongSettingError(
            f"{given['ledger.path'].source} and {given['ledger.url'].source} are both set: keep the one that is to "
            f"hold the counts, a file (--ledger.path) or a PostgreSQL database (--ledger.url)"
        )
    replaced = {key: Found(value, f"the default of {key}") for key, value in (defaults or {}).items()}
    settings = _build(Settings, replaced | given).model_copy(update={"queues": queues})
    all_label_names(settings.events, settings.queues)
    return settings


def given_settings(flags: Mapping[str, str], environment: Mapping[str, str]) -> Mapping[str, Found]:
    """Return what is set, by key, and where; nothing is judged but what can't be read at all."""
    return _given(flags, environment, ())[0]


def read_options(model: type[Model], flags: Mapping[str, str]) -> Model:
    """Read the options that only one command has, and only as flags. Raises WrongSettingError."""
    return _build(model, _from_flags(flags))


def _given(
    flags: Mapping[str, str], environment: Mapping[str, str], flag_only: Collection[str]
) -> tuple[dict[str, Found], tuple[QueueSettings, ...]]:
    by_flag = _from_flags(flags)
    by_variable = _from_environment(environment)
    named = by_flag.get("config.file") or by_variable.get("config.file")
    by_file, queues = _from_file(named) if named else ({}, ())
    elsewhere = {key: found for key, found in (by_file | by_variable).items() if key not in flag_only}
    return elsewhere | by_flag, queues


def _from_flags(flags: Mapping[str, str]) -> dict[str, Found]:
    return {key: Found(value, f"--{key}") for key, value in flags.items()}


def _from_environment(environment: Mapping[str, str]) -> dict[str, Found]:
    settings = [field.setting for field in setting_fields(Settings)]
    keys = {setting.variable: setting.key for setting in settings}
    for name in sorted(environment):
        if name.startswith(VARIABLE_PREFIX) and name not in keys and not _may_be_from_kubernetes(name, settings):
            raise WrongSettingError(f"the environment variable {name} is not a setting{_hint(name, settings)}")
    return {
        key: Found(environment[variable], f"the environment variable {variable}")
        for variable, key in keys.items()
        if environment.get(variable)
    }


def _may_be_from_kubernetes(name: str, settings: Collection[Setting]) -> bool:
    """Whether it may be one that Kubernetes sets for a Service named `exporter`: EXPORTER_PORT, EXPORTER_SERVICE_HOST.

    https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
    """
    if "__" in name:
        return False
    ours = {setting.derived_variable.replace("__", "_") for setting in settings}
    return name not in ours


def _hint(name: str, settings: Collection[Setting]) -> str:
    old_names = {setting.derived_variable: setting.variable for setting in settings}
    if name in old_names:
        return f"; did you mean {old_names[name]}?"
    return nearest(name, old_names.values()) or "; unset it"


def _from_file(named: Found) -> tuple[dict[str, Found], tuple[QueueSettings, ...]]:
    known = [field.setting.key for field in setting_fields(Settings) if field.setting.key != "config.file"]
    known_of_queue = [field.setting.key for field in setting_fields(QueueEventsSettings)]
    entries = read_file(str(named.value), named.source, known, known_of_queue)
    queues = tuple(_queue_settings(name, own, named) for name, own in entries.queues.items())
    return {key: Found(entry.value, f"{entry.where} ({key})") for key, entry in entries.settings.items()}, queues


def _queue_settings(name: str, entries: Mapping[str, Entry], named: Found) -> QueueSettings:
    found = {key: Found(entry.value, f"{entry.where} (queues.{name}.{key})") for key, entry in entries.items()}
    events = _build(QueueEventsSettings, found)
    try:
        return QueueSettings(queue=name, events=events)
    except ValidationError:
        raise WrongSettingError(
            f"{shown(named.value)} has settings for the queue {shown(name)}: use its name (1 to 80 letters, digits, - "
            "and _, .fifo may follow) or a prefix such as shop-*"
        ) from None


def _build(model: type[Model], found: Mapping[str, Found]) -> Model:
    known = list(setting_fields(model))
    tree: dict[str, Any] = {}
    for field in known:
        if field.setting.key in found:
            branch = tree
            for name in field.path[:-1]:
                branch = branch.setdefault(name, {})
            branch[field.path[-1]] = found[field.setting.key].value
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        where = error.errors(include_url=False, include_context=False)[0]["loc"]
        setting = next(field.setting for field in known if field.path == where[: len(field.path)])
        raise WrongSettingError(_sentence(setting, found.get(setting.key))) from None


def _sentence(setting: Setting, found: Found | None) -> str:
    if found is None:
        return f"{setting.flag} is missing: set it, {setting.variable} or {setting.key!r} in --config.file"
    hint = ""
    if setting.placeholder == "DURATION" and str(found.value).isdecimal():
        hint = f" ({found.value} of what? {found.value}s are seconds, {found.value}m minutes)"
    return f"{found.source} is {shown(found.value)}: use {setting.expected}{hint}"
