"""The YAML file of `--config.file`: settings by the names of their flags, nested at the dots or not.

    queue: orders
    sqs:
      max-receives: 32
    ledger.window: 2h

Values are taken as the text that stands there, so that YAML's own reading of `no`, `1:30` or `0o17` changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml

from exporter.errors import WrongSettingError, nearest
from exporter.settings.yaml_file import read_yaml

if TYPE_CHECKING:
    from collections.abc import Collection

NULL_TAG = "tag:yaml.org,2002:null"


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
