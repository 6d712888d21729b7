"""`ledger ...`: a stopped ledger is shown, verified, copied, moved and changed, and a running one backs itself up."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from functools import partial
from pathlib import Path

import pytest
from exporter_process import ExporterProcess, Scrape
from fake_sqs import FakeSqs
from ledger_program import ledger

from exporter.events.event import Event
from exporter.ledger import Delivery, QueueBatch, QueueIdentity
from exporter.ledger.sqlite.ledger import SqliteLedger

ARN = "arn:aws:sqs:eu-west-1:123456789012:"
LEDGERS = Path(__file__).parent.parent / "ledgers"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Make a ledger of two queues, with types, labels, rejections, ids of its own events and unsettled messages."""
    file = tmp_path / "ledger.db"
    kept = SqliteLedger(str(file), name="shop", label_names=("currency",))
    for name in ("orders", "carts"):
        kept.bind(QueueIdentity(name, f"{ARN}{name}", event_ids=True))
        kept.submit(
            {
                name: QueueBatch(
                    [
                        Delivery(bytes([n]) * 16, Event(("purchase", "EUR"), n * 10**20 - 3, 1.5, bytes([n]) * 16))
                        for n in range(5)
                    ]
                    + [Delivery(b"r" * 16, "invalid_json"), Delivery(b"t" * 16, Event(("typo", ""), -7, None))],
                    {"md5_mismatch": 2},
                )
            }
        )
        assert kept.completed() is not None
        kept.settle(name, [bytes([n]) * 16 for n in range(3)])
        kept.advance(name, 12.25)
    kept.close()
    return file


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Read everything that a stopped ledger's file holds."""
    with sqlite3.connect(path) as connection:
        tables = ("ledger", "queues", "series", "reasons", "commits", "event_ids")
        found = {table: connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables}  # noqa: S608
    connection.close()
    return found


def _has_counted(total: int, scrape: Scrape) -> bool:
    return scrape.counted == total


def test_show_and_verify_say_what_it_holds_and_touch_nothing(path: Path) -> None:
    """For people and as JSON; the file's bytes stay as they are."""
    before = path.read_bytes()
    shown = ledger("show", path).stdout
    assert "ledger shop" in shown
    assert "received 9 = counted 6 + duplicate 0 + rejected 1 + released 2" in shown
    assert "purchase: 5 events" in shown
    queues = json.loads(ledger("show", path, "--format", "json").stdout)["queues"]
    assert queues["orders"]["arn"] == f"{ARN}orders"
    assert {one["type"]: one["count"] for one in queues["carts"]["series"]} == {
        "__other__": 0,
        "purchase": 5,
        "typo": 1,
    }
    assert "every account adds up" in ledger("verify", path).stdout
    assert path.read_bytes() == before


def test_verify_finds_damage(path: Path) -> None:
    """A number that was changed by hand is not taken for what was counted."""
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE series SET count = '6' WHERE type = 'purchase'")
    connection.close()
    assert "is damaged" in ledger("verify", path, code=1).stderr


def test_a_ledger_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    """Each command names the path, and the flag that it comes from."""
    missing = tmp_path / "ledger.db"
    for action in ("show", "verify", "backup", "export"):
        assert f"there is no ledger {missing}: correct --ledger.path" in ledger(action, missing, code=2).stderr
    assert f"there is no ledger {missing}.backup: correct --from" in ledger("restore", missing, code=2).stderr


def test_copies_of_a_ledger_are_as_private_as_it_is(path: Path, tmp_path: Path) -> None:
    """Neither a backup, nor what is made of one, nor an import may be read by others."""
    ledger("backup", path)
    ledger("restore", path)
    ledger("import", tmp_path / "copy.db", stdin=ledger("export", path).stdout)
    modes = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir() if not file.name.endswith(".mark")}
    assert modes == dict.fromkeys(("ledger.db", "ledger.db.backup", "ledger.db.replaced", "copy.db"), 0o600)


def test_a_backup_that_can_not_be_written_there_names_its_flag(path: Path, tmp_path: Path) -> None:
    """The ledger's own path is right."""
    done = ledger("backup", path, "--to", str(tmp_path / "missing" / "ledger.db"), code=2)
    assert "(No such file or directory): set --to to a file in a writable directory" in done.stderr


