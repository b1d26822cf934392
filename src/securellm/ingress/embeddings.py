"""OpenAI embeddings, as a client asks (POST /v1/embeddings)."""

from collections.abc import Mapping

from securellm.core.document import Document
from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.finops import Estimate
from securellm.gateway.model import Request
from securellm.ingress import facts
from securellm.ingress.leaves import Shape, collect

SURFACE = Surface.EMBEDDINGS

SHAPE = Shape(
    names=frozenset(
        {"model", "input", "encoding_format", "dimensions", "user", "input_type", "truncate", "truncate_prompt_tokens"}
    ),
    ids=frozenset(),
    media=frozenset(),
    numbers=frozenset(),
    system=frozenset(),
)


def extract(document: Document, headers: Mapping[str, str]) -> Request:
    """The facts of an embedding request. Raises Refusal (INVALID_REQUEST, UNSUPPORTED_FIELD) naming the field."""
    members = document.members()
    given = members.get("input")
    inputs = given if isinstance(given, list) else [given]
    if not inputs or not all(isinstance(item, str) for item in inputs):
        if inputs and all(isinstance(item, int | list) and not isinstance(item, bool) for item in inputs):
            raise Refusal(
                Code.UNSUPPORTED_FIELD, "input is given as token ids, which no guard can read; send text", param="input"
            )
        raise Refusal(Code.INVALID_REQUEST, "input must be a string or a non-empty list of strings", param="input")
    texts = collect(members, SHAPE)
    return Request(
        document=document,
        model=facts.text(members, "model", default=""),
        stream=False,
        wants_usage=True,
        leaves=texts.leaves,
        message_count=len(inputs),
        images=0,
        estimate=Estimate(input_tokens=texts.bytes + 8 * len(inputs), output_cap=0, choices=1, cache_writes=False),
        deterministic=True,
        cache_control=headers.get("x-securellm-cache", ""),
    )
