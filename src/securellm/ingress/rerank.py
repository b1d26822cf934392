"""The ranking of documents by a query, as a client asks (POST /v1/rerank)."""

from collections.abc import Mapping

from securellm.core.document import Document
from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.finops import Estimate
from securellm.gateway.model import Request
from securellm.ingress import facts
from securellm.ingress.leaves import Shape, collect

SURFACE = Surface.RERANK

SHAPE = Shape(
    names=frozenset(
        {
            "model", "query", "documents", "text", "top_n", "return_documents", "rank_fields", "max_chunks_per_doc",
            "max_tokens_per_doc", "truncate_prompt_tokens", "priority", "user",
        }
    ),
    ids=frozenset(),
    media=frozenset(),
    numbers=frozenset(),
    system=frozenset(),
    user=frozenset({"query"}),
)  # fmt: skip

_PER_DOCUMENT = 16
"""Tokens a model may add around a query and a document."""


def extract(document: Document, headers: Mapping[str, str]) -> Request:
    """The facts of a ranking; the query is read anew with each document. Raises Refusal(INVALID_REQUEST)."""
    members = document.members()
    query = facts.text(members, "query")
    documents = members.get("documents")
    if not isinstance(documents, list) or not documents or not all(isinstance(each, str | dict) for each in documents):
        raise Refusal(
            Code.INVALID_REQUEST, "documents must be a non-empty list of strings or objects", param="documents"
        )
    texts = collect(members, SHAPE)
    around = len(query.encode("utf-8")) + _PER_DOCUMENT
    return Request(
        document=document,
        model=facts.text(members, "model", default=""),
        stream=False,
        wants_usage=True,
        leaves=texts.leaves,
        message_count=len(documents),
        images=0,
        estimate=Estimate(
            input_tokens=texts.bytes + around * len(documents),
            output_cap=0,
            choices=1,
            cache_writes=False,
        ),
        deterministic=True,
        cache_control=headers.get("x-securellm-cache", ""),
    )
