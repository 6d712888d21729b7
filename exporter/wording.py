"""How errors speak of what a user wrote: quoted, short, on one line, and without what could be a password."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SHOWN_CHARACTERS = 200
_USER_AND_PASSWORD = re.compile(r"//[^/\s]*@")
_QUERY = re.compile(r"\?.*", re.DOTALL)


def shown(value: str | list[str]) -> str:
    """Return the value as an error shows it; a URL loses its user, password and query."""
    text = value if isinstance(value, str) else ",".join(value)
    if "://" in text:
        text = _QUERY.sub("?...", _USER_AND_PASSWORD.sub("//...@", text))
    return repr(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}...")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean ...?`, or nothing where no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else ""
