"""The journal's writer: what lands together, what is promised, and what happens when the disk does not keep up."""

import asyncio
import sqlite3
import stat
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from securellm.core.errors import Code, Fault
from securellm.storage import Connection, GroupCommitWriter, Operation, StorageDamaged, StorageRefused, open_readonly
from securellm.storage.schema import connect
from securellm.storage.writer import LARGEST_BATCH

SCHEMA = ("CREATE TABLE facts (name TEXT PRIMARY KEY) STRICT",)


def stating(name: str) -> Operation:
    return lambda connection: _state(connection, name)


def _state(connection: Connection, name: str) -> None:
    connection.execute("INSERT INTO facts VALUES (?)", (name,))


def stated(path: Path) -> set[str]:
    with open_readonly(path) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM facts")}


class Gate:
    """An operation that stops the writer inside a transaction until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, connection: Connection) -> None:
        self.reached.set()
        assert self.opened.wait(20)


class CommitsCounted:
    """How many operations each transaction held."""

    def __init__(self, writer: GroupCommitWriter) -> None:
        self.sizes: list[int] = []
        self._seen = 0
        writer.before_commit.append(self._count)

    def _count(self, connection: Connection) -> None:
        (rows,) = connection.execute("SELECT count(*) FROM facts").fetchone()
        self.sizes.append(rows - self._seen)
        self._seen = rows


class RefusingCommit(sqlite3.Connection):
    """A disk that fails at the moment of truth."""

    broken = False

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        if sql == "COMMIT" and self.broken:
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, *parameters)


def refusing(path: Path) -> Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=RefusingCommit)


def accepts(writer: GroupCommitWriter) -> bool:
    return writer.accepting_new_work


def within(story: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await story

    asyncio.run(bounded())


def gated(path: Path, story: Callable[[GroupCommitWriter, Gate], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Run `story` while the writer stands in the middle of a first transaction."""
    writer = GroupCommitWriter.open(path, SCHEMA, **options)

    async def told() -> None:
        gate = Gate()
        first = writer.submit(gate)
        try:
            await asyncio.to_thread(gate.reached.wait, 20)
            await story(writer, gate)
        finally:
            gate.opened.set()
            await asyncio.gather(first, return_exceptions=True)

    try:
        within(told())
    finally:
        writer.close()


@pytest.mark.requirement("AU-3")
def test_what_is_submitted_during_a_commit_lands_together_in_the_next(tmp_path: Path) -> None:
    async def story(writer: GroupCommitWriter, gate: Gate) -> None:
        commits = CommitsCounted(writer)
        futures = [writer.submit(stating(f"fact {number}")) for number in range(40)]
        assert not any(future.done() for future in futures)
        gate.opened.set()
        await asyncio.gather(*futures)
        assert [size for size in commits.sizes if size] == [40]

    gated(tmp_path / "audit.db", story)


def test_a_batch_holds_at_most_its_largest_size(tmp_path: Path) -> None:
    async def story(writer: GroupCommitWriter, gate: Gate) -> None:
        commits = CommitsCounted(writer)
        futures = [writer.submit(stating(f"fact {number}")) for number in range(LARGEST_BATCH + 88)]
        gate.opened.set()
        await asyncio.gather(*futures)
        assert [size for size in commits.sizes if size] == [LARGEST_BATCH, 88]

    gated(tmp_path / "audit.db", story)


def test_a_batch_wakes_the_loop_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story(writer: GroupCommitWriter, gate: Gate) -> None:
        loop = asyncio.get_running_loop()
        woken: list[object] = []
        original = loop.call_soon_threadsafe

        def counted(callback: Callable[..., object], *arguments: Any) -> asyncio.Handle:
            woken.append(callback)
            return original(callback, *arguments)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        futures = [writer.submit(stating(f"fact {number}")) for number in range(40)]
        gate.opened.set()
        await asyncio.gather(*futures)
        monkeypatch.undo()
        assert len(woken) == 2  # the gate's own batch, and the forty

    gated(tmp_path / "audit.db", story)


