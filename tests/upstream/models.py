"""The models a provider serves, listed as its own clients expect them."""

from tests.upstream.answer import Answer, Ask
from tests.upstream.faces import OLLAMA_NATIVE, Refused
from tests.upstream.messages_check import check_version
from tests.upstream.speech import write

NAMES = ("fake-large", "fake-small", "fake-embed")


def listed(ask: Ask) -> Answer:
    """Every model."""
    if ask.face == "gemini":
        size = int(ask.query.get("pageSize") or 50)
        start = int(ask.query.get("pageToken") or 0)
        page: dict[str, object] = {"models": [_of_google(name) for name in NAMES[start : start + size]]}
        if start + size < len(NAMES):
            page["nextPageToken"] = str(start + size)
        return Answer(body=write(page))
    if ask.face == "anthropic":
        check_version(ask)
        rows = [
            {"type": "model", "id": name, "display_name": name.title(), "created_at": "2026-01-01T00:00:00Z"}
            for name in NAMES
        ]
        return Answer(body=write({"data": rows, "has_more": False, "first_id": NAMES[0], "last_id": NAMES[-1]}))
    data = [{"id": name, "object": "model", "created": 1, "owned_by": "fake"} for name in NAMES]
    return Answer(body=write({"object": "list", "data": data}))


def one(ask: Ask) -> Answer:
    """One model, by its name."""
    return Answer(body=write(_of_google(ask.model)))


def _of_google(name: str) -> dict[str, object]:
    verbs = ["embedContent"] if "embed" in name else ["generateContent", "countTokens"]
    return {
        "name": f"models/{name}",
        "version": "001",
        "displayName": name,
        "description": "A fake.",
        "inputTokenLimit": 1048576,
        "outputTokenLimit": 65536,
        "supportedGenerationMethods": verbs,
        "temperature": 1,
        "topP": 0.95,
        "topK": 64,
        "maxTemperature": 2,
        "thinking": True,
    }


def unknown_model(ask: Ask) -> Refused:
    """What the provider says to a model it does not have."""
    if ask.face == "gemini":
        version = ask.place.get("version", "v1beta")
        message = (
            f"models/{ask.model} is not found for API version {version}, or is not supported for "
            f"{ask.place.get('verb', 'this method')}. Call ListModels to see the list of available models and their "
            "supported methods."
        )
        return Refused(404, message)
    if ask.surface in OLLAMA_NATIVE:
        return Refused(404, f"model '{ask.model}' not found")
    if ask.surface in ("messages", "count_tokens"):
        return Refused(404, f"model: {ask.model}")
    message = f"The model `{ask.model}` does not exist or you do not have access to it."
    return Refused(404, message, code="model_not_found")
