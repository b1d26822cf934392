"""The gateway's own headers on an answer."""

from securellm.core.surfaces import Surface
from securellm.gateway.capabilities import Gates
from securellm.gateway.case import Case
from securellm.gateway.model import Headers
from securellm.gateway.ratelimits import rate_headers
from securellm.gateway.snapshot import Snapshot
from securellm.gateway.stages import Funded, Settled
from securellm.identity import Identity
from securellm.routing import PlannedAttempt


def rate_headers_of(identity: Identity, surface: Surface, snapshot: Snapshot, gates: Gates) -> Headers:
    tenant = snapshot.tenants.get(identity.tenant)
    if tenant is None:
        return ()
    remaining = gates.limits.remaining(
        tenant=tenant.id,
        key_id=identity.key_id,
        limits=tenant.rates,
        key_limits=snapshot.key_rates.get((tenant.id, identity.key_id)),
    )
    return rate_headers(remaining, surface, now_us=gates.clock.now_us())


def common_headers(case: Case, funded: Funded) -> Headers:
    headers = [(b"x-securellm-decision-id", case.decision_id.encode("ascii"))]
    if funded.reservation.cap_injected and funded.reservation.output_cap:
        headers.append((b"x-securellm-max-output", str(funded.reservation.output_cap).encode("ascii")))
    return tuple(headers)


def lane_headers(funded: Funded, target: PlannedAttempt) -> Headers:
    """In which dialect the provider was asked, where it is not the caller's, and what that had no place for."""
    if target.surface is funded.received.surface:
        return ()
    dropped = funded.routed.translations[target.surface].dropped
    translated = (b"x-securellm-translated", target.surface.encode("ascii"))
    return (
        (translated, (b"x-securellm-dropped", header_text(",".join(dropped), longest=1024)))
        if dropped
        else (translated,)
    )


def cost_header(settled: Settled) -> Headers:
    settlement = settled.settlement
    if not settlement.cost_known:
        return ()
    return ((b"x-securellm-cost-nanos", str(settlement.settled).encode("ascii")),)


_IN_A_HEADER = bytes(byte if 32 < byte < 127 else ord("?") for byte in range(256))


def header_text(text: str, *, longest: int = 128) -> bytes:
    """Text that is not ours, fit for a header."""
    return text.encode("ascii", "replace")[:longest].translate(_IN_A_HEADER)
