"""How fast: the keys of `limits` under a tenant and a provider."""

from typing import Annotated, Literal

import msgspec

from securellm.limits.model import Rate, TenantRates
from securellm.settings import Field
from securellm.settings.fields import ID_PATTERN, ID_SHAPE


class TenantLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one tenant may do at most; an absent figure is no limit."""

    requests_per_minute: Annotated[int | None, Field(help="requests a minute, of all keys together", ge=1)] = None
    burst: Annotated[int | None, Field(help="requests that may come at once (default: a minute's)", ge=1)] = None
    tokens_per_minute: Annotated[
        int | None, Field(help="tokens a minute, prompt and answer together; a minute's may come at once", ge=1)
    ] = None
    parallel: Annotated[int | None, Field(help="requests in flight at the same time", ge=1)] = None

    def rates(self) -> TenantRates:
        """The same figures as the limiter wants them. `burst` alone limits nothing."""
        requests, tokens = self.requests_per_minute, self.tokens_per_minute
        return TenantRates(
            requests=None if requests is None else Rate(per_minute=requests, burst=self.burst or requests),
            tokens=None if tokens is None else Rate(per_minute=tokens, burst=tokens),
            parallel=self.parallel,
        )


class StoredLimits(TenantLimits, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits that are not declared in the file: whose they are, and how fast those may ask."""

    scope: Annotated[Literal["tenant", "project", "key", "user"], Field(help="what kind of caller they bound")]
    target: Annotated[str, Field(help="id of the caller", pattern=ID_PATTERN, shape=ID_SHAPE)]


class ProviderLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What we send to one provider at most, whoever asks."""

    requests_per_minute: Annotated[int, Field(help="requests a minute sent to this provider", ge=1)]
    burst: Annotated[int | None, Field(help="requests that may go at once (default: a minute's)", ge=1)] = None

    def rate(self) -> Rate:
        """The same figures as the limiter wants them."""
        return Rate(per_minute=self.requests_per_minute, burst=self.burst or self.requests_per_minute)
