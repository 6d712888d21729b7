"""The commands `ledger ...` of the real program, run to their end."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from exporter_process import INHERITED, PROGRAM


def ledger(
    action: str, where: Path | str, *arguments: str, stdin: str | None = None, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run one on a file or the URL of a database, and assert its exit code."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    flag = "--ledger.path" if isinstance(where, Path) else "--ledger.url"
    done = subprocess.run(
        [str(PROGRAM), "ledger", action, flag, str(where), *arguments],
        env=inherited,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done
