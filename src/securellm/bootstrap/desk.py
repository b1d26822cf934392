"""Change virtual keys of a data folder that no gateway serves from; and say where the one that does can be asked."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from securellm.audit import AuditLog, KeyChange
from securellm.bootstrap.config import Loaded
from securellm.bootstrap.journaling import JOURNAL_SCHEMA, WRITER_ID
from securellm.bootstrap.keys import Keys
from securellm.bootstrap.operating import RUNNING
from securellm.bootstrap.places import open_control, open_store
from securellm.core.clock import Clock
from securellm.core.randomness import Randomness
from securellm.core.surfaces import Surface
from securellm.identity import IssuedKey, Keyring, VirtualKey, bind_pepper
from securellm.storage import ControlStore, DataDir, GroupCommitWriter, StorageRefused

_PAGE = 200
_FIRST = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


class KeyDesk:
    """Keys of a data folder that no gateway uses. A new key whose record fails is revoked and never shown."""

    def __init__(self, control: ControlStore, keyring: Keyring, writer: GroupCommitWriter, log: AuditLog) -> None:
        self._control = control
        self._keyring = keyring
        self._writer = writer
        self._log = log

    def create(
        self, *, tenant: str, name: str, models: tuple[str, ...], surfaces: tuple[Surface, ...], expires_us: int | None
    ) -> IssuedKey:
        issued = self._control.write(
            lambda session: self._keyring.issue(
                session, tenant=tenant, name=name, models=models, surfaces=surfaces, expires_us=expires_us
            )
        )
        try:
            self._record("create", issued.key)
        except BaseException:
            self._revoke(issued.key.id)
            raise
        return issued

    def revoke(self, key_id: str) -> VirtualKey:
        key = self._revoke(key_id)
        self._record("revoke", key)
        return key

    def keys(self, *, tenant: str | None, project: str | None) -> Iterator[VirtualKey]:
        """Those of a tenant, or of one of its projects; without either, every one. In the order of ids."""
        projects, after = None if project is None else (project,), None
        while page := self._page(after, tenant, projects):
            yield from page
            after = page[-1].id

    def _page(self, after: str | None, tenant: str | None, projects: tuple[str, ...] | None) -> tuple[VirtualKey, ...]:
        return self._control.read(
            lambda session: self._keyring.page(session, after=after, limit=_PAGE, tenant=tenant, projects=projects)
        )

    def _revoke(self, key_id: str) -> VirtualKey:
        return self._control.write(lambda session: self._keyring.revoke(session, key_id))

    def _record(self, action: Literal["create", "revoke"], key: VirtualKey) -> None:
        change = KeyChange(action=action, key_id=key.id, tenant=key.tenant, actor="command")
        self._writer.perform(self._log.appending(change))


@contextmanager
def direct_desk(
    data: DataDir, keys: Keys, *, loaded: Loaded | None, clock: Clock, randomness: Randomness
) -> Iterator[KeyDesk]:
    """Open the folder, and the control plane that `loaded` names, for the length of the block.

    Without `loaded` the control plane must be in the folder. Raises DataDirLocked while a gateway uses it.
    """
    with data.lock():
        if loaded is None and data.audit.exists() and not data.control.exists():
            raise StorageRefused(
                f"the control plane of {data.root} is not in the folder",
                remedy="Name the configuration: --config FILE.",
            )
        control = open_store(data.control) if loaded is None else open_control(loaded)
        try:
            bind_pepper(control, keys.pepper)
            writer = GroupCommitWriter.open(data.audit, JOURNAL_SCHEMA)
            try:
                log = AuditLog.open(
                    writer, writer_id=WRITER_ID, seed=keys.audit_seed, clock=clock, randomness=randomness
                )
                yield KeyDesk(control, Keyring(keys.pepper, clock, randomness), writer, log)
            finally:
                writer.close()
        finally:
            control.close()


def announce(data: DataDir, *, admin_url: str | None, chain: Path | None) -> None:
    """Say in the folder where the running gateway's admin listener is, for commands on this host.

    They know it by its own certificate, the first of `chain`: whoever issued it, they call it by an address.
    """
    path = data.root / RUNNING
    scratch = path.with_suffix(".new")
    certificate = None if chain is None else _FIRST.search(chain.read_text(encoding="ascii", errors="replace"))
    facts = {"pid": os.getpid(), "admin_url": admin_url, "certificate": certificate and certificate[0]}
    scratch.write_text(json.dumps(facts), encoding="utf-8")
    scratch.chmod(0o600)
    scratch.replace(path)


def withdraw(data: DataDir) -> None:
    (data.root / RUNNING).unlink(missing_ok=True)
