"""The YAML file of `--config.file`: settings by the names of their flags, nested at the dots or not.

    queue: orders
    sqs:
      max-receives: 32
    ledger.window: 2h

and, under the name or the prefix of a queue, how its events are read:

    queues:
      shop-*:
        events:
          type-field: detail.kind

Values are taken as the text that stands there, so that YAML's own reading of `no`, `1:30` or `0o17` changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from exporter.errors import WrongSettingError, nearest, shown
from exporter.settings.yaml_file import read_yaml

if TYPE_CHECKING:
    from collections.abc import Collection

QUEUES = "queues"
NULL_TAG = "tag:yaml.org,2002:null"


@dataclass(frozen=True, slots=True)
class Entry:
    """A value and the line, `file:line`, where it stands."""

    value: str | list[str]
    where: str


@dataclass(frozen=True, slots=True)
class FileEntries:
    """What a file says: settings by key, and by name or prefix of a queue those that differ there."""

    settings: dict[str, Entry]
    queues: dict[str, dict[str, Entry]]


def read_file(path: str, named_by: str, known: Collection[str], known_of_queue: Collection[str]) -> FileEntries:
    """Return the file's settings by key; one without a value counts as not set.

    `named_by` is the flag or variable that names the file. Raises WrongSettingError for a file that can't be read,
    is no YAML mapping, names a key that is not in `known` (below a queue: in `known_of_queue`), or a key twice.
    """
    root = read_yaml(path, named_by, lambda text: yaml.compose(text, Loader=yaml.SafeLoader))
    found = FileEntries({}, {})
    if root is None:
        return found
    reading = _Reading(path, known, "a setting")
    named = [pair for pair in root.value if pair[0].value == QUEUES] if isinstance(root, yaml.MappingNode) else []
    if len(named) > 1:
        first, again = (reading.where(key_node) for key_node, _ in named[:2])
        raise WrongSettingError(f"{again} sets {QUEUES} again, after {first}: keep one of them")
    for pair in named:
        _collect_queues(pair[1], _Reading(path, known_of_queue, "a setting of a queue"), found.queues)
        root.value.remove(pair)
    _collect(root, "", reading, found.settings)
    return found


@dataclass(frozen=True, slots=True)
class _Reading:
    path: str
    known: Collection[str]
    expected: str

    def where(self, node: yaml.Node) -> str:
        return f"{self.path}:{node.start_mark.line + 1}"


def _collect_queues(node: yaml.Node, reading: _Reading, queues: dict[str, dict[str, Entry]]) -> None:
    if node.tag == NULL_TAG:
        return
    if not isinstance(node, yaml.MappingNode):
        raise WrongSettingError(
            f"{reading.where(node)} ({QUEUES}) is not a mapping: write names or prefixes of queues, such as shop-*, "
            "with their settings"
        )
    for key_node, value_node in node.value:
        name = _name_in(key_node)
        if name in queues:
            raise WrongSettingError(f"{reading.where(key_node)} names the queue {shown(name)} again: keep one of them")
        queues[name] = {}
        if isinstance(value_node, yaml.MappingNode):
            _collect(value_node, "", reading, queues[name])
        elif value_node.tag != NULL_TAG:
            raise WrongSettingError(
                f"{reading.where(key_node)} ({QUEUES}.{name}) is not a mapping: write events with their settings"
            )


def _collect(node: yaml.Node, prefix: str, reading: _Reading, entries: dict[str, Entry]) -> None:
    """Add what stands below `prefix`. Unknown names end it at once, so that the depth is that of the known keys."""
    if not isinstance(node, yaml.MappingNode):
        name = prefix.rstrip(".") or "the file"
        raise WrongSettingError(f"{reading.where(node)} ({name}) is not a mapping: write names with their values")
    for key_node, value_node in node.value:
        where = reading.where(key_node)
        key = prefix + _name_in(key_node).replace("_", "-")
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
            raise WrongSettingError(
                f"{where} ({key}) is not {reading.expected}{nearest(key, reading.known) or '; remove it'}"
            )


def _name_in(node: yaml.Node) -> str:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else "a key"


def _value(node: yaml.Node, key: str, where: str) -> str | list[str] | None:
    if isinstance(node, yaml.ScalarNode):
        return None if node.tag == NULL_TAG else str(node.value)
    if isinstance(node, yaml.SequenceNode) and all(isinstance(item, yaml.ScalarNode) for item in node.value):
        return [str(item.value) for item in node.value]
    raise WrongSettingError(f"{where} ({key}) is neither a value nor a list of values")
