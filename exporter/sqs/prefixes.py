"""Finds the queues that prefixes such as `shop-*` stand for: all but other queues' dead-letter queues."""

from __future__ import annotations

import logging
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

from exporter.errors import QueueUnavailableError, shown
from exporter.sqs.failures import reason_of
from exporter.sqs.lookups import QueueLookup, list_queues
from exporter.sqs.names import account_of, region_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from exporter.sqs.aws import Connection
    from exporter.sqs.lookups import LookupOperation
    from exporter.sqs.schedule import Key, Schedule

LIST_SECONDS = 60.0
"""How often SQS is asked which queues a prefix stands for."""
SOURCES_SECONDS = 300.0
"""How often SQS is asked whether a queue that a prefix found has become another's dead-letter queue."""

log = logging.getLogger("exporter")


class Prefixes:
    """Finds the queues of prefixes, through tasks of the schedule.

    `named` are the queues (names or URLs) that are served whatever prefixes say, by name. `served` says whether a
    queue is served already. `take` is told of each queue to serve, `leave` of one that is served and has become a
    dead-letter queue. Any thread may read `left_out` and `problems`.
    """

    def __init__(  # noqa: PLR0913 - by name
        self,
        prefixes: Iterable[str],
        connection: Connection,
        schedule: Schedule,
        *,
        named: Mapping[str, str],
        count: Callable[[str, LookupOperation], None],
        served: Callable[[str], bool],
        take: Callable[[QueueLookup], None],
        leave: Callable[[str], None],
        list_seconds: float = LIST_SECONDS,
    ) -> None:
        self._connection = connection
        self._schedule = schedule
        self._named = named
        self._count = count
        self._served = served
        self._take = take
        self._leave = leave
        self._list_seconds = list_seconds
        self.left_out: Mapping[str, str] = MappingProxyType({})
        """The queues that a prefix does not take, each with a sentence that says why, by name."""
        self.problems: Mapping[str, QueueUnavailableError] = MappingProxyType({})
        """Why a prefix finds no queue now: a sentence with the way out, by prefix."""
        self._unanswered: set[Key] = set()
        """Prefixes that were not listed yet, and queues that they found and that are neither taken nor left out yet."""
        for prefix in prefixes:
            self._unanswered.add(("prefix", prefix))
            schedule.add(
                ("prefix", prefix),
                partial(list_queues, connection, prefix, partial(count, prefix)),
                partial(self._listed, prefix),
                partial(self._list_failed, prefix),
                list_seconds,
            )

    @property
    def all_found(self) -> bool:
        """Whether each prefix was listed, and each queue that it found is taken or left out."""
        return not self._unanswered

    def redrive_policy_read(self, dead_letter_queue: str) -> None:
        """Note that some queue's dead-letter queue has this name: SQS is asked at once whether it is one of ours."""
        if dead_letter_queue not in self.left_out:
            self._schedule.bring_forward(("sources", dead_letter_queue))

    def queue_gone(self, name: str) -> None:
        """Note that a queue was deleted: it is asked about again when a prefix finds it again."""
        self._schedule.remove(("sources", name))
        self._unanswered.discard(("sources", name))

    def _listed(self, prefix: str, urls: Mapping[str, str]) -> None:
        for name, url in urls.items():
            if name in self._named and self._is_another(self._named[name], url):
                other = shown(self._named[name])
                self._leave_out(name, f'Queue "{name}" of prefix "{prefix}" is left out: --queue names {other} too')
            elif not self._served(name) and ("sources", name) not in self._schedule:
                self._ask_for_sources(name, url)
        self._unanswered.discard(("prefix", prefix))
        if urls:
            self._set_problem(prefix, None)
            return
        place = f"in region {self._connection.region} at {self._connection.endpoint_url}"
        sentence = f'No queue is named "{prefix}" {place}: create one, or correct --queue or AWS_REGION'
        self._set_problem(prefix, QueueUnavailableError("queue_not_found", sentence))

    def _ask_for_sources(self, name: str, url: str) -> None:
        lookup = QueueLookup(self._connection, name, partial(self._count, name), url=url)
        self._unanswered.add(("sources", name))
        self._schedule.add(
            ("sources", name),
            lookup.sources,
            partial(self._sources_listed, lookup),
            partial(self._sources_failed, name),
            SOURCES_SECONDS,
            # Where it is denied, it mostly is for all queues and for good.
            retry_seconds=self._list_seconds,
        )

    def _is_another(self, given: str, url: str) -> bool:
        """Whether a queue that is given (name or URL) is in another region or account than the one at the URL."""
        if "://" not in given:
            return False
        return region_of(given) not in {None, self._connection.region} or account_of(given) != account_of(url)

    def _list_failed(self, prefix: str, error: Exception) -> None:
        problem = self._connection.unavailable(prefix, error)
        if problem.reason == "access_denied":
            sentence = f'The queues of "{prefix}" may not be listed: grant sqs:ListQueues, or name them'
            problem = QueueUnavailableError(problem.reason, sentence)
        self._set_problem(prefix, problem)

    def _set_problem(self, prefix: str, problem: QueueUnavailableError | None) -> None:
        before = self.problems.get(prefix)
        problems = {name: one for name, one in self.problems.items() if name != prefix}
        if problem is not None:
            problems[prefix] = problem
            if before is None or before.reason != problem.reason:
                extra = {"queue": prefix, "reason": problem.reason, "error": str(problem)}
                log.warning("waiting for queues of a prefix", extra=extra)
        self.problems = MappingProxyType(problems)

    def _sources_listed(self, lookup: QueueLookup, sources: Iterable[str]) -> None:
        name = lookup.name
        source = min(sources, default=None)
        if source is not None:
            sentence = f'Queue "{name}" is left out: it is the dead-letter queue of "{source}"; name it to count it'
            self._leave_out(name, sentence)
        else:
            self._leave_out_no_more(name)
            if not self._served(name):
                self._take(lookup)
        self._unanswered.discard(("sources", name))

    def _sources_failed(self, name: str, error: Exception) -> None:
        self._unanswered.discard(("sources", name))
        if self._served(name):
            # It was none a while ago, and is counted: one call that fails is no reason to stop.
            return
        reason = reason_of(error)
        if reason == "queue_not_found":
            self._schedule.remove(("sources", name))
            self._leave_out_no_more(name)
            return
        way_out = "grant sqs:ListDeadLetterSourceQueues on it" if reason == "access_denied" else "it is asked again"
        self._leave_out(
            name,
            f'Queue "{name}" is left out, because SQS does not say whether it is a dead-letter queue ({reason}): '
            f"{way_out}, or name the queue in full",
        )

    def _leave_out(self, name: str, sentence: str) -> None:
        if self.left_out.get(name) != sentence:
            log.warning(sentence, extra={"queue": name})
            self.left_out = MappingProxyType({**self.left_out, name: sentence})
        if name not in self._named and self._served(name):
            self._leave(name)

    def _leave_out_no_more(self, name: str) -> None:
        self.left_out = MappingProxyType({it: why for it, why in self.left_out.items() if it != name})
