"""Batches, as a client begins them: OpenAI's from a file, Anthropic's with its requests in the body."""

import msgspec

from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.gateway.model import Inner, Request
from securellm.ingress import facts, messages
from securellm.ingress.errands import Sent, asked
from securellm.ingress.files import ENDPOINTS
from securellm.ingress.inner import MOST, carrying, read_inner
from securellm.ingress.leaves import Shape, collect

_SHAPE = Shape(
    names=frozenset(
        {
            "input_file_id", "endpoint", "completion_window", "metadata", "output_expires_after", "anchor", "seconds",
        }
    ),
    ids=frozenset({("input_file_id",)}),
    media=frozenset(),
    numbers=frozenset({"seconds"}),
    system=frozenset(),
)  # fmt: skip


def read_batch(sent: Sent) -> Request:
    """The facts of a batch that is made from a file (POST /v1/batches). Raises Refusal(INVALID_REQUEST)."""
    members = sent.document.members()
    file = facts.text(members, "input_file_id")
    endpoint = facts.text(members, "endpoint")
    if endpoint not in ENDPOINTS:
        raise Refusal(Code.INVALID_REQUEST, f"endpoint must be one of {', '.join(ENDPOINTS)}", param="endpoint")
    facts.text(members, "completion_window")
    return msgspec.structs.replace(
        asked(sent),
        leaves=collect(members, _SHAPE).leaves,
        message_count=1,
        histories=(file,),
        speaks=ENDPOINTS[endpoint][0],
    )


def read_message_batch(sent: Sent) -> Request:
    """The facts of a batch whose requests stand in the body (POST /v1/messages/batches).

    Raises Refusal naming the request that is refused.
    """
    members = sent.document.members()
    for name in members:
        if name != "requests":
            raise Refusal(Code.UNSUPPORTED_FIELD, "a batch of messages has requests only", param=name[:64])
    requests = facts.objects(members, "requests", required=True)
    if len(requests) > MOST:
        raise Refusal(Code.INVALID_REQUEST, f"there are more than {MOST} requests", param="requests")
    inner: list[Inner] = []
    first = 0
    for number, (span, request) in enumerate(zip(sent.document.elements(("requests",)), requests, strict=True)):
        one = read_inner(
            sent.document.part(span, dict(request)),
            "params",
            messages.extract,
            sent.headers,
            place=f"requests.{number}",
            first=first,
            constants={},
        )
        inner.append(one)
        first += 1 + len(one.request.leaves)
    return carrying(asked(sent), tuple(inner), speaks=Surface.MESSAGES)
