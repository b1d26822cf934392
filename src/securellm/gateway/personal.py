"""Who keeps preferences here, and requests that are answered as their person has stated."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from securellm.core.document import Document, Patch
from securellm.core.errors import Code, Fault, GatewayError, Refusal
from securellm.core.messages import Leaf, Role
from securellm.core.surfaces import Surface
from securellm.gateway.capabilities import Gates
from securellm.gateway.case import Case
from securellm.gateway.closing import cause_of
from securellm.gateway.completion import recognise
from securellm.gateway.model import Received
from securellm.gateway.snapshot import TenantFacts
from securellm.guard import Screening
from securellm.identity import Identity
from securellm.limits import TenantRates
from securellm.preferences import Memory, Origin, Person, Preferences

PREFERENCES = "preferences"
"""The edit by which a person's preferences are written into a request, in the closed list of changes."""

_SYSTEM = ("system", "developer")
_DEPTH = 10_000
"""Levels of nesting: the body was bounded when it came, and nothing of ours is deeper."""


class Visitor(NamedTuple):
    """Somebody who looks at or changes what is kept of them."""

    person: Person
    origin: Origin
    tenant: TenantFacts
    rates: TenantRates | None
    """The limits of their key alone."""
    decision_id: str


@asynccontextmanager
async def visiting(received: Received, gates: Gates) -> AsyncIterator[Visitor]:
    """Let in whoever may ask a model in a conversation, within their limits. A refusal is recorded as any other."""
    case = Case(received, gates.clock)
    try:
        visitor = await _let_in(received, gates, case)
        identity = case.identity
        assert identity is not None
        admission = await gates.ask(
            "limits",
            gates.limits.admit(
                tenant=visitor.tenant.id,
                key_id=identity.key_id,
                limits=visitor.tenant.rates,
                key_limits=visitor.rates,
                tokens=0,
            ),
        )
        try:
            yield visitor
        finally:
            gates.limits.release(admission)
    except GatewayError as error:
        if case.identity is not None:
            error.decision_id = error.decision_id or case.decision_id
        await gates.journal.deny(case, error)
        raise
    except BaseException as error:
        gates.journal.afterwards(gates.journal.deny(case, cause_of(error, case)))
        raise


async def _let_in(received: Received, gates: Gates, case: Case) -> Visitor:
    snapshot = gates.snapshots.read()
    identity = await recognise(gates, snapshot, received.credential, received.client_ip)
    case.identity = identity
    tenant = snapshot.tenants.get(identity.tenant)
    if tenant is None:
        raise Refusal(Code.INVALID_KEY, "the key's tenant does not exist any more")
    ended = gates.running.ended(identity)
    if ended is not None:
        raise ended()
    if identity.surfaces and Surface.CHAT not in identity.surfaces:
        raise Refusal(Code.SURFACE_NOT_ALLOWED, f"the virtual key is not scoped to {Surface.CHAT}")
    origin = Origin(identity.principal, received.request_id, received.client_ip)
    rates = snapshot.key_rates.get((tenant.id, identity.key_id))
    return Visitor(person_of(identity), origin, tenant, rates, case.decision_id)


def person_of(identity: Identity) -> Person:
    """Whose preferences a caller's are: the user's whom the key was issued for, else the service's or the key's own."""
    return Person(identity.tenant, identity.principal if identity.user is None else f"user:{identity.user}")


async def known_of(received: Received, gates: Gates) -> tuple[Preferences, tuple[Memory, ...]]:
    """All that a model may be told of who asks, inside the story that has let them in."""
    identity = await recognise(gates, gates.snapshots.read(), received.credential, received.client_ip)
    known = await gates.ask("preferences", gates.preferences.known(person_of(identity)))
    if type(known) is not tuple:
        raise Fault(Code.GATE_FAILED, "the preferences returned something else than what is known")
    return known


async def screened(texts: Sequence[str], visitor: Visitor, gates: Gates) -> tuple[str, ...]:
    """Texts that are to be kept, as the tenant's guard lets prompts pass: what it cuts out of them is not kept.

    Raises Refusal (GUARD_BLOCKED): kept, it would block each request that is told of it.
    """
    leaves = [Leaf((str(index),), text, Role.USER) for index, text in enumerate(texts)]
    screening = await gates.ask(
        "guard",
        gates.guard.screen_prompt(visitor.tenant.guard, leaves, decision_id=visitor.decision_id),
        code=Code.GUARD_UNAVAILABLE,
    )
    if type(screening) is not Screening:
        raise Fault(Code.GATE_FAILED, "the guard returned something else than a screening")
    kept = list(texts)
    for cut in reversed(screening.replacements):
        text = kept[cut.leaf]
        kept[cut.leaf] = text[: cut.start] + cut.text + text[cut.end :]
    return tuple(kept)


def told(document: Document, instruction: str) -> Document:
    """A chat completion's body with the instruction before all that its caller says.

    It joins the caller's own system message where that comes first: many models take one alone, at the beginning.
    """
    messages = document.members().get("messages")
    if not isinstance(messages, list):
        return document  # Which whoever reads it next refuses.
    first = messages[0] if messages else None
    if isinstance(first, dict) and first.get("role") in _SYSTEM and isinstance(first.get("content"), str):
        patch = Patch(document)
        patch.replace_in_string(("messages", 0, "content"), 0, 0, f"{instruction}\n\n")
        return Document(patch.apply(), max_depth=_DEPTH)
    start, _ = document.span(("messages",))
    said = json.dumps({"role": "system", "content": instruction}, ensure_ascii=False)
    text = f"{document.text[: start + 1]}{said}{',' if messages else ''}{document.text[start + 1 :]}"
    return Document(text.encode("utf-8"), max_depth=_DEPTH)


def conversation(text: str, *, model: str, instruction: str) -> Document:
    """A chat completion that says `text`; an empty model is the default."""
    messages = [{"role": "system", "content": instruction}] if instruction else []
    body: dict[str, object] = {"model": model} if model else {}
    body["messages"] = [*messages, {"role": "user", "content": text}]
    return Document(json.dumps(body, ensure_ascii=False).encode("utf-8"))
