"""OpenAI's moderation: what a text or a picture is, by category. It costs nothing."""

from typing import Any

from tests.upstream.answer import Answer, Ask, check
from tests.upstream.faces import Refused
from tests.upstream.speech import write

_CATEGORIES = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip


def answer(ask: Ask) -> Answer:
    """One result for each text, or one for all parts of a mixed input."""
    check(ask.body, "model", str)
    rows = _inputs(ask.body.get("input"))
    results = [_result(ask, kinds) for kinds in rows]
    model = ask.model or "omni-moderation-latest"
    return Answer(body=write({"id": f"modr-fake{ask.number:08d}", "model": model, "results": results}))


def _inputs(given: Any) -> list[list[str]]:
    """The kinds of input behind each result. Raises `Refused` 400."""
    if isinstance(given, str) and given:
        return [["text"]]
    if isinstance(given, list) and given and all(isinstance(item, str) for item in given):
        return [["text"] for _ in given]
    kinds = {"text": "text", "image_url": "image"}
    if isinstance(given, list) and given and all(isinstance(i, dict) and i.get("type") in kinds for i in given):
        return [sorted({kinds[item["type"]] for item in given})]
    raise Refused(400, "Invalid value for 'input'.", param="input", code="invalid_type")


def _result(ask: Ask, kinds: list[str]) -> dict[str, object]:
    bad = ask.behaviour.flagged
    return {
        "flagged": bad,
        "categories": {name: bad and name == "violence" for name in _CATEGORIES},
        "category_scores": {name: 0.98 if bad and name == "violence" else 0.0001 for name in _CATEGORIES},
        "category_applied_input_types": dict.fromkeys(_CATEGORIES, kinds),
    }
