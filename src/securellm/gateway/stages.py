"""The types that link the gates: stage n is stage n-1 and the proof that gate n alone can mint.

The provider call takes only `Funded`. Skipping a gate or changing the order is a type error to mypy, and a
`Fault` at run time when a gate hands back anything but its own proof.
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from securellm.core.errors import Code, Fault
from securellm.core.surfaces import Surface
from securellm.finops import Reservation, Settlement
from securellm.gateway.model import Received, Request
from securellm.guard import Screening
from securellm.identity import Identity
from securellm.limits import Admission
from securellm.policy import Permit
from securellm.providers import Translated
from securellm.routing import Plan


def _prove(proof: object, expected: type) -> None:
    if type(proof) is not expected:
        raise Fault(Code.GATE_FAILED, f"a gate returned {type(proof).__name__} where {expected.__name__} was due")


class Identified(msgspec.Struct, frozen=True):
    """We know who asks."""

    received: Received
    identity: Identity

    def __post_init__(self) -> None:
        _prove(self.received, Received)
        _prove(self.identity, Identity)


class Permitted(msgspec.Struct, frozen=True):
    """They may ask this."""

    identified: Identified
    request: Request
    permit: Permit

    def __post_init__(self) -> None:
        _prove(self.identified, Identified)
        _prove(self.request, Request)
        _prove(self.permit, Permit)


class Admitted(msgspec.Struct, frozen=True):
    """They may ask it now."""

    permitted: Permitted
    admission: Admission

    def __post_init__(self) -> None:
        _prove(self.permitted, Permitted)
        _prove(self.admission, Admission)


class Screened(msgspec.Struct, frozen=True):
    """What they ask is safe to send, as changed by the screening."""

    admitted: Admitted
    screening: Screening

    def __post_init__(self) -> None:
        _prove(self.admitted, Admitted)
        _prove(self.screening, Screening)
        if self.admitted.permitted.permit.awaits_guard:
            raise Fault(Code.GATE_FAILED, "the policy was not asked about what screening found")


class Routed(msgspec.Struct, frozen=True):
    """We know where to send it, and what to say there."""

    screened: Screened
    plan: Plan
    translations: Mapping[Surface, Translated] = MappingProxyType({})
    """The request in the other dialects that the plan speaks."""

    def __post_init__(self) -> None:
        _prove(self.screened, Screened)
        _prove(self.plan, Plan)
        spoken = self.screened.admitted.permitted.identified.received.surface
        if any(attempt.surface not in (spoken, *self.translations) for attempt in self.plan.attempts):
            raise Fault(Code.GATE_FAILED, "the plan speaks a dialect that the request was not translated into")


class Recorded(msgspec.Struct, frozen=True):
    """Proof that a record of this request is durable. Only the journal makes one, and only after the commit."""

    request_id: str


class Funded(msgspec.Struct, frozen=True):
    """Its dearest attempt is paid for, and the record that says so is durable."""

    routed: Routed
    reservation: Reservation
    recorded: Recorded

    def __post_init__(self) -> None:
        _prove(self.routed, Routed)
        _prove(self.reservation, Reservation)
        _prove(self.recorded, Recorded)
        if not self.received.request_id == self.reservation.request_id == self.recorded.request_id:
            raise Fault(Code.GATE_FAILED, "the reservation or the record is another request's")

    @property
    def received(self) -> Received:
        return self.routed.screened.admitted.permitted.identified.received

    @property
    def request(self) -> Request:
        return self.routed.screened.admitted.permitted.request


class Settled(msgspec.Struct, frozen=True):
    """It is paid, and the record that says so is durable: the last bytes may leave."""

    funded: Funded
    settlement: Settlement
    recorded: Recorded

    def __post_init__(self) -> None:
        _prove(self.funded, Funded)
        _prove(self.settlement, Settlement)
        _prove(self.recorded, Recorded)
