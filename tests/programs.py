"""Programs that some tests need and not every machine has."""

from __future__ import annotations

import os
import shutil

import pytest


def path_of(program: str, package: str) -> str:
    """Return where the program is; without it the test skips, except in CI, where it fails."""
    path = shutil.which(program)
    if path is None:
        missing = f"{program} is not installed: install the package {package}"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return path
