"""The verifier: it never raises, and nothing that changes what the log says goes unnoticed."""

import hashlib
import random
import shutil
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from tests.unit.audit.logs import SEED, Counted, check, every_kind, intent, looking, opened, outcome, write

from securellm.audit import SCHEMA, Record, export, public_key, verify
from securellm.audit.note import Checkpoint, Signer
from securellm.audit.tree import Frontier, leaf_hash
from securellm.storage import Connection, GroupCommitWriter

pytestmark = pytest.mark.requirement("AU-4")

PRAGMAS = (
    "application_id",
    "auto_vacuum",
    "default_cache_size",
    "encoding",
    "freelist_count",
    "journal_mode",
    "page_count",
    "page_size",
    "schema_version",
    "user_version",
)


@pytest.fixture(scope="module")
def closed_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("written") / "audit.db"
    write(path, every_kind())
    return path


@pytest.fixture
def path(tmp_path: Path, closed_log: Path) -> Path:
    """A closed log with a record of every kind, to do with as one likes."""
    return Path(shutil.copy(closed_log, tmp_path / "audit.db"))


def change(path: Path, *statements: str) -> None:
    """What somebody with the file and SQLite does to it."""
    other = sqlite3.connect(path)
    for statement in statements:
        with other:
            assert other.execute(statement).rowcount != 0, f"{statement} changes nothing"
    other.close()


def test_an_untouched_log_is_intact_and_left_as_it_is(path: Path) -> None:
    before = path.read_bytes()
    report = check(path)
    assert report.intact, report.problems
    assert report.records == len(every_kind())
    assert report.checkpoints == len(every_kind()) + 1
    assert [file.name for file in path.parent.iterdir()] == ["audit.db"]
    assert path.read_bytes() == before


def meaning(path: Path) -> object:
    """All that SQLite itself reads from the file: when this is unchanged, the changed byte was one it ignores."""
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        connection.text_factory = bytes
        pragmas = [connection.execute(f"PRAGMA {pragma}").fetchall() for pragma in PRAGMAS]
        schema = connection.execute("SELECT * FROM sqlite_schema").fetchall()
        tables = [
            connection.execute(f"SELECT *, typeof({columns[0]}) FROM {table} ORDER BY {columns[0]}").fetchall()
            for table, columns in (("records", ("seq",)), ("checkpoints", ("size",)), ("meta", ("key",)))
        ]
        return pragmas, schema, tables, connection.execute("SELECT key FROM meta ORDER BY key").fetchall()
    except (sqlite3.Error, MemoryError):
        return None
    finally:
        connection.close()


def test_a_flipped_byte_is_noticed_unless_sqlite_itself_ignores_it(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    write(path, [intent(1), outcome(1)])
    original = path.read_bytes()
    before = meaning(path)
    assert before is not None
    chosen = random.Random(4)
    stored = [position for position, byte in enumerate(original) if byte and position >= 100]
    unused = [position for position, byte in enumerate(original) if not byte and position >= 100]
    positions = [*range(100), *stored, *unused[chosen.randrange(5) :: 5]]
    noticed = ignored = 0
    with path.open("r+b", buffering=0) as file:
        for position in positions:
            file.seek(position)
            file.write(bytes([original[position] ^ chosen.randrange(1, 256)]))
            report = check(path)
            if report.intact:
                assert meaning(path) == before, f"byte {position} changes what is read, unnoticed"
                ignored += 1
            else:
                assert report.problems
                noticed += 1
            file.seek(position)
            file.write(original[position : position + 1])
    assert noticed > 1_000
    assert ignored > 10
    assert check(path).intact


@pytest.mark.parametrize("size", [0, 1, 50, 99, 100, 512, 4096, 4097, 8192, 12_000])
def test_a_file_cut_anywhere_is_noticed(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])
    assert not check(path).intact


def test_a_file_that_is_longer_is_noticed(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(4096))
    assert not check(path).intact


@pytest.mark.parametrize("content", [b"", b"\0" * 8192, b"SQLite format 3\0" + b"\xff" * 8176, b"text"])
def test_what_is_no_log_is_a_problem_and_never_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "audit.db"
    path.write_bytes(content)
    assert not check(path).intact


