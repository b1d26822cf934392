"""The models a key may use, as each family of SDKs asks for them and reads them."""

import json
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from securellm.core.capabilities import Capability
from securellm.core.document import Document
from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Manner, Surface
from securellm.gateway.models import VisibleModel
from securellm.ingress import facts
from securellm.ingress.query import Query
from securellm.ingress.routes import MODEL, name_in

Models = tuple[VisibleModel, ...]

OLLAMA_API = "0.40.12"
"""The release of Ollama whose API is spoken; clients ask for it before they use what is newer."""

_EPOCH = "1970-01-01T00:00:00Z"
"""What stands where clients insist on a date and there is none."""
_MOST = 1_000

_VERBS = {
    Surface.GENERATE_CONTENT: ("generateContent", "streamGenerateContent"),
    Surface.CONTENT_TOKENS: ("countTokens",),
    Surface.EMBED_CONTENT: ("embedContent",),
    Surface.BATCH_EMBED_CONTENTS: ("batchEmbedContents",),
}
_SKILLS = {Surface.OLLAMA_CHAT: "completion", Surface.OLLAMA_GENERATE: "completion", Surface.OLLAMA_EMBED: "embedding"}

_OFFERS = {Capability.TOOLS: "tools", Capability.VISION: "vision", Capability.REASONING: "thinking"}


class Listing(NamedTuple):
    """A path that lists models or describes one."""

    template: str
    manner: Manner | None
    """Whose shape the path asks for; None: as the headers say."""
    answer: "Callable[[Manner, Models, Query, str], Mapping[str, object]]"
    """Given the manner, the models, the query, and the model the path (or body) names."""
    in_body: bool = False
    """Whether it is a POST whose body names the model."""


def _openai(model: VisibleModel) -> dict[str, object]:
    return {
        "id": model.name,
        "object": "model",
        "created": 0,
        "owned_by": model.owner,
        "surfaces": [surface.value for surface in model.surfaces],
        **({} if model.offers is None else {"capabilities": sorted(offer.value for offer in model.offers)}),
    }


def _anthropic(model: VisibleModel) -> dict[str, object]:
    return {
        "type": "model",
        "id": model.name,
        "display_name": model.name,
        "created_at": _EPOCH,
        "lifecycle": "active",
        "max_input_tokens": model.context_window,
        "max_tokens": model.max_output,
    }


def _google(model: VisibleModel) -> dict[str, object]:
    known: dict[str, object] = {
        "name": f"models/{model.name}",
        "displayName": model.name,
        "supportedGenerationMethods": [verb for each in model.surfaces for verb in _VERBS.get(each, ())],
    }
    if model.context_window is not None:
        known["inputTokenLimit"] = model.context_window
    if model.max_output is not None:
        known["outputTokenLimit"] = model.max_output
    if Capability.REASONING in (model.offers or ()):
        known["thinking"] = True
    return known


def _ollama(model: VisibleModel) -> dict[str, object]:
    return {
        "name": model.name,
        "model": model.name,
        "modified_at": _EPOCH,
        "size": 0,
        "digest": "",
        "details": _details(),
    }


def _details() -> dict[str, object]:
    """What a file of weights would say of itself: there is none here."""
    return {"format": "", "family": "", "families": [], "parameter_size": "", "quantization_level": ""}


_ONE: Mapping[Manner, Callable[[VisibleModel], dict[str, object]]] = {
    Manner.OPENAI: _openai,
    Manner.ANTHROPIC: _anthropic,
    Manner.GOOGLE: _google,
    Manner.OLLAMA: _ollama,
}


_NEEDED: Mapping[Manner, Collection[Surface]] = {
    Manner.ANTHROPIC: (Surface.MESSAGES,),
    Manner.GOOGLE: _VERBS,
    Manner.OLLAMA: _SKILLS,
}
"""Of which a model must speak one, so that who lists models in this manner could use it. Not named: any."""


def usable(manner: Manner, models: Models) -> Models:
    """The models that a client of this family can ask."""
    needed = _NEEDED.get(manner)
    return models if needed is None else tuple(model for model in models if not set(model.surfaces).isdisjoint(needed))


def every(manner: Manner, models: Models, query: Query, name: str) -> Mapping[str, object]:  # noqa: ARG001 - alike
    if manner is Manner.ANTHROPIC:
        page, more = _page_of_anthropic(models, query)
        rows = [_anthropic(model) for model in page]
        return {
            "data": rows,
            "has_more": more,
            "first_id": page[0].name if page else None,
            "last_id": page[-1].name if page else None,
        }
    if manner is Manner.GOOGLE:
        page, more = _page_of_google(models, query)
        return {"models": [_google(model) for model in page], **({"nextPageToken": page[-1].name} if more else {})}
    if manner is Manner.OLLAMA:
        return {"models": [_ollama(model) for model in models]}
    return {"object": "list", "data": [_openai(model) for model in models]}


