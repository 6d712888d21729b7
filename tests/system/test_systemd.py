"""The systemd unit: well-formed, and hardened as far as `systemd-analyze security` can tell."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from programs import path_of

UNIT = Path(__file__).parents[2] / "systemd" / "sqs-event-exporter.service"
MOST_EXPOSURE = 2.0
"""Of 10; 1.2 was measured with systemd 252."""


def test_the_unit_is_hardened() -> None:
    """The service can do little beyond reading its settings, writing its ledger and speaking TCP."""
    analyze = path_of("systemd-analyze", "systemd")
    said = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", str(UNIT)], capture_output=True, text=True, check=False
    )
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said.stdout)
    assert exposure is not None, said.stdout + said.stderr
    assert float(exposure[1]) < MOST_EXPOSURE


def test_a_wrong_setting_is_not_tried_again() -> None:
    """Exit code 2 is for people; everything else is restarted."""
    unit = UNIT.read_text(encoding="utf-8")
    assert "Restart=always\n" in unit
    assert "RestartPreventExitStatus=2\n" in unit