def test_what_is_not_there_is_a_problem_and_never_an_error(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "nothing.db", tmp_path / "folder", tmp_path / "none" / "a.db", tmp_path / "file" / "a.db"):
        assert not check(path).intact


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_folders_where_files_should_be_are_never_an_error(path: Path, suffix: str) -> None:
    path.with_name(path.name + suffix).mkdir()
    check(path)


ENDLESS = (
    "CREATE VIEW records AS WITH RECURSIVE n(seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM n) "
    "SELECT seq, x'' AS entry, x'' AS leaf FROM n"
)


@pytest.mark.parametrize(
    "statements",
    [
        ("DELETE FROM records WHERE seq = 1",),
        ("DELETE FROM records WHERE seq = 5",),
        ("DELETE FROM records WHERE seq = (SELECT max(seq) FROM records)",),
        ("DELETE FROM records",),
        ("DELETE FROM records WHERE seq = 5", "UPDATE records SET seq = seq - 1 WHERE seq > 5"),
        ("UPDATE records SET seq = -seq", f"UPDATE records SET seq = seq + {len(every_kind()) + 1}"),
        ("INSERT INTO records SELECT max(seq) + 1, entry, leaf FROM records",),
        ("UPDATE records SET seq = seq + 1 WHERE seq = (SELECT max(seq) FROM records)",),
        ("UPDATE records SET entry = CAST(entry || ' ' AS BLOB) WHERE seq = 2",),
        ("UPDATE records SET leaf = zeroblob(32) WHERE seq = 2",),
        ("UPDATE records SET entry = zeroblob(1000000) WHERE seq = 2",),
        ("UPDATE records SET entry = CAST('[' || replace(hex(zeroblob(50000)), '0', '[') AS BLOB) WHERE seq = 2",),
        ("UPDATE records SET entry = CAST('{\"seq\":1' || hex(zeroblob(5000)) || '}' AS BLOB) WHERE seq = 2",),
        ("DELETE FROM checkpoints WHERE size = 0",),
        ("DELETE FROM checkpoints WHERE size = 4",),
        ("DELETE FROM checkpoints WHERE size = (SELECT max(size) FROM checkpoints)",),
        ("DELETE FROM checkpoints",),
        ("UPDATE checkpoints SET size = size + 1000 WHERE size = 4",),
        ("UPDATE checkpoints SET note = (SELECT note FROM checkpoints WHERE size = 3) WHERE size = 4",),
        ("UPDATE checkpoints SET note = zeroblob(300) WHERE size = 4",),
        ("UPDATE meta SET value = '7' WHERE key = 'epoch'",),
        ("UPDATE meta SET value = '2' WHERE key = 'format'",),
        ("UPDATE meta SET value = '' WHERE key = 'frontier'",),
        ("UPDATE meta SET value = 'another' WHERE key = 'log'",),
        ("UPDATE meta SET value = 'x+00000000+AAAA' WHERE key = 'vkey'",),
        ("DELETE FROM meta WHERE key = 'vkey'",),
        ("DELETE FROM meta",),
        ("INSERT INTO meta VALUES ('note', 'harmless')",),
        ("UPDATE meta SET key = CAST(x'ff' AS TEXT) WHERE key = 'epoch'",),
        ("CREATE TABLE more (name TEXT)",),
        ("CREATE INDEX hidden ON records (leaf)",),
        ("DROP TABLE checkpoints",),
        ("ALTER TABLE records ADD COLUMN more TEXT",),
        (
            "CREATE TRIGGER quiet BEFORE INSERT ON records BEGIN SELECT RAISE(IGNORE); END",
        ),
        (
            "DROP TABLE records",
            ENDLESS,
        ),
        ("PRAGMA user_version = 9",),
        ("PRAGMA application_id = 9",),
        ("PRAGMA journal_mode = DELETE",),
    ],
)  # fmt: skip
def test_what_sql_can_do_to_the_log_is_noticed(path: Path, statements: tuple[str, ...]) -> None:
    change(path, *statements)
    report = check(path)
    assert not report.intact
    assert all(report.problems)


