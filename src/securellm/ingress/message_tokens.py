"""Anthropic's counting of tokens, as a client asks (POST /v1/messages/count_tokens)."""

from collections.abc import Mapping

import msgspec

from securellm.core.document import Document
from securellm.core.surfaces import Surface
from securellm.finops import Estimate
from securellm.gateway.model import Request
from securellm.ingress import messages

SURFACE = Surface.MESSAGE_TOKENS


def extract(document: Document, headers: Mapping[str, str]) -> Request:
    """The facts of a count: those of the message it is about, of which nothing is generated and nothing is billed.

    Raises Refusal(INVALID_REQUEST) naming the field.
    """
    return msgspec.structs.replace(
        messages.extract(document, headers),
        stream=False,
        images=0,
        estimate=Estimate(input_tokens=0, output_cap=0, choices=1, cache_writes=False),
        needs=frozenset(),
        deterministic=False,
    )