def _page_of_anthropic(models: Models, query: Query) -> tuple[Models, bool]:
    size = query.count("limit", default=20, largest=_MOST)
    after, before = query.one("after_id"), query.one("before_id")
    if after is not None and before is not None:
        raise Refusal(Code.INVALID_REQUEST, "after_id and before_id exclude each other", param="before_id")
    if before is not None:
        end = _index(models, before, "before_id")
        return models[max(0, end - size) : end], end > size
    start = 0 if after is None else _index(models, after, "after_id") + 1
    return models[start : start + size], start + size < len(models)


def _page_of_google(models: Models, query: Query) -> tuple[Models, bool]:
    size = query.count("pageSize", default=50, largest=_MOST)
    token = query.one("pageToken")
    start = 0 if not token else _index(models, token, "pageToken") + 1
    return models[start : start + size], start + size < len(models)


def _index(models: Models, name: str, param: str) -> int:
    for index, model in enumerate(models):
        if model.name == name:
            return index
    raise Refusal(Code.INVALID_REQUEST, f"{param} is no place in this list", param=param)


def described(manner: Manner, models: Models, query: Query, name: str) -> Mapping[str, object]:  # noqa: ARG001 - alike
    return _ONE[manner](_named(models, name))


def shown(manner: Manner, models: Models, query: Query, name: str) -> Mapping[str, object]:  # noqa: ARG001 - alike
    model = _named(models, name)
    skills = dict.fromkeys(_SKILLS[surface] for surface in model.surfaces if surface in _SKILLS)
    skills |= dict.fromkeys(word for offer, word in _OFFERS.items() if offer in (model.offers or ()))
    size = {} if model.context_window is None else {"general.context_length": model.context_window}
    return {"modified_at": _EPOCH, "details": _details(), "model_info": size, "capabilities": list(skills)}


def version(manner: Manner, models: Models, query: Query, name: str) -> Mapping[str, object]:  # noqa: ARG001 - alike
    return {"version": OLLAMA_API}


def _named(models: Models, name: str) -> VisibleModel:
    for model in models:
        if model.name == name:
            return model
    # In the words of a governed request, whether or not others have such a model.
    raise Refusal(Code.UNKNOWN_MODEL, "there is no model of this name", param="model")


_ROWS = (
    Listing("/v1/models", None, every),
    Listing(f"/v1/models/{MODEL}", None, described),
    Listing("/openai/models", Manner.OPENAI, every),
    Listing("/v1beta/models", Manner.GOOGLE, every),
    Listing(f"/v1beta/models/{MODEL}", Manner.GOOGLE, described),
    Listing("/api/tags", Manner.OLLAMA, every),
    Listing("/api/show", Manner.OLLAMA, shown, in_body=True),
    Listing("/api/version", Manner.OLLAMA, version),
)

LISTINGS: Mapping[str, Listing] = {row.template: row for row in _ROWS}
"""Every path that says which models there are."""

_NAMING = [(template.removesuffix(MODEL), row) for template, row in LISTINGS.items() if MODEL in template]


class Listed(NamedTuple):
    """Where the path of one request leads."""

    listing: Listing
    spelled: str
    """The model as the path spells it; empty where it names none."""

    @property
    def methods(self) -> tuple[str, ...]:
        return ("POST",) if self.in_body else ("GET", "HEAD")

    @property
    def surface(self) -> None:
        return None

    @property
    def manner(self) -> Manner | None:
        """None: as the headers say."""
        return self.listing.manner

    @property
    def in_body(self) -> bool:
        """Whether the body names the model."""
        return self.listing.in_body

    def model(self, query: Query) -> str:  # noqa: ARG002 - as a governed path is asked
        """The model that the path names. Raises Refusal (INVALID_REQUEST).

        It is only looked up, so both spellings are taken: OpenAI's SDKs encode its slashes, Google's do not.
        """
        return name_in(self.spelled, segment="/" not in self.spelled) if MODEL in self.listing.template else ""


def find(path: str) -> Listed | None:
    """The listing of a path as it was sent."""
    row = LISTINGS.get(path)
    if row is not None and MODEL not in path:
        return Listed(row, "")
    for before, named in _NAMING:
        if path.startswith(before):
            return Listed(named, path[len(before) :])
    return None


def asked_in(document: Document) -> str:
    """The model that the body of /api/show names; `name` is the word of older clients."""
    members = document.members()
    return facts.text(members, "model", default="") or facts.text(members, "name")


def written(answer: Mapping[str, object]) -> bytes:
    return json.dumps(answer, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
