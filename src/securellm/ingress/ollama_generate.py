"""Ollama's own completion of a prompt, as a client asks (POST /api/generate)."""

from collections.abc import Mapping

from securellm.core.document import Document
from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.finops import Estimate
from securellm.gateway.model import Request
from securellm.ingress import facts
from securellm.ingress.leaves import Shape, collect
from securellm.ingress.needs import ollama_needs
from securellm.ingress.ollama_chat import COMMON, cap, pictures, streams

SURFACE = Surface.OLLAMA_GENERATE

SHAPE = Shape(
    names=COMMON | frozenset({"prompt", "suffix", "system", "template", "raw", "context", "width", "height", "steps"}),
    ids=frozenset(),
    media=frozenset({("images", "*")}),
    numbers=frozenset({"seed"}),
    system=frozenset({"system"}),
    user=frozenset({"prompt", "suffix", "template"}),
)

_ASIDE = 64
"""Tokens that the model's own template may add around a prompt."""


def extract(document: Document, headers: Mapping[str, str]) -> Request:
    """The facts of a completion; one without a prompt loads or unloads the model.

    Raises Refusal (INVALID_REQUEST, UNSUPPORTED_FIELD) naming the field.
    """
    members = document.members()
    if members.get("context"):
        raise Refusal(
            Code.UNSUPPORTED_FIELD,
            "context is given as token ids, which no guard can read; send the conversation to /api/chat",
            param="context",
        )
    for name in ("prompt", "suffix", "system", "template"):
        facts.text(members, name, default="")
    options = facts.mapping(members, "options")
    texts = collect(members, SHAPE)
    return Request(
        document=document,
        model=facts.text(members, "model", default=""),
        stream=streams(members),
        wants_usage=True,
        leaves=texts.leaves,
        message_count=1,
        images=pictures(members),
        estimate=Estimate(
            input_tokens=texts.bytes + _ASIDE,
            output_cap=cap(options),
            choices=1,
            cache_writes=False,
        ),
        needs=ollama_needs(members),
        deterministic=facts.is_zero(options.get("temperature")),
        cache_control=headers.get("x-securellm-cache", ""),
    )
