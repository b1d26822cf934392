"""One request as it arrives: parsed below HTTP, logged, then read as strictly as any provider reads it."""

import json
from typing import Any

from tests.upstream.faces import CREDENTIAL_HEADERS, Refused, face_of, hashed, route
from tests.upstream.forms import read_form


class Arrived:
    """One request as the parser delivers it."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[str, str]] = []
        self.body = bytearray()
        self.method = ""
        self.keep_alive = True
        self.version = "1.1"

    @property
    def path(self) -> str:
        return self.target.decode("latin-1")

    def header(self, name: str) -> str:
        return next((value for header, value in self.headers if header == name), "")

    def logged(self) -> dict[str, object]:
        """The fields of its log entry; credentials are hashed here and nowhere written."""
        model, stream = _in_path(self.path, *self._in_body())
        return {
            "face": face_of(self.path),
            "method": self.method,
            "path": self.path,
            "headers": tuple(
                (name, _hidden(value) if name in CREDENTIAL_HEADERS else value) for name, value in self.headers
            ),
            "body": bytes(self.body),
            "model": model if isinstance(model, str) else None,
            "stream": stream if isinstance(stream, bool) else None,
        }

    def _in_body(self) -> tuple[object, object]:
        """The model and whether to stream, as the body says, or None."""
        try:
            if self.header("content-type").startswith("multipart/"):
                form = read_form(self.header("content-type"), bytes(self.body))
                return form.get("model"), form.get("stream") == "true"
            decoded = json.loads(bytes(self.body))
            return decoded.get("model"), decoded.get("stream")
        except (Refused, ValueError, AttributeError, RecursionError):
            return None, None


def _in_path(path: str, model: object, stream: object) -> tuple[object, object]:
    """The model and whether to stream, where the path or a default says it instead of the body."""
    try:
        face = route("POST", path.partition("?")[0])
    except Refused:
        return model, stream
    if face.surface in ("ollama_chat", "ollama_generate") and stream is None:
        return model, True
    if "verb" in face.place:
        stream = face.place["verb"] == "streamGenerateContent"
    return face.place.get("model", model), stream


def _hidden(value: str) -> str:
    scheme, _, token = value.partition(" ")
    return f"{scheme} {hashed(token)}" if token else hashed(value)


def strict_json(body: bytes) -> dict[str, Any]:
    """The body as an object, read as strictly as any provider reads it. Raises `Refused` 400."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError("a member stands twice")
        return dict(pairs)

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=once, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise Refused(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(value, dict):
        raise Refused(400, "The body of your request must be a JSON object.")
    return value
