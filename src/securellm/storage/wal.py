"""Tell a write-ahead log that a crash cut short from one that was damaged: of both SQLite drops the rest in silence.

Formats: sqlite.org/fileformat2 section 4 (the log) and sqlite.org/walformat section 2.1 (its index in shared memory).
"""

import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

_MAGIC_LITTLE, _MAGIC_BIG = 0x377F_0682, 0x377F_0683
_FORMAT = 3_007_000
_HEADER = struct.Struct(">IIII8sII")
_FRAME = struct.Struct(">II8sII")
_INDEX = struct.Struct("=IIIBBHIIII8sII")
_ATTEMPTS = 3


class _Log(NamedTuple):
    salt: bytes
    whole: int
    """Frames that a reader accepts, from the first."""
    later_commits: int
    """Transactions of this generation that end after the first frame a reader does not accept."""


def lost_frames(database: Path) -> list[str]:
    """Whether the log beside `database` has lost transactions that were durable once. Call it before opening.

    A crash can leave at most one unfinished transaction after the last whole one, so a second one proves damage; and
    the index never counts a frame that was not flushed. Without an index, damage to the last two transactions
    alone looks like a crash. A live writer may be at work: what it changes meanwhile is looked at again.
    """
    found: list[str] = []
    for _ in range(_ATTEMPTS):
        found = _lost_frames(database)
        if not found:
            break
    return found


def _lost_frames(database: Path) -> list[str]:
    index = _index(database.with_name(database.name + "-shm"))
    try:
        with database.with_name(database.name + "-wal").open("rb") as file:
            header = file.read(_HEADER.size)
            if not header.strip(b"\0"):
                return []
            log = _walk(header, file)
            file.seek(0)
            if file.read(_HEADER.size) != header:
                return []  # A writer began the log anew, which it does only once all of it is in the database.
    except OSError:
        return []  # No log, or one that opening the database will complain of.
    if log is None:
        return ["the write-ahead log has no valid header"]
    if log.later_commits > 1 or (index is not None and index[0] == log.salt and index[1] > log.whole):
        return [f"the write-ahead log is damaged after frame {log.whole}: later transactions are lost"]
    return []


def _walk(header: bytes, frames: BinaryIO) -> _Log | None:
    if len(header) < _HEADER.size:
        return None
    magic, form, page_size, _, salt, *stated = _HEADER.unpack(header)
    order = {_MAGIC_LITTLE: "<", _MAGIC_BIG: ">"}.get(magic)
    if order is None or form != _FORMAT or not 512 <= page_size <= 65_536 or page_size % 8:
        return None
    running = _checksum(order, (0, 0), header[:24])
    if running != tuple(stated):
        return None
    whole, later_commits, intact = 0, 0, True
    while len(frame := frames.read(_FRAME.size + page_size)) == _FRAME.size + page_size:
        page, commit, frame_salt, *stated = _FRAME.unpack_from(frame)
        if intact:
            running = _checksum(order, running, frame[:8] + frame[_FRAME.size :])
            intact = page > 0 and frame_salt == salt and running == tuple(stated)
            whole += intact
        if not intact and commit and frame_salt == salt:
            later_commits += 1
    return _Log(salt, whole, later_commits)


def _checksum(order: str, start: tuple[int, int], content: bytes) -> tuple[int, int]:
    first, second = start
    words = struct.unpack(f"{order}{len(content) // 4}I", content)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFF_FFFF
        second = (second + odd + first) & 0xFFFF_FFFF
    return first, second


def _index(path: Path) -> tuple[bytes, int] | None:
    """The salt and the number of durable frames of the log's index, when it is whole."""
    try:
        with path.open("rb") as file:
            raw = file.read(2 * _INDEX.size)
    except OSError:
        return None
    header = raw[: _INDEX.size]
    if len(raw) < 2 * _INDEX.size or header != raw[_INDEX.size :]:
        return None
    version, _, _, initialised, _, _, frames, _, _, _, salt, *stated = _INDEX.unpack(header)
    order = "<" if struct.pack("=H", 1) == b"\1\0" else ">"
    if version != _FORMAT or not initialised or _checksum(order, (0, 0), header[:40]) != tuple(stated):
        return None
    return salt, frames
