"""Which build this is: what `--version`, the startup line and `sqs_exporter_build_info` say."""

from __future__ import annotations

import functools
import json
import os
import platform
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from exporter import __version__

PROGRAM = "sqs-event-exporter"
REVISION_VARIABLE = "SQS_EVENT_EXPORTER_REVISION"
"""Set where the build knows its commit, as the image does."""

REVISION_CHARACTERS = 12
GIT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Build:
    """Version of the exporter, revision of its source ("unknown" where nobody knows), version of Python."""

    version: str
    revision: str
    python: str

    def __str__(self) -> str:
        """On one line, for people."""
        return f"{PROGRAM} {self.version} (revision {self.revision}, Python {self.python})"


@functools.cache
def this_build() -> Build:
    """Return what is known of the running program."""
    return Build(__version__, _revision() or "unknown", platform.python_version())


def _revision() -> str:
    """Return the commit: as the build said it, as pip noted it, or as git knows it of a checkout."""
    said = os.environ.get(REVISION_VARIABLE)
    if said:
        return said
    with suppress(OSError, ValueError, LookupError, TypeError):
        # https://packaging.python.org/en/latest/specifications/direct-url/
        noted = json.loads(distribution(PROGRAM).read_text("direct_url.json") or "{}")
        return str(noted["vcs_info"]["commit_id"])[:REVISION_CHARACTERS]
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return ""
    with suppress(OSError, subprocess.SubprocessError):
        command = ["git", "-C", str(root), "rev-parse", f"--short={REVISION_CHARACTERS}", "HEAD"]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True)  # noqa: S603 - fixed
        return asked.stdout.strip()
    return ""
