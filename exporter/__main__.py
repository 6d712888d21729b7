"""The program: `sqs-event-exporter`, and `python -m exporter`."""

import signal
import sys

# While the rest is imported, which takes a moment, Ctrl-C ends the process at once, and without a traceback.
signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> int:
    """Run one command and return the exit code."""
    from exporter.cli.main import main as run  # noqa: PLC0415 - see above

    signal.signal(signal.SIGINT, signal.default_int_handler)
    return run()


if __name__ == "__main__":
    sys.exit(main())
