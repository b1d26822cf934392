"""Lists of what is kept, as each family of SDKs asks for a page and reads it."""

import json

from securellm.core.errors import Code, Fault
from securellm.core.surfaces import Manner
from securellm.gateway.listing import MOST, Page, Wanted
from securellm.ingress.query import Query
from securellm.providers import Errand

_USUAL = 20


def wanted(errand: Errand, manner: Manner, query: Query) -> Wanted:
    """Which page is meant. Raises Refusal(INVALID_REQUEST)."""
    if errand.kind is None:
        raise Fault(Code.INTERNAL, f"{errand.name} lists nothing")
    if manner is Manner.ANTHROPIC:
        size = query.count("limit", default=_USUAL, largest=1_000)
        return Wanted(errand.kind, min(size, MOST), query.one("after_id"), query.one("before_id"))
    size = query.count("limit", default=_USUAL, largest=10_000)
    purpose = query.one("purpose")
    return Wanted(
        errand.kind,
        min(size, MOST),
        query.one("after"),
        oldest_first=query.one("order") == "asc",
        only={} if not purpose else {"purpose": purpose},
    )


def written(page: Page, manner: Manner) -> bytes:
    """The page in the caller's words; each thing stands in it as it was answered."""
    first, last = (page.things[0][0], page.things[-1][0]) if page.things else (None, None)
    ends = f'"first_id":{json.dumps(first)},"last_id":{json.dumps(last)},"has_more":{json.dumps(page.more)}'
    data = b",".join(body for _, body in page.things)
    opening = b'{"data":[' if manner is Manner.ANTHROPIC else b'{"object":"list","data":['
    return opening + data + b"]," + ends.encode("ascii") + b"}"
