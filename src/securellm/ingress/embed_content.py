"""Google's embeddings, as a client asks (POST /v1beta/models/{model}:embedContent and :batchEmbedContents, or /v1)."""

from collections.abc import Mapping

from securellm.core.document import Document
from securellm.core.surfaces import Surface
from securellm.finops import Estimate
from securellm.gateway.model import Request
from securellm.ingress.contents import SHAPE, hear, listed, mapping
from securellm.ingress.facts import Members
from securellm.ingress.leaves import collect

SURFACE = Surface.EMBED_CONTENT
BATCH = Surface.BATCH_EMBED_CONTENTS

_PER_CONTENT = 8


def extract(document: Document, headers: Mapping[str, str], *, model: str) -> Request:
    """The facts of one embedding, whose model the path names. Raises Refusal(INVALID_REQUEST) naming the field."""
    return _request(document, headers, model, [mapping(document.members(), "content")])


def extract_batch(document: Document, headers: Mapping[str, str], *, model: str) -> Request:
    """The facts of several embeddings at once. Raises Refusal(INVALID_REQUEST) naming the field."""
    asked = listed(document.members(), "requests", required=True)
    return _request(document, headers, model, [mapping(each, "content") for each in asked])


def _request(document: Document, headers: Mapping[str, str], model: str, contents: list[Members]) -> Request:
    texts = collect(document.members(), SHAPE)
    heard = hear(contents)
    return Request(
        document=document,
        model=model,
        stream=False,
        wants_usage=True,
        leaves=texts.leaves,
        message_count=len(contents),
        images=heard.images,
        histories=heard.kept,
        estimate=Estimate(
            input_tokens=texts.bytes + _PER_CONTENT * len(contents),
            output_cap=0,
            choices=1,
            whole_context=heard.unseen,
            audio_input=heard.audio,
            cache_writes=False,
        ),
        deterministic=not heard.kept,
        cache_control=headers.get("x-securellm-cache", ""),
    )
