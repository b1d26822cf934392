"""What it may cost: the keys of `budget`, `price` and `[finops]`."""

from typing import Annotated, Literal

import msgspec

from securellm.settings import Amount, Field, Permille, PricePerMillion, Seconds
from securellm.settings.fields import ID_PATTERN, ID_SHAPE


class BudgetSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one tenant may spend."""

    month: Annotated[Amount, Field(help="spend of one calendar month (UTC)")]
    hard: Annotated[bool, Field(help="refuse what could exceed it; false only counts")] = True


class StoredBudget(BudgetSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A budget that is not declared in the file: whose it is, and what they may spend."""

    scope: Annotated[Literal["tenant", "project", "key", "user"], Field(help="what kind of spender it bounds")]
    target: Annotated[str, Field(help="id of the spender", pattern=ID_PATTERN, shape=ID_SHAPE)]


class PriceSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An overlay of the price book for one model. An absent figure keeps the price book's."""

    input_per_million: Annotated[PricePerMillion | None, Field(help="fresh input tokens")] = None
    output_per_million: Annotated[PricePerMillion | None, Field(help="output tokens")] = None
    cache_read_per_million: Annotated[PricePerMillion | None, Field(help="input tokens read from a prompt cache")] = (
        None
    )
    cache_write_per_million: Annotated[
        PricePerMillion | None, Field(help="input tokens written to a prompt cache for minutes")
    ] = None
    cache_write_1h_per_million: Annotated[
        PricePerMillion | None, Field(help="input tokens written to a prompt cache for an hour")
    ] = None
    reasoning_per_million: Annotated[
        PricePerMillion | None, Field(help="reasoning tokens, where they are not priced as output")
    ] = None
    audio_input_per_million: Annotated[PricePerMillion | None, Field(help="audio input tokens")] = None
    audio_output_per_million: Annotated[PricePerMillion | None, Field(help="audio output tokens")] = None
    image_input_per_million: Annotated[PricePerMillion | None, Field(help="image input tokens")] = None
    per_request: Annotated[Amount | None, Field(help="fee of each request")] = None
    per_image: Annotated[
        Amount | None, Field(help="fee of each picture drawn, where pictures are not paid by their tokens alone")
    ] = None
    server_tools: Annotated[
        dict[str, Amount], Field(help="fee of each use of a tool the provider runs, by the tool's name")
    ] = msgspec.field(default_factory=dict)
    tiers: Annotated[
        dict[str, Permille], Field(help="multiplier of every price for a `service_tier`, such as `priority`")
    ] = msgspec.field(default_factory=dict)


class FinopsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Reservations."""

    reservation_wait: Annotated[
        Seconds,
        Field(help="longest wait for money that other requests hold and may give back", ge=0, le=600),
    ] = Seconds(30.0)
