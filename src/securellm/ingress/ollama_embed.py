"""Ollama's own embeddings, as a client asks (POST /api/embed)."""

from collections.abc import Mapping

from securellm.core.document import Document
from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.finops import Estimate
from securellm.gateway.model import Request
from securellm.ingress import facts
from securellm.ingress.leaves import Shape, collect
from securellm.ingress.ollama_chat import COMMON

SURFACE = Surface.OLLAMA_EMBED

SHAPE = Shape(
    names=COMMON | frozenset({"input", "dimensions"}),
    ids=frozenset(),
    media=frozenset(),
    numbers=frozenset({"seed"}),
    system=frozenset(),
)

_PER_INPUT = 8


def extract(document: Document, headers: Mapping[str, str]) -> Request:
    """The facts of an embedding request; one without input loads or unloads the model.

    Raises Refusal(INVALID_REQUEST) naming the field.
    """
    members = document.members()
    given = members.get("input")
    inputs = given if isinstance(given, list) else [given]
    if given is not None and not all(isinstance(item, str) for item in inputs):
        raise Refusal(Code.INVALID_REQUEST, "input must be a string or a list of strings", param="input")
    texts = collect(members, SHAPE)
    return Request(
        document=document,
        model=facts.text(members, "model", default=""),
        stream=False,
        wants_usage=True,
        leaves=texts.leaves,
        message_count=len(inputs),
        images=0,
        estimate=Estimate(
            input_tokens=texts.bytes + _PER_INPUT * len(inputs),
            output_cap=0,
            choices=1,
            cache_writes=False,
        ),
        deterministic=True,
        cache_control=headers.get("x-securellm-cache", ""),
    )
