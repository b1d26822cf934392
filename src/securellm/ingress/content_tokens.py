"""Google's counting of tokens, as a client asks (POST /v1beta/models/{model}:countTokens, or /v1)."""

from collections.abc import Mapping

from securellm.core.document import Document
from securellm.core.surfaces import Surface
from securellm.finops import Estimate
from securellm.gateway.model import Request
from securellm.ingress.contents import SHAPE, hear, listed, mapping
from securellm.ingress.generate_content import kept_by_provider
from securellm.ingress.leaves import collect

SURFACE = Surface.CONTENT_TOKENS


def extract(document: Document, headers: Mapping[str, str], *, model: str) -> Request:
    """The facts of a count, whose model the path names: nothing is generated, and nothing is billed.

    Raises Refusal(INVALID_REQUEST) naming the field.
    """
    members = document.members()
    asked = mapping(members, "generateContentRequest") or members
    contents = listed(asked, "contents")
    heard = hear([*contents, mapping(asked, "systemInstruction")])
    return Request(
        document=document,
        model=model,
        stream=False,
        wants_usage=True,
        leaves=collect(members, SHAPE).leaves,
        message_count=len(contents),
        images=0,
        histories=kept_by_provider(asked, listed(asked, "tools"), heard),
        estimate=Estimate(input_tokens=0, output_cap=0, choices=1, cache_writes=False),
        deterministic=False,
        cache_control=headers.get("x-securellm-cache", ""),
    )
