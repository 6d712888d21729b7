"""A progress bar on stderr, shown only where stderr is a terminal."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Self

from exporter.telemetry.line_writer import bar_shown

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID


REDRAW_SECONDS = 0.2


def on_a_terminal() -> bool:
    """Whether somebody reads stderr at a terminal that can draw a line anew."""
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM", "") not in {"dumb", "unknown"}


class Progress:
    """A progress bar, as a context manager. `total` is how many messages there will be; None where that is unknown.

    It redraws itself a few times a second, on a thread of its own, and only where stderr is a terminal.
    """

    def __init__(self, label: str, total: int | None) -> None:
        self._label = label
        self._total = total
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None

    def advance(self) -> None:
        """Note that one more is done."""
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task)

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
                TextColumn(f"{{task.completed:.0f}}{of_total} messages"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._task = self._bar.add_task(self._label, total=self._total)
            bar_shown.set()
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            bar_shown.clear()


class Counting:
    """A bar of what counts by itself; a context manager. `done` says how far it is, and is asked on another thread."""

    def __init__(self, label: str, total: int | None, done: Callable[[], int]) -> None:
        self._progress = Progress(label, total)
        self._done = done
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Self:
        if on_a_terminal():
            self._progress.__enter__()
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()
            self._progress.__exit__(kind, error, traceback)

    def _run(self) -> None:
        while not self._ended.wait(REDRAW_SECONDS):
            self._progress.show(self._done())
