"""The admin app over an application: what operators may see and change, wired to what does it."""

import hashlib
import hmac
import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from securellm import __version__
from securellm.admin import KEPT_US, Changed, Cursors, Part, Ports, Repeats, note_made
from securellm.approvals import Approvals
from securellm.audit import AdminChange, AdminDenied
from securellm.bootstrap.control import ControlPlane
from securellm.bootstrap.declaring import Declarations
from securellm.bootstrap.reaching import LateStore
from securellm.bootstrap.wiring import Application
from securellm.core.errors import Code, Fault, GatewayError
from securellm.core.hosts import Hosts
from securellm.core.randomness import Randomness, SystemRandomness
from securellm.identity import HOST, Callers, Directory, Login, Sessions, Tokens, origin_of
from securellm.identity.settings import IssuerSettings
from securellm.secrets import SecretUnavailable
from securellm.storage import Session, is_postgres
from securellm.telemetry.logs import logger

if TYPE_CHECKING:
    from fastapi import FastAPI

_log = logger("admin")

_SETTLED_US = KEPT_US - 24 * 3600 * 1_000_000
"""Microseconds: a day less than the mark of a change is kept, for the clocks of replicas."""


def open_admin(application: Application) -> "FastAPI | None":
    """Settle what a former process left in doubt; the admin app, where there is a listener for it. Blocking."""
    try:
        application.recorded.settle(application.data.audit, since_us=application.clock.now_us() - _SETTLED_US)
        # On a server, the last change may be another gateway's, whose log has it.
        alone = not is_postgres(application.loaded.config.storage.url)
        if alone and application.recorded.is_ahead_of(application.data.audit):
            _log.error("audit_log_behind", reason="changes were made that the audit log does not have")
    except GatewayError as error:
        # Without the database there is nothing to compare with; the next change does.
        _log.warning("changes_not_settled", error=str(error))
    return None if application.loaded.config.server.admin_listen is None else build_admin_app(application)


def build_admin_app(application: Application, *, randomness: Randomness | None = None) -> "FastAPI":
    """The ASGI application of the admin listener."""
    # Imported here, because a gateway without that listener should not pay for it.
    from securellm.admin.app import build_admin

    ports = build_ports(application, plane_of(application), randomness=randomness or SystemRandomness())
    return build_admin(ports)


def plane_of(application: Application) -> ControlPlane:
    """The one way into the control database of a running application."""
    metrics = application.metrics

    def done_alone(action: str, glass: bool) -> None:
        (metrics.broken_glass if glass else metrics.done_alone).labels(action).inc()

    return ControlPlane(
        application.recorded,
        refresh=application.refresh,
        clock=application.clock,
        done_alone=done_alone,
    )


def offer_setup(application: Application) -> str | None:
    """A set-up token for an installation that knows no person yet, also written to `setup_file`. Blocking.

    None once somebody is known, or while the control database is out of reach. Each start ends the former token.
    """
    path, request_id = setup_file(application), application.ids.new("req")
    randomness = SystemRandomness()
    directory = Directory(application.clock, randomness)
    tokens = Tokens(application.keys.pepper, application.clock, randomness, directory)

    def work(session: Session) -> Changed[str | None]:
        offered = tokens.offer_setup(session)
        note_made(session, request_id=request_id, tenant=None, claim=None, now_us=application.clock.now_us())
        return Changed(result=offered, id="setup")

    def record(changed: Changed[str | None]) -> AdminChange:
        return AdminChange(
            action="offer_setup",
            resource="users",
            resource_id=changed.id,
            tenant=None,
            actor=HOST,
            request_id=request_id,
        )

    secret = None
    try:
        if not application.control.read(directory.has_people):
            secret = plane_of(application).write(work, record)
    except GatewayError as error:
        _log.warning("set_up_not_offered", error=str(error))
        return None
    path.unlink(missing_ok=True)
    if secret is not None:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w") as file:
            file.write(f"{secret}\n")
    return secret


def setup_file(application: Application) -> Path:
    """Where the set-up token lies until it is used."""
    return application.data.keys / "setup-token"


