"""How fast: the keys of `limits` under a tenant and a provider."""

from typing import Annotated

import msgspec

from securellm.settings import Field


class TenantLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one tenant may do at most; an absent figure is no limit."""

    requests_per_minute: Annotated[int | None, Field(help="requests a minute, of all keys together", ge=1)] = None
    burst: Annotated[
        int | None, Field(help="requests that may come at once (default: a tenth of a minute's)", ge=1)
    ] = None
    tokens_per_minute: Annotated[int | None, Field(help="tokens a minute, prompt and answer together", ge=1)] = None
    parallel: Annotated[int | None, Field(help="requests in flight at the same time", ge=1)] = None


class ProviderLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What we send to one provider at most, whoever asks."""

    requests_per_minute: Annotated[int, Field(help="requests a minute sent to this provider", ge=1)]
    burst: Annotated[int | None, Field(help="requests that may go at once (default: a tenth of a minute's)", ge=1)] = (
        None
    )
