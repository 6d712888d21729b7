"""The YAML file of `--config.file`: settings by the names of their flags, nested at the dots or not.

    queue: orders
    sqs:
      max-receives: 32
    ledger.window: 2h

Values are taken as the text that stands there, so that YAML's own reading of `no`, `1:30` or `0o17` changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import yaml

from exporter.errors import WrongSettingError
from exporter.wording import nearest, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

MAX_CHARACTERS = 1_000_000
NULL_TAG = "tag:yaml.org,2002:null"

_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True, slots=True)
class Entry:
    """A value and the line, `file:line`, where it stands."""

    value: str | list[str]
    where: str


def read_file(path: str, named_by: str, known: Collection[str]) -> dict[str, Entry]:
    """Return the file's settings by key; one without a value counts as not set.

    `named_by` is the flag or variable that names the file. Raises WrongSettingError for a file that can't be read,
    is no YAML mapping, names a key that is not in `known`, or a key twice.
    """
    root = read_yaml(path, named_by, lambda text: yaml.compose(text, Loader=yaml.SafeLoader))
    entries: dict[str, Entry] = {}
    if root is not None:
        _collect(root, "", _Reading(path, known), entries)
    return entries


def read_yaml(path: str, named_by: str, parse: Callable[[str], _Parsed]) -> _Parsed:
    """Return what `parse` makes of the file's text.

    Raises WrongSettingError where the file can't be read or, by an error that `parse` raises, is not YAML.
    """
    named = f"{named_by} is {shown(path)}, which"
    try:
        with Path(path).open(encoding="utf-8") as file:
            text = file.read(MAX_CHARACTERS + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise WrongSettingError(f"{named} can't be read: {why}") from None
    if len(text) > MAX_CHARACTERS:
        raise WrongSettingError(f"{named} is too long for a file of settings")
    try:
        return parse(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise WrongSettingError(f"{path}:{line} is not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise WrongSettingError(f"{named} is not YAML") from None


@dataclass(frozen=True, slots=True)
class _Reading:
    path: str
    known: Collection[str]

    def where(self, node: yaml.Node) -> str:
        return f"{self.path}:{node.start_mark.line + 1}"


def _collect(node: yaml.Node, prefix: str, reading: _Reading, entries: dict[str, Entry]) -> None:
    """Add what stands below `prefix`. Unknown names end it at once, so that the depth is that of the known keys."""
    if not isinstance(node, yaml.MappingNode):
        name = prefix.rstrip(".") or "the file"
        raise WrongSettingError(f"{reading.where(node)} ({name}) is not a mapping: write names with their values")
    for key_node, value_node in node.value:
        where = reading.where(key_node)
        name = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "a key"
        key = prefix + name.replace("_", "-")
        if key in reading.known:
            if key in entries:
                raise WrongSettingError(f"{where} sets {key} again, after {entries[key].where}: keep one of them")
            value = _value(value_node, key, where)
            if value is not None:
                entries[key] = Entry(value, where)
        elif any(full.startswith(f"{key}.") for full in reading.known):
            if value_node.tag != NULL_TAG:
                _collect(value_node, f"{key}.", reading, entries)
        else:
            raise WrongSettingError(f"{where} ({key}) is not a setting{nearest(key, reading.known) or '; remove it'}")


def _value(node: yaml.Node, key: str, where: str) -> str | list[str] | None:
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag == NULL_TAG else str(node.value)
    if isinstance(node, yaml.SequenceNode) and all(isinstance(item, yaml.ScalarNode) for item in node.value):
        return [str(item.value) for item in node.value]
    raise WrongSettingError(f"{where} ({key}) is neither a value nor a list of values")
