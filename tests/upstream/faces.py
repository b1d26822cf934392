"""Whom the fake impersonates: one face per provider, under its own path prefix, with its own credential."""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence

import msgspec

CREDENTIALS: dict[str, str] = {
    "openai": "fake-openai-credential-7f3a",
    "anthropic": "fake-anthropic-credential-19bc",
    "xai": "fake-xai-credential-52de",
    "deepseek": "fake-deepseek-credential-88f0",
    "ollama": "",
    "compatible": "fake-compatible-credential-0c4d",
}
"""What each face accepts; ollama takes any."""

CREDENTIAL_HEADERS = frozenset(
    {"authorization", "x-api-key", "api-key", "x-goog-api-key", "proxy-authorization", "cookie"}
)

_ROUTES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "openai": (
        ("POST", r"/v1/chat/completions", "chat"),
        ("POST", r"/v1/responses", "responses"),
        ("POST", r"/v1/embeddings", "embeddings"),
        ("GET", r"/v1/models", "models"),
    ),
    "anthropic": (
        ("POST", r"/v1/messages", "messages"),
        ("POST", r"/v1/messages/count_tokens", "count_tokens"),
        ("GET", r"/v1/models", "models"),
    ),
    "xai": (
        ("POST", r"/v1/chat/completions", "chat"),
        ("POST", r"/v1/responses", "responses"),
        ("GET", r"/v1/models", "models"),
    ),
    "deepseek": (
        ("POST", r"(?:/v1|/beta)?/chat/completions", "chat"),
        ("POST", r"/anthropic/v1/messages", "messages"),
        ("GET", r"/models", "models"),
    ),
    "ollama": (
        ("POST", r"/v1/chat/completions", "chat"),
        ("POST", r"/v1/responses", "responses"),
        ("POST", r"/v1/embeddings", "embeddings"),
        ("GET", r"/v1/models", "models"),
    ),
    "compatible": (
        ("POST", r"/v1/chat/completions", "chat"),
        ("POST", r"/v1/responses", "responses"),
        ("POST", r"/v1/embeddings", "embeddings"),
        ("GET", r"/v1/models", "models"),
    ),
}


class Face(msgspec.Struct, frozen=True):
    """The provider a path belongs to, and what the path asks for."""

    name: str
    surface: str


class Refused(Exception):
    """What a strict provider says no to."""

    def __init__(
        self, status: int, message: str, *, kind: str | None = None, param: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.param = param
        self.code = code


def face_of(path: str) -> str:
    """The face a path is under: its prefix, or by its shape when it has none."""
    first = path.split("/")[1] if path.startswith("/") else ""
    if first in _ROUTES:
        return first
    return "anthropic" if path.startswith("/v1/messages") else "openai"


def route(method: str, path: str) -> Face:
    """What this request asks for. Raises `Refused` 404 or 405."""
    name = face_of(path)
    rest = path.removeprefix(f"/{name}")
    allowed = False
    for verb, pattern, surface in _ROUTES[name]:
        if re.fullmatch(pattern, rest):
            if verb == method:
                return Face(name, surface)
            allowed = True
    if allowed:
        raise Refused(405, f"Not allowed to {method} on {path}")
    raise Refused(404, f"Invalid URL ({method} {path})")


def hashed(value: str) -> str:
    """How a credential is written in the log."""
    return "sha256:" + hashlib.sha256(value.encode()).hexdigest()


def authenticate(face: Face, headers: Sequence[tuple[str, str]], credentials: Mapping[str, str]) -> None:
    """Raises `Refused` 401 unless the request carries exactly the face's credential, the way its API says."""
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


_OPENAI_KINDS = {429: "rate_limit_error", 402: "insufficient_quota", 403: "permission_error"}
_OPENAI_CODES = {429: "rate_limit_exceeded", 402: "insufficient_quota"}
_ANTHROPIC_KINDS = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def envelope(face: str, surface: str, refused: Refused, *, request_id: str) -> dict[str, object]:
    """The error body this provider sends."""
    status = refused.status
    if face == "anthropic" or surface in ("messages", "count_tokens"):
        kind = refused.kind or _ANTHROPIC_KINDS.get(status, "invalid_request_error" if status < 500 else "api_error")
        return {"type": "error", "error": {"type": kind, "message": refused.message}, "request_id": request_id}
    if face == "xai":
        return {"code": refused.code or "Client specified an invalid argument", "error": refused.message}
    if face == "deepseek" and status == 401:
        kind, code = "authentication_error", "invalid_request_error"
    else:
        kind = refused.kind or _OPENAI_KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
        code = refused.code or _OPENAI_CODES.get(status, "")
    return {"error": {"message": refused.message, "type": kind, "param": refused.param, "code": code or None}}
