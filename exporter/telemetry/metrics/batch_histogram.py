"""A histogram that takes a whole batch's observations in one call, where prometheus_client takes them one by one."""

from __future__ import annotations

import math
import time
from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client import CollectorRegistry, Metric

    from exporter.telemetry.metrics.names import Name


class BatchHistogram(Collector):
    """Durations in seconds, exposed in the shape of prometheus_client's own histogram.

    One thread observes; any other may collect, and sees the state after some whole batch: buckets, count and sum agree.
    """

    def __init__(self, name: Name, registry: CollectorRegistry) -> None:
        self._name = name
        self._upper_bounds = (*name.buckets, math.inf)
        self._bucket_names = (*map(str, name.buckets), "+Inf")
        self._created_seconds = time.time()
        self._published: dict[tuple[str, ...], tuple[Sequence[int], float]] = {}
        """By labels: how many durations fell into each bucket, and their sum. Replaced whole."""
        registry.register(self)

    def begin(self, labels: tuple[str, ...]) -> None:
        """Begin a series at 0, before it is observed."""
        self._published.setdefault(labels, self._nothing())

    def observe(self, labels: tuple[str, ...], seconds: Iterable[float]) -> None:
        """Count a batch of durations. One below 0 (a clock that runs ahead) counts as 0."""
        ordered = sorted(seconds)
        if not ordered:
            return
        published, total = self._published.get(labels) or self._nothing()
        counts, upper_bounds = list(published), self._upper_bounds
        counted = 0
        # A batch's durations are much alike: they fall into few buckets.
        for bucket in range(bisect_left(upper_bounds, ordered[0]), bisect_left(upper_bounds, ordered[-1]) + 1):
            up_to = bisect_right(ordered, upper_bounds[bucket])
            counts[bucket] += up_to - counted
            counted = up_to
        self._published[labels] = counts, total + sum(ordered[bisect_left(ordered, 0.0) :])

    def describe(self) -> Iterable[Metric]:
        """Name the family, so that registration collects nothing and `?name[]=` finds it."""
        yield self._family()

    def collect(self) -> Iterable[Metric]:
        """Give the family as of the latest whole batch."""
        family = self._family()
        for labels, (counts, total) in list(self._published.items()):
            family.add_metric(labels, list(zip(self._bucket_names, accumulate(counts), strict=True)), total)
            named = dict(zip(self._name.labels, labels, strict=True))
            family.add_sample(f"{self._name.name}_created", named, self._created_seconds)
        yield family

    def _nothing(self) -> tuple[Sequence[int], float]:
        return (0,) * len(self._upper_bounds), 0.0

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self._name.name, self._name.help, labels=self._name.labels)
