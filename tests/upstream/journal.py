"""What the fake provider saw, in order: the oracle of the tests that count what left the gateway."""

import os
import threading
import time
from pathlib import Path
from typing import Literal

import msgspec

Kind = Literal["connection", "request", "partial", "answer", "closed"]


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the log.

    `connection` opens one; `request` is a whole request; `partial` is one that the client left unfinished;
    `answer` says how its answer went and what was billed; `closed` sums the connection up.
    """

    order: int
    kind: Kind
    at: int
    """Nanoseconds since the Unix epoch."""
    connection: int
    request: int | None = None
    """The order number of the request an `answer` belongs to."""
    face: str | None = None
    method: str | None = None
    path: str | None = None
    """With its query, as written."""
    headers: tuple[tuple[str, str], ...] = ()
    """Lower-case names; a credential's value is replaced by `sha256:` and the hash of the whole value."""
    body: bytes = b""
    model: str | None = None
    stream: bool | None = None
    status: int | None = None
    refused: str | None = None
    """Why a strict provider refuses this request."""
    usage: dict[str, int] | None = None
    """What was billed, in the names of `securellm.core.usage.Usage`; `images`, `characters` and `seconds` where a
    provider sells those instead of tokens."""
    events: int = 0
    """Events of the stream that were written."""
    sent: int = 0
    """Bytes of the answer that were written."""
    whole: bool | None = None
    """Whether the answer was written to its end."""
    gone_after: float | None = None
    """Seconds from the request's end until the client disconnected before the answer's end."""
    received: int = 0
    """Bytes received on the connection."""
    requests: int = 0
    """Whole requests on the connection."""

    def header(self, name: str) -> str | None:
        """The value of the only header of this name; several are an assertion failure."""
        values = [value for header, value in self.headers if header == name]
        assert len(values) <= 1, f"{name} stands {len(values)} times"
        return values[0] if values else None

    @property
    def text(self) -> str:
        """The body as text, for searching; what is not UTF-8 is replaced."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> dict[str, object]:
        """The body as an object."""
        return msgspec.json.decode(self.body, type=dict[str, object])


_encoder = msgspec.json.Encoder()


class Journal:
    """An append-only log in memory and, when it has a path, on disk: flushed and fsynced line by line."""

    def __init__(self, path: Path | None = None) -> None:
        self._file = path.open("ab", buffering=0) if path is not None else None
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        self._order = 0

    def write(self, kind: Kind, connection: int, **fields: object) -> int:
        """Record one entry before anything else happens; returns its order number."""
        with self._lock:
            self._order += 1
            entry = msgspec.convert(
                {"order": self._order, "kind": kind, "at": time.time_ns(), "connection": connection, **fields}, Entry
            )
            self._entries.append(entry)
            if self._file is not None:
                self._file.write(_encoder.encode(entry) + b"\n")
                os.fsync(self._file.fileno())
            return self._order

    def entries(self, *kinds: Kind) -> list[Entry]:
        """Everything so far, or only these kinds."""
        with self._lock:
            return [entry for entry in self._entries if not kinds or entry.kind in kinds]

    def requests(self) -> list[Entry]:
        return self.entries("request")

    @property
    def received(self) -> int:
        """Bytes received on connections that have closed."""
        return sum(entry.received for entry in self.entries("closed"))

    def clear(self) -> None:
        """Forget what is in memory; the file keeps everything."""
        with self._lock:
            self._entries.clear()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def read_journal(path: Path) -> list[Entry]:
    """The entries of a log file, live or left behind; a last line that is not whole yet is left out."""
    data = path.read_bytes() if path.exists() else b""
    whole = data[: data.rfind(b"\n") + 1]
    return [msgspec.json.decode(line, type=Entry) for line in whole.splitlines()]
