"""From an arrived request to an answer: routed, authenticated, parsed, answered by its dialect or refused."""

from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import msgspec
from tests.upstream.answer import Answer, Ask, Form
from tests.upstream.arrived import Arrived, strict_json
from tests.upstream.behaviour import STANDARD, read_mark
from tests.upstream.faces import Refused, authenticate, face_of, route
from tests.upstream.forms import read_form
from tests.upstream.models import unknown_model
from tests.upstream.surfaces import DIALECTS

if TYPE_CHECKING:
    from tests.upstream.server import FakeUpstream

_SINGLE = (
    "host",
    "content-type",
    "content-length",
    "authorization",
    "x-api-key",
    "x-goog-api-key",
    "anthropic-version",
    "user-agent",
)
_HTML = b"<!DOCTYPE html><html><head><title>Bad gateway</title></head><body>cloud edge: error 502</body></html>"


def understand(arrived: Arrived, upstream: "FakeUpstream") -> tuple[Ask | None, Refused | None]:
    """The request as a dialect sees it, and why a strict provider refuses it."""
    surface = ""
    try:
        for name in _SINGLE:
            if sum(header == name for header, _ in arrived.headers) > 1:
                raise Refused(400, f"The header {name} stands more than once.")
        if not arrived.header("host"):
            raise Refused(400, "The header host is missing.")
        path, _, rest = arrived.path.partition("?")
        query = dict(parse_qsl(rest, keep_blank_values=True))
        face = route(arrived.method, path)
        surface = face.surface
        authenticate(face, arrived.headers, query, upstream.credentials)
        body: dict[str, Any] = {}
        form = Form()
        kind = arrived.header("content-type").partition(";")[0].strip().lower()
        if face.takes == "form":
            form = read_form(arrived.header("content-type"), bytes(arrived.body))
        elif face.takes == "json" and kind != "application/json":
            raise Refused(400, "The content type must be application/json.")
        elif face.takes == "json":
            body = strict_json(bytes(arrived.body))
        model = face.place.get("model") or form.get("model") or body.get("model")
        model = model if isinstance(model, str) else ""
        ask = Ask(
            face=face.name,
            surface=surface,
            headers=tuple(arrived.headers),
            body=body,
            behaviour=upstream.behaviour_for(model or None),
            number=0,
            model=model,
            place=face.place,
            query=query,
            form=form,
            memory=upstream.memories[face.name],
        )
    except Refused as refused:
        name = face_of(arrived.path)
        if refused.code is None and refused.status == 401 and name != "gemini":
            refused.code = "invalid_api_key"
        given = Ask(face=name, surface=surface, headers=(), body={}, behaviour=STANDARD, number=0)
        return given, refused
    return ask, None


def prepare(ask: Ask, known: frozenset[str] | None) -> Answer:
    """What the provider answers when nothing goes wrong below HTTP. Raises `Refused`."""
    how = ask.behaviour
    base, _ = read_mark(ask.model)
    if base.startswith("no-such") or (known is not None and base and base not in known):
        raise unknown_model(ask)
    answer = DIALECTS[ask.surface](ask)
    if how.html:
        return Answer(status=how.status or 200, headers=(("content-type", "text/html"),), body=_HTML)
    if how.status is not None:
        phrase = HTTPStatus(how.status).phrase if how.status in set(HTTPStatus) else "Overloaded"
        raise Refused(how.status, how.message or phrase, code=how.code, details=_details(ask))
    if how.redirect is not None:
        return Answer(status=307, headers=(("location", how.redirect),))
    if how.garbage and answer.events is None:
        return msgspec.structs.replace(answer, body=b'{"id": "broken", ')
    return answer


def _details(ask: Ask) -> list[dict[str, object]]:
    """What Google adds to a refusal that may be tried again."""
    after = ask.behaviour.retry_after
    if ask.face != "gemini" or after is None:
        return []
    return [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{after}s"}]
