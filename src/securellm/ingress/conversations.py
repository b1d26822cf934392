"""OpenAI conversations, as a client fills them (POST /v1/conversations and below)."""

import msgspec

from securellm.core.messages import Path
from securellm.gateway.model import Request
from securellm.ingress import facts, responses
from securellm.ingress.errands import Sent, asked
from securellm.ingress.leaves import Shape, collect

_ITEMS = "items"


def _moved(places: frozenset[Path]) -> frozenset[Path]:
    """The places of an item: in a request to a model they stand in its input."""
    return frozenset((_ITEMS, *place[1:]) for place in places if place[0] == "input")


SHAPE: Shape = responses.SHAPE._replace(
    ids=_moved(responses.SHAPE.ids),
    media=_moved(responses.SHAPE.media),
    system=frozenset(),
    turns=frozenset({(_ITEMS, "*")}),
)


def extract(sent: Sent) -> Request:
    """The facts of a conversation's body: whatever it says is screened as what a model is asked.

    Raises Refusal (INVALID_REQUEST) naming the field.
    """
    members = sent.document.members()
    items = facts.objects(members, _ITEMS)
    texts = collect(members, SHAPE)
    return msgspec.structs.replace(
        asked(sent),
        leaves=texts.leaves,
        message_count=len(items),
        histories=tuple(dict.fromkeys((*sent.names, *responses.named_in(items)))),
        mentions=tuple(dict.fromkeys(responses.mentioned_in(items))),
    )
