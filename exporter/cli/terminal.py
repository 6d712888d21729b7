"""What a person at a terminal sees beside the output: a progress bar on stderr. In a pipe there is none."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


def on_a_terminal() -> bool:
    """Whether somebody reads stderr at a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


class Progress:
    """A bar of something that takes a while; a context manager. `total` is None where nobody knows.

    It redraws itself a few times a second, on a thread of its own, and only where stderr is a terminal.
    """

    def __init__(self, what: str, total: int | None, unit: str) -> None:
        self._what = what
        self._total = total
        self._unit = unit
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def advance(self, by: int = 1) -> None:
        """Note that so much more is done."""
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, by)

    def show(self, done: int) -> None:
        """Note how much is done."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done)

    def __enter__(self) -> Self:
        if on_a_terminal():
            from rich.console import Console  # noqa: PLC0415 - a tenth of a second, for those who see it
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415 - as above
            from rich.progress import Progress as RichProgress  # noqa: PLC0415 - as above

            of_total = "" if self._total is None else "/{task.total:.0f}"
            self._bar = RichProgress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn(f"{{task.completed:.0f}}{of_total} {self._unit}"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._task = self._bar.add_task(self._what, total=self._total)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
