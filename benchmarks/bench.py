"""`make bench`: the exporter beside the boto3 loop that people write themselves, in one run, on this machine.

Prints what it finds, and writes it into docs/performance.md. Linux only: it reads /proc.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import otlp_throughput
import page
import parts
import report
import scenarios
from certificates import Authority
from stub_sqs import StubSqs

BENCHMARKS = Path(__file__).parent
LOOPBACK_MESSAGES = 200_000
MANY_MESSAGES = 1_000_000
WAITING_MESSAGES = 100_000
PACES = (100, 1_000, 10_000)
"""Messages a second."""
PACE_SECONDS = 10
IDLE_SECONDS = 30


def main() -> None:
    """Measure, print, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of the comparison on loopback; medians are shown")
    parser.add_argument("--directory", default=".", help="where the ledgers are meanwhile: on the disk to measure")
    parser.add_argument("--print-only", action="store_true", help="leave docs/performance.md as it is")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.directory) as directory:
        text = report.page(_measure(Path(directory), arguments.rounds))
    print(text)
    if not arguments.print_only:
        page.write("figures", text)


def _measure(directory: Path, rounds: int) -> report.Figures:
    ledgers = scenarios.ledgers(directory)
    machine = report.machine(directory)
    authority = Authority(directory)
    signed = authority.sign("stub")
    certificate = str(signed.certificate), str(signed.key)
    with StubSqs() as stub, StubSqs(certificate, str(authority.certificate)) as stub_with_tls:
        compared = []
        for number in range(rounds):
            _say(f"on loopback, round {number + 1} of {rounds}")
            compared.append(scenarios.loopback(stub, stub_with_tls, ledgers, LOOPBACK_MESSAGES))
        _say("20 ms away")
        distant = scenarios.at_a_distance(stub, next(ledgers), LOOPBACK_MESSAGES)
        _say("a million messages of 200 types")
        full = next(ledgers)
        many_types = scenarios.many_types(stub, full, MANY_MESSAGES)
        _say("the start")
        start = scenarios.start(stub, next(ledgers), full)
        _say("whole processes")
        faster_with_one = compared[-1].one.messages_per_second > compared[-1].four.messages_per_second
        whole = scenarios.until_empty(stub, ledgers, 1 if faster_with_one else 4, WAITING_MESSAGES)
        _say("steady streams")
        steady = [(pace, scenarios.paced(stub, next(ledgers), pace, PACE_SECONDS)) for pace in PACES]
        _say("nothing")
        idle = scenarios.idle(stub, next(ledgers), IDLE_SECONDS)
    _say("OpenTelemetry")
    otlp = otlp_throughput.table(otlp_throughput.measure(directory / "otlp", rounds, LOOPBACK_MESSAGES))
    _say("parts")
    ids = subprocess.run([sys.executable, BENCHMARKS / "ids.py"], check=True, capture_output=True, text=True)
    taken_apart = parts.measure(str(directory))
    return report.Figures(
        machine, compared, distant, many_types, start, whole, steady, IDLE_SECONDS, idle, taken_apart, ids.stdout, otlp
    )


def _say(what: str) -> None:
    print(f"measuring: {what}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
