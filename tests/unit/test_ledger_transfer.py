"""What is given to `ledger import` and is no export is refused in one sentence, whatever it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from one_queue import Opened

from exporter.errors import ExporterError
from exporter.events.event import Event
from exporter.ledger import Delivery
from exporter.ledger.sqlite.stopped import reading
from exporter.ledger.sqlite.transfer import export_lines, import_lines

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def exported(tmp_path: Path) -> str:
    """Export a ledger with a row of each kind but event ids."""
    open_ledger = Opened(tmp_path / "ledger.db")
    open_ledger().record([Delivery(b"m" * 16, Event(("purchase",), 5, 1.5))], {"md5_mismatch": 2})
    open_ledger.close()
    with reading(str(tmp_path / "ledger.db")) as ledger:
        return "\n".join(export_lines(ledger.identity, ledger.rows()))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"queue": {', "[1]\n"),
        ('{"queue": {', "[" * 100_000),
        ('{"sqs_event_exporter_ledger": {', '{"sqs_event_exporter_ledger": "x", "x": {'),
        ('"kind": "released"', '"kind": []'),
        ('"committed_at_seconds": ', '"committed_at_seconds": "x", "x": '),
        ('"committed_at_seconds": 1700000000.0', '"committed_at_seconds": []'),
        ('{"commit": {"seq": 3', '{"commit": {"seq": 1e400'),
        ('{"commit": {"seq": 3', '{"commit": {"seq": 99999999999999999999'),
    ],
    ids=["array", "nested", "header", "kind", "key", "time", "infinity", "large"],
)
def test_a_line_of_another_shape_is_named(exported: str, tmp_path: Path, before: str, after: str) -> None:
    """Arrays where objects belong, numbers out of range, brackets without end: none of it is a fault of the program."""
    assert before in exported
    with pytest.raises(ExporterError, match=r"line \d+ on stdin is not what `sqs-event-exporter ledger export` writes"):
        import_lines(str(tmp_path / "copy.db"), exported.replace(before, after, 1).splitlines(keepends=True))
    assert not list(tmp_path.glob("*copy*"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"count": 1,', '"count": "x",'),
        ('"kind": "released"', '"kind": "x"'),
        ('"{}"', '"x"'),
        ('"seq": 3, "clock_seconds"', '"seq": 3.5, "clock_seconds"'),
    ],
    ids=["count", "kind", "labels", "seq"],
)
def test_a_row_that_no_ledger_has_is_laid_to_the_export(exported: str, tmp_path: Path, before: str, after: str) -> None:
    """No ledger is damaged, and the file that was being made is no file of the user's."""
    assert before in exported
    with pytest.raises(ExporterError, match="the export on stdin was changed") as caught:
        import_lines(str(tmp_path / "copy.db"), exported.replace(before, after, 1).splitlines(keepends=True))
    assert str(tmp_path) not in str(caught.value)
    assert not list(tmp_path.glob("*copy*"))
