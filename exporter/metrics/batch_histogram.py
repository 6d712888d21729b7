"""A histogram that takes a whole turn's observations in one call, where prometheus_client takes them one by one."""

from __future__ import annotations

import math
import time
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prometheus_client import CollectorRegistry, Metric

    from exporter.metrics.names import Name


class BatchHistogram(Collector):
    """Ages in seconds of one queue's messages, exposed in the shape of prometheus_client's own histogram.

    One thread observes; any other may collect, and sees the state after some whole batch: buckets, count and sum agree.
    """

    def __init__(self, name: Name, queue_name: str, buckets: Sequence[float], registry: CollectorRegistry) -> None:
        self._name = name
        self._queue_name = queue_name
        self._upper_bounds = (*buckets, math.inf)
        self._bucket_names = (*map(str, buckets), "+Inf")
        self._created_seconds = time.time()
        self._published: tuple[tuple[int, ...], float] = ((0,) * len(self._upper_bounds), 0.0)
        registry.register(self)

    def observe(self, ages: Iterable[float]) -> None:
        """Count a batch of ages. One below 0 (a clock that runs ahead) counts as 0."""
        ordered = sorted(ages)
        counts, total = self._published
        self._published = (
            tuple(n + bisect_right(ordered, bound) for n, bound in zip(counts, self._upper_bounds, strict=True)),
            total + sum(ordered[bisect_left(ordered, 0.0) :]),
        )

    def describe(self) -> Iterable[Metric]:
        """Name the family, so that registration collects nothing and `?name[]=` finds it."""
        yield self._family()

    def collect(self) -> Iterable[Metric]:
        """Give the family as of the latest whole batch."""
        counts, total = self._published
        family = self._family()
        family.add_metric((self._queue_name,), list(zip(self._bucket_names, counts, strict=True)), total)
        family.add_sample(f"{self._name.name}_created", {"queue": self._queue_name}, self._created_seconds)
        yield family

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self._name.name, self._name.help, labels=self._name.labels)
