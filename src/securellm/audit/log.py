"""The log's writing side: gives each record its place in the chain and the tree, and signs the head of every commit."""

import hashlib

import msgspec

from securellm.audit.model import GENESIS, VERSION, Record
from securellm.audit.note import Checkpoint, NoteInvalid, Signer, Verifier
from securellm.audit.tree import Frontier, leaf_hash
from securellm.core.canonical import Canonical
from securellm.core.clock import Clock
from securellm.core.randomness import Randomness
from securellm.storage import Connection, GroupCommitWriter, Operation, StorageDamaged, StorageRefused

SCHEMA = (
    """CREATE TABLE records (
  seq INTEGER PRIMARY KEY,
  entry BLOB NOT NULL,
  leaf BLOB NOT NULL
) STRICT""",
    """CREATE TABLE checkpoints (
  size INTEGER PRIMARY KEY,
  note BLOB NOT NULL
) STRICT""",
    """CREATE TABLE meta (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT""",
)

FORMAT = "1"

_KEPT_EVERY = 1.0
"""Seconds between checkpoints that stay; the newest one moves with every commit in between."""

_PLACES = {"prev": "", "seq": 0}
# Inside a JSON string a quote is escaped, so these bytes are the two members and nothing else.
_PREV, _SEQ = b'"prev":""', b'"seq":0'

# The same bytes as `canonical_bytes` in a tenth of the time; what it refuses, `Record.fields` has refused before.
_encode = msgspec.json.Encoder(order="sorted").encode

_ROWS_AT_ONCE = (128, 32, 8, 2, 1)


def origin_of(log_id: str) -> str:
    return f"securellm-bridge/audit/{log_id}"


