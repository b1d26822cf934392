"""What a yes is bound to: read from a policy's annotations, and put together of several."""

from collections.abc import Iterable, Mapping

from securellm.policy.model import REDACTABLE, UNBOUND, Effect, Obligations


def bound(obligations: Iterable[Obligations]) -> Obligations:
    """All of them together: every redaction, only the providers that each of them allows, the most approvals."""
    redact: frozenset[str] = frozenset()
    route: frozenset[str] | None = None
    approvals = 0
    for one in obligations:
        redact |= one.redact
        if one.route is not None:
            route = one.route if route is None else route & one.route
        approvals = max(approvals, one.approvals)
    if not redact and route is None and not approvals:
        return UNBOUND
    return Obligations(redact=redact, route=route, approvals=approvals)


def obligations_of(annotations: Mapping[str, str | None], *, effect: Effect) -> tuple[Obligations, tuple[str, ...]]:
    """What the annotations of one policy bind its permit to, and everything that is wrong with them."""
    problems = [f"unknown annotation @{name}" for name in sorted(annotations.keys() - ANNOTATIONS)]
    obliging = sorted(annotations.keys() & OBLIGING)
    if effect == "forbid" and obliging:
        problems.append(f"@{obliging[0]} on a forbid: only a permit can be bound to something")
    redact = _listed(annotations.get("redact") or "")
    if "redact" in annotations and (not redact or redact - REDACTABLE):
        problems.append(f"@redact names one or more of {', '.join(sorted(REDACTABLE))}")
    route = _listed(annotations.get("route") or "")
    if "route" in annotations and (not route or not all(map(is_name, route))):
        problems.append("@route names one or more ids of providers")
    approvals = annotations.get("require_approval", "0") or ""
    if not (approvals in APPROVALS or "require_approval" not in annotations):
        problems.append("@require_approval is a number of people, 1 to 8")
        approvals = "0"
    obliged = Obligations(redact=redact, route=route if "route" in annotations else None, approvals=int(approvals))
    return (UNBOUND if obliged == UNBOUND else obliged), tuple(problems)


OBLIGING = frozenset({"redact", "route", "require_approval"})
ANNOTATIONS = OBLIGING | {"id", "note"}
APPROVALS = frozenset("12345678")


def is_name(text: str) -> bool:
    """Whether it can be the id of a policy or a provider: at most 64 ASCII letters, digits and . _ -"""
    return 0 < len(text) <= 64 and text.isascii() and all(letter.isalnum() or letter in "._-" for letter in text)


def _listed(text: str) -> frozenset[str]:
    return frozenset(part.strip() for part in text.split(",")) - {""}