def test_only_a_regular_file_is_replaced(path: Path, tmp_path: Path) -> None:
    """Neither a pipe, which /dev/stdout may be, nor the ledger by another name; a link leads to the file behind it."""
    pipe, same, link = tmp_path / "pipe", tmp_path / "same.db", tmp_path / "link.db"
    os.mkfifo(pipe)
    same.symlink_to(path)
    link.symlink_to("backup.db")
    no_file = f"the ledger {pipe} can't be opened (it is not a regular file): set"
    assert f"{no_file} --to to a file" in ledger("backup", path, "--to", str(pipe), code=2).stderr
    assert f"--to is {same}, the ledger itself" in ledger("backup", path, "--to", str(same), code=2).stderr
    ledger("backup", path, "--to", str(link))
    assert link.is_symlink()
    assert f"{no_file} --ledger.path to a file" in ledger("restore", pipe, "--from", str(link), code=2).stderr
    assert pipe.is_fifo()
    assert same.is_symlink()


def test_export_and_import_give_exactly_the_same(path: Path, tmp_path: Path) -> None:
    """Every row of the copy is that of the original, sums beyond 64 bits included, and it counts on."""
    exported = ledger("export", path).stdout
    copy = tmp_path / "copy.db"
    ledger("import", copy, stdin=exported)
    assert rows(copy) == rows(path)
    assert ledger("export", copy).stdout == exported
    again = SqliteLedger(str(copy), name="shop", label_names=("currency",))
    again.bind(QueueIdentity("orders", f"{ARN}orders"))
    assert again.snapshots["orders"].counted == 6
    again.submit({"orders": QueueBatch([Delivery(bytes([4]) * 16, Event(("purchase", "EUR"), 1, None))])})
    completed = again.completed()
    assert completed is not None
    assert completed.fresh == {"orders": [False]}
    again.close()


@pytest.mark.parametrize("name", ["used.db", "two-queues.db"])
def test_ledgers_of_the_first_version_can_be_exported(name: str, tmp_path: Path) -> None:
    """They are read as of today's schema; the file itself stays as it was."""
    old = tmp_path / name
    old.write_bytes((LEDGERS / name).read_bytes())
    exported = ledger("export", old).stdout
    assert old.read_bytes() == (LEDGERS / name).read_bytes()
    ledger("import", tmp_path / "new.db", stdin=exported)
    assert ledger("export", tmp_path / "new.db").stdout == exported


@pytest.mark.parametrize("cut", [0, 1, -1])
def test_an_export_that_was_cut_short_is_refused(path: Path, tmp_path: Path, cut: int) -> None:
    """Exit code 1, a sentence, and no file."""
    lines = ledger("export", path).stdout.splitlines(keepends=True)[:cut]
    done = ledger("import", tmp_path / "copy.db", stdin="".join(lines), code=1)
    assert "is not what `sqs-event-exporter ledger export` writes" in done.stderr
    assert not list(tmp_path.glob("*copy*"))


def test_an_export_that_was_changed_is_refused(path: Path, tmp_path: Path) -> None:
    """Its account does not add up: exit code 1, both numbers, and no file."""
    exported = ledger("export", path).stdout.replace('"received": 9', '"received": 10', 1)
    done = ledger("import", tmp_path / "copy.db", stdin=exported, code=1)
    assert "was changed: queue orders has received 10, but accounts for 9" in done.stderr
    assert not list(tmp_path.glob("*copy*"))


def test_import_replaces_no_ledger(path: Path) -> None:
    """What is there stays."""
    exported = ledger("export", path).stdout
    before = rows(path)
    assert "there is a ledger already" in ledger("import", path, stdin=exported, code=2).stderr
    assert rows(path) == before


