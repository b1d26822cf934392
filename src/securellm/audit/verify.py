"""Say whether a log is what was written, from its bytes alone: never raises on what it finds."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, Protocol

import msgspec

from securellm.audit.log import FORMAT, frontier_text, origin_of
from securellm.audit.model import GENESIS, VERSION, RecordType
from securellm.audit.note import NoteInvalid, Verifier
from securellm.audit.tree import Frontier, leaf_hash
from securellm.core.canonical import canonical_bytes
from securellm.storage import Connection, StorageDamaged, damage, lost_frames, open_readonly

_MOST_PROBLEMS = 50
_META = {"log", "format", "vkey", "epoch", "frontier", "checkpoints"}
_TYPES = frozenset(RecordType)


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What `verify` found; `intact` exactly when there are no problems."""

    intact: bool
    records: int
    checkpoints: int
    problems: tuple[str, ...]


class Observer(Protocol):
    """Another slice's check of what it derives from the log."""

    def record(self, seq: int, entry: Mapping[str, object]) -> None:
        """The next entry, in order. Called only while the chain holds."""
        ...

    def problems(self, connection: Connection) -> Iterable[str]:
        """What contradicts the entries in the observer's own tables; asked once, at the end of an intact log."""
        ...


def verify(
    path: Path,
    *,
    schema: Sequence[str],
    observers: Sequence[Observer] = (),
    vkey: str | None = None,
    public_key: bytes | None = None,
    anchors: Sequence[bytes] = (),
) -> Report:
    """Check the journal at `path`, live, killed or copied, without writing to it.

    `schema` is all that the journal was opened with. `vkey` or `public_key` name the signing key from outside; without
    either, a log that was rewritten whole and signed with a new key looks intact. `anchors` are checkpoints kept
    elsewhere: each must still be a prefix of the log, which shows a log that was rolled back.
    """
    examination = _Examination(observers)
    examination.problems += lost_frames(path)
    try:
        with open_readonly(path) as connection:
            examination.problems += damage(connection, path, schema)
            examination.run(connection, vkey=vkey, public_key=public_key, anchors=anchors)
    except StorageDamaged as error:
        examination.problems.append(error.reason)
    return examination.report()


class _EntryInvalid(ValueError):
    """An entry is not what the log would have written at its place."""


