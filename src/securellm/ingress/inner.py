"""The requests of a batch, one by one: each is read as if it had come alone."""

from collections.abc import Callable, Iterable, Mapping

import msgspec

from securellm.core.document import Document
from securellm.core.errors import Code, Refusal
from securellm.core.messages import Leaf, Role
from securellm.core.surfaces import Surface
from securellm.custody import keepable
from securellm.gateway.model import Inner, Request
from securellm.ingress import facts

Extract = Callable[[Document, Mapping[str, str]], Request]

MOST = 10_000
"""Requests of one batch."""

_PLAIN_TIERS = ("auto", "default", "standard_only")


def read_inner(
    document: Document,
    member: str,
    extract: Extract,
    headers: Mapping[str, str],
    *,
    place: str,
    first: int,
    constants: Mapping[str, str],
) -> Inner:
    """One request, which stands under `member` of an object with a `custom_id`, these constants and nothing else.

    Raises Refusal whose reason begins with `place`.
    """
    try:
        members = document.members()
        for name in members:
            if name not in ("custom_id", member, *constants):
                raise Refusal(Code.UNSUPPORTED_FIELD, f"{name[:64]!r} is no member of a request in a batch")
        for name, due in constants.items():
            if members.get(name) != due:
                raise Refusal(Code.INVALID_REQUEST, f"{name} must be {due}, as everywhere in this batch")
        custom_id = facts.text(members, "custom_id")
        if not keepable(custom_id):
            raise Refusal(Code.INVALID_REQUEST, "custom_id must be 1 to 256 printable ASCII characters without spaces")
        asked = members.get(member)
        if not isinstance(asked, dict):
            raise Refusal(Code.INVALID_REQUEST, f"{member} must be an object")
        request = extract(document.part(document.span((member,)), asked), headers)
        if not request.model:
            raise Refusal(Code.INVALID_REQUEST, "model is missing")
        if request.stream:
            raise Refusal(Code.UNSUPPORTED_FIELD, "stream cannot be asked for in a batch")
        if request.estimate.service_tier not in (None, *_PLAIN_TIERS):
            raise Refusal(Code.UNSUPPORTED_FIELD, "service_tier is that of batches and cannot be another")
    except Refusal as refusal:
        raise at_place(refusal, place) from None
    return Inner(place=place, custom_id=custom_id, document=document, member=member, request=request, first=first)


def at_place(refusal: Refusal, place: str) -> Refusal:
    """The refusal, saying of which request of the batch it is."""
    named = refusal.param
    reason = refusal.reason if named is None or named in refusal.reason else f"{named}: {refusal.reason}"
    return Refusal(refusal.code, f"{place}: {reason}", param=place)


def leaves_of(inner: Inner) -> tuple[Leaf, ...]:
    """What there is to screen of it."""
    return (Leaf(("custom_id",), inner.custom_id, Role.DATA), *inner.request.leaves)


def refuse_doubles(inner: Iterable[Inner]) -> None:
    """Answers are told apart by `custom_id` alone. Raises Refusal(INVALID_REQUEST)."""
    seen: dict[str, str] = {}
    for one in inner:
        former = seen.setdefault(one.custom_id, one.place)
        if former != one.place:
            raise Refusal(Code.INVALID_REQUEST, f"{one.place}: custom_id is that of {former} too", param=one.place)


def carrying(request: Request, inner: tuple[Inner, ...], *, speaks: Surface) -> Request:
    """`request` as the carrier of these, which speak one surface; their leaves follow its own."""
    if not inner:
        raise Refusal(Code.INVALID_REQUEST, "a batch needs one request at least")
    refuse_doubles(inner)
    histories = dict.fromkeys(name for one in inner for name in one.request.histories)
    mentions = dict.fromkeys(name for one in inner for name in one.request.mentions)
    return msgspec.structs.replace(
        request,
        inner=inner,
        speaks=speaks,
        leaves=(*request.leaves, *(leaf for one in inner for leaf in leaves_of(one))),
        message_count=len(inner),
        images=0,
        histories=(*request.histories, *histories),
        mentions=tuple(mentions),
    )
