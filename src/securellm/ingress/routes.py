"""Which path is which surface, and which model it names."""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, NamedTuple, Protocol

from securellm.core.document import Document, Patch
from securellm.core.errors import Code, Refusal
from securellm.core.messages import Attachment
from securellm.core.surfaces import Manner, Surface, manner_of
from securellm.gateway.model import Request
from securellm.ingress import (
    chat,
    content_tokens,
    embed_content,
    embeddings,
    generate_content,
    media,
    message_tokens,
    messages,
    ollama_chat,
    ollama_embed,
    ollama_generate,
    rerank,
    responses,
)
from securellm.ingress.facts import Members
from securellm.ingress.forms import read_form
from securellm.ingress.query import Query

MODEL = "{model}"
"""Where a template names the model."""
SLASH = "%2F"
"""How a slash of a model's name is written where the name is one segment of the path, as SDKs write it."""

Headers = Mapping[str, str]
Extract = Callable[[Document, Headers], Request]
Attached = Callable[[Document, Headers, tuple[Attachment, ...]], Request]
_PARSED_BEFORE = 10_000
"""Levels of nesting that no body has which was taken in."""


class Named(Protocol):
    """Reads a body whose model the path names."""

    def __call__(self, document: Document, headers: Headers, /, *, model: str) -> Request: ...


class Sent(NamedTuple):
    """A body, parsed."""

    document: Document
    attachments: tuple[Attachment, ...] = ()


Read = Callable[[Sent, Headers, str], Request]
"""Given the body, the headers, and the model that the path names (empty where the body names it)."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+/-]{0,127}")
"""What the name of a model may be, as in the configuration: nothing in it ever needs to be percent-encoded."""


class Route(NamedTuple):
    """A governed path: the surface it belongs to and how its body is read."""

    template: str
    surface: Surface
    read: Read
    form: bool = False
    """Whether the body is a multipart form. Otherwise it is JSON."""
    segment: bool = False
    """Whether the model is one segment of the path, its slashes encoded. Otherwise they are written as they are."""
    alt: Literal["", "json", "sse"] = ""
    """The form of the answer where callers name it in the query; `sse` must be named."""

    def parse(self, body: bytes, headers: Headers, *, max_depth: int) -> Sent:
        """Raises Refusal for a body that is not of the kind that this path takes."""
        if self.form:
            return Sent(*read_form(body, headers.get("content-type", "")))
        return Sent(Document(body, max_depth=max_depth))

    def path(self, model: str) -> str:
        """This path, for `model`."""
        return self.template.replace(MODEL, model.replace("/", SLASH) if self.segment else model)

    @property
    def query(self) -> str:
        """What must be asked for in the query."""
        return "alt=sse" if self.alt == "sse" else ""


class Place(NamedTuple):
    """Where the path of one request leads."""

    route: Route
    spelled: str
    """The model as the path spells it; empty where the body names it."""

    @property
    def methods(self) -> tuple[str, ...]:
        return ("POST",)

    @property
    def surface(self) -> Surface:
        return self.route.surface

    @property
    def manner(self) -> Manner:
        return manner_of(self.route.surface)

    def model(self, query: Query) -> str:
        """The model that the path names. Raises Refusal(INVALID_REQUEST) for a wrong address."""
        if self.route.alt:
            _refuse_other_forms(self.route.alt, query)
        return name_in(self.spelled, segment=self.route.segment) if MODEL in self.route.template else ""


def name_in(spelled: str, *, segment: bool = False) -> str:
    """The model's name as it stands in a path. Raises Refusal(INVALID_REQUEST).

    One spelling only leads to a model, so that whoever stands before the gateway and whoever reads its logs see
    the name that is decided on: no percent-encoding, but for the slash in a name that is one segment.
    """
    name = spelled
    if segment:
        if "/" in spelled:
            raise Refusal(Code.INVALID_REQUEST, f"write a / of the model's name as {SLASH} here", param="model")
        name = spelled.replace(SLASH, "/")
    if "%" in name:
        raise Refusal(Code.INVALID_REQUEST, "the model's name in the path is percent-encoded", param="model")
    if _NAME.fullmatch(name) is None or not {"", ".", ".."}.isdisjoint(name.split("/")):
        raise Refusal(Code.INVALID_REQUEST, "what stands in the path is no name of a model", param="model")
    return name


def _refuse_other_forms(due: str, query: Query) -> None:
    form = query.one("alt")
    if due == "sse" and form is None:
        raise Refusal(Code.INVALID_REQUEST, "this path answers as server-sent events only: add alt=sse", param="alt")
    if form not in (None, due):
        raise Refusal(Code.INVALID_REQUEST, f"alt must be {due} here", param="alt")


def _body(template: str, surface: Surface, extract: Extract) -> Route:
    """A path whose body names the model."""
    return Route(template, surface, lambda sent, headers, _: extract(sent.document, headers))


def _form(template: str, surface: Surface, extract: Attached) -> Route:
    """A path whose body is a form that names the model."""
    return Route(
        template, surface, lambda sent, headers, _: extract(sent.document, headers, sent.attachments), form=True
    )


def _deployment(rest: str, surface: Surface, extract: Extract) -> Route:
    """As Azure's clients ask: the deployment in the path is the model, `api-version` in the query decides nothing.

    A model in the body decides nothing either (their own examples write "<ignored>" there), and it goes no further:
    from here on the body names the model of the path.
    """

    def read(sent: Sent, headers: Headers, model: str) -> Request:
        document = sent.document
        if document.members().get("model") != model:
            patch = Patch(document)
            patch.set(("model",), model)
            document = Document(patch.apply(), max_depth=_PARSED_BEFORE)
        return extract(document, headers)

    return Route(f"/openai/deployments/{MODEL}{rest}", surface, read, segment=True)


def _google(verb: str, surface: Surface, extract: Named, *, alt: Literal["json", "sse"] = "json") -> tuple[Route, ...]:
    """A method of Google's models, in both of its versions."""

    def read(sent: Sent, headers: Headers, model: str) -> Request:
        _refuse_other_models(sent.document.members(), model)
        return extract(sent.document, headers, model=model)

    return tuple(Route(f"/{version}/models/{MODEL}:{verb}", surface, read, alt=alt) for version in ("v1", "v1beta"))


