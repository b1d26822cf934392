"""Whom the fake impersonates: one face per provider, under its own path prefix, with its own credential."""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal
from urllib.parse import unquote

import msgspec

CREDENTIALS: dict[str, str] = {
    "openai": "fake-openai-credential-7f3a",
    "anthropic": "fake-anthropic-credential-19bc",
    "gemini": "fake-gemini-credential-a41e",
    "xai": "fake-xai-credential-52de",
    "deepseek": "fake-deepseek-credential-88f0",
    "ollama": "",
    "compatible": "fake-compatible-credential-0c4d",
}
"""What each face accepts; ollama takes any."""

CREDENTIAL_HEADERS = frozenset(
    {"authorization", "x-api-key", "api-key", "x-goog-api-key", "proxy-authorization", "cookie"}
)
OLLAMA_NATIVE = frozenset({"ollama_chat", "ollama_generate", "ollama_embed", "ollama_show", "ollama_tags"})
"""Surfaces in Ollama's own words."""


class Route(msgspec.Struct, frozen=True):
    """One path of a provider."""

    method: str
    pattern: str
    surface: str
    takes: Literal["json", "form", "nothing"] = "json"


_CHAT = Route("POST", r"/v1/chat/completions", "chat")
_EMBEDDINGS = Route("POST", r"/v1/embeddings", "embeddings")
_MODELS = Route("GET", r"/v1/models", "models", "nothing")
_RESPONSES = Route("POST", r"/v1/responses", "responses")
_ID = r"/v1/responses/(?P<id>resp_[^/]+)"
_TALK = r"/v1/conversations/(?P<id>conv_[^/]+)"
_STORED = (
    _RESPONSES,
    Route("POST", r"/v1/responses/input_tokens", "response_tokens"),
    Route("GET", _ID, "response", "nothing"),
    Route("DELETE", _ID, "delete_response", "nothing"),
    Route("POST", _ID + "/cancel", "cancel_response", "nothing"),
    Route("GET", _ID + "/input_items", "response_items", "nothing"),
    Route("POST", r"/v1/conversations", "create_conversation"),
    Route("GET", _TALK, "conversation", "nothing"),
    Route("POST", _TALK, "update_conversation"),
    Route("DELETE", _TALK, "delete_conversation", "nothing"),
    Route("GET", _TALK + "/items", "conversation_items", "nothing"),
    Route("POST", _TALK + "/items", "add_conversation_items"),
    Route("GET", _TALK + "/items/(?P<item>[^/]+)", "conversation_item", "nothing"),
    Route("DELETE", _TALK + "/items/(?P<item>[^/]+)", "delete_conversation_item", "nothing"),
)
_FILE = r"/v1/files/(?P<id>[^/]+)"
_FILES = (
    Route("POST", r"/v1/files", "upload_file", "form"),
    Route("GET", r"/v1/files", "files", "nothing"),
    Route("GET", _FILE, "file", "nothing"),
    Route("GET", _FILE + "/content", "file_content", "nothing"),
    Route("DELETE", _FILE, "delete_file", "nothing"),
)
_BATCH = r"/v1/batches/(?P<id>[^/]+)"
_BATCHES = (
    Route("POST", r"/v1/batches", "create_batch"),
    Route("GET", r"/v1/batches", "batches", "nothing"),
    Route("GET", _BATCH, "batch", "nothing"),
    Route("POST", _BATCH + "/cancel", "cancel_batch", "nothing"),
)
_MEDIA = (
    Route("POST", r"/v1/moderations", "moderations"),
    Route("POST", r"/v1/images/generations", "images"),
    Route("POST", r"/v1/images/edits", "image_edits", "form"),
    Route("POST", r"/v1/audio/speech", "speech"),
    Route("POST", r"/v1/audio/transcriptions", "transcriptions", "form"),
    Route("POST", r"/v1/audio/translations", "translations", "form"),
)
_MESSAGE_BATCH = r"/v1/messages/batches/(?P<id>[^/]+)"
_MESSAGE_BATCHES = (
    Route("POST", r"/v1/messages/batches", "create_message_batch"),
    Route("GET", r"/v1/messages/batches", "message_batches", "nothing"),
    Route("GET", _MESSAGE_BATCH, "message_batch", "nothing"),
    Route("GET", _MESSAGE_BATCH + "/results", "message_batch_results", "nothing"),
    Route("POST", _MESSAGE_BATCH + "/cancel", "cancel_message_batch", "nothing"),
    Route("DELETE", _MESSAGE_BATCH, "delete_message_batch", "nothing"),
)
_MODEL = r"/(?P<version>v1|v1beta)/models/(?P<model>[^/]+)"

