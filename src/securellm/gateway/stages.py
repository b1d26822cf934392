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


def _prove(*proofs: object, due: tuple[type, ...]) -> None:
    if tuple(map(type, proofs)) != due:
        found, expected = next(
            (type(proof), each) for proof, each in zip(proofs, due, strict=True) if type(proof) is not each
        )
        raise Fault(Code.GATE_FAILED, f"a gate returned {found.__name__} where {expected.__name__} was due")


class Identified(msgspec.Struct, frozen=True):
    """We know who asks."""

    received: Received
    identity: Identity

    def __post_init__(self) -> None:
        _prove(self.received, self.identity, due=(Received, Identity))


class Permitted(msgspec.Struct, frozen=True):
    """They may ask this."""

    identified: Identified
    request: Request
    permit: Permit

    def __post_init__(self) -> None:
        _prove(self.identified, self.request, self.permit, due=(Identified, Request, Permit))


class Admitted(msgspec.Struct, frozen=True):
    """They may ask it now."""

    permitted: Permitted
    admission: Admission

    def __post_init__(self) -> None:
        _prove(self.permitted, self.admission, due=(Permitted, Admission))


class Screened(msgspec.Struct, frozen=True):
    """What they ask is safe to send, as changed by the screening."""

    admitted: Admitted
    screening: Screening

    def __post_init__(self) -> None:
        _prove(self.admitted, self.screening, due=(Admitted, Screening))
        if self.admitted.permitted.permit.awaits_guard:
            raise Fault(Code.GATE_FAILED, "the policy was not asked about what screening found")


class Routed(msgspec.Struct, frozen=True):
    """We know where to send it, and what to say there."""

    screened: Screened
    plan: Plan
    translations: Mapping[Surface, Translated] = MappingProxyType({})
    """The request in the other dialects that the plan speaks."""

    def __post_init__(self) -> None:
        _prove(self.screened, self.plan, due=(Screened, Plan))
        spoken = self.screened.admitted.permitted.identified.received.surface
        if not {attempt.surface for attempt in self.plan.attempts} - {spoken} <= self.translations.keys():
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
        _prove(self.routed, self.reservation, self.recorded, due=(Routed, Reservation, Recorded))
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
        _prove(self.funded, self.settlement, self.recorded, due=(Funded, Settlement, Recorded))
