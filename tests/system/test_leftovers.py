"""No run of the tests leaves a process behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import leftovers
import pytest

RUN = """
import sys
import leftovers
leftovers.watch()
from pathlib import Path
from exporter_process import ExporterProcess
from fake_sqs import FakeSqs
sqs = FakeSqs()
exporter = ExporterProcess(sqs.environment, Path(sys.argv[1]))
print(leftovers.mark()[leftovers.VARIABLE], sqs.pid, exporter.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only on Linux a process is told of another one's end")
def test_what_a_run_started_ends_with_it(tmp_path: Path) -> None:
    """A run that is killed with an exporter and an SQS under way: soon neither is there any more."""
    with subprocess.Popen(
        [sys.executable, "-c", RUN, str(tmp_path / "ledger.db")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    ) as process:
        assert process.stdout is not None
        run, *pids = process.stdout.readline().split()
        assert {int(pid) for pid in pids} <= set(leftovers.started_by(run))
        process.kill()
    deadline = time.monotonic() + 60
    while leftovers.started_by(run):
        assert time.monotonic() < deadline
        time.sleep(0.1)
