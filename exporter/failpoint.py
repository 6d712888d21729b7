"""Named places where a test can have the process killed, to prove that a crash there loses and doubles nothing."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "SQS_EVENT_EXPORTER_FAILPOINT"
NAMES = frozenset(
    {"at_open", "before_commit", "in_commit", "after_commit", "during_delete", "in_prune", "in_checkpoint"},
)

_left: dict[str, int] = {}


def arm(environment: Mapping[str, str]) -> None:
    """Read `name:n` from the environment: the n-th time that `name` is reached, the process kills itself (SIGKILL)."""
    name, _, times = environment.get(VARIABLE, "").partition(":")
    if name in NAMES:
        _left[name] = int(times or 1)


def reach(name: str) -> None:
    """Say that the process is at `name`. Free unless a failpoint is armed."""
    if name in _left:
        _left[name] -= 1
        if _left[name] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
