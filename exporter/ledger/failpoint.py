"""Named places where a test can have the process killed, to prove that a crash there loses and doubles nothing."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "SQS_EVENT_EXPORTER_FAILPOINT"
NAMES = frozenset(
    {
        "at_open",
        "in_migration",
        "before_commit",
        "in_commit",
        "after_commit",
        "during_delete",
        "in_prune",
        "in_checkpoint",
    },
)

_left: dict[str, int] = {}
_delay_seconds: dict[str, float] = {}


def arm(environment: Mapping[str, str]) -> None:
    """Arm the failpoint that the environment names, as `name:n` or `name:n:seconds`.

    When it is reached the n-th time the process kills itself (SIGKILL): at once, or so many seconds later, in the
    middle of what it does then.
    """
    name, _, rest = environment.get(VARIABLE, "").partition(":")
    if name in NAMES:
        times, _, seconds = rest.partition(":")
        _left[name] = int(times or 1)
        _delay_seconds[name] = float(seconds or 0)


def reach(name: str) -> None:
    """Say that the process is at `name`. Free unless a failpoint is armed."""
    if name in _left:
        _left[name] -= 1
        if _left[name] == 0:
            delay_seconds = _delay_seconds[name]
            if not delay_seconds:
                _die()
            threading.Timer(delay_seconds, _die).start()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
