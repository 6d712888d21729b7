"""The real program over and over, without paying for its imports each time.

A process that has imported the program and done nothing else forks for every start: the child is what a fresh process
is once its imports are done, a process of its own that can be killed. Loading Python and the libraries is most of a
start's CPU, and no crash in it touches the ledger; tests that start the program in earnest are many elsewhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from typing import IO, TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType


class ForkingExporter:
    """Starts the program in a fork, one at a time; a context manager that ends what still runs.

    What the program writes, stdout and stderr, is appended to the file `log`.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._child: int | None = None

    def start(self, arguments: Sequence[str], environment: dict[str, str]) -> None:
        """Run the program with these arguments and with nothing but this environment."""
        assert self._child is None, "the one before still runs"
        command = {"arguments": list(arguments), "environment": environment, "log": str(self._log)}
        print(json.dumps(command), file=self._pipe(self._process.stdin), flush=True)
        self._child = int(self._read())

    def kill(self) -> None:
        """Send SIGKILL, whether it still runs or not: until `wait` it keeps its process id."""
        assert self._child is not None, "nothing was started"
        os.kill(self._child, signal.SIGKILL)

    def ended_within(self, seconds: float) -> bool:
        """Wait so long at most for its end; returns whether it has ended."""
        return bool(select.select([self._pipe(self._process.stdout)], [], [], seconds)[0])

    def wait(self) -> int:
        """Wait for its end; returns the exit code, negative where a signal ended it."""
        code = int(self._read())
        print(file=self._pipe(self._process.stdin), flush=True)
        self._child = None
        return code

    @property
    def last_lines(self) -> str:
        """The end of what it wrote."""
        return self._log.read_text(encoding="utf-8", errors="replace")[-4000:]

    def close(self) -> None:
        """End all of it. Safe to call twice."""
        if self._child is not None:
            self.kill()
            self.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            self._pipe(pipe).close()
        self._process.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> str:
        line = self._pipe(self._process.stdout).readline()
        assert line, f"the forking process ended with {self._process.wait(10)}\n{self.last_lines}"
        return line

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


def _serve() -> None:
    """Obey: a line with a command forks, its child's exit code is said, an empty line lets go of its process id."""
    import exporter.cli.main  # noqa: PLC0415 - the same
    import exporter.cli.run  # noqa: PLC0415 - what a run imports, once for all of them

    for line in iter(sys.stdin.readline, ""):
        command = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(command["environment"], command["log"])
            sys.exit(exporter.cli.main.main(command["arguments"]))
        _say(child)
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        _say(ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status)
        sys.stdin.readline()
        os.waitpid(child, 0)


def _say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _become(environment: dict[str, str], log: str) -> None:
    """Leave behind what the forking process had: its pipes and its environment."""
    with contextlib.ExitStack() as opened:
        for descriptors, name, mode in (((0,), os.devnull, os.O_RDONLY), ((1, 2), log, os.O_WRONLY | os.O_APPEND)):
            target = os.open(name, mode | os.O_CREAT, 0o600)
            opened.callback(os.close, target)
            for descriptor in descriptors:
                os.dup2(target, descriptor)
    os.environ.clear()
    os.environ.update(environment)


if __name__ == "__main__":
    _serve()
