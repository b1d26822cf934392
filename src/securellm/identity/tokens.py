"""Credentials of the control plane: access tokens, invitations and the set-up token, each kept as a keyed digest.

Every method runs inside the caller's transaction and blocks as it does.
"""

from typing import Literal

import msgspec
from sqlalchemy import delete, insert, select, update

from securellm.core.clock import Clock
from securellm.core.errors import Code, Refusal
from securellm.core.ids import Ids
from securellm.core.randomness import Randomness
from securellm.identity.authority import refuse_over
from securellm.identity.directory import Directory
from securellm.identity.people import AccessToken, Actor, Grant, IssuedToken, User
from securellm.identity.permissions import Permission
from securellm.identity.rows import Rows
from securellm.identity.rules import TOKEN_ENTROPY, digest_of, is_credential, prefix_of, token_of
from securellm.identity.tables import ACCESS_TOKENS, INSTALLATION, ONE_TIME, values_of
from securellm.storage import Session

DAY_US = 86_400_000_000
LONGEST_LIFE_US = 366 * DAY_US
USUAL_LIFE_US = 90 * DAY_US
INVITATION_US = 3 * DAY_US
SET_UP_US = DAY_US

_SET_UP = "setup"
_INVITATION = "invitation"


class Tokens:
    """The verbs. Raises `Refusal` (NOT_FOUND, CONFLICT, FORBIDDEN, INVALID_REQUEST; ADMIN_REQUIRED, CREDENTIAL_…)."""

    def __init__(self, pepper: bytes, clock: Clock, randomness: Randomness, directory: Directory) -> None:
        self._pepper = pepper
        self._clock = clock
        self._randomness = randomness
        self._ids = Ids(clock, randomness)
        self._directory = directory
        self._rows = Rows(ACCESS_TOKENS, AccessToken, kind="access token")

    # Access tokens

    def issue(
        self, session: Session, actor: Actor, *, principal: str, name: str = "", expires_us: int | None = None
    ) -> IssuedToken:
        """A token for the actor themselves, or for a service that holds nothing the actor lacks.

        Never for another person: their token in the actor's hand would be a second pair of eyes.
        """
        holder = self._directory.holder(session, principal)
        if principal != actor.principal:
            if isinstance(holder, User):
                raise Refusal(Code.FORBIDDEN, "an access token is issued to oneself or to a service")
            if not actor.may(Permission.SERVICES_WRITE, tenant=holder.tenant):
                raise Refusal(Code.FORBIDDEN, f"this asks for {Permission.SERVICES_WRITE} there")
            refuse_over(actor, self._directory.grants_of(session, principal))
        now_us = self._clock.now_us()
        ends_us = now_us + USUAL_LIFE_US if expires_us is None else expires_us
        if not now_us < ends_us <= now_us + LONGEST_LIFE_US:
            raise Refusal(Code.INVALID_REQUEST, "an access token lives up to 366 days", param="expires_at")
        return self._issue(session, principal, holder.tenant, name=name, by=actor.principal, expires_us=ends_us)

    def get(self, session: Session, token_id: str) -> AccessToken:
        return self._rows.get(session, token_id)

    def page(
        self, session: Session, principal: str, *, after: str | None = None, limit: int = 50
    ) -> tuple[AccessToken, ...]:
        """Those of one principal, as `Rows.page`."""
        return self._rows.page(session, after=after, limit=limit, where=(ACCESS_TOKENS.c.principal == principal,))

    def revoke(self, session: Session, token_id: str) -> AccessToken:
        """Refuse a token from now on; the first moment stands."""
        token = self.get(session, token_id)
        if token.revoked_us is not None:
            return token
        now_us = self._clock.now_us()
        session.run(update(ACCESS_TOKENS).where(ACCESS_TOKENS.c.id == token_id).values(revoked_us=now_us))
        return msgspec.structs.replace(token, revoked_us=now_us)

    def recognise(self, session: Session, presented: str) -> AccessToken:
        """The token presented. Raises `Refusal` (ADMIN_REQUIRED, CREDENTIAL_REVOKED, CREDENTIAL_EXPIRED)."""
        token = None
        if is_credential(presented):
            digest = digest_of(presented, pepper=self._pepper)
            token = self._rows.find(session, ACCESS_TOKENS.c.digest == digest)
        if token is None:
            raise Refusal(Code.ADMIN_REQUIRED, "this is no credential of the control plane")
        if token.revoked_us is not None:
            raise Refusal(Code.CREDENTIAL_REVOKED, "the access token was revoked")
        if self._clock.now_us() >= token.expires_us:
            raise Refusal(Code.CREDENTIAL_EXPIRED, "the access token has expired")
        return token

    # Invitations

    def invite(self, session: Session, user_id: str) -> str:
        """A secret by which a person gets their first access token: once, within 72 hours. A new one ends the former.

        Only while they have neither a way in nor a role, so that nobody enters as somebody who already counts.
        """
        user = self._directory.users.get(session, user_id)
        self._refuse_known(session, user)
        session.run(delete(ONE_TIME).where(ONE_TIME.c.purpose == _INVITATION, ONE_TIME.c.subject == user.principal))
        return self._offer(session, "sli", _INVITATION, user.principal, tenant=user.tenant, life_us=INVITATION_US)

    def accept(self, session: Session, presented: str) -> tuple[User, IssuedToken]:
        """Take an invitation: whose it was, and their first access token. Needs a transaction over everything."""
        principal = self._take(session, presented, _INVITATION)
        user = self._directory.holder(session, principal)
        assert isinstance(user, User)
        self._refuse_known(session, user)
        return user, self._first(session, user)

    # Setting up

    def offer_setup(self, session: Session) -> str | None:
        """A new set-up token, valid once within 24 hours, which ends any former one; None once any person is known."""
        if self._directory.has_people(session):
            return None
        session.run(delete(ONE_TIME).where(ONE_TIME.c.purpose == _SET_UP))
        return self._offer(session, "slt", _SET_UP, "", tenant=None, life_us=SET_UP_US)

    def redeem_setup(
        self, session: Session, presented: str, *, name: str, email: str
    ) -> tuple[User, Grant, IssuedToken]:
        """The first person, an owner of the installation. Of two who redeem it at once, one does."""
        self._take(session, presented, _SET_UP)
        if self._directory.has_people(session):
            raise Refusal(Code.CONFLICT, "this installation has been set up")
        user = self._directory.create_user(session, tenant=None, name=name, email=email)
        return user, self._directory.grant_first_owner(session, user), self._first(session, user)

    def offered(self, session: Session, presented: str, purpose: Literal["setup", "invitation"]) -> None:
        """Raises `Refusal` (ADMIN_REQUIRED, CREDENTIAL_EXPIRED) unless this secret could be used up now."""
        if is_credential(presented):
            there = (ONE_TIME.c.digest == digest_of(presented, pepper=self._pepper)) & (ONE_TIME.c.purpose == purpose)
            row = session.row(select(ONE_TIME.c.expires_us).where(there))
            if row is not None:
                if self._clock.now_us() >= row.expires_us:
                    raise Refusal(Code.CREDENTIAL_EXPIRED, "this one-time secret has expired")
                return
        raise Refusal(Code.ADMIN_REQUIRED, "no such one-time secret: it was used, or never issued")

    # Within

    def _refuse_known(self, session: Session, user: User) -> None:
        if user.disabled or user.subject is not None or self._directory.grants_of(session, user.principal):
            raise Refusal(Code.CONFLICT, "an invitation is for a person without a login and without a role")
        if self.page(session, user.principal, limit=1):
            raise Refusal(Code.CONFLICT, "this person has had an access token before")

    def _first(self, session: Session, user: User) -> IssuedToken:
        ends_us = self._clock.now_us() + USUAL_LIFE_US
        return self._issue(session, user.principal, user.tenant, name="first", by=user.principal, expires_us=ends_us)

    def _issue(
        self, session: Session, principal: str, tenant: str | None, *, name: str, by: str, expires_us: int
    ) -> IssuedToken:
        secret = token_of(self._randomness.token(TOKEN_ENTROPY), family="sla")
        token = AccessToken(
            id=self._ids.new("tok"),
            principal=principal,
            tenant=tenant,
            name=name,
            prefix=prefix_of(secret),
            digest=digest_of(secret, pepper=self._pepper),
            created_us=self._clock.now_us(),
            created_by=by,
            expires_us=expires_us,
        )
        session.run(insert(ACCESS_TOKENS).values(**values_of(token)))
        return IssuedToken(token=token, secret=secret)

    def _offer(
        self, session: Session, family: str, purpose: str, subject: str, *, tenant: str | None, life_us: int
    ) -> str:
        secret = token_of(self._randomness.token(TOKEN_ENTROPY), family=family)
        session.run(
            insert(ONE_TIME).values(
                digest=digest_of(secret, pepper=self._pepper),
                tenant=tenant or INSTALLATION,
                purpose=purpose,
                subject=subject,
                expires_us=self._clock.now_us() + life_us,
            )
        )
        return secret

    def _take(self, session: Session, presented: str, purpose: str) -> str:
        """Use a secret up; whom it was for."""
        row = None
        if is_credential(presented):
            # Found by a digest under a key nobody outside knows: how long it takes says nothing about the secret.
            there = (ONE_TIME.c.digest == digest_of(presented, pepper=self._pepper)) & (ONE_TIME.c.purpose == purpose)
            row = session.row(select(ONE_TIME).where(there))
        # Deleted by whoever comes first: the other one changes no row.
        if row is None or session.run(delete(ONE_TIME).where(there)) != 1:
            raise Refusal(Code.ADMIN_REQUIRED, "no such one-time secret: it was used, or never issued")
        if self._clock.now_us() >= row.expires_us:
            raise Refusal(Code.CREDENTIAL_EXPIRED, "this one-time secret has expired")
        return str(row.subject)
