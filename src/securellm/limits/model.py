"""The nouns of limits: rates, what is left of them, and the proof that a request was let in."""

import msgspec


class Rate(msgspec.Struct, frozen=True, kw_only=True):
    """So many a minute, `burst` of them at once. Both at least 1."""

    per_minute: int
    burst: int

    def __post_init__(self) -> None:
        if self.per_minute < 1 or self.burst < 1:
            raise ValueError("a rate and its burst are at least 1; to allow nothing, revoke the key")


class TenantRates(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one tenant, or of one key. None is no limit of that sort."""

    requests: Rate | None = None
    tokens: Rate | None = None
    parallel: int | None = None


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """Proof that the limits let a request in. Holds its parallel lease until released."""

    lease: int
    tenant: str
    key_id: str
    tokens: int
    """Tokens charged in advance."""


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one rate: of `limit` a minute, `remaining` pass at once now; all will in `reset` seconds."""

    limit: int
    remaining: int
    reset: float


class Remaining(msgspec.Struct, frozen=True, kw_only=True):
    """What is left to a caller; the tighter of tenant and key. None is no limit."""

    requests: Window | None
    tokens: Window | None
