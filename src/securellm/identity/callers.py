"""Who calls the control plane: from whatever was presented to an `Actor`, or a refusal."""

import hashlib
import hmac
from collections.abc import Callable, Collection
from itertools import chain

from securellm.core.errors import Code, Refusal
from securellm.identity.directory import Directory
from securellm.identity.issuers import Issuers, Vouched
from securellm.identity.jwt import TokenRefused
from securellm.identity.people import HOST, Actor, Credential, Grant, Method, ServiceIdentity, User
from securellm.identity.permissions import Role
from securellm.identity.rules import refuse_elsewhere
from securellm.identity.sessions import LoggedIn, Sessions
from securellm.identity.tokens import Tokens
from securellm.identity.vouching import groups_of, mapped_grants
from securellm.storage import ControlStore, Session, in_thread

_HOST_OWNER = Grant(id="host", principal=HOST, role=Role.OWNER, tenant=None, created_us=0, created_by="host")


class Callers:
    """The gate that alone mints an `Actor`."""

    def __init__(
        self,
        control: ControlStore,
        *,
        admin_token: Callable[[], str],
        directory: Directory,
        tokens: Tokens,
        sessions: Sessions,
        issuers: Issuers,
        origins: Callable[[], Collection[str]],
    ) -> None:
        """`admin_token` is the host's, now; `origins` are those whose pages may change things in a session."""
        self._control = control
        self._admin_token = admin_token
        self._directory = directory
        self._tokens = tokens
        self._sessions = sessions
        self._issuers = issuers
        self._origins = origins

    async def recognise(self, credential: Credential, *, client_ip: str) -> Actor:
        """Who presents it. A bearer is judged alone, even where a session's cookie comes with it.

        Raises `Refusal` (ADMIN_REQUIRED, CREDENTIAL_EXPIRED, CREDENTIAL_REVOKED, IP_NOT_ALLOWED, FORBIDDEN for a
        page of another origin), `Fault` (STORAGE_UNAVAILABLE, ISSUER_UNAVAILABLE).
        """
        bearer = credential.bearer
        if bearer is not None:
            if self._is_host(bearer):
                return Actor(principal=HOST, tenant=None, grants=(_HOST_OWNER,), method="host")
            if self._issuers.takes(bearer):
                return await self._by_issuer(bearer, client_ip)
            return await in_thread(
                lambda: self._control.read(lambda session: self._by_token(session, bearer, client_ip))
            )
        if credential.session is not None:
            return await self._by_session(credential.session, credential)
        raise Refusal(Code.ADMIN_REQUIRED, "the request carries no credential")

    def _is_host(self, presented: str) -> bool:
        # Digests have one length, so the comparison tells nothing, not even how long the token is.
        expected = self._admin_token()
        return bool(expected) and hmac.compare_digest(_sha256(presented), _sha256(expected))

    def _by_token(self, session: Session, presented: str, client_ip: str) -> Actor:
        token = self._tokens.recognise(session, presented)
        return self._actor(session, self._holder(session, token.principal), "token", client_ip)

    async def _by_issuer(self, bearer: str, client_ip: str) -> Actor:
        try:
            vouched = await self._issuers.vouch(bearer)
        except TokenRefused as refused:
            code = Code.CREDENTIAL_EXPIRED if refused.expired else Code.ADMIN_REQUIRED
            raise Refusal(code, refused.reason) from None

        def named(session: Session) -> Actor:
            holder = self._named(session, vouched)
            grants = mapped_grants(vouched.issuer, groups_of(vouched.issuer, vouched.claims), holder.principal)
            return self._actor(session, holder, "jwt", client_ip, mapped=grants)

        return await in_thread(lambda: self._control.read(named))

    async def _by_session(self, presented: str, credential: Credential) -> Actor:
        if credential.unsafe and credential.origin not in self._origins():
            raise Refusal(Code.FORBIDDEN, "a session is used from the console's own pages only")

        def known(session: Session) -> tuple[LoggedIn, Actor]:
            logged_in = self._sessions.recognise(session, presented)
            holder = self._holder(session, logged_in.principal)
            grants = self._of_login(logged_in, holder)
            if grants is None:
                raise Refusal(Code.CREDENTIAL_REVOKED, "the issuer of this login is no longer configured")
            return logged_in, self._actor(session, holder, "session", "", mapped=grants)

        logged_in, actor = await in_thread(lambda: self._control.read(known))
        if self._sessions.is_due(logged_in):
            await in_thread(lambda: self._control.write(lambda session: self._sessions.seen(session, logged_in)))
        return actor

    def as_of_now(self, session: Session, principal: str) -> Actor:
        """Somebody who is not here, with the roles they hold now: stored ones, and of logins of theirs that last.

        Raises `Refusal` (CREDENTIAL_REVOKED) when they are gone or disabled.
        """
        holder = self._holder(session, principal)
        if holder.disabled:
            raise Refusal(Code.CREDENTIAL_REVOKED, "this principal is disabled")
        logins = (self._of_login(one, holder) or () for one in self._sessions.living(session, principal))
        grants = (*self._directory.grants_of(session, principal), *chain.from_iterable(logins))
        return Actor(principal=principal, tenant=holder.tenant, grants=grants, method="token")

    def _of_login(self, logged_in: LoggedIn, holder: User | ServiceIdentity) -> tuple[Grant, ...] | None:
        """The roles that a login gives by the configuration of now; None where its issuer vouches for it no more."""
        issuer = self._issuers.by_url(logged_in.issuer)
        if issuer is None or issuer.login is None or (issuer.tenant is not None and issuer.tenant != holder.tenant):
            return None
        return mapped_grants(issuer, logged_in.groups, holder.principal)

    def _holder(self, session: Session, principal: str) -> User | ServiceIdentity:
        try:
            return self._directory.holder(session, principal)
        except Refusal:
            raise Refusal(Code.CREDENTIAL_REVOKED, "whose credential this was is no longer known") from None

    def _named(self, session: Session, vouched: Vouched) -> User | ServiceIdentity:
        issuer, subject = vouched.issuer, vouched.subject
        holder = self._directory.service_of(session, issuer.issuer, subject) or self._directory.user_of(
            session, issuer.issuer, subject
        )
        if holder is None or (issuer.tenant is not None and issuer.tenant != holder.tenant):
            raise Refusal(Code.ADMIN_REQUIRED, "the token is valid, and nobody here is its subject")
        return holder

    def _actor(
        self,
        session: Session,
        holder: User | ServiceIdentity,
        method: Method,
        client_ip: str,
        *,
        mapped: tuple[Grant, ...] = (),
    ) -> Actor:
        if holder.disabled:
            raise Refusal(Code.CREDENTIAL_REVOKED, "this principal is disabled")
        if isinstance(holder, ServiceIdentity):
            refuse_elsewhere(holder.ip_ranges, client_ip)
        grants = (*self._directory.grants_of(session, holder.principal), *mapped)
        return Actor(principal=holder.principal, tenant=holder.tenant, grants=grants, method=method)


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