class AuditLog:
    """One writer's log inside the journal. `appending` is for the event loop; all else runs on the writer's thread.

    Every commit that appends records ends with a signed checkpoint over all of them, so at every durable moment the
    newest checkpoint covers the whole log: without the key nothing in it can be changed or added unseen. Only a copy
    of a checkpoint kept elsewhere shows that a log was rolled back to an earlier one. At most one a second is kept.
    """

    def __init__(self, *, writer_id: str, seed: bytes, clock: Clock, randomness: Randomness) -> None:
        self.epoch = 0
        """Rises by one each time the log is opened; every entry carries it."""
        self.vkey = ""
        """The public verifier key that auditors check this log with."""
        self._writer_id = writer_id
        self._seed = seed
        self._clock = clock
        self._randomness = randomness
        self._signer: Signer
        self._origin = ""
        self._tree = Frontier()
        self._previous = GENESIS
        self._rows: list[tuple[int, bytes, bytes]] = []
        self._newest = 0
        self._kept_at: float | None = None
        self._announced = False

    @classmethod
    def open(
        cls, writer: GroupCommitWriter, *, writer_id: str, seed: bytes, clock: Clock, randomness: Randomness
    ) -> "AuditLog":
        """Take the log up where it ends, or begin it, and seal every commit of `writer` from now on. Blocking.

        `seed` is the Ed25519 private key, 32 bytes. Raises `StorageDamaged` when the end of the log does not hold
        together, `StorageRefused` when it was signed by another key.
        """
        log = cls(writer_id=writer_id, seed=seed, clock=clock, randomness=randomness)
        writer.perform(log._restore)
        writer.before_commit.append(log._seal)
        return log

    def appending(self, record: Record) -> Operation:
        """The operation that writes `record`. All that can be wrong with it is raised here, before the journal."""
        parts = _around_the_chain(
            {
                **record.fields(),
                "v": VERSION,
                "at": self._clock.now_us(),
                "writer": self._writer_id,
                "epoch": self.epoch,
            }
        )
        return lambda _: self._append(parts)

    def _append(self, parts: tuple[bytes, bytes, bytes]) -> None:
        before, between, after = parts
        seq = self._tree.size + 1
        entry = b'%b"prev":"%b"%b"seq":%d%b' % (before, self._previous.encode(), between, seq, after)
        leaf = leaf_hash(entry)
        self._tree.append(leaf)
        self._previous = hashlib.sha256(entry).hexdigest()
        self._rows.append((seq, entry, leaf))

    def _seal(self, connection: Connection) -> None:
        """Write the commit's entries and move, or keep, the newest checkpoint."""
        if not self._rows:
            return
        _insert(connection, self._rows)
        self._rows.clear()
        size = self._tree.size
        now = self._clock.monotonic()
        if self._kept_at is None or now - self._kept_at >= _KEPT_EVERY:
            self._kept_at = now
            connection.execute("INSERT INTO checkpoints VALUES (?, ?)", (size, self._note()))
            connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'checkpoints'")
        else:
            moved = "UPDATE checkpoints SET size = ?, note = ? WHERE size = ?"
            connection.execute(moved, (size, self._note(), self._newest))
        self._newest = size
        connection.execute("UPDATE meta SET value = ? WHERE key = 'frontier'", (frontier_text(self._tree),))
        if not self._announced:
            connection.execute("UPDATE meta SET value = ? WHERE key = 'epoch'", (str(self.epoch),))
            self._announced = True

    def _note(self) -> bytes:
        head = Checkpoint(origin=self._origin, size=self._tree.size, root=self._tree.root())
        return self._signer.sign(head.text())

    def _restore(self, connection: Connection) -> None:
        meta = dict(connection.execute("SELECT key, value FROM meta"))
        if not meta:
            self._begin(connection)
            return
        try:
            self._resume(connection, meta)
        except (KeyError, TypeError, ValueError) as error:
            raise StorageDamaged(
                "the audit log does not end as its newest checkpoint says",
                remedy="Run `securellm audit verify`; keep the directory as evidence and restore it from a backup.",
            ) from error

    def _begin(self, connection: Connection) -> None:
        log_id = self._randomness.token(8).hex()
        self._name(log_id)
        self.epoch = 1
        meta = {"log": log_id, "format": FORMAT, "vkey": self.vkey, "epoch": "0", "checkpoints": "1"}
        meta["frontier"] = frontier_text(self._tree)
        connection.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        connection.execute("INSERT INTO checkpoints VALUES (0, ?)", (self._note(),))

    def _resume(self, connection: Connection, meta: dict[str, str]) -> None:
        if meta["format"] != FORMAT:
            raise StorageRefused(f"the audit log has format {meta['format']}", remedy="Use the release that wrote it.")
        self._name(meta["log"])
        if meta["vkey"] != self.vkey:
            raise StorageRefused(
                "the audit log was signed with another key",
                remedy="Restore the audit signing key that belongs to this data directory.",
            )
        newest, note = connection.execute("SELECT size, note FROM checkpoints ORDER BY size DESC LIMIT 1").fetchone()
        head = Verifier(self.vkey).open(bytes(note))
        self._tree = _restored(head.size, meta["frontier"])
        if head.size != newest or head.root != self._tree.root():
            raise NoteInvalid("the frontier does not give the signed head")
        last = connection.execute("SELECT seq, entry, leaf FROM records ORDER BY seq DESC LIMIT 1").fetchone()
        seq, entry, leaf = last or (0, b"", leaf_hash(b""))
        if seq != newest or leaf_hash(entry) != leaf:
            raise NoteInvalid("the log does not end where its checkpoint does")
        self._previous = hashlib.sha256(entry).hexdigest() if last else GENESIS
        self._newest = newest
        self.epoch = int(meta["epoch"]) + 1

    def _name(self, log_id: str) -> None:
        self._origin = origin_of(log_id)
        self._signer = Signer(self._origin, self._seed)
        self.vkey = self._signer.vkey


def _restored(size: int, text: str) -> Frontier:
    """The frontier that the log wrote down. Raises ValueError when it cannot be one of `size` leaves."""
    raw = bytes.fromhex(text)
    if raw.hex() != text:
        raise ValueError("not lower-case hex")
    return Frontier(size, (raw[at : at + 32] for at in range(0, len(raw), 32)))


def frontier_text(tree: Frontier) -> str:
    return b"".join(tree.heads).hex()


def _around_the_chain(members: dict[str, Canonical]) -> tuple[bytes, bytes, bytes]:
    """The canonical bytes of `members`, cut where `prev` and `seq` belong, which only the writer's thread knows.

    Encoding is done before a record reaches the writer: off its thread, and where a bad value hurts one caller only.
    """
    before, _, rest = _encode({**members, **_PLACES}).partition(_PREV)
    between, _, after = rest.partition(_SEQ)
    return before, between, after


def _insert(connection: Connection, rows: list[tuple[int, bytes, bytes]]) -> None:
    """Many rows a statement: each statement hands the interpreter to other threads and must win it back."""
    start = 0
    for step in _ROWS_AT_ONCE:
        while len(rows) - start >= step:
            chunk = rows[start : start + step]
            values = ",".join(["(?,?,?)"] * step)
            statement = f"INSERT INTO records VALUES {values}"  # noqa: S608 - placeholders only
            connection.execute(statement, [value for row in chunk for value in row])
            start += step
