"""Which build this is: what `--version`, the startup line and `sqs_exporter_build_info` say."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass

from exporter import __version__

PROGRAM = "sqs-event-exporter"
REVISION_VARIABLE = "SQS_EVENT_EXPORTER_REVISION"
"""Set where the build knows its commit, as the image does."""


@dataclass(frozen=True, slots=True)
class Build:
    """Version of the exporter, revision of its source ("unknown" where nobody said), version of Python."""

    version: str
    revision: str
    python: str

    def __str__(self) -> str:
        """On one line, for people."""
        return f"{PROGRAM} {self.version} (revision {self.revision}, Python {self.python})"


def this_build() -> Build:
    """Return what is known of the running program."""
    return Build(__version__, os.environ.get(REVISION_VARIABLE) or "unknown", platform.python_version())