def rechained(entries: Iterable[bytes]) -> list[tuple[int, bytes, bytes]]:
    """The rows of a log in which every hash that needs no key fits the entries."""

    rows, previous = [], "0" * 64
    for seq, written in enumerate(entries, 1):
        start = written.index(b'"prev":"') + 8
        entry = written[:start] + previous.encode() + written[start + 64 :]
        previous = hashlib.sha256(entry).hexdigest()
        rows.append((seq, entry, leaf_hash(entry)))
    return rows


def rewritten(path: Path, entries: list[bytes], *, seed: bytes | None) -> None:
    """Replace the records by `entries` with fitting hashes, and the checkpoints too where the forger has a key."""
    rows = rechained(entries)
    tree = Frontier()
    for _, _, leaf in rows:
        tree.append(leaf)
    frontier = b"".join(tree.heads).hex()
    other = sqlite3.connect(path)
    with other:
        other.execute("DELETE FROM records")
        other.executemany("INSERT INTO records VALUES (?, ?, ?)", rows)
        other.execute("UPDATE meta SET value = ? WHERE key = 'frontier'", (frontier,))
        if seed is not None:
            (log_id,) = other.execute("SELECT value FROM meta WHERE key = 'log'").fetchone()
            origin = f"securellm-bridge/audit/{log_id}"
            signer = Signer(origin, seed)
            heads = [
                Checkpoint(origin=origin, size=size, root=root)
                for size, root in ((0, Frontier().root()), (tree.size, tree.root()))
            ]
            other.execute("DELETE FROM checkpoints")
            other.executemany(
                "INSERT INTO checkpoints VALUES (?, ?)", [(head.size, signer.sign(head.text())) for head in heads]
            )
            other.execute("UPDATE meta SET value = '2' WHERE key = 'checkpoints'")
            other.execute("UPDATE meta SET value = ? WHERE key = 'vkey'", (signer.vkey,))
    other.close()


def test_an_edit_with_every_hash_made_to_fit_is_noticed_by_the_signature(path: Path) -> None:
    entries = [line.removesuffix(b"\n") for line in export(path)]
    rewritten(path, entries, seed=None)
    assert check(path).intact, "the forger's tool itself changes nothing"
    rewritten(path, [entry.replace(b"acme", b"emca") for entry in entries], seed=None)
    report = check(path)
    assert not report.intact
    assert any("checkpoint" in problem for problem in report.problems)


def test_a_log_signed_anew_is_noticed_by_whoever_knows_the_key(path: Path) -> None:
    (vkey,) = looking(path, "SELECT value FROM meta WHERE key = 'vkey'")[0]
    entries = [line.removesuffix(b"\n") for line in export(path)]
    rewritten(path, [entry.replace(b"acme", b"emca") for entry in entries], seed=bytes(32))
    assert check(path).intact, "without the key from outside, nothing can tell"
    assert not check(path, vkey=vkey).intact
    assert not check(path, public_key=public_key(SEED)).intact


def test_the_right_key_from_outside_confirms_the_log(path: Path) -> None:
    (vkey,) = looking(path, "SELECT value FROM meta WHERE key = 'vkey'")[0]
    assert check(path, vkey=vkey, public_key=public_key(SEED)).intact
    assert not check(path, vkey="").intact


