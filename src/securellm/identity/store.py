"""The tables of identity in the control database: virtual keys made through the API, and the pepper's fingerprint."""

import hmac
from typing import Any

import msgspec

from securellm.core.clock import Clock
from securellm.core.ids import Ids
from securellm.core.randomness import Randomness
from securellm.core.surfaces import Surface
from securellm.identity.model import IssuedKey, PepperMismatch, VirtualKey
from securellm.identity.rules import TOKEN_ENTROPY, digest_of, fingerprint_of, prefix_of, token_of
from securellm.storage import Connection, ControlStore

SCHEMA = (
    """CREATE TABLE virtual_keys (
  id TEXT PRIMARY KEY,
  tenant TEXT NOT NULL,
  name TEXT NOT NULL,
  prefix TEXT NOT NULL,
  digest BLOB NOT NULL UNIQUE,
  models TEXT NOT NULL,
  surfaces TEXT NOT NULL,
  created_us INTEGER NOT NULL,
  expires_us INTEGER,
  revoked_us INTEGER
) STRICT""",
    """CREATE TABLE pepper (
  only INTEGER PRIMARY KEY CHECK (only = 1),
  fingerprint BLOB NOT NULL
) STRICT""",
)

_COLUMNS = "id, tenant, name, prefix, digest, models, surfaces, created_us, expires_us, revoked_us"


class KeyStore:
    """Virtual keys in control.db. Blocking: called from a thread or a command, never on the event loop."""

    def __init__(self, control: ControlStore, *, pepper: bytes, clock: Clock, randomness: Randomness) -> None:
        """Raises `PepperMismatch` when keys are stored that were digested with another pepper."""
        self._control = control
        self._pepper = pepper
        self._clock = clock
        self._randomness = randomness
        self._ids = Ids(clock, randomness)
        fingerprint = fingerprint_of(pepper)
        if not control.read(lambda connection: _is_kept(connection, fingerprint)):
            control.write(lambda connection: _keep(connection, fingerprint))

    def create(
        self,
        *,
        tenant: str,
        name: str,
        models: tuple[str, ...],
        surfaces: tuple[Surface, ...] = (),
        expires_us: int | None = None,
    ) -> IssuedKey:
        """Issue a key, durably; the token is returned once and kept nowhere."""
        token = token_of(self._randomness.token(TOKEN_ENTROPY))
        key = VirtualKey(
            id=self._ids.new("key"),
            tenant=tenant,
            name=name,
            prefix=prefix_of(token),
            digest=digest_of(token, pepper=self._pepper),
            models=models,
            surfaces=surfaces,
            created_us=self._clock.now_us(),
            expires_us=expires_us,
            managed_by="api",
        )
        self._control.write(lambda connection: _insert(connection, key))
        return IssuedKey(key=key, token=token)

    def every(self) -> tuple[VirtualKey, ...]:
        """All keys, in the order of their ids."""
        return self._control.read(_every)

    def get(self, key_id: str) -> VirtualKey | None:
        return self._control.read(lambda connection: _get(connection, key_id))

    def revoke(self, key_id: str) -> VirtualKey | None:
        """Refuse the key from now on, durably; the first moment stands. None when there is no such key."""
        now_us = self._clock.now_us()

        def change(connection: Connection) -> VirtualKey | None:
            connection.execute(
                "UPDATE virtual_keys SET revoked_us = ? WHERE id = ? AND revoked_us IS NULL", (now_us, key_id)
            )
            return _get(connection, key_id)

        return self._control.write(change)

    def version(self) -> int:
        """Rises with every write to the control database."""
        return self._control.version


def _is_kept(connection: Connection, fingerprint: bytes) -> bool:
    """Whether this pepper is the one on record. Raises `PepperMismatch` when it is not and keys depend on it."""
    row = connection.execute("SELECT fingerprint FROM pepper").fetchone()
    if row is not None and hmac.compare_digest(row[0], fingerprint):
        return True
    (count,) = connection.execute("SELECT count(*) FROM virtual_keys").fetchone()
    if count:
        cause = "has no fingerprint on record" if row is None else "differs from the one on record"
        raise PepperMismatch(f"{count} virtual keys are stored and the pepper {cause}")
    return False


def _keep(connection: Connection, fingerprint: bytes) -> None:
    if not _is_kept(connection, fingerprint):
        connection.execute("INSERT OR REPLACE INTO pepper (only, fingerprint) VALUES (1, ?)", (fingerprint,))


def _insert(connection: Connection, key: VirtualKey) -> None:
    connection.execute(
        f"INSERT INTO virtual_keys ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - a constant
        (
            key.id,
            key.tenant,
            key.name,
            key.prefix,
            key.digest,
            msgspec.json.encode(key.models).decode("utf-8"),
            msgspec.json.encode(key.surfaces).decode("utf-8"),
            key.created_us,
            key.expires_us,
            key.revoked_us,
        ),
    )


def _every(connection: Connection) -> tuple[VirtualKey, ...]:
    rows = connection.execute(f"SELECT {_COLUMNS} FROM virtual_keys ORDER BY id")  # noqa: S608 - a constant
    return tuple(_key(row) for row in rows)


def _get(connection: Connection, key_id: str) -> VirtualKey | None:
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM virtual_keys WHERE id = ?",  # noqa: S608 - a constant
        (key_id,),
    ).fetchone()
    return None if row is None else _key(row)


def _key(row: tuple[Any, ...]) -> VirtualKey:
    return VirtualKey(
        id=row[0],
        tenant=row[1],
        name=row[2],
        prefix=row[3],
        digest=row[4],
        models=msgspec.json.decode(row[5], type=tuple[str, ...]),
        surfaces=msgspec.json.decode(row[6], type=tuple[Surface, ...]),
        created_us=row[7],
        expires_us=row[8],
        revoked_us=row[9],
        managed_by="api",
    )
