"""The writing side of the log: chain, tree, one signed head for every commit, and going on after a restart."""

import asyncio
import hashlib
import json
import sqlite3
from pathlib import Path

import pytest
from tests.unit.audit.logs import SEED, Counted, ManualClock, check, every_kind, intent, looking, opened, write

from securellm.audit import AuditLog, export
from securellm.audit.log import SCHEMA
from securellm.audit.note import Verifier
from securellm.audit.tree import Frontier, leaf_hash
from securellm.storage import GroupCommitWriter, StorageDamaged, StorageRefused


@pytest.mark.requirement("AU-4")
def test_each_entry_names_its_place_and_the_hash_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    write(path, every_kind())
    previous = "0" * 64
    for number, line in enumerate(export(path), 1):
        entry = json.loads(line)
        assert (entry["seq"], entry["prev"], entry["v"], entry["writer"]) == (number, previous, 1, "w1")
        assert entry["at"] == 1_795_000_000_000_000 + (number - 1) * 1_000_000
        previous = hashlib.sha256(line.removesuffix(b"\n")).hexdigest()


@pytest.mark.requirement("AU-4")
def test_the_newest_checkpoint_covers_every_record_at_every_durable_moment(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    clock = ManualClock()
    with opened(path, clock=clock) as (writer, log):
        for number in range(25):
            writer.perform(log.appending(intent(number)), log.appending(intent(number)))
            clock.seconds += 0.3
            report = check(path, vkey=log.vkey)
            assert report.intact, report.problems
            assert report.records == 2 * (number + 1)


def test_at_most_one_checkpoint_a_second_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    clock = ManualClock()
    with opened(path, clock=clock) as (writer, log):
        for number in range(40):
            writer.perform(log.appending(intent(number)))
            clock.seconds += 0.1
    sizes = [size for (size,) in looking(path, "SELECT size FROM checkpoints ORDER BY size")]
    assert sizes[0] == 0
    assert sizes[-1] == 40
    assert len(sizes) <= 1 + 5


def test_every_checkpoint_is_a_signed_head_of_the_tree(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    verifier = Verifier(write(path, every_kind()))
    trees = {0: Frontier().root()}
    tree = Frontier()
    for line in export(path):
        tree.append(leaf_hash(line.removesuffix(b"\n")))
        trees[tree.size] = tree.root()
    rows = looking(path, "SELECT size, note FROM checkpoints ORDER BY size")
    assert len(rows) == len(every_kind()) + 1
    for size, note in rows:
        assert isinstance(note, bytes)
        head = verifier.open(note)
        assert (head.size, head.root) == (size, trees[head.size])
        assert head.origin.startswith("securellm-bridge/audit/")


def test_records_submitted_together_share_one_signature_and_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"

    async def story() -> None:
        with opened(path) as (writer, log):
            await asyncio.gather(*(writer.submit(log.appending(intent(number))) for number in range(700)))

    asyncio.run(story())
    assert [json.loads(line)["request_id"] for line in export(path)] == [f"req_{number}" for number in range(700)]
    assert check(path).intact


def test_a_log_goes_on_in_a_new_epoch(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    keys = {write(path, [intent(number)], randomness=Counted(number)) for number in range(5)}
    assert len(keys) == 1, "the log keeps its name"
    assert [json.loads(line)["epoch"] for line in export(path)] == [1, 2, 3, 4, 5]
    assert check(path, vkey=keys.pop()).intact


def test_a_start_that_writes_nothing_leaves_an_intact_log(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    for records in ([], [], [intent()], [], []):
        write(path, records)
        report = check(path)
        assert report.intact, report.problems
    assert looking(path, "SELECT value FROM meta WHERE key = 'epoch'") == [("1",)], (
        "an epoch begins with its first record"
    )


def test_the_tree_is_taken_up_without_reading_the_history(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    with opened(path) as (writer, log):
        writer.perform(*(log.appending(intent(number)) for number in range(1_000)))
    asked: list[str] = []
    writer = GroupCommitWriter.open(path, SCHEMA)
    writer.perform(lambda connection: connection.set_trace_callback(asked.append))
    log = AuditLog.open(writer, writer_id="w1", seed=SEED, clock=ManualClock(), randomness=Counted())
    assert all("LIMIT 1" in query for query in asked if "FROM records" in query)
    writer.perform(log.appending(intent()))
    writer.close()
    assert check(path).intact


def test_another_signing_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    write(path, [intent()])
    with pytest.raises(StorageRefused) as refused, opened(path, seed=bytes(32)):
        pytest.fail("opened")
    assert "key" in refused.value.remedy
    assert check(path).intact


@pytest.mark.requirement("AU-4")
@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM records WHERE seq = 3",
        "UPDATE records SET entry = CAST(replace(CAST(entry AS TEXT), 'acme', 'emca') AS BLOB) WHERE seq = 3",
        "DELETE FROM checkpoints WHERE size = 3",
        "DELETE FROM checkpoints",
        "UPDATE checkpoints SET note = x'00' WHERE size = 3",
        "UPDATE meta SET value = replace(value, substr(value, 1, 1), 'f') WHERE key = 'frontier'",
        "UPDATE meta SET value = 'zz' WHERE key = 'frontier'",
        "UPDATE meta SET value = 'many' WHERE key = 'epoch'",
        "DELETE FROM meta WHERE key = 'epoch'",
        "DELETE FROM meta WHERE key = 'log'",
    ],
)
def test_a_log_whose_end_does_not_hold_together_is_not_continued(tmp_path: Path, change: str) -> None:
    path = tmp_path / "audit.db"
    write(path, [intent(number) for number in range(3)])
    other = sqlite3.connect(path)
    with other:
        assert other.execute(change).rowcount > 0
    other.close()
    with pytest.raises(StorageDamaged) as damaged, opened(path):
        pytest.fail("opened")
    assert "verify" in damaged.value.remedy


def test_a_log_of_another_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    write(path, [intent()])
    other = sqlite3.connect(path)
    with other:
        other.execute("UPDATE meta SET value = '2' WHERE key = 'format'")
    other.close()
    with pytest.raises(StorageRefused), opened(path):
        pytest.fail("opened")
