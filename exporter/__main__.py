"""Where the program begins: `sqs-event-exporter`, and `python -m exporter`."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # what signal is made of: that one imports enum first, which takes a while
import errno
import os
import sys

# While the rest is imported, which takes a moment, Ctrl-C ends the process at once, and without a traceback.
_signal.signal(_signal.SIGINT, _signal.SIG_DFL)
if os.getpid() == 1:
    # A container's first process is not ended by a signal that it does not handle, but killed half a minute later.
    _signal.signal(_signal.SIGTERM, lambda number, _frame: os._exit(128 + number))

OUT_OF_MEMORY = (
    b"sqs-event-exporter: this process gets no more memory or threads: raise its limits (ulimit -v and -u, or the "
    b"container's memory)\n"
)


def main() -> int:
    """Run the program and return its exit code. To be out of memory is one sentence, even among the imports."""
    try:
        from exporter.cli.main import main as run  # noqa: PLC0415 - see above

        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        return run()
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, OUT_OF_MEMORY)
        return 1


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Whether the error, or one that led to it, says that there is no more memory, or no more threads."""
    while error is not None:
        text = str(error)
        if (
            isinstance(error, MemoryError)
            or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
            # https://docs.python.org/3/library/_thread.html#thread.start_new_thread
            or (isinstance(error, RuntimeError) and "start new thread" in text)
            # The dynamic loader's and CPython's own words, where there is no memory for a library or for an exception.
            or (isinstance(error, ImportError) and ("failed to map segment" in text or "Cannot allocate" in text))
            or (isinstance(error, SystemError) and "without exception set" in text)
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    sys.exit(main())