class _Examination:
    """One pass over a log, collecting what is wrong."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.problems: list[str] = []
        self._observers = observers
        self._rows = 0
        self._checkpoints = 0
        self._newest = 0
        self._tree = Frontier()
        self._previous = GENESIS
        self._epoch = 0
        self._whole = True
        """Whether every entry so far is the one that was written."""

    def run(
        self, connection: Connection, *, vkey: str | None, public_key: bytes | None, anchors: Sequence[bytes]
    ) -> None:
        # A damaged row can hold a value of any type, whatever the table says.
        rows = connection.execute("SELECT key, value FROM meta")
        meta = {key: value for key, value in rows if isinstance(key, str) and isinstance(value, str)}
        verifier = self._verifier(meta, vkey, public_key)
        if verifier is not None:
            self._read_log(connection, verifier, self._anchored(anchors, verifier))
            self._check_meta(meta)
        if not self.problems:
            for observer in self._observers:
                self.problems += observer.problems(connection)

    def report(self) -> Report:
        problems = self.problems
        if len(problems) > _MOST_PROBLEMS:
            problems = [*problems[:_MOST_PROBLEMS], f"and {len(problems) - _MOST_PROBLEMS} more"]
        return Report(intact=not problems, records=self._rows, checkpoints=self._checkpoints, problems=tuple(problems))

    def _verifier(self, meta: Mapping[str, str], vkey: str | None, public_key: bytes | None) -> Verifier | None:
        try:
            verifier = Verifier(meta.get("vkey", ""))
        except NoteInvalid as error:
            self.problems.append(f"meta: {error}")
            return None
        if verifier.origin != origin_of(meta.get("log", "")):
            self.problems.append("meta: the verifier key is of another log")
        if vkey not in (None, meta["vkey"]) or public_key not in (None, verifier.public_key):
            self.problems.append("meta: the log was signed by another key than the one expected")
        return verifier

    def _anchored(self, anchors: Sequence[bytes], verifier: Verifier) -> dict[int, list[bytes]]:
        heads: dict[int, list[bytes]] = {}
        for note in anchors:
            try:
                head = verifier.open(note)
            except NoteInvalid as error:
                self.problems.append(f"anchor: {error}")
            else:
                heads.setdefault(head.size, []).append(head.root)
        return heads

    def _read_log(self, connection: Connection, verifier: Verifier, anchored: dict[int, list[bytes]]) -> None:
        """Walk entries and checkpoints side by side; both are too many to keep."""
        signed = self._signed_heads(connection, verifier)
        ahead = next(signed, None)
        if ahead is None or ahead[0] != 0:
            self.problems.append("checkpoints: the one that began the log is missing")
        entries = connection.execute("SELECT seq, entry, leaf FROM records ORDER BY seq")
        while True:
            while ahead is not None and ahead[0] == self._rows:
                self._compare(f"checkpoint {ahead[0]}", ahead[1])
                ahead = next(signed, None)
            for root in anchored.pop(self._rows, ()):
                self._compare(f"anchor {self._rows}", root)
            row = entries.fetchone()
            if row is None:
                break
            seq, entry, leaf = row
            self._take(seq, entry if isinstance(entry, bytes) else b"", leaf)
        while ahead is not None:
            self.problems.append(f"checkpoint {ahead[0]}: the log ends before it, at {self._rows}")
            ahead = next(signed, None)
        self.problems += [f"anchor {size}: the log ends before it, at {self._rows}" for size in sorted(anchored)]
        if self._newest != self._rows:
            self.problems.append(f"records: those after {self._newest} are not covered by a checkpoint")

    def _signed_heads(self, connection: Connection, verifier: Verifier) -> Iterator[tuple[int, bytes]]:
        """The checkpoints that are what they say, in order."""
        for size, note in connection.execute("SELECT size, note FROM checkpoints ORDER BY size"):
            self._checkpoints += 1
            try:
                head = verifier.open(note if isinstance(note, bytes) else b"")
            except NoteInvalid as error:
                self.problems.append(f"checkpoint {size}: {error}")
                continue
            if head.size != size:
                self.problems.append(f"checkpoint {size}: it is for size {head.size}")
                continue
            self._newest = size
            yield size, head.root

    def _compare(self, name: str, root: bytes) -> None:
        # After a first broken entry every later head differs, which says nothing more.
        if self._whole and root != self._tree.root():
            self.problems.append(f"{name}: the records before it are not the ones it was signed for")

    def _take(self, seq: object, entry: bytes, leaf: object) -> None:
        self._rows += 1
        try:
            members = self._entry(seq, entry)
            if leaf != leaf_hash(entry):
                raise _EntryInvalid("its stored hash is not its own")
        except _EntryInvalid as error:
            self.problems.append(f"record {seq}: {error}")
            self._whole = False
        else:
            if self._whole:
                for observer in self._observers:
                    observer.record(self._rows, members)
        self._tree.append(leaf_hash(entry))
        self._previous = hashlib.sha256(entry).hexdigest()

    def _entry(self, seq: object, entry: bytes) -> Mapping[str, object]:
        members = _decoded(entry)
        if seq != self._rows or _integer(members, "seq") != seq:
            raise _EntryInvalid(f"it stands at position {self._rows}")
        if _integer(members, "v") != VERSION:
            raise _EntryInvalid("its version is unknown")
        if members.get("prev") != self._previous:
            raise _EntryInvalid("it does not follow the entry before it")
        if members.get("type") not in _TYPES or not isinstance(members.get("writer"), str):
            raise _EntryInvalid("its type or writer is unknown")
        _integer(members, "at")
        epoch = _integer(members, "epoch")
        if epoch < max(1, self._epoch):
            raise _EntryInvalid("its epoch lies before that of the entry before it")
        self._epoch = epoch
        return members

    def _check_meta(self, meta: Mapping[str, str]) -> None:
        if meta.keys() != _META:
            self.problems.append("meta: its keys are not the ones this release writes")
            return
        if meta["format"] != FORMAT:
            self.problems.append("meta: the format is unknown")
        if meta["checkpoints"] != str(self._checkpoints):
            self.problems.append(f"meta: {self._checkpoints} checkpoints, not as many as were kept")
        if self._whole and meta["epoch"] != str(self._epoch):
            self.problems.append("meta: the epoch is not that of the last entry")
        if self._whole and meta["frontier"] != frontier_text(self._tree):
            self.problems.append("meta: the frontier is not that of the records")


def _decoded(entry: bytes) -> dict[str, object]:
    """The members of an entry whose bytes are the canonical ones."""
    try:
        members = json.loads(entry.decode("utf-8"), parse_float=_refuse, parse_constant=_refuse)
        if not isinstance(members, dict) or canonical_bytes(members) != entry:
            raise _EntryInvalid("its bytes are not canonical")
    except (ValueError, RecursionError) as error:
        raise _EntryInvalid("its bytes are not canonical") from error
    return members


def _refuse(number: str) -> NoReturn:
    raise _EntryInvalid(f"{number} is not an integer")


def _integer(members: Mapping[str, object], name: str) -> int:
    value = members.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _EntryInvalid(f"{name} is not an integer")
    return value
