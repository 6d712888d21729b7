"""How many files a run may have open, beside what its queues need."""

from __future__ import annotations

import resource

import pytest

from exporter.cli.descriptors import DescriptorLimit, needed_descriptors
from exporter.errors import ExporterError
from exporter.web.clients import max_connections


@pytest.mark.parametrize("receives", [1, 16, 256, 1_000])
def test_what_is_needed_is_what_the_web_server_leaves(receives: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With so many the calls have theirs when all the web server's clients are there; with two less they have not."""
    needed, own = needed_descriptors(receives), 64 + 2 * receives
    for soft, enough in ((needed, True), (needed - 2, False)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, soft=soft: (soft, soft))
        assert (soft - max_connections() >= own) is enough


def test_a_limit_that_became_too_low_is_told_once_to_the_log_and_for_as_long_as_it_lasts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With both numbers, as queues come."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (300, 300))
    queues = 1
    limit = DescriptorLimit(16, lambda: queues)
    limit.require(1)
    assert (limit.shortage(), [*limit.shortage_once()]) == (None, [])
    queues = 100
    said = "this process may have 300 files open, and 100 queues with a receive each need 528: raise the limit"
    assert str(limit.shortage()).startswith(said)
    assert [sentence.startswith(said) for sentence in limit.shortage_once()] == [True]
    queues = 101
    assert "101 queues with a receive each need 532" in str(limit.shortage())
    assert [*limit.shortage_once()] == []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert limit.shortage() is None


@pytest.mark.parametrize(("max_receives", "queues", "way_out"), [(100, 1, "--sqs.max-receives"), (16, 100, "queues")])
def test_a_start_with_too_few_is_refused(
    max_receives: int, queues: int, way_out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way out is the limit, or what asks for so many."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (300, 300))
    with pytest.raises(ExporterError, match=f"ulimit -n 528.*{way_out}$"):
        DescriptorLimit(max_receives, lambda: 1).require(queues)