def test_a_log_that_was_rolled_back_is_noticed_by_a_checkpoint_kept_elsewhere(path: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup.db"
    shutil.copy(path, backup)
    write(path, [intent(77)])
    notes = [note for (note,) in looking(path, "SELECT note FROM checkpoints ORDER BY size DESC")]
    assert check(path, anchors=notes).intact
    assert check(backup).intact
    assert check(backup, anchors=notes[1:]).intact
    assert not check(backup, anchors=notes[:1]).intact
    assert not check(path, anchors=[b"not a note"]).intact


def test_a_log_that_forked_is_noticed_by_a_checkpoint_kept_elsewhere(path: Path, tmp_path: Path) -> None:
    fork = tmp_path / "fork.db"
    shutil.copy(path, fork)
    write(path, [intent(77)])
    write(fork, [intent(78)])
    (newest,) = looking(path, "SELECT note FROM checkpoints ORDER BY size DESC LIMIT 1")[0]
    assert check(fork).intact
    assert not check(fork, anchors=[newest]).intact


def test_a_log_of_somebody_else_in_its_place_is_noticed(path: Path) -> None:
    path.unlink()
    vkey = write(path, [intent()], seed=bytes(32), randomness=Counted(9))
    assert check(path, vkey=vkey).intact
    assert not check(path, public_key=public_key(SEED)).intact


def test_a_live_log_and_its_copies_are_intact(tmp_path: Path) -> None:
    live = tmp_path / "live" / "audit.db"
    live.parent.mkdir()
    with opened(live) as (writer, log):
        for number in range(5):
            writer.perform(log.appending(intent(number)))
        assert check(live).intact
        killed = shutil.copytree(live.parent, tmp_path / "killed")
    for name in ("audit.db", "audit.db-wal"):
        (tmp_path / "copied").mkdir(exist_ok=True)
        shutil.copy(killed / name, tmp_path / "copied" / name)
    for folder in (killed, tmp_path / "copied", live.parent):
        report = check(folder / "audit.db")
        assert report.intact, (folder, report.problems)
        assert report.records == 5


def test_a_changed_write_ahead_log_is_noticed(tmp_path: Path) -> None:
    live = tmp_path / "live" / "audit.db"
    live.parent.mkdir()
    with opened(live) as (writer, log):
        for number in range(5):
            writer.perform(log.appending(intent(number)))
        killed = shutil.copytree(live.parent, tmp_path / "killed") / "audit.db"
    wal = killed.with_name("audit.db-wal")
    content = bytearray(wal.read_bytes())
    content[content.rindex(b"req_4")] ^= 1
    wal.write_bytes(content)
    report = check(killed)
    assert not report.intact
    assert any("write-ahead" in problem for problem in report.problems)


class Watching:
    """An observer that remembers, and that may have something to say."""

    def __init__(self, *said: str) -> None:
        self.seen: list[tuple[int, object]] = []
        self.asked = 0
        self._said = said

    def record(self, seq: int, entry: Mapping[str, object]) -> None:
        self.seen.append((seq, entry["type"]))

    def problems(self, connection: Connection) -> Iterable[str]:
        self.asked += 1
        connection.execute("SELECT count(*) FROM records").fetchone()
        return self._said


class Stumbling(Watching):
    """An observer whose own tables cannot be read."""

    def problems(self, connection: Connection) -> Iterable[str]:
        connection.execute("SELECT * FROM nowhere")
        return ()


def test_observers_see_every_entry_and_have_the_last_word(path: Path) -> None:
    quiet, loud = Watching(), Watching("the ledger does not add up")
    report = verify(path, schema=SCHEMA, observers=[quiet, loud])
    assert quiet.seen == loud.seen == [(seq, record.type) for seq, record in enumerate(every_kind(), 1)]
    assert report.problems == ("the ledger does not add up",)
    assert not report.intact


def test_observers_are_not_asked_about_a_log_that_is_broken(path: Path) -> None:
    change(path, "UPDATE records SET leaf = zeroblob(32) WHERE seq = 3")
    watching = Watching()
    assert not verify(path, schema=SCHEMA, observers=[watching]).intact
    assert [seq for seq, _ in watching.seen] == [1, 2]
    assert watching.asked == 0


def test_an_observer_that_cannot_read_its_tables_is_a_problem_and_never_an_error(path: Path) -> None:
    assert not verify(path, schema=SCHEMA, observers=[Stumbling()]).intact


def test_the_schema_of_other_slices_is_part_of_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    more = (*SCHEMA, "CREATE TABLE ledger (seq INTEGER PRIMARY KEY, amount INTEGER NOT NULL) STRICT")
    GroupCommitWriter.open(path, more).close()
    assert not verify(path, schema=SCHEMA).intact


def test_problems_are_bounded(tmp_path: Path) -> None:
    path = tmp_path / "audit.db"
    records: list[Record] = [intent(number) for number in range(200)]
    with opened(path) as (writer, log):
        writer.perform(*(log.appending(record) for record in records))
    change(path, "UPDATE records SET entry = x'7b7d'")
    report = check(path)
    assert len(report.problems) == 51
    assert report.problems[-1].startswith("and ")
