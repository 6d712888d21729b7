"""Reads the command line. The flags are generated from the settings, so there is no second list of them."""

from __future__ import annotations

import argparse
import dataclasses
import os
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.cli.build import PROGRAM, this_build
from exporter.errors import WrongSettingError, nearest, shown
from exporter.settings import Settings
from exporter.settings.duration import format_duration
from exporter.settings.setting import Group, Setting, SettingField, setting_fields
from exporter.settings.sources import read_settings
from exporter.sqs.names import is_prefix
from exporter.telemetry import logs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

DESCRIPTION = "Counts the events in Amazon SQS queues, each exactly once, and shows the counts\nto Prometheus."
SOURCES = (
    "A flag goes before its environment variable, that before the file of --config.file, that before the default. "
    "What concerns AWS (region, endpoint, credentials, proxy) is set in AWS's own way: AWS_REGION, AWS_PROFILE, "
    "AWS_ENDPOINT_URL_SQS and so on."
)
HELP_COLUMNS = 78


@dataclass(frozen=True, slots=True)
class Command:
    """A command: which settings it has as flags (by key), options of its own, and what differs from the settings."""

    help: str
    keys: Collection[str]
    examples: Sequence[str]
    """What follows the program's name."""
    options: type[Group] | None = None
    defaults: Mapping[str, str] = dataclasses.field(default_factory=dict)
    option_keys: Collection[str] | None = None
    """Which of its own options it takes; None: all."""
    flag_only: Collection[str] = ()
    """Settings that are taken from their flag or their default, whatever variables and the file say."""

    @property
    def own_fields(self) -> list[SettingField]:
        """Its own options."""
        fields = setting_fields(self.options) if self.options else ()
        return [field for field in fields if self.option_keys is None or field.setting.key in self.option_keys]

    @property
    def fields(self) -> list[SettingField]:
        """All of its flags, its own options first."""
        return [*self.own_fields, *(field for field in setting_fields(Settings) if field.setting.key in self.keys)]


@dataclass(frozen=True, slots=True)
class Invocation:
    """What was asked for: the command and its flags by key, those of the settings and those of its own options."""

    command: str
    settings: Mapping[str, str]
    options: Mapping[str, str]


def configure(invocation: Invocation) -> Settings:
    """Read the settings of a command, and let its log begin. Raises WrongSettingError."""
    settings = read_settings(invocation.settings, os.environ)
    logs.configure(settings.log.level, settings.log.format)
    return settings


def one_queue(settings: Settings, command: str) -> str:
    """Return the one queue that a command works on. Raises WrongSettingError where several or a prefix are named."""
    if len(settings.queue) > 1 or is_prefix(settings.queue[0]):
        raise WrongSettingError(
            f"--queue is {shown(list(settings.queue))}: {command} works on one queue, so use its name, such as orders"
        )
    return settings.queue[0]


def read_command_line(arguments: Sequence[str], commands: Mapping[str, Command]) -> Invocation | None:
    """Read the arguments; None where there are none, after the help was printed.

    Raises WrongSettingError, and SystemExit(0) after `--help` and `--version`.
    """
    parser = _parser(commands)
    if not arguments:
        parser.print_help()
        return None
    arguments = _with_whole_name(arguments, commands)
    name = arguments[0]
    if name not in commands and name not in {"-h", "--help", "--version"}:
        there = (
            f"there is no command {shown(name)}" if name[:1] != "-" else f"the command before {_name(name)} is missing"
        )
        *some, last = dict.fromkeys(known.partition(" ")[0] for known in commands)
        raise WrongSettingError(f"{there}: use {', '.join(some)} or {last}")
    try:
        namespace, unknown = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise _misused(error, commands[name].fields if name in commands else ()) from None
    if unknown:
        hint = nearest(_name(unknown[0]), [field.setting.flag for field in commands[name].fields])
        raise WrongSettingError(f"{name} has no {_name(unknown[0])}{hint or f'; see {PROGRAM} {name} --help'}")
    given = {
        field.setting.key: _one_value(field.setting, values)
        for field in commands[name].fields
        if (values := getattr(namespace, field.setting.key, None)) is not None
    }
    shared = commands[name].keys
    return Invocation(
        name,
        {key: value for key, value in given.items() if key in shared},
        {key: value for key, value in given.items() if key not in shared},
    )


