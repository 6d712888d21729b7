"""A directory for files that the end of a command takes away."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.cli.build import PROGRAM
from exporter.errors import ExporterError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """Make a directory that goes with the context. Raises ExporterError where there is no place for one."""
    try:
        made = tempfile.TemporaryDirectory(prefix=f"{PROGRAM}-")
    except OSError as error:
        raise ExporterError(
            f"there is no place for temporary files ({error.strerror}): set TMPDIR to a directory that can be written"
        ) from None
    with made as name:
        yield Path(name)