def _refuse_other_models(members: Members, model: str) -> None:
    """A body may say again which model is meant, at its top or in each request it holds."""
    many = members.get("requests")
    inside = [members.get("generateContentRequest"), members.get("generate_content_request")]
    for asked in (members, *inside, *(many if isinstance(many, list) else [many])):
        if isinstance(asked, dict) and asked.get("model", model) not in (model, f"models/{model}"):
            # An error at Google too: one of the two would be ignored, and whoever wrote it would not know.
            raise Refusal(Code.INVALID_REQUEST, "the body names another model than the path", param="model")


_ROWS = (
    _body("/v1/chat/completions", Surface.CHAT, chat.extract),
    _body("/v1/responses", Surface.RESPONSES, responses.extract),
    _body("/v1/messages", Surface.MESSAGES, messages.extract),
    _body("/v1/messages/count_tokens", Surface.MESSAGE_TOKENS, message_tokens.extract),
    _body("/v1/embeddings", Surface.EMBEDDINGS, embeddings.extract),
    _body("/v1/rerank", Surface.RERANK, rerank.extract),
    _body("/v2/rerank", Surface.RERANK, rerank.extract),
    _body("/v1/moderations", Surface.MODERATIONS, media.extract_moderation),
    _body("/v1/images/generations", Surface.IMAGES, media.extract_images),
    _form("/v1/images/edits", Surface.IMAGE_EDITS, media.extract_images),
    _body("/v1/audio/speech", Surface.SPEECH, media.extract_speech),
    _form("/v1/audio/transcriptions", Surface.TRANSCRIPTIONS, media.extract_transcription),
    _form("/v1/audio/translations", Surface.AUDIO_TRANSLATIONS, media.extract_translation),
    _body("/openai/responses", Surface.RESPONSES, responses.extract),
    _deployment("/chat/completions", Surface.CHAT, chat.extract),
    _deployment("/responses", Surface.RESPONSES, responses.extract),
    _deployment("/embeddings", Surface.EMBEDDINGS, embeddings.extract),
    *_google("generateContent", Surface.GENERATE_CONTENT, partial(generate_content.extract, stream=False)),
    *_google(
        "streamGenerateContent", Surface.GENERATE_CONTENT, partial(generate_content.extract, stream=True), alt="sse"
    ),
    *_google("countTokens", Surface.CONTENT_TOKENS, content_tokens.extract),
    *_google("embedContent", Surface.EMBED_CONTENT, embed_content.extract),
    *_google("batchEmbedContents", Surface.BATCH_EMBED_CONTENTS, embed_content.extract_batch),
    _body("/api/chat", Surface.OLLAMA_CHAT, ollama_chat.extract),
    _body("/api/generate", Surface.OLLAMA_GENERATE, ollama_generate.extract),
    _body("/api/embed", Surface.OLLAMA_EMBED, ollama_embed.extract),
)


def _around(template: str) -> tuple[str, str]:
    before, _, after = template.partition(MODEL)
    return before, after


ROUTES: Mapping[str, Route] = {row.template: row for row in _ROWS}
"""Every path that can reach a provider. What is not here is not served."""

_NAMING = [(*_around(template), row) for template, row in ROUTES.items() if MODEL in template]


def find(path: str) -> Place | None:
    """The route of a path as it was sent: nothing is decoded, so no two spellings reach one route."""
    route = ROUTES.get(path)
    if route is not None and MODEL not in path:
        return Place(route, "")
    for before, after, named in _NAMING:
        if path.startswith(before) and path.endswith(after):
            return Place(named, path[len(before) : -len(after)])
    return None
