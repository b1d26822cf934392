"""Logged-in people: a session is an opaque secret in a cookie, of which only a keyed digest is kept."""

import re
from typing import Any

import msgspec
from sqlalchemy import Row, delete, insert, select, update

from securellm.core.clock import Clock
from securellm.core.errors import Code, Refusal
from securellm.core.randomness import Randomness
from securellm.identity.people import User
from securellm.identity.rules import TOKEN_ENTROPY, digest_of, is_credential, token_of
from securellm.identity.tables import INSTALLATION, SESSIONS
from securellm.storage import Session

_SEEN_US = 60_000_000
"""By how much the moment a session was last seen may lag behind: a write for each request would be too much."""


class LoggedIn(msgspec.Struct, frozen=True, kw_only=True):
    """A session as it is kept."""

    digest: bytes
    principal: str
    issuer: str
    """The issuer that proved who they are."""
    groups: tuple[str, ...]
    """What the issuer said of them at login; roles follow from it by the configuration of now."""
    created_us: int
    seen_us: int


class Sessions:
    """The verbs, inside the caller's transaction."""

    def __init__(self, pepper: bytes, clock: Clock, randomness: Randomness, *, idle: float, life: float) -> None:
        """`idle` and `life` in seconds: the longest pause, and the longest time in all."""
        self._pepper = pepper
        self._clock = clock
        self._randomness = randomness
        self._idle_us = round(idle * 1_000_000)
        self.life = life
        self._life_us = round(life * 1_000_000)

    def open(self, session: Session, user: User, *, issuer: str, groups: tuple[str, ...]) -> str:
        """A new session; its secret is made here, whatever the browser presented before. Ended ones are cleared."""
        now_us = self._clock.now_us()
        session.run(
            delete(SESSIONS).where(
                (SESSIONS.c.created_us <= now_us - self._life_us) | (SESSIONS.c.seen_us <= now_us - self._idle_us)
            )
        )
        secret = token_of(self._randomness.token(TOKEN_ENTROPY), family="sls")
        session.run(
            insert(SESSIONS).values(
                digest=digest_of(secret, pepper=self._pepper),
                tenant=user.tenant or INSTALLATION,
                principal=user.principal,
                issuer=issuer,
                groups=groups,
                created_us=now_us,
                seen_us=now_us,
            )
        )
        return secret

    def recognise(self, session: Session, presented: str) -> LoggedIn:
        """Whose session it is. Raises `Refusal` (ADMIN_REQUIRED, CREDENTIAL_EXPIRED)."""
        row = None
        if is_credential(presented):
            digest = digest_of(presented, pepper=self._pepper)
            row = session.row(select(SESSIONS).where(SESSIONS.c.digest == digest))
        if row is None:
            raise Refusal(Code.ADMIN_REQUIRED, "there is no such session")
        logged_in = _logged_in(row)
        if self._has_ended(logged_in):
            raise Refusal(Code.CREDENTIAL_EXPIRED, "the session has ended")
        return logged_in

    def living(self, session: Session, principal: str) -> tuple[LoggedIn, ...]:
        """The sessions of a person that have not ended."""
        rows = session.rows(select(SESSIONS).where(SESSIONS.c.principal == principal).order_by(SESSIONS.c.created_us))
        return tuple(logged_in for logged_in in map(_logged_in, rows) if not self._has_ended(logged_in))

    def _has_ended(self, logged_in: LoggedIn) -> bool:
        now_us = self._clock.now_us()
        return now_us >= logged_in.created_us + self._life_us or now_us >= logged_in.seen_us + self._idle_us

    def is_due(self, logged_in: LoggedIn) -> bool:
        """Whether it is time to note that the session was seen."""
        return self._clock.now_us() - logged_in.seen_us >= min(_SEEN_US, self._idle_us // 4)

    def seen(self, session: Session, logged_in: LoggedIn) -> None:
        """Note that the session was used. One that was closed meanwhile stays closed."""
        session.run(update(SESSIONS).where(SESSIONS.c.digest == logged_in.digest).values(seen_us=self._clock.now_us()))

    def close(self, session: Session, presented: str) -> bool:
        """End a session for good; False when there was none."""
        if not is_credential(presented):
            return False
        return session.run(delete(SESSIONS).where(SESSIONS.c.digest == digest_of(presented, pepper=self._pepper))) > 0

    def close_all(self, session: Session, principal: str) -> int:
        """End every session of a person; how many."""
        return session.run(delete(SESSIONS).where(SESSIONS.c.principal == principal))


def _logged_in(row: Row[Any]) -> LoggedIn:
    return LoggedIn(
        digest=row.digest,
        principal=row.principal,
        issuer=row.issuer,
        groups=tuple(row.groups),
        created_us=row.created_us,
        seen_us=row.seen_us,
    )


# Cookies

_PAIR = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)=([!#-+\--:<-\[\]-~]*)", re.ASCII)


def session_cookie_name(*, secure: bool) -> str:
    """With TLS `__Host-…`, which no other host and no page without TLS can set; on loopback without it a plain name."""
    return "__Host-slb_session" if secure else "slb_session"


def set_cookie(name: str, value: str, *, secure: bool, seconds: int, lax: bool = False) -> str:
    """The value of a Set-Cookie header; with no `seconds` the cookie is taken away."""
    same_site = "Lax" if lax else "Strict"
    parts = [f"{name}={value}", "Path=/", f"Max-Age={seconds}", "HttpOnly", f"SameSite={same_site}"]
    return "; ".join([*parts, "Secure"] if secure else parts)


def read_cookie(header: str | None, name: str) -> str | None:
    """The value of a cookie; None when it is absent, or there twice: then somebody else has set one."""
    found = [
        match[2]
        for part in (header or "").split(";")
        if (match := _PAIR.fullmatch(part.strip(" \t"))) is not None and match[1] == name
    ]
    return found[0] if len(found) == 1 else None
