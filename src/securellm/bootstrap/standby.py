"""What the control store last said, kept signed beside the journal: for a start while the store cannot be reached.

Two private files. `last-known` holds rows: one line each with the HMAC of itself and of all lines before it, changes
appended. `last-confirmed` says which line was the last, and when the store confirmed it, by both clocks: a file that
was brought back from the past is told by the monotonic one, which nobody sets.
"""

import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from securellm.bootstrap.aside import BREATH_EVERY, breathe
from securellm.bootstrap.effective import Name, Stored
from securellm.core.clock import Clock
from securellm.gateway.snapshot import JUMP
from securellm.identity import ServiceIdentity, VirtualKey
from securellm.policy import Declared

MOST_APPENDED = 2_000
"""Lines appended before the file is written anew."""


class StandbyRefused(Exception):
    """What was kept must not be decided by. `reason` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What the control store holds that requests are decided by, as of one of its versions."""

    version: int
    stored: Stored
    keys: Mapping[str, VirtualKey]
    """By id. Those of the file are not kept."""
    policies: tuple[Declared, ...] = ()
    services: tuple[ServiceIdentity, ...] = ()


class _Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    version: int
    pepper: bytes = b""
    """Fingerprint: keys digested with another one would not be recognised."""
    stored: list[tuple[Name, dict[str, Any]]] | None = None
    """All declarations, in the place of those before; so are the two that follow."""
    policies: tuple[Declared, ...] | None = None
    services: tuple[ServiceIdentity, ...] | None = None
    keys: list[VirtualKey] = []
    gone: list[str] = []
    """Ids of keys that are no more."""


class _Confirmed(msgspec.Struct, frozen=True, kw_only=True):
    line: str
    """HMAC of the last line."""
    wall_us: int
    monotonic_us: int
    mac: str = ""


