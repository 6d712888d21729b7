"""Look for a body that a parser does not survive, or reads otherwise than the standard library does.

The first byte chooses one of `MAPPINGS`, the rest is the body. It starts from the corpus and the samples of the tests
and is guided by the coverage of our own code; it runs until it finds one, or for as long as it is told:

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

with atheris.instrument_imports(include=["exporter.events", "event_reference"]):
    from event_reference import reference
    from hostile import CASES, CONFLICTING, NESTED, NOW_SECONDS

    from exporter.errors import InvalidEvent
    from exporter.events.event import REASONS, Event, EventParser
    from exporter.events.mapping import EventMapping

SAMPLES = Path(__file__).parent.parent / "tests" / "samples"
MAX_LENGTH = 4096  # the reference reads no number that is longer
TOKENS = (  # as a dictionary of libFuzzer spells them
    *(r"\"type\"", r"\"value\"", r"\"occurred_at\"", r"\"2020-10-06T10:02:05Z\"", "2020-10-06 10:02:05"),
    *(r"\\ud83d", r"\\uDC00", r"\\u0031", r"\\\\", r"\xef\xb7\x90", "__", "e-", "1e15", "0.0000000005"),
    *(r"\"Type\"", r"\"Notification\"", r"\"TopicArn\"", r"\"Message\"", r"\"MessageAttributes\"", r"\"Value\""),
    *(r"\"detail-type\"", r"\"detail\"", r"\"specversion\"", r"\"source\"", r"\"data\"", r"\"Records\"", r"\"id\""),
)
LABELS = (("currency", "currency"), ("kind", "attribute:kind"), ("a", "a.b"))
MAPPINGS = (
    EventMapping(),
    EventMapping(require_timestamp=True),
    EventMapping(value_field="", id_field="id", labels=LABELS),
    EventMapping(id_field="id", labels=LABELS, require_timestamp=True),
    EventMapping(type_field="attribute:kind", value_field="attribute:amount", timestamp_field="attribute:at"),
    EventMapping(envelope="none", id_field="attribute:amount"),
    EventMapping(envelope="sns", id_field="id"),
    EventMapping(envelope="eventbridge", id_field="id", value_field=""),
    EventMapping(envelope="cloudevents", id_field="id"),
    NESTED,
    CONFLICTING,
)
PARSERS = tuple(map(EventParser, MAPPINGS))
ATTRIBUTES = {"amount": "1.5", "at": "1601978525123", "kind": "order"}


def check(data: bytes) -> None:
    """Read a body by one of the mappings; raise where the outcome is not the one that it has to be."""
    number, body = (data[0] % len(MAPPINGS) if data else 0), data[1:]
    found = outcome(PARSERS[number], body)
    expected = reference(body, MAPPINGS[number], attributes=ATTRIBUTES, latest_seconds=NOW_SECONDS + 300)
    if expected not in {found, None}:
        raise AssertionError(f"{body!r} by {MAPPINGS[number]} became {found!r}, and has to become {expected!r}")


def outcome(parser: EventParser, body: bytes) -> Event | str:
    """Return the event or the reason; whatever else the parser raises is a finding."""
    try:
        return parser.parse(body, sent_at_seconds=NOW_SECONDS, now_seconds=0, attributes=ATTRIBUTES)
    except InvalidEvent as error:
        if error.reason not in REASONS:
            raise AssertionError(f"{error.reason!r} is not a declared reason") from error
        return error.reason


def fuzz(directory: Path) -> None:
    """Write corpus and dictionary where libFuzzer reads them, and run it; it ends the process by itself."""
    corpus = directory / "corpus"
    corpus.mkdir()
    for number, body in enumerate([*(case.body for case in CASES), *(path.read_bytes() for path in SAMPLES.iterdir())]):
        for mapping in range(len(MAPPINGS)):
            (corpus / f"{number}-{mapping}").write_bytes(bytes([mapping]) + body)
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
