"""Look for a body that `parse` does not survive, or reads otherwise than the standard library does.

It starts from the corpus of the tests and is guided by the coverage of our own code; it runs until it finds one, or for
as long as it is told:

    pip install atheris
    python fuzz/fuzz_parse.py -max_total_time=60

Arguments are libFuzzer's (https://llvm.org/docs/LibFuzzer.html#options); what it finds it leaves in a file `crash-...`.
"""  # noqa: INP001 - a program, not a package

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]  # has no types, and may be absent

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

with atheris.instrument_imports(include=["exporter.events.event", "event_reference"]):
    from event_reference import reference
    from hostile import CASES, NOW_SECONDS

    from exporter.errors import InvalidEvent
    from exporter.events.event import REASONS, Event, parse

MAX_LENGTH = 4096  # the reference reads no number that is longer
TOKENS = (  # as a dictionary of libFuzzer spells them
    *(r"\"type\"", r"\"value\"", r"\"occurred_at\"", r"\"2020-10-06T10:02:05Z\"", "2020-10-06 10:02:05"),
    *(r"\\ud83d", r"\\uDC00", r"\\u0031", r"\\\\", r"\xef\xb7\x90", "__", "e-", "1e15", "0.0000000005"),
)


def check(body: bytes) -> None:
    """Parse `body` with both settings; raise where the outcome is not the one that it has to be."""
    found = outcome(body, require_timestamp=False)
    expected = reference(body)
    without_time = Event(found.type, found.value_nano, None) if isinstance(found, Event) else found
    if expected is not None and without_time != expected:
        raise AssertionError(f"{body!r} became {found!r}, and has to become {expected!r}")
    strict = outcome(body, require_timestamp=True)
    usable = not isinstance(found, Event) or found.occurred_at_seconds is not None
    if strict != (found if usable else "invalid_timestamp"):
        raise AssertionError(f"{body!r} became {found!r}, and {strict!r} where a timestamp is required")


def outcome(body: bytes, *, require_timestamp: bool) -> Event | str:
    """Return the event or the reason; whatever else `parse` raises is a finding."""
    try:
        return parse(body, now_seconds=NOW_SECONDS, require_timestamp=require_timestamp)
    except InvalidEvent as error:
        if error.reason not in REASONS:
            raise AssertionError(f"{error.reason!r} is not a declared reason") from error
        return error.reason


def fuzz(directory: Path) -> None:
    """Write corpus and dictionary where libFuzzer reads them, and run it; it ends the process by itself."""
    corpus = directory / "corpus"
    corpus.mkdir()
    for number, case in enumerate(CASES):
        (corpus / str(number)).write_bytes(case.body)
    dictionary = directory / "tokens"
    dictionary.write_text("".join(f'"{token}"\n' for token in TOKENS))
    # What the C parser covers is not seen, so that most of the corpus looks superfluous: keep it all the same.
    options = ["-keep_seed=1", f"-max_len={MAX_LENGTH}", "-timeout=2", f"-dict={dictionary}"]
    atheris.Setup([sys.argv[0], *options, *sys.argv[1:], str(corpus)], check)
    atheris.Fuzz()


def main() -> int:
    """Fuzz in a process of its own, because that one can't clean up; return its exit code."""
    with tempfile.TemporaryDirectory() as directory:
        child = os.fork()
        if child == 0:
            fuzz(Path(directory))
        try:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        except KeyboardInterrupt:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.exit(main())
