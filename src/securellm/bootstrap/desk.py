"""Change virtual keys of a data folder that no gateway serves from; and say where the one that does can be asked."""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

from securellm.admin.store import note_made
from securellm.audit import AdminChange, AuditLog, KeyChange, Record
from securellm.bootstrap.config import Loaded
from securellm.bootstrap.journaling import JOURNAL_SCHEMA, WRITER_ID
from securellm.bootstrap.keys import Keys
from securellm.bootstrap.operating import RUNNING
from securellm.bootstrap.places import open_control, open_store
from securellm.bootstrap.recorded import Recorded
from securellm.core.clock import Clock
from securellm.core.ids import Ids
from securellm.core.randomness import Randomness
from securellm.core.surfaces import Surface
from securellm.identity import HOST, IssuedKey, Keyring, VirtualKey, bind_pepper
from securellm.storage import DataDir, GroupCommitWriter, Session, StorageRefused

T = TypeVar("T")

_PAGE = 200
_FIRST = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


class KeyDesk:
    """Keys of a data folder that no gateway uses, recorded as what a gateway changes."""

    def __init__(self, recorded: Recorded, keyring: Keyring, *, clock: Clock, ids: Ids) -> None:
        self._recorded = recorded
        self._keyring = keyring
        self._clock = clock
        self._ids = ids

    def create(
        self, *, tenant: str, name: str, models: tuple[str, ...], surfaces: tuple[Surface, ...], expires_us: int | None
    ) -> IssuedKey:
        def issue(session: Session) -> IssuedKey:
            return self._keyring.issue(
                session, tenant=tenant, name=name, models=models, surfaces=surfaces, expires_us=expires_us
            )

        return self._write("create", issue, lambda issued: issued.key)

    def revoke(self, key_id: str) -> VirtualKey:
        return self._write("revoke", lambda session: self._keyring.revoke(session, key_id), lambda key: key)

    def keys(self, *, tenant: str | None, project: str | None) -> Iterator[VirtualKey]:
        """Those of a tenant, or of one of its projects; without either, every one. In the order of ids."""
        projects, after = None if project is None else (project,), None
        while page := self._page(after, tenant, projects):
            yield from page
            after = page[-1].id

    def _page(self, after: str | None, tenant: str | None, projects: tuple[str, ...] | None) -> tuple[VirtualKey, ...]:
        return self._recorded.read(
            lambda session: self._keyring.page(session, after=after, limit=_PAGE, tenant=tenant, projects=projects)
        )

    def _write(
        self, action: Literal["create", "revoke"], work: Callable[[Session], T], key_of: Callable[[T], VirtualKey]
    ) -> T:
        request_id = self._ids.new("req")

        def make(session: Session) -> T:
            made = work(session)
            note_made(session, request_id=request_id, tenant=None, claim=None, now_us=self._clock.now_us())
            return made

        def records(made: T) -> tuple[Record, ...]:
            key = key_of(made)
            return (
                KeyChange(action=action, key_id=key.id, tenant=key.tenant, actor="command"),
                AdminChange(
                    action=action,
                    resource="keys",
                    resource_id=key.id,
                    tenant=key.tenant,
                    actor=HOST,
                    request_id=request_id,
                ),
            )

        return self._recorded.write(make, records)


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

                def record(records: tuple[Record, ...]) -> None:
                    writer.perform(*(log.appending(item) for item in records))

                recorded = Recorded(lambda: control, record=record)
                keyring = Keyring(keys.pepper, clock, randomness)
                yield KeyDesk(recorded, keyring, clock=clock, ids=Ids(clock, randomness))
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
