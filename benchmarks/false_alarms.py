"""Counts the false alarms of a week: `make false-alarms` simulates shops where nothing is wrong.

Events come by a Poisson process, 60, 200 and 500 a day, evenly or in business hours: three times the mean from 9 to 17
o'clock, a twentieth of it at night. The exporter that counts them is restarted once a day; one message in a hundred is
broken, one comes twice, and one delete is throttled; SQS's numbers are seen by chance. promtool evaluates
prometheus-rules.yml every minute over a fortnight, of which the second week is judged. Of the first one there is no
more than what SqsExporterTypeSilent compares it with.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import tempfile
from bisect import bisect_right
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from programs import path_of
from simulated_exporter import (
    AGE_BUCKETS,
    DAY,
    MINUTE,
    WEEK,
    Series,
    changed,
    histogram,
    ledger,
    occurring,
    process,
    promtool_values,
    together,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulated_exporter import Value

RULES = Path(__file__).parents[1] / "prometheus-rules.yml"
JOB = {"job": "shop"}
TARGET = {**JOB, "instance": "exporter:9797"}
SHARES = {"pageview": 0.8, "added-to-basket": 0.15, "purchase": 0.05}
RESTART_SECONDS = 90.0
FIRST_RESTART_SECONDS = 10.5 * 3600
OPENS_SECONDS, CLOSES_SECONDS = 9.0 * 3600, 17.0 * 3600
BUSY, QUIET = 3.0, 0.05


def moments(rng: random.Random, a_day: float, *, rhythm: bool) -> list[float]:
    """Return when events come within two weeks: a Poisson process, in business hours where there is a rhythm.

    Eight hours at three times the mean and sixteen at a twentieth come to 1.03 times the mean.
    """
    found, at = [], 0.0
    while (at := at + rng.expovariate(a_day * BUSY / DAY)) < 2 * WEEK:
        busy = OPENS_SECONDS <= at % DAY < CLOSES_SECONDS
        level = (BUSY if busy else QUIET) if rhythm else 1.0
        if rng.random() < level / BUSY:
            found.append(at)
    return found


def started(at: float) -> float:
    """Return when the process that runs at a time was started: once a day."""
    return (at - FIRST_RESTART_SECONDS) // DAY * DAY + FIRST_RESTART_SECONDS


def away(at: float) -> bool:
    """Whether the exporter is being restarted."""
    return 0 <= at - started(at) < RESTART_SECONDS


def unless_away(value: Value, since: float) -> Value:
    """Return what is scraped of a value from some time on."""
    return lambda at: None if at < since or away(at) else value(at)


def since_start(times: list[float]) -> Value:
    """Return a counter that starts at 0 with the process."""
    return lambda at: float(bisect_right(times, at) - bisect_right(times, max(0.0, started(at))))


def seen_for_a_minute(times: list[float]) -> Value:
    """Return how many came in the last minute: what housekeeping finds waiting at its look once a minute."""
    return lambda at: float(bisect_right(times, at) - bisect_right(times, at - MINUTE))


def restarted(series: list[Series]) -> Iterator[Series]:
    """Yield the series as they are scraped while the exporter is restarted once a day."""
    for one in series:
        if one.name == "up":
            yield one._replace(value=lambda at: float(not away(at)) if at >= WEEK - DAY else None)
        else:
            since = 0.0 if one.name == "sqs_events_total" else WEEK - DAY
            yield one._replace(value=unless_away(one.value, since))


def a_fortnight(seed: int, a_day: float, *, rhythm: bool) -> list[Series]:
    """Return what Prometheus has of an exporter with which nothing is wrong."""
    rng = random.Random(seed)  # noqa: S311 - a simulation
    events = moments(rng, a_day, rhythm=rhythm)

    def some(share: float) -> list[float]:
        return [at for at in events if rng.random() < share]

    kinds = rng.choices(list(SHARES), list(SHARES.values()), k=len(events))
    types = {kind: occurring([at for at, of in zip(events, kinds, strict=True) if of == kind]) for kind in SHARES}
    rejected, late = some(0.01), set(some(0.02))
    series = [
        one
        for one in process(TARGET)
        if not one.name.startswith(
            ("sqs_message_age", "sqs_event_age", "sqs_exporter_request", "sqs_exporter_commit_d")
        )
    ]
    series += ledger(JOB, types=types, duplicate=occurring(some(0.01)), rejected=occurring(rejected))
    # One in fifty is as old as a visibility timeout.
    own = {**TARGET, "queue": "events"}
    soon = since_start([at for at in events if at not in late])
    series += [
        one._replace(value=together(one.value, other.value))
        for one, other in zip(
            histogram("sqs_message_age_seconds", own, 0.2, soon, AGE_BUCKETS),
            histogram("sqs_message_age_seconds", own, 31.0, since_start(sorted(late)), AGE_BUCKETS),
            strict=True,
        )
    ]
    for name, value, labels in (
        ("sqs_exporter_messages_deleted_total", since_start(events), {}),
        ("sqs_exporter_message_delete_failures_total", since_start(some(0.01)), {"reason": "throttled"}),
        ("sqs_queue_messages", seen_for_a_minute(some(0.1)), {"state": "visible"}),
        # Left to the redrive policy, a rejected message is in the dead-letter queue five minutes later.
        ("sqs_dead_letter_queue_messages", occurring([at + 5 * MINUTE for at in rejected]), {}),
        ("process_start_time_seconds", started, {}),
    ):
        series = changed(series, name, value, **labels)
    return list(restarted(series))


def fired(series: list[Series], rules: Path) -> Counter[tuple[str, str]]:
    """Return how many alerts, by name and severity, fired in the second week: they began in it, or before it."""
    firing = 'ALERTS{alertstate="firing"}'
    began = f"sum by (alertname, severity) (count_over_time(({firing} unless {firing} offset 1m)[59m:1m]))"
    # Nothing is expected, so that promtool writes what it found. It loads 10,000 samples a query at most: hour by hour.
    asked = [{"expr": f"count by (alertname, severity) ({firing})", "eval_time": "1w"}]
    asked += [{"expr": began, "eval_time": f"{7 * 24 + hour}h"} for hour in range(1, 7 * 24 + 1)]
    case = {
        "interval": "1m",
        "input_series": [{"series": str(one), "values": promtool_values(one, 2 * WEEK, MINUTE)} for one in series],
        "promql_expr_test": [*asked, {"expr": "vector(1)", "eval_time": "2w"}],
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fortnight.test.yml"
        path.write_text(json.dumps({"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": [case]}))
        done = subprocess.run(
            [path_of("promtool", "prometheus"), "test", "rules", str(path)], check=False, capture_output=True, text=True
        )
    found = done.stdout + done.stderr
    assert 'expr: "vector(1)"' in found, found  # noqa: S101 - it was evaluated to the end
    assert "err:" not in found, found  # noqa: S101
    total: Counter[tuple[str, str]] = Counter()
    for name, severity, count in re.findall(r'\{alertname="(\w+)", severity="(\w+)"\} ([\d.E+]+)', found):
        total[name, severity] += round(float(count))
    return total


def main() -> None:
    """Print a table: alerts that fired in a week in which nothing was wrong."""
    parser = argparse.ArgumentParser(description="Count the alerts that fire in a week in which nothing is wrong.")
    parser.add_argument("--seeds", type=int, default=1, help="how many weeks of each kind to simulate")
    parser.add_argument("--rules", type=Path, default=RULES, help="the rules to judge")
    arguments = parser.parse_args()
    weeks: int = arguments.seeds
    rules = arguments.rules.resolve()
    print("| events a day | pages a week | warnings a week | which |\n|---|---|---|---|")
    for rhythm in (False, True):
        for a_day in (60, 200, 500):
            pages, warnings, names = 0, 0, set()
            for seed in range(weeks):
                for (name, severity), count in fired(a_fortnight(seed, a_day, rhythm=rhythm), rules).items():
                    names.add(name)
                    pages += count * (severity == "critical")
                    warnings += count * (severity == "warning")
            kind = f"{a_day}, {'in business hours' if rhythm else 'evenly'}"
            which = ", ".join(sorted(names)) or "none"
            print(f"| {kind} | {pages / weeks:g} | {warnings / weeks:g} | {which} |", flush=True)


if __name__ == "__main__":
    main()
