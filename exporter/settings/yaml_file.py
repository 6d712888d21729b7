"""Reads a user's YAML file; one that can't be read is refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import yaml

from exporter.errors import WrongSettingError, shown

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_CHARACTERS = 1_000_000

_Parsed = TypeVar("_Parsed")


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
