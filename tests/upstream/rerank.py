"""Rerank, as Jina, Cohere and vLLM speak it: documents in the order of their relevance."""

import hashlib
from typing import Any

from tests.upstream.answer import Answer, Ask, check, count, need
from tests.upstream.faces import Refused
from tests.upstream.speech import texts, tokens, write


def answer(ask: Ask) -> Answer:
    """Validate as a strict provider does, then score each document by its bytes."""
    body = ask.body
    model, query = need(body, "model", str), need(body, "query", str)
    documents = need(body, "documents", list)
    if not documents:
        raise Refused(400, "Invalid 'documents': empty array.", param="documents", code="empty_array")
    for at, document in enumerate(documents):
        if not (isinstance(document, str) or (isinstance(document, dict) and isinstance(document.get("text"), str))):
            raise Refused(400, f"Invalid type for 'documents[{at}]'.", param=f"documents[{at}]", code="invalid_type")
    most = count(body, "top_n") or len(documents)
    shown = bool(check(body, "return_documents", bool))
    scored = sorted(((_score(query, document), at) for at, document in enumerate(documents)), reverse=True)
    results: list[dict[str, object]] = [{"index": at, "relevance_score": score} for score, at in scored[:most]]
    if shown:
        for row in results:
            document = documents[int(str(row["index"]))]
            row["document"] = {"text": document} if isinstance(document, str) else document
    used = ask.behaviour.input_tokens or sum(tokens(text) for text in texts([query, documents]))
    whole: dict[str, object] = {"id": f"rerank-fake{ask.number:08d}", "model": model, "results": results}
    if ask.behaviour.usage != "none":
        whole["usage"] = {"total_tokens": used}
    return Answer(body=write(whole, escape=ask.behaviour.escape), bill={"input": used})


def _score(query: str, document: Any) -> float:
    return hashlib.sha256(f"{query}\n{document}".encode()).digest()[0] / 256
