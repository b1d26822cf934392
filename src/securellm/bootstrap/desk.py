"""Change virtual keys of a data folder: through the gateway that runs on it, or directly while none does."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from securellm.audit import AuditLog, KeyChange
from securellm.bootstrap.config import Loaded
from securellm.bootstrap.places import open_control
from securellm.bootstrap.wiring import JOURNAL_SCHEMA, WRITER_ID, Keys
from securellm.core.clock import Clock
from securellm.core.errors import UpstreamFailure
from securellm.core.randomness import Randomness
from securellm.core.surfaces import Surface
from securellm.identity import IssuedKey, KeyPage, KeyRegistry, KeyStore, VirtualKey
from securellm.secrets import SecretValue
from securellm.storage import ControlStore, DataDir, GroupCommitWriter, StorageRefused
from securellm.transport import OutboundRequest, Pool, Timeouts, TlsOptions, parse_base_url

_RUNNING = "running.json"
_PATIENCE = Timeouts(connect=2.0, first_byte=30.0, idle=10.0, total=60.0)
_LARGEST = 16 * 1024 * 1024


class KeyDesk:
    """Keys of a data folder that no gateway uses. A new key whose record fails is revoked and never shown."""

    def __init__(self, registry: KeyRegistry, writer: GroupCommitWriter, log: AuditLog) -> None:
        self._registry = registry
        self._writer = writer
        self._log = log

    def create(
        self, *, tenant: str, name: str, models: tuple[str, ...], surfaces: tuple[Surface, ...], expires_us: int | None
    ) -> IssuedKey:
        issued = self._registry.create(
            tenant=tenant, name=name, models=models, surfaces=surfaces, expires_us=expires_us
        )
        try:
            self._record("create", issued.key)
        except BaseException:
            self._registry.revoke(issued.key.id)
            raise
        return issued

    def revoke(self, key_id: str) -> VirtualKey:
        key = self._registry.revoke(key_id)
        self._record("revoke", key)
        return key

    def page(self, *, after: str | None, limit: int) -> KeyPage:
        return self._registry.page(after=after, limit=limit)

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
        control = ControlStore.open(data.control, migrate=True) if loaded is None else open_control(loaded)
        try:
            store = KeyStore(control, pepper=keys.pepper, clock=clock, randomness=randomness)
            writer = GroupCommitWriter.open(data.audit, JOURNAL_SCHEMA)
            try:
                log = AuditLog.open(
                    writer, writer_id=WRITER_ID, seed=keys.audit_seed, clock=clock, randomness=randomness
                )
                yield KeyDesk(KeyRegistry(store), writer, log)
            finally:
                writer.close()
        finally:
            control.close()


class AdminRefused(Exception):
    """The running gateway's answer to a command was no."""

    def __init__(self, reason: str, remedy: str, *, missing: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.missing = missing
        """What the command names does not exist."""


def ask_running(
    data: DataDir, token: SecretValue, method: str, path: str, body: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """What the gateway that runs on `data` answers on its admin listener. Raises AdminRefused."""
    try:
        running = json.loads((data.root / _RUNNING).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        running = {}
    url, ca_file = running.get("admin_url"), running.get("ca_file")
    if not isinstance(url, str):
        raise AdminRefused(
            "a gateway uses this data folder and has no admin listener", "Set server.admin_listen, or stop it first."
        )
    status, answer = asyncio.run(_exchange(url, ca_file, token, method, path, body))
    if status >= 400:
        raise AdminRefused(
            str(answer.get("detail", f"the admin listener answered {status}")),
            str(answer.get("remedy", "Read the gateway's log.")),
            missing=status == 404,
        )
    return answer


async def _exchange(
    url: str, ca_file: str | None, token: SecretValue, method: str, path: str, body: Mapping[str, object] | None
) -> tuple[int, dict[str, Any]]:
    target = parse_base_url(url)
    tls = TlsOptions(ca_file=Path(ca_file)) if ca_file is not None and target.scheme == "https" else None
    pool = Pool(target, tls=tls)
    request = OutboundRequest(
        method=method,
        path=path,
        headers=(
            (b"authorization", b"Bearer " + token.reveal().encode("ascii")),
            (b"content-type", b"application/json"),
            (b"accept", b"application/json"),
        ),
        body=b"" if body is None else json.dumps(body).encode("utf-8"),
    )
    try:
        reply = await pool.send(request, timeouts=_PATIENCE)
        content = await reply.read(_LARGEST)
    except UpstreamFailure as failure:
        raise AdminRefused(f"the admin listener at {url} does not answer", failure.remedy) from None
    finally:
        await pool.aclose()
    answer = json.loads(content) if content else {}
    return reply.status, answer if isinstance(answer, dict) else {}


def announce(data: DataDir, *, admin_url: str | None, ca_file: str | None) -> None:
    """Say in the folder where the running gateway's admin listener is, for commands on this host."""
    path = data.root / _RUNNING
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps({"admin_url": admin_url, "ca_file": ca_file}), encoding="utf-8")
    scratch.chmod(0o600)
    scratch.replace(path)


def withdraw(data: DataDir) -> None:
    (data.root / _RUNNING).unlink(missing_ok=True)