def test_a_backup_is_restored_under_a_new_name(path: Path) -> None:
    """Counts, memory of ids and the beginning of each series stay; the name is new; what was there is kept."""
    ledger("backup", path)
    backup = path.with_name("ledger.db.backup")
    assert rows(backup) == rows(path)
    done = ledger("restore", path, "--ledger.name", "shop-2")
    assert "under the name shop-2" in done.stdout
    restored, before = rows(path), rows(backup)
    assert restored.pop("ledger") != before.pop("ledger")
    assert restored == before
    assert path.with_name("ledger.db.replaced").exists()
    again = SqliteLedger(str(path), name="shop-2")
    assert again.snapshots["orders"].counted == 6
    again.close()
    assert "remove it first" in ledger("restore", path, code=2).stderr


def test_a_backup_is_not_restored_under_its_own_name(path: Path) -> None:
    """The same name would let counters fall; without one the name is random."""
    ledger("backup", path)
    assert "such as shop-2" in ledger("restore", path, "--ledger.name", "shop", code=2).stderr
    ledger("restore", path)
    name = json.loads(ledger("show", path, "--format", "json").stdout)["name"]
    assert len(name) == 8
    assert name != "shop"


def test_forget_type_keeps_the_account(path: Path) -> None:
    """What was taken away counts as forgotten, in the queue that is named or in all."""
    done = ledger("forget-type", path, "--type", "typo", "--queue", "orders")
    assert done.stdout == "orders: 1 events of type typo are forgotten\n"
    ledger("verify", path)
    for no_type in ("", "\udcff", "a" * 129):
        assert "use a type, such as page_veiw" in ledger("forget-type", path, "--type", no_type, code=2).stderr
    assert "+ forgotten 1" in ledger("show", path).stdout
    assert "carts: 1 events" in ledger("forget-type", path, "--type", "typo").stdout
    assert "no event of type typo is counted" in ledger("forget-type", path, "--type", "typo", code=1).stderr
    assert "--type is missing" in ledger("forget-type", path, code=2).stderr


def test_rebind_lets_the_rows_belong_to_another_queue(path: Path) -> None:
    """It needs the queue and its ARN, and both have to fit."""
    arn = "arn:aws:sqs:us-east-1:999999999999:orders"
    assert "needs --queue and --arn" in ledger("rebind", path, code=2).stderr
    assert (
        "is not of a queue named orders"
        in ledger("rebind", path, "--queue", "orders", "--arn", f"{ARN}carts", code=2).stderr
    )
    no_arn = ledger("rebind", path, "--queue", "orders", "--arn", "sqs:orders", code=2).stderr
    assert "--arn is 'sqs:orders': use the ARN of a queue, such as arn:aws:sqs:" in no_arn
    ledger("rebind", path, "--queue", "orders", "--arn", arn)
    assert json.loads(ledger("show", path, "--format", "json").stdout)["queues"]["orders"]["arn"] == arn
    ledger("verify", path)


def test_what_to_do_has_to_be_said(tmp_path: Path) -> None:
    """A word that is none is answered with those that are."""
    assert "use ledger show, verify, backup" in ledger("destroy", tmp_path / "ledger.db", code=2).stderr


def test_a_ledger_in_use_is_left_alone_and_backs_itself_up(tmp_path: Path) -> None:
    """Each command is one sentence; SIGUSR1 writes a whole backup while it counts, and again."""
    path = tmp_path / "ledger.db"
    with FakeSqs() as sqs, ExporterProcess(sqs.environment, path) as exporter:
        sqs.load(5_000)
        exporter.wait_for(lambda scrape: scrape.counted == 5_000)
        for action in ("show", "backup", "export"):
            assert "used by another process" in ledger(action, path, code=2).stderr
        backup = tmp_path / "ledger.db.backup"
        for total in (5_000, 12_000):
            sqs.load(total - 5_000) if total > 5_000 else None
            exporter.wait_for(partial(_has_counted, total))
            written = sum(line["msg"] == "backup written" for line in exporter.log)
            exporter.process.send_signal(signal.SIGUSR1)
            deadline = time.monotonic() + 20
            while sum(line["msg"] == "backup written" for line in exporter.log) == written:
                assert time.monotonic() < deadline, exporter.last_lines
                time.sleep(0.05)
            shown = json.loads(ledger("show", backup, "--format", "json").stdout)
            assert shown["queues"]["events"]["counted"] == total
            ledger("verify", backup)
        exporter.terminate()
