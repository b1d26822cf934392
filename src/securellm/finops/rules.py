"""The arithmetic of money: what a request can cost at most, what it did cost, and which budget it meets."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType

import msgspec

from securellm.core.batches import Load
from securellm.core.canonical import Canonical
from securellm.core.errors import Code, Refusal
from securellm.core.money import Nanos, cost_of
from securellm.core.usage import Usage
from securellm.finops.model import (
    BATCH,
    BUCKETS,
    PICTURE,
    Balance,
    Budget,
    BudgetLine,
    Correction,
    Estimate,
    LedgerState,
    Price,
    Quote,
    Rates,
    Reservation,
    Settlement,
)

PLAIN_TIERS = frozenset({"auto", "default", "standard", "standard_only", "flex", BATCH})
"""Service tiers that never cost more than the standard price."""

_DATE_SUFFIX = re.compile(r"_[0-9]{8}$")
_NO_TOOLS: Mapping[str, int] = MappingProxyType({})


def period_of(now_us: int) -> str:
    """The UTC month of an instant, such as "2026-11"."""
    return _month_of(now_us // 86_400_000_000)


@lru_cache(maxsize=8)
def _month_of(day: int) -> str:
    return datetime.fromtimestamp(day * 86_400, tz=UTC).strftime("%Y-%m")


def resolved(rates: Rates) -> dict[str, int | None]:
    """A price for each bucket, the ones left out by a value that is not below the true one.

    A cache read costs at most fresh input; a one-hour cache write twice the input; a five-minute one the dearest
    input-side price; reasoning is output. Audio and image tokens have no such bound: they stay None.
    """
    write_1h = rates.cache_write_1h
    if write_1h is None:
        write_1h = max(2 * rates.input, rates.cache_write_5m or 0)
    write_5m = rates.cache_write_5m
    if write_5m is None:
        write_5m = max(rates.input, rates.cache_read or 0, write_1h)
    return {
        "input": rates.input,
        "output": rates.output,
        "cache_read": rates.input if rates.cache_read is None else rates.cache_read,
        "cache_write_5m": write_5m,
        "cache_write_1h": write_1h,
        "reasoning": rates.output if rates.reasoning is None else rates.reasoning,
        "audio_input": rates.audio_input,
        "audio_output": rates.audio_output,
        "image_input": rates.image_input,
    }


def choose_cap(estimate: Estimate, default_max_output: int | None) -> tuple[int | None, bool]:
    """(the output cap to send, whether we chose it): the caller's own, else the model's default, else none."""
    if estimate.output_floor is not None:
        return None, False
    if estimate.output_cap is not None:
        return estimate.output_cap, False
    return default_max_output, default_max_output is not None


def tool_price(price: Price, tool: str) -> int | None:
    """Nanos for one use of a server tool; `web_search_20250305` is priced as `web_search`. None = unknown."""
    exact = price.server_tools.get(tool)
    return price.server_tools.get(_DATE_SUFFIX.sub("", tool)) if exact is None else exact


def unpriced_fields(estimate: Estimate, price: Price) -> tuple[str, ...]:
    """The fields of a request that can cost money and have no price or no bound."""
    fields = list(estimate.features)
    if estimate.audio_input or estimate.image_input or estimate.audio_output:
        every_length = [resolved(rates) for rates in (price, *price.long_context)]
        fields += [
            bucket
            for bucket, used in (
                ("audio_input", estimate.audio_input),
                ("image_input", estimate.image_input),
                ("audio_output", estimate.audio_output),
            )
            if used and any(rates[bucket] is None for rates in every_length)
        ]
    fields += [
        f"tools.{tool}"
        for tool, uses in estimate.server_tool_uses
        if uses is None or (uses and tool_price(price, tool) is None)
    ]
    if _tier_permille(price, estimate.service_tier) is None:
        fields.append("service_tier")
    return tuple(fields)


def worst_case(estimate: Estimate, price: Price) -> Nanos:
    """The most that one attempt can cost: a true upper bound as long as `estimate` is one.

    Raises:
        Refusal: UNPRICED_FEATURE naming the field that has no price or no bound; INVALID_REQUEST for a count
            below what its field can mean.
    """
    _refuse_negative(estimate)
    unpriced = unpriced_fields(estimate, price)
    if unpriced:
        raise _unpriced(unpriced[0], "has no price or no bound, and the budget is hard")
    if estimate.output_cap is None:
        raise _unpriced("max_tokens", "is missing and the model has no default_max_output, so its cost has no bound")
    uses = estimate.choices * sum(uses or 0 for _, uses in estimate.server_tool_uses)
    tokens = estimate.input_tokens
    reachable: list[Rates] = [price, *price.long_context]
    window = estimate.context_window or price.context_window
    if not (estimate.whole_context or uses):
        reachable = _reachable(price, tokens)
    elif window is not None:
        tokens = max(window, tokens) * (uses + 1)
        reachable = _reachable(price, tokens)
    elif any(_dearest_input(rates, estimate) for rates in reachable):
        raise _unpriced("context_window", "of the model is unknown, and the provider may fill it")
    dearest_input = max([_dearest_input(rates, estimate) for rates in reachable])
    dearest_output = max([_dearest_output(rates, estimate) for rates in reachable])
    picos = tokens * dearest_input + estimate.choices * estimate.output_cap * dearest_output
    permille = max(1_000, _tier_permille(price, estimate.service_tier) or 0)
    tools = estimate.choices * sum(
        uses * (tool_price(price, tool) or 0) for tool, uses in estimate.server_tool_uses if uses
    )
    pictures = estimate.pictures * (price.per_image or 0)
    return Nanos(_scaled(picos, permille) + price.per_request + pictures + tools)


def batch_worst_case(load: Load, price: Price) -> Nanos:
    """The most that a load can cost in a batch: at the price of batches where it is stated, else at the full price.

    Raises:
        Refusal: UNPRICED_FEATURE naming the field of its requests that has no price or no bound.
    """
    used = Estimate(
        input_tokens=load.longest_input,
        features=load.unpriced,
        whole_context="whole_context" in load.traits,
        audio_input="audio_input" in load.traits,
        image_input="image_input" in load.traits,
        audio_output="audio_output" in load.traits,
        cache_writes="cache_writes" in load.traits,
    )
    unpriced = unpriced_fields(used, price)
    if unpriced:
        raise _unpriced(unpriced[0], "has no price or no bound in a batch, and the budget is hard")
    if load.output_tokens is None:
        raise _unpriced("max_tokens", "is missing in a request of the batch, so its cost has no bound")
    reachable = _reachable(price, load.longest_input)
    picos = load.input_tokens * max(_dearest_input(rates, used) for rates in reachable)
    picos += load.output_tokens * max(_dearest_output(rates, used) for rates in reachable)
    # Each request is rounded up by itself when it is paid for.
    return Nanos(_scaled(picos, price.service_tiers.get(BATCH, 1_000)) + load.requests * (price.per_request + 1))


def batch_cost(usage: Usage, price: Price, *, tool_uses: Mapping[str, int] = _NO_TOOLS) -> Nanos | None:
    """What one request of a batch did cost; None where it used what has no price, or its counts cannot be true."""
    return request_cost(usage, price, service_tier=BATCH, tool_uses=tool_uses)


def request_cost(
    usage: Usage, price: Price, *, service_tier: str | None, tool_uses: Mapping[str, int] = _NO_TOOLS
) -> Nanos | None:
    """What one request did cost; None where it used what has no price, or its counts cannot be true."""
    if not plausible(usage, tool_uses) or unpriced(usage, price, service_tier=service_tier, tool_uses=tool_uses):
        return None
    return cost(usage, price, service_tier=service_tier, tool_uses=tool_uses)


def cost(
    usage: Usage, price: Price, *, service_tier: str | None = None, tool_uses: Mapping[str, int] = _NO_TOOLS
) -> Nanos:
    """What a call did cost: the exact sum in picos, rounded up once. What has no price adds nothing: see `unpriced`."""
    rates = resolved(_rates_at(price, usage.prompt_tokens))
    picos = sum([getattr(usage, bucket) * (rates[bucket] or 0) for bucket in BUCKETS])
    stated = _tier_permille(price, service_tier)
    permille = 1_000 if stated is None else stated
    tools = sum([uses * (_use_price(price, use) or 0) for use, uses in tool_uses.items()])
    return Nanos(_scaled(picos, permille) + price.per_request + tools)


def unpriced(
    usage: Usage, price: Price, *, service_tier: str | None = None, tool_uses: Mapping[str, int] = _NO_TOOLS
) -> tuple[str, ...]:
    """What a call consumed that `price` has no figure for."""
    rates = resolved(_rates_at(price, usage.prompt_tokens))
    names = [bucket for bucket in BUCKETS if getattr(usage, bucket) and rates[bucket] is None]
    names += [f"tools.{use}" for use, uses in tool_uses.items() if uses and _use_price(price, use) is None]
    if _tier_permille(price, service_tier) is None:
        names.append("service_tier")
    return tuple(names)


def counted_whole(price: Price | None, tool_uses: Mapping[str, int]) -> bool:
    """Whether the pictures that came are all there is to pay, so that no tokens need to be told."""
    return (
        price is not None
        and price.per_image is not None
        and tool_uses.get(PICTURE, 0) > 0
        and not any(rate for rates in (price, *price.long_context) for rate in resolved(rates).values())
    )


def plausible(usage: Usage, tool_uses: Mapping[str, int] = _NO_TOOLS) -> bool:
    """Whether the counts can be true at all: none below zero."""
    least: int = min(*msgspec.structs.astuple(usage), *tool_uses.values())
    return least >= 0


def funded_estimate(estimate: Estimate, quote: Quote) -> Estimate:
    """The estimate with the output cap that will be sent on this route, or what is reserved in the place of one."""
    if estimate.output_floor is not None:
        cap: int | None = max(estimate.output_floor, quote.default_max_output or 0)
    else:
        cap, _ = choose_cap(estimate, quote.default_max_output)
    return msgspec.structs.replace(estimate, output_cap=cap)


def intent_fields(reservation: Reservation) -> dict[str, Canonical]:
    """The money of an INTENT record, from which the ledger can be recomputed."""
    return {
        "request_id": reservation.request_id,
        "tenant": reservation.tenant,
        "period": reservation.period,
        "currency": reservation.currency,
        "hold": reservation.amount,
        "price_version": reservation.price_version,
    }


def attempt_fields(reservation: Reservation) -> dict[str, Canonical]:
    """The money of an ATTEMPT record: what the former hold leaves presumed, and the new hold."""
    return {
        "request_id": reservation.request_id,
        "presumed": reservation.carried,
        "hold": reservation.amount,
        "price_version": reservation.price_version,
    }


def outcome_fields(settlement: Settlement) -> dict[str, Canonical]:
    """The money of an OUTCOME record."""
    fields: dict[str, Canonical] = {
        "request_id": settlement.reservation.request_id,
        "settled": settlement.settled,
        "presumed": settlement.presumed,
        "cost_known": settlement.cost_known,
        "overrun": settlement.overrun,
    }
    if settlement.pledge is not None:
        fields |= {"provider": settlement.pledge.provider, "pledged": settlement.pledge.thing}
    return fields


def correction_fields(correction: Correction) -> dict[str, Canonical]:
    """The money of the `corrects` member of an OUTCOME record."""
    return {"request_id": correction.pledge.request_id, "settled": correction.settled}


def budget_report(
    state: LedgerState, budgets: Mapping[str, Budget], *, period: str | None = None
) -> tuple[BudgetLine, ...]:
    """One line for each tenant, month and currency with a budget or a movement; `period` keeps one month."""
    balances = {(b.tenant, b.period, b.currency): b for b in state.balances}
    holds: dict[tuple[str, str, str], list[int]] = {}
    for hold in state.holds:
        holds.setdefault((hold.tenant, hold.period, hold.currency), []).append(hold.amount)
    pledges: dict[tuple[str, str, str], list[int]] = {}
    for pledge in state.pledges:
        pledges.setdefault((pledge.tenant, pledge.period, pledge.currency), []).append(pledge.amount)
    keys = balances.keys() | holds.keys() | pledges.keys()
    if period is not None:
        keys |= {(tenant, period, budget.currency) for tenant, budget in budgets.items()}
    return tuple(
        _line(key, balances.get(key), holds.get(key, ()), pledges.get(key, ()), budgets.get(key[0]))
        for key in sorted(keys)
        if period is None or key[1] == period
    )


def _line(
    key: tuple[str, str, str],
    balance: Balance | None,
    held: Sequence[int],
    pledged: Sequence[int],
    budget: Budget | None,
) -> BudgetLine:
    tenant, period, currency = key
    settled, presumed, unknown = (balance.settled, balance.presumed, balance.unknown) if balance else (0, 0, 0)
    applies = budget is not None and budget.currency == currency
    limit = budget.limit if budget is not None and applies else None
    return BudgetLine(
        tenant=tenant,
        period=period,
        currency=currency,
        settled=settled,
        presumed=presumed,
        pledged=sum(pledged),
        held=sum(held),
        open_requests=len(held),
        open_batches=len(pledged),
        unknown=unknown,
        limit=limit,
        hard=budget is not None and applies and budget.hard,
        remaining=None if limit is None else limit - settled - presumed - sum(held),
    )


def _use_price(price: Price, use: str) -> int | None:
    """Nanos for what a reply says was used once. A picture without a price of its own costs its tokens, and no more."""
    return price.per_image or 0 if use == PICTURE else tool_price(price, use)


def _scaled(picos: int, permille: int) -> int:
    # Rounding up to picos and then to nanos is the same figure as rounding up once.
    return cost_of(-(-picos * permille // 1_000))


def _tier_permille(price: Price, service_tier: str | None) -> int | None:
    """None = a service tier whose price is unknown."""
    if service_tier is None:
        return 1_000
    stated = price.service_tiers.get(service_tier)
    return 1_000 if stated is None and service_tier in PLAIN_TIERS else stated


def _rates_at(price: Price, prompt_tokens: int) -> Rates:
    """The rates of a call with a prompt of that length: the last tier it is above decides for all its tokens."""
    if not price.long_context:
        return price
    return next((tier for tier in reversed(price.long_context) if prompt_tokens > tier.above_tokens), price)


def _reachable(price: Price, tokens: int) -> list[Rates]:
    """The rates that a call with so many tokens in its prompt, or fewer, can meet."""
    return [price, *[tier for tier in price.long_context if tier.above_tokens < tokens]]


def _dearest_input(rates: Rates, estimate: Estimate) -> int:
    prices = resolved(rates)
    possible = [prices["input"], prices["cache_read"]]
    # A stated write price may be billed unasked (automatic caching); an unstated one only where writes are asked for.
    possible += [rates.cache_write_5m, rates.cache_write_1h]
    if estimate.cache_writes:
        possible += [prices["cache_write_5m"], prices["cache_write_1h"]]
    if estimate.audio_input or estimate.whole_context:
        possible.append(prices["audio_input"])
    if estimate.image_input or estimate.whole_context:
        possible.append(prices["image_input"])
    return max([price for price in possible if price is not None])


def _dearest_output(rates: Rates, estimate: Estimate) -> int:
    prices = resolved(rates)
    possible = [prices["output"], prices["reasoning"]]
    if estimate.audio_output:
        possible.append(prices["audio_output"])
    return max([price for price in possible if price is not None])


def _unpriced(field: str, why: str) -> Refusal:
    # What a tool calls itself is the caller's own text: the caller is told, no record is.
    named = "a server tool" if field.startswith("tools.") else field
    return Refusal(Code.UNPRICED_FEATURE, f"{named} {why}", param=field)


def _refuse_negative(estimate: Estimate) -> None:
    counts = {
        "input": estimate.input_tokens,
        "max_tokens": estimate.output_cap or 0,
        "n": min(estimate.choices - 1, estimate.pictures),
        "context_window": estimate.context_window or 0,
        "tools": min((uses or 0 for _, uses in estimate.server_tool_uses), default=0),
    }
    for field, count in counts.items():
        if count < 0:
            raise Refusal(Code.INVALID_REQUEST, f"{field} is below what it can mean", param=field)
