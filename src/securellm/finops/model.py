"""The nouns of money: prices, estimates, budgets, reservations, settlements and what the ledger holds."""

from typing import NamedTuple

import msgspec

from securellm.core.money import ZERO, Nanos

MAX_AMOUNT = Nanos(10**15)
"""No single request holds or settles more (a million currency units): beyond it a figure is a mistake or an attack."""


MOST_IN_A_MONTH = Nanos(8 * 10**18)
"""What a tenant's month may come to: what is more could not be added up in 64 bits, and would stop the ledger for
everybody."""


class Rates(msgspec.Struct, frozen=True, kw_only=True):
    """Picos a token for each bucket of `core.usage.Usage`; None = not stated, see `rules.resolved`."""

    input: int
    output: int
    cache_read: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None
    image_input: int | None = None

    def __post_init__(self) -> None:
        for name in BUCKETS:
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"the {name} price is negative")


BUCKETS = Rates.__struct_fields__
"""The names of the usage buckets, each of which a price is given for."""

BATCH = "batch"
"""The service tier of what is asked in a batch."""

PICTURE = "picture drawn"
"""The name under which a reply's pictures are counted among the uses of the provider's tools."""


class LongContext(Rates, frozen=True, kw_only=True):
    """The rates of *all* tokens of a call whose prompt is longer than `above_tokens`."""

    above_tokens: int


class Price(Rates, frozen=True, kw_only=True):
    """What one model costs at one provider."""

    currency: str = "USD"
    """Empty where nothing costs anything, in whatever currency."""
    long_context: tuple[LongContext, ...] = ()
    """In rising order of `above_tokens`."""
    per_request: int = 0
    """Nanos for each call, beside its tokens."""
    per_image: int | None = None
    """Nanos for each picture drawn, beside its tokens; None = pictures cost their tokens."""
    server_tools: dict[str, int] = {}
    """Nanos for each use of a tool that the provider runs, by its name without a date suffix."""
    service_tiers: dict[str, int] = {}
    """Permille of the token prices that a `service_tier` costs; 2000 = twice."""
    context_window: int | None = None
    """Tokens the model takes in, where the source of the price says so."""


NOTHING = Price(input=0, output=0, currency="")
"""The price of what no provider bills."""


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """One route of the plan and what it costs; `route` names it in refusals and suspensions, as `provider/model`."""

    route: str
    price: Price | None
    price_version: str = ""
    default_max_output: int | None = None
    """The output cap to set when the caller sets none."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """The most that a request can consume, as far as the request itself says."""

    input_tokens: int
    """An upper bound: UTF-8 bytes where nothing better is known (a token covers at least one byte)."""
    output_cap: int | None = None
    """The caller's cap on one choice, reasoning included; 0 where the surface has no output."""
    output_floor: int | None = None
    """Set where the surface has no member that caps its output: then none is sent, and so many tokens of one choice
    are reserved, or the model's `default_max_output` if that is more."""
    choices: int = 1
    pictures: int = 0
    """The most pictures drawn, all choices together."""
    whole_context: bool = False
    """The provider adds what we do not see (server-side history, files, remote images): reserve the whole window."""
    context_window: int | None = None
    features: tuple[str, ...] = ()
    """Fields that cost money in a way no price here covers."""
    server_tool_uses: tuple[tuple[str, int | None], ...] = ()
    """(tool, most uses) of the tools that the provider runs; None = unbounded."""
    service_tier: str | None = None
    audio_input: bool = False
    image_input: bool = False
    audio_output: bool = False
    cache_writes: bool = True
    """False where the request asks for no cache writes: then only a price that states them reserves for them."""


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What a tenant may spend in a UTC calendar month. A soft budget is watched, a hard one is enforced."""

    limit: Nanos
    currency: str = "USD"
    hard: bool = True


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """Proof that the dearest single attempt of a request is paid for. Only `Finops` makes one."""

    request_id: str
    tenant: str
    period: str
    """The UTC month that pays, such as "2026-11", also when the request ends in the next one."""
    currency: str
    amount: Nanos
    """The live hold: 0 without a budget or without a known price."""
    route: str = ""
    price: Price | None = None
    price_version: str = ""
    estimate: Estimate | None = None
    """None only for a hold found at start-up."""
    output_cap: int | None = None
    """The cap to send upstream; None = send none."""
    cap_injected: bool = False
    """The caller set no cap and the model's `default_max_output` was set: say so in a header."""
    limit: Nanos | None = None
    """The hard budget that the hold counts against; None = not enforced."""
    watched: bool = False
    """A budget, hard or soft, is set."""
    bounded: bool = False
    """`amount` is a true upper bound of the route's cost."""
    priced: bool = False
    """Everything the request can consume has a price; False = its cost will be recorded as unknown."""
    attempt: int = 1
    former: Nanos = ZERO
    """The hold of the attempt before this one."""
    carried: Nanos = ZERO
    """The part of `former` that stays presumed spent."""


class Pledge(NamedTuple):
    """Money that stays presumed spent for what a provider goes on doing after its request has ended: a batch."""

    request_id: str
    """The request that began it, and that held the money."""
    tenant: str
    period: str
    currency: str
    amount: int
    """Nanos; 0 where nothing was held, so that it has no bound."""
    provider: str
    thing: str
    """The provider's id of the batch."""


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """How a reservation ends: what is spent, what is presumed spent; the rest of the hold returns."""

    reservation: Reservation
    settled: Nanos
    presumed: Nanos
    cost_known: bool
    """False = the provider may have billed something that these figures do not contain."""
    overrun: Nanos = ZERO
    """What the provider billed above a true upper bound: charged, and the route is suspended under a hard budget."""
    pledge: Pledge | None = None
    """Set: all of `presumed` waits for the true cost of what the provider goes on with."""


class Correction(msgspec.Struct, frozen=True, kw_only=True):
    """The true cost of what a pledge stands for; what it did not cost returns. Only `Finops` makes one."""

    pledge: Pledge
    settled: Nanos
    overrun: Nanos = ZERO
    """What was billed above the upper bound that was pledged."""


class Balance(NamedTuple):
    """What one tenant's month stands at, in nanos; `unknown` counts the requests whose cost is not known."""

    tenant: str
    period: str
    currency: str
    settled: int
    presumed: int
    unknown: int


class Hold(NamedTuple):
    """One request that is on its way."""

    request_id: str
    tenant: str
    period: str
    currency: str
    amount: int


class LedgerState(NamedTuple):
    """What a start needs of the ledger: its totals and what is open, never its history."""

    balances: tuple[Balance, ...] = ()
    holds: tuple[Hold, ...] = ()
    pledges: tuple[Pledge, ...] = ()


class BudgetLine(msgspec.Struct, frozen=True, kw_only=True):
    """One tenant's month against its budget, in nanos."""

    tenant: str
    period: str
    currency: str
    settled: int
    presumed: int
    pledged: int
    """The part of `presumed` that waits for the true cost of batches."""
    held: int
    open_requests: int
    open_batches: int
    unknown: int
    """Requests whose true cost is not known; what was held for them stands in `presumed`."""
    limit: int | None
    hard: bool
    remaining: int | None
    """`limit - settled - presumed - held`, below zero after an overrun; None without a budget."""