@pytest.mark.requirement("AU-3")
def test_an_acknowledgement_comes_after_the_commit_and_another_process_can_see_it(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    writer = GroupCommitWriter.open(path, SCHEMA)

    async def story() -> None:
        for number in range(20):
            await writer.submit(stating(f"fact {number}"))
            assert f"fact {number}" in await asyncio.to_thread(stated, path)

    try:
        within(story())
    finally:
        writer.close()


def test_the_operations_of_one_submission_stand_or_fall_together(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    writer = GroupCommitWriter.open(path, SCHEMA)

    async def story() -> None:
        with pytest.raises(Fault):
            await writer.submit(stating("one"), stating("two"), stating("one"))

    within(story())
    writer.close()
    assert stated(path) == set()


def _defect(connection: Connection) -> None:
    raise KeyError("a defect")


@pytest.mark.requirement("AU-3", "AU-4")
@pytest.mark.parametrize("operation", [_defect, lambda connection: connection.execute("nonsense")])
def test_one_failing_operation_fails_every_waiter_and_the_writer_for_good(tmp_path: Path, operation: Operation) -> None:
    path = tmp_path / "audit.db"

    async def story(writer: GroupCommitWriter, gate: Gate) -> None:
        futures = [writer.submit(stating("before")), writer.submit(operation), writer.submit(stating("after"))]
        late = [writer.submit(stating(f"late {number}")) for number in range(LARGEST_BATCH)]
        gate.opened.set()
        for outcome in await asyncio.gather(*futures, *late, return_exceptions=True):
            assert isinstance(outcome, Fault)
            assert outcome.code is Code.AUDIT_UNAVAILABLE
        assert not writer.healthy
        assert not writer.accepting_new_work
        assert writer.failure is not None
        with pytest.raises(Fault):
            writer.submit(stating("too late"))
        with pytest.raises(Fault):
            writer.perform(stating("too late"))

    gated(path, story)
    assert stated(path) == set()


@pytest.mark.requirement("AU-3", "AU-4")
def test_when_the_commit_fails_nothing_acknowledged_is_missing_and_nothing_else_is_promised(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    made: list[RefusingCommit] = []

    def opened(path: Path) -> Connection:
        connection = refusing(path)
        assert isinstance(connection, RefusingCommit)
        made.append(connection)
        return connection

    writer = GroupCommitWriter.open(path, SCHEMA, connect=opened)

    async def story() -> None:
        await asyncio.gather(*(writer.submit(stating(f"kept {number}")) for number in range(30)))
        made[0].broken = True
        lost = [writer.submit(stating(f"lost {number}")) for number in range(30)]
        outcomes = await asyncio.gather(*lost, return_exceptions=True)
        assert all(isinstance(outcome, Fault) for outcome in outcomes)
        assert "disk I/O error" in (writer.failure or "")

    within(story())
    writer.close()
    assert stated(path) == {f"kept {number}" for number in range(30)}
    again = GroupCommitWriter.open(path, SCHEMA)
    again.perform(stating("a restart heals"))
    again.close()


@pytest.mark.requirement("AU-3", "AU-4")
def test_a_full_disk_fails_the_writer_and_loses_nothing_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"

    def small(path: Path) -> Connection:
        connection = connect(path)
        connection.execute("PRAGMA max_page_count = 12")
        return connection

    writer = GroupCommitWriter.open(path, SCHEMA, connect=small)
    acknowledged: set[str] = set()

    async def story() -> None:
        for number in range(200):
            name = f"{number} " + "x" * 700
            await writer.submit(stating(name))
            acknowledged.add(name)

    with pytest.raises(Fault) as full:
        within(story())
    assert full.value.code is Code.AUDIT_UNAVAILABLE
    assert "full" in (writer.failure or "")
    writer.close()
    assert acknowledged
    assert stated(path) == acknowledged


def test_closing_writes_what_is_queued_and_leaves_one_file(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    writer = GroupCommitWriter.open(path, SCHEMA)

    async def story() -> None:
        futures = [writer.submit(stating(f"fact {number}")) for number in range(700)]
        await asyncio.to_thread(writer.close)
        await asyncio.gather(*futures)
        with pytest.raises(Fault):
            writer.submit(stating("too late"))

    within(story())
    writer.close()
    assert [file.name for file in tmp_path.iterdir()] == ["audit.db"]
    assert len(stated(path)) == 700


def test_a_full_queue_refuses_at_once_and_new_work_earlier(tmp_path: Path) -> None:
    async def story(writer: GroupCommitWriter, gate: Gate) -> None:
        futures = [writer.submit(stating(f"fact {number}"), new_work=True) for number in range(5)]
        with pytest.raises(Fault) as refused:
            writer.submit(stating("new"), new_work=True)
        assert refused.value.code is Code.AUDIT_UNAVAILABLE
        futures += [writer.submit(stating(f"running {number}")) for number in range(5)]
        with pytest.raises(Fault) as full:
            writer.submit(stating("one too many"))
        assert full.value.code is Code.AUDIT_UNAVAILABLE
        assert writer.healthy
        gate.opened.set()
        await asyncio.gather(*futures)
        await writer.submit(stating("room again"), new_work=True)

    gated(tmp_path / "audit.db", story, capacity=10)


@pytest.mark.requirement("AU-1")
def test_below_the_disk_reserve_only_running_work_is_recorded(tmp_path: Path) -> None:
    free = {"share": 0.049}
    writer = GroupCommitWriter.open(tmp_path / "audit.db", SCHEMA, free_share=lambda _: free["share"])

    async def story() -> None:
        assert writer.healthy
        assert accepts(writer) is False
        with pytest.raises(Fault) as refused:
            writer.submit(stating("INTENT"), new_work=True)
        assert refused.value.code is Code.AUDIT_UNAVAILABLE
        await writer.submit(stating("OUTCOME"))
        free["share"] = 0.5
        await writer.submit(stating("another OUTCOME"))
        await writer.submit(stating("wait for the look at the disk"))
        assert accepts(writer)
        await writer.submit(stating("INTENT"), new_work=True)

    try:
        within(story())
    finally:
        writer.close()


def test_a_disk_that_cannot_be_asked_takes_no_new_work(tmp_path: Path) -> None:
    def unreadable(path: Path) -> float:
        raise OSError("stale handle")

    writer = GroupCommitWriter.open(tmp_path / "audit.db", SCHEMA, free_share=unreadable)
    assert not writer.accepting_new_work
    writer.close()


def test_a_waiter_that_gave_up_disturbs_nobody_and_its_record_stays(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"

    async def story(writer: GroupCommitWriter, gate: Gate) -> None:
        gone, staying = writer.submit(stating("gone")), writer.submit(stating("staying"))
        gone.cancel()
        gate.opened.set()
        await staying

    gated(path, story)
    assert stated(path) == {"gone", "staying"}


def test_a_loop_that_ended_does_not_stop_the_writer(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    writer = GroupCommitWriter.open(path, SCHEMA)
    gate = Gate()

    async def leaves() -> None:
        writer.submit(gate)
        writer.submit(stating("left behind"))

    asyncio.run(leaves())
    gate.opened.set()
    writer.perform(stating("later"))

    async def arrives() -> None:
        await writer.submit(stating("another loop"))

    within(arrives())
    writer.close()
    assert stated(path) == {"left behind", "later", "another loop"}


def test_the_file_is_private_and_durable_by_profile(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    writer = GroupCommitWriter.open(path, SCHEMA)
    found: dict[str, object] = {}

    def look(connection: Connection) -> None:
        for pragma in ("journal_mode", "foreign_keys", "trusted_schema", "auto_vacuum"):
            (found[pragma],) = connection.execute(f"PRAGMA {pragma}").fetchone()

    writer.perform(look)
    (synchronous,) = writer._connection.execute("PRAGMA synchronous").fetchone()
    writer.close()
    assert found == {"journal_mode": "wal", "foreign_keys": 1, "trusted_schema": 0, "auto_vacuum": 0}
    assert synchronous == 2  # FULL
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "change",
    [
        "PRAGMA user_version = 2",
        "PRAGMA application_id = 7",
        "CREATE TABLE another (name TEXT)",
        "DROP TABLE facts",
    ],
)
def test_a_file_of_another_schema_is_refused_and_untouched(tmp_path: Path, change: str) -> None:
    path = tmp_path / "audit.db"
    GroupCommitWriter.open(path, SCHEMA).close()
    with sqlite3.connect(path) as other:
        other.execute(change)
    other.close()
    before = path.read_bytes()
    with pytest.raises(StorageRefused):
        GroupCommitWriter.open(path, SCHEMA)
    assert path.read_bytes() == before


def test_what_is_not_a_database_is_damage_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(StorageDamaged) as damaged:
        GroupCommitWriter.open(path, SCHEMA)
    assert damaged.value.remedy
    with pytest.raises(StorageDamaged):
        GroupCommitWriter.open(tmp_path / "missing" / "audit.db", SCHEMA)


def test_a_creation_that_a_crash_cut_short_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    begun = sqlite3.connect(path)
    begun.execute("PRAGMA journal_mode = WAL")
    begun.close()
    writer = GroupCommitWriter.open(path, SCHEMA)
    writer.perform(stating("whole"))
    writer.close()
    assert stated(path) == {"whole"}