def build_ports(application: Application, plane: ControlPlane, *, randomness: Randomness) -> Ports:
    """Everything the admin API is wired to."""
    config, clock, pepper = application.loaded.config, application.clock, application.keys.pepper
    store = LateStore(lambda: application.control)
    directory = Directory(clock, randomness, issuers=application.issuers.homes)
    tokens = Tokens(pepper, clock, randomness, directory)
    sessions = Sessions(pepper, clock, randomness, idle=config.identity.session_idle, life=config.identity.session_life)

    def client_secret(issuer: IssuerSettings) -> str | None:
        ref = None if issuer.login is None else issuer.login.client_secret
        if ref is None:
            return None
        try:
            return application.credentials.hold(ref).current().reveal()
        except SecretUnavailable as unavailable:
            raise Fault(Code.CREDENTIAL_UNAVAILABLE, f"the client secret of the issuer {issuer.id}") from unavailable

    def login() -> Login:
        return Login(
            store,
            issuers=application.issuers,
            directory=directory,
            sessions=sessions,
            pepper=pepper,
            client_secret=client_secret,
            clock=clock,
            randomness=randomness,
            secure=uses_tls(application),
        )

    async def denied(record: AdminDenied) -> None:
        application.metrics.admin_refusals.labels(record.code.value).inc()
        await application.gates.journal.record(record)

    def denied_unknown(error: GatewayError, address: str) -> None:
        application.metrics.admin_refusals.labels(error.code.value).inc()
        application.gates.journal.deny_unauthenticated(error, address, admin=True)

    def parts() -> tuple[Part, ...]:
        failing = application.failing()
        return tuple(Part(name=name, well=name not in failing) for name in application.PARTS)

    return Ports(
        callers=Callers(
            store,
            admin_token=application.keys.admin_token.reveal,
            directory=directory,
            tokens=tokens,
            sessions=sessions,
            issuers=application.issuers,
            origins=lambda: origins_of(application),
        ),
        control=plane,
        declared=Declarations(lambda: application.effective, book=lambda: application.book, clock=clock),
        keyring=lambda: application.keyring,
        directory=directory,
        tokens=tokens,
        sessions=sessions,
        session_life=config.identity.session_life,
        login=login,
        declared_policies=lambda: application.bundles(application.loaded),
        approvals=Approvals(clock, randomness),
        cursors=Cursors(_secret(pepper, "cursors")),
        repeats=Repeats(_secret(pepper, "idempotency of the admin API"), clock=clock),
        audit=application.data.audit,
        parts=parts,
        metrics=lambda: application.metrics.render(with_tenants=True),
        refused_credential=application.gates.limits.refused_credential,
        denied=denied,
        looked=application.gates.journal.record,
        denied_unknown=denied_unknown,
        set_up_done=lambda: setup_file(application).unlink(missing_ok=True),
        ids=application.ids,
        clock=clock,
        version=__version__,
        secure=uses_tls(application),
        hosts=lambda: admin_hosts_of(application),
    )


def admin_hosts_of(application: Application) -> Hosts | None:
    """The names that the admin listener answers for; None is any.

    Where only this machine can connect, browsers that run here can too, on behalf of any page whose owner lets its
    name resolve to loopback: there no name counts that nobody listed.
    """
    config = application.loaded.config
    listen, listed = config.server.admin_listen, config.server.admin_hosts
    if listen is None or not (listed or listen.loopback):
        return None
    own = (urlsplit(origin).hostname or "" for origin in origins_of(application))
    return Hosts.of((*listed, *own))


def uses_tls(application: Application) -> bool:
    """Whether browsers reach the admin listener with TLS: its own, or that of whoever stands before its origins."""
    config = application.loaded.config
    origins = config.identity.origins
    return config.server.tls is not None or (bool(origins) and all(one.startswith("https://") for one in origins))


def origins_of(application: Application) -> Collection[str]:
    """The origins whose pages may change things in a session: those of the configuration, else the listener's own."""
    config = application.loaded.config
    if config.identity.origins:
        return config.identity.origins
    listen = config.server.admin_listen
    if listen is None:
        return ()
    origin = origin_of(f"{'http' if config.server.tls is None else 'https'}://{listen}")
    return () if origin is None else (origin,)


def _secret(pepper: bytes, purpose: str) -> bytes:
    return hmac.digest(pepper, f"securellm-bridge: {purpose}, v1".encode(), hashlib.sha256)