_ROUTES: dict[str, tuple[Route, ...]] = {
    "openai": (_CHAT, *_STORED, _EMBEDDINGS, _MODELS, *_MEDIA, *_FILES, *_BATCHES),
    "anthropic": (
        Route("POST", r"/v1/messages", "messages"),
        Route("POST", r"/v1/messages/count_tokens", "count_tokens"),
        *_MESSAGE_BATCHES,
        *_FILES,
        _MODELS,
    ),
    "gemini": (
        Route("POST", _MODEL + r":(?P<verb>generateContent|streamGenerateContent)", "generate_content"),
        Route("POST", _MODEL + r":countTokens", "count_content_tokens"),
        Route("POST", _MODEL + r":embedContent", "embed_content"),
        Route("POST", _MODEL + r":batchEmbedContents", "batch_embed_contents"),
        Route("GET", r"/(?P<version>v1|v1beta)/models", "models", "nothing"),
        Route("GET", _MODEL, "model", "nothing"),
    ),
    "xai": (_CHAT, *_STORED, _MODELS),
    "deepseek": (
        Route("POST", r"(?:/v1|/beta)?/chat/completions", "chat"),
        Route("POST", r"/anthropic/v1/messages", "messages"),
        Route("GET", r"/models", "models", "nothing"),
    ),
    "ollama": (
        _CHAT,
        _RESPONSES,
        _EMBEDDINGS,
        _MODELS,
        Route("POST", r"/api/chat", "ollama_chat"),
        Route("POST", r"/api/generate", "ollama_generate"),
        Route("POST", r"/api/embed", "ollama_embed"),
        Route("POST", r"/api/show", "ollama_show"),
        Route("GET", r"/api/(?P<what>tags|ps|version)", "ollama_tags", "nothing"),
    ),
    "compatible": (_CHAT, *_STORED, _EMBEDDINGS, _MODELS, Route("POST", r"/v[12]/rerank", "rerank")),
}


class Face(msgspec.Struct, frozen=True):
    """The provider a path belongs to, and what the path asks for."""

    name: str
    surface: str
    takes: str = "json"
    place: dict[str, str] = {}
    """The named pieces of the path, decoded."""


class Refused(Exception):
    """What a strict provider says no to."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str | None = None,
        param: str | None = None,
        code: str | None = None,
        details: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code
        self.details = details
        """Google's: what is known in machine's words."""


def face_of(path: str) -> str:
    """The face a path is under: its prefix, or by its shape when it has none."""
    first = path.split("/")[1] if path.startswith("/") else ""
    if first in _ROUTES:
        return first
    if path.startswith("/v1/messages"):
        return "anthropic"
    if path.startswith("/api/"):
        return "ollama"
    return "gemini" if path.startswith("/v1beta/") or re.match(r"/v1/models/[^/]+:", path) else "openai"


def route(method: str, path: str) -> Face:
    """What this request asks for. Raises `Refused` 404 or 405."""
    name = face_of(path)
    rest = path.removeprefix(f"/{name}")
    allowed = False
    for row in _ROUTES[name]:
        found = re.fullmatch(row.pattern, rest)
        if found:
            if row.method == method:
                place = {piece: unquote(value) for piece, value in found.groupdict().items() if value is not None}
                return Face(name, row.surface, row.takes, place)
            allowed = True
    if allowed and name != "gemini":
        raise Refused(405, f"Not allowed to {method} on {path}")
    raise Refused(404, f"Invalid URL ({method} {path})")


def hashed(value: str) -> str:
    """How a credential is written in the log."""
    return "sha256:" + hashlib.sha256(value.encode()).hexdigest()


def authenticate(
    face: Face, headers: Sequence[tuple[str, str]], query: Mapping[str, str], credentials: Mapping[str, str]
) -> None:
    """Raises `Refused` unless the request carries exactly the face's credential, the way its API says."""
    if face.name == "gemini":
        _authenticate_google(headers, query, credentials["gemini"])
        return
    expected = credentials[face.name]
    anthropic = face.surface in ("messages", "count_tokens") or face.name == "anthropic"
    given: list[str] = []
    for name, value in headers:
        if name == "authorization":
            scheme, _, token = value.partition(" ")
            if scheme.lower() != "bearer":
                raise Refused(401, "The authorization scheme must be Bearer.")
            given.append(token)
        elif name == "x-api-key" and anthropic:
            given.append(value)
        elif name in CREDENTIAL_HEADERS:
            raise Refused(400, f"{name} has no place in a request to {face.name}.")
    if face.name == "ollama":
        return
    if len(given) > 1:
        raise Refused(400, "Several credentials were given.")
    if not given:
        raise Refused(401, "You didn't provide an API key.")
    if not hmac.compare_digest(given[0].encode(), expected.encode()):
        shown = given[0][:4] + "*" * 8 + given[0][-4:] if len(given[0]) > 16 else "*" * len(given[0])
        raise Refused(401, f"Incorrect API key provided: {shown}.", code="invalid_api_key")


def _authenticate_google(headers: Sequence[tuple[str, str]], query: Mapping[str, str], expected: str) -> None:
    """The key stands in its header only: in a URL it would end in every log on the way."""
    given = [value for name, value in headers if name == "x-goog-api-key"]
    strange = [name for name, _ in headers if name in CREDENTIAL_HEADERS and name != "x-goog-api-key"]
    if strange or "key" in query:
        raise Refused(
            401,
            "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other "
            "valid authentication credential.",
            details=[_info("CREDENTIALS_MISSING" if "key" in query else "ACCESS_TOKEN_TYPE_UNSUPPORTED")],
        )
    if not given:
        raise Refused(
            403,
            "Method doesn't allow unregistered callers (callers without established identity). Please use API Key "
            "or other form of API consumer identity to call this API.",
        )
    if len(given) > 1 or not hmac.compare_digest(given[0].encode(), expected.encode()):
        message = "API key not valid. Please pass a valid API key."
        localized = {"@type": "type.googleapis.com/google.rpc.LocalizedMessage", "locale": "en-US", "message": message}
        raise Refused(400, message, details=[_info("API_KEY_INVALID"), localized])


def _info(reason: str) -> dict[str, object]:
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": {"service": "generativelanguage.googleapis.com"},
    }