class Standby:
    """The two files of one instance. Blocking."""

    def __init__(self, folder: Path, *, secret: bytes, pepper: bytes, clock: Clock) -> None:
        """`secret` is the instance's own; `pepper` the fingerprint of the pepper in use."""
        self._rows = folder / "last-known"
        self._confirmation = folder / "last-confirmed"
        self._secret = hmac.digest(secret, b"securellm-bridge: last known snapshot, v1", hashlib.sha256)
        self._pepper = pepper
        self._clock = clock
        self._mac = ""
        self._appended = 0

    def write(self, known: Known) -> None:
        """Keep all of it, in the place of what was kept."""
        scratch = self._rows.with_suffix(".new")
        self._mac = ""
        with open(scratch, "wb", opener=_private) as file:
            first = _Line(
                version=known.version,
                pepper=self._pepper,
                stored=[(name, dict(document)) for name, document in known.stored.items()],
                policies=known.policies,
                services=known.services,
            )
            file.write(self._signed(first))
            keys = [key for key in known.keys.values() if key.managed_by == "api"]
            for start in range(0, len(keys), BREATH_EVERY):
                breathe()
                piece = keys[start : start + BREATH_EVERY]
                file.write(self._signed(_Line(version=known.version, keys=piece)))
        scratch.replace(self._rows)
        self._appended = 0

    def append(self, known: Known, changed: Iterable[str], *, all_else: bool) -> None:
        """Keep these changed keys, and with `all_else` all declarations too."""
        if not self._mac or self._appended >= MOST_APPENDED:
            self.write(known)
            return
        ids = list(changed)
        line = _Line(
            version=known.version,
            stored=[(name, dict(document)) for name, document in known.stored.items()] if all_else else None,
            policies=known.policies if all_else else None,
            services=known.services if all_else else None,
            keys=[known.keys[key_id] for key_id in ids if key_id in known.keys],
            gone=[key_id for key_id in ids if key_id not in known.keys],
        )
        with open(self._rows, "ab", opener=_private) as file:
            file.write(self._signed(line))
        self._appended += 1

    def confirm(self, *, age: float) -> None:
        """The store said `age` seconds ago that what is kept is what it holds."""
        us = round(age * 1_000_000)
        said = _Confirmed(
            line=self._mac,
            wall_us=self._clock.now_us() - us,
            monotonic_us=round(self._clock.monotonic() * 1_000_000) - us,
        )
        said = msgspec.structs.replace(said, mac=self._mac_of_confirmation(said))
        scratch = self._confirmation.with_suffix(".new")
        with open(scratch, "wb", opener=_private) as file:
            file.write(msgspec.json.encode(said))
        scratch.replace(self._confirmation)

    def read(self, *, fence: float) -> tuple[Known, float]:
        """What was kept, and how many seconds ago it was confirmed. Raises `StandbyRefused`."""
        try:
            confirmed = msgspec.json.decode(self._confirmation.read_bytes(), type=_Confirmed)
            lines = self._rows.read_bytes().split(b"\n")
        except FileNotFoundError:
            raise StandbyRefused("nothing is kept from an earlier run") from None
        except (OSError, msgspec.DecodeError):
            raise StandbyRefused("what is kept from an earlier run cannot be read") from None
        if not hmac.compare_digest(self._mac_of_confirmation(confirmed), confirmed.mac):
            raise StandbyRefused("what is kept from an earlier run was changed by somebody else")
        age = self._age(confirmed)
        if age > fence:
            raise StandbyRefused(f"what is kept from an earlier run was last confirmed {age:.0f} s ago")
        return self._replayed(lines, confirmed.line), age

    def _age(self, confirmed: _Confirmed) -> float:
        age = (self._clock.now_us() - confirmed.wall_us) / 1_000_000
        steady = self._clock.monotonic() - confirmed.monotonic_us / 1_000_000
        if steady < 0 or abs(age - steady) > JUMP:
            raise StandbyRefused("the machine was restarted or its clock has jumped since the last run")
        return max(age, steady)

    def _replayed(self, lines: list[bytes], last: str) -> Known:
        version, pepper = 0, b""
        stored: dict[Name, Mapping[str, Any]] = {}
        policies: tuple[Declared, ...] = ()
        services: tuple[ServiceIdentity, ...] = ()
        keys: dict[str, VirtualKey] = {}
        mac, seen = "", False
        for number, written in enumerate(lines):
            said, _, content = written.partition(b" ")
            expected = self._chained(mac, content)
            if not hmac.compare_digest(expected.encode("ascii"), said):
                if seen and number == len(lines) - 1:
                    break  # Nothing, or a line that was being written when the process ended.
                raise StandbyRefused("what is kept from an earlier run was changed by somebody else")
            mac = expected
            seen = seen or mac == last
            line = msgspec.json.decode(content, type=_Line)
            version, pepper = line.version, line.pepper or pepper
            stored = stored if line.stored is None else dict(line.stored)
            policies = policies if line.policies is None else line.policies
            services = services if line.services is None else line.services
            keys |= {key.id: key for key in line.keys}
            for key_id in line.gone:
                keys.pop(key_id, None)
        if not seen:
            raise StandbyRefused("what is kept from an earlier run was changed by somebody else")
        if not hmac.compare_digest(pepper, self._pepper):
            raise StandbyRefused("the pepper is not the one that was in use")
        return Known(version=version, stored=stored, keys=keys, policies=policies, services=services)

    def _signed(self, line: _Line) -> bytes:
        content = msgspec.json.encode(line)
        self._mac = self._chained(self._mac, content)
        return self._mac.encode("ascii") + b" " + content + b"\n"

    def _chained(self, before: str, content: bytes) -> str:
        return hmac.new(self._secret, before.encode("ascii") + b" " + content, hashlib.sha256).hexdigest()

    def _mac_of_confirmation(self, said: _Confirmed) -> str:
        content = f"confirmed {said.line} {said.wall_us} {said.monotonic_us}"
        return hmac.new(self._secret, content.encode("utf-8"), hashlib.sha256).hexdigest()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