def _with_whole_name(arguments: Sequence[str], commands: Mapping[str, Command]) -> Sequence[str]:
    """Put the two words of a command such as `ledger show` together."""
    first, *rest = arguments
    actions = [name.partition(" ")[2] for name in commands if name.startswith(f"{first} ")]
    if not actions:
        return arguments
    if rest and rest[0] in actions:
        return [f"{first} {rest[0]}", *rest[1:]]
    if rest and rest[0] in {"-h", "--help"}:
        return rest
    *some, last = actions
    there = f"{first} has no {shown(rest[0])}" if rest else f"what to do with the {first} is missing"
    raise WrongSettingError(f"{there}: use {first} {', '.join(some)} or {last}")


def _one_value(setting: Setting, values: Sequence[str]) -> str:
    """Return what was given for a flag. Raises WrongSettingError where it was given twice and takes one value."""
    if len(values) > 1 and not setting.several:
        raise WrongSettingError(
            f"{setting.flag} is given {len(values)} times, as {shown(list(values))}: it takes one value, give it once"
        )
    return ",".join(values)


def _name(argument: str) -> str:
    """Return the flag without what follows its `=`: nobody knows what an unknown one holds."""
    return shown(argument.partition("=")[0])


def _misused(error: argparse.ArgumentError, known: Iterable[SettingField]) -> WrongSettingError:
    for field in known:
        if field.setting.flag == error.argument_name:
            return WrongSettingError(f"{field.setting.flag} has no value: use {field.setting.expected}")
    return WrongSettingError(f"{error.argument_name} can't be read: {error.message}")


def _parser(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        PROGRAM,
        description=DESCRIPTION,
        epilog=f"{_examples(command.examples[0] for name, command in commands.items() if ' ' not in name)}\n\n"
        f"The flags of a command: {PROGRAM} COMMAND --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument("--version", action="version", version=str(this_build()))
    below = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for name, command in commands.items():
        one = below.add_parser(
            name,
            help=command.help,
            description=f"{command.help[0].upper()}{command.help[1:]}.",
            epilog=f"{_examples(command.examples)}\n\n{textwrap.fill(SOURCES, HELP_COLUMNS)}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            usage=f"{PROGRAM} {name} [flags]",
            allow_abbrev=False,
            exit_on_error=False,
        )
        groups = {field.group: field.group.rstrip(".") for field in command.fields}
        titled = {group: one.add_argument_group(title) for group, title in groups.items()}
        for field in command.fields:
            switch = field.default is False
            titled[field.group].add_argument(
                field.setting.flag,
                dest=field.setting.key,
                metavar=field.setting.placeholder,
                action="append",
                nargs="?" if switch else None,
                const="true" if switch else None,
                help=_help(field, command),
            )
    return parser


def _examples(lines: Iterable[str]) -> str:
    return "\n  ".join(("examples:", *(f"{PROGRAM} {line}" for line in lines)))


def _help(field: SettingField, command: Command) -> str:
    setting = field.setting
    default = command.defaults.get(setting.key) or default_text(field)
    variable = setting.variable if setting.key in command.keys and setting.key not in command.flag_only else ""
    notes = ", ".join(
        note for note in (default and f"default {default}", field.required and "required", variable) if note
    )
    return (f"{setting.help} ({notes})" if notes else setting.help).replace("%", "%%")


def default_text(field: SettingField) -> str:
    """Return a setting's default as people write it; "" where there is none."""
    if field.required or field.default is None or field.default == ():
        return ""
    if isinstance(field.default, bool):
        return "on" if field.default else "off"
    if isinstance(field.default, float):
        return format_duration(field.default) if field.setting.placeholder == "DURATION" else f"{field.default:g}"
    return str(field.default)
