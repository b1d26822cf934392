"""The data plane described for machines: an OpenAPI 3.1 document made from what is served."""

import json
import re
from collections.abc import Iterable, Mapping
from functools import cache

from securellm.core.errors import Code
from securellm.core.surfaces import Manner, Surface, manner_of
from securellm.ingress import listings, personal
from securellm.ingress.headers import KEY_HEADERS
from securellm.ingress.kept import ID, PATHS, QUERY_VALUE, Row
from securellm.ingress.listings import LISTINGS, Listing
from securellm.ingress.personal import Personal
from securellm.ingress.routes import MODEL, ROUTES, Route
from securellm.ingress.schemas import (
    ERRORS,
    EVERY_MODEL,
    FILE,
    KEPT_REQUESTS,
    OBJECT,
    ONE_MODEL,
    PERSONAL_ANSWERS,
    PERSONAL_REQUESTS,
    REQUESTS,
    TEXT,
    Json,
    object_of,
    ref,
)

PATH = "/openapi.json"

_ABOUT = (
    "Every path speaks the API of the SDKs it is named after. Bodies are described as far as the gateway itself looks "
    "at them: all other members travel on, screened. A model's name stands in a path as it is configured, slashes "
    "included; below /openai/deployments, where it is one segment, a slash is written %2F."
)
_BY_HEADERS = (Manner.OPENAI, Manner.ANTHROPIC, Manner.GOOGLE)
"""Who shares a path, told apart by headers."""
_NEVER_ANSWERED = {
    # Only recorded.
    Code.CLIENT_DISCONNECTED,
    Code.UNKNOWN_OUTCOME,
    # Said in plain text, before a path is known.
    Code.HEADERS_TOO_LARGE,
    # The admin listener's.
    Code.ADMIN_REQUIRED,
    Code.MANAGED_BY_FILE,
}
_ON_LISTS = {400, 401, 404, 405, 429, 500, 503}
_ON_SHORT_BODIES = {408, 413, 415}
_STREAMED = {
    Surface.CHAT,
    Surface.RESPONSES,
    Surface.MESSAGES,
    Surface.IMAGES,
    Surface.IMAGE_EDITS,
    Surface.SPEECH,
    Surface.TRANSCRIPTIONS,
    Surface.OLLAMA_CHAT,
    Surface.OLLAMA_GENERATE,
}
_HEARD = {Surface.TRANSCRIPTIONS, Surface.AUDIO_TRANSLATIONS}
_VERSION = object_of(["version"], {"version": TEXT})
_WELL = object_of(["status"], {"status": {"enum": ["ok", "unavailable"]}})

_HEADERS: Mapping[str, tuple[str, str, Json]] = {
    "RequestId": ("x-request-id", "The id in records and logs.", TEXT),
    "DecisionId": ("x-securellm-decision-id", "Under which the decision is recorded, for known callers.", TEXT),
    "Code": ("x-securellm-code", "The code of the error.", ref("schemas", "Code")),
    "ShouldRetry": ("x-should-retry", "Whether trying again can help.", {"enum": ["true", "false"]}),
    "RetryAfter": ("retry-after", "Whole seconds after which it can, where that is known.", {"type": "integer"}),
    "Dropped": ("x-securellm-dropped", "What had no place in the provider's dialect, if anything.", TEXT),
}
_ON_ERRORS = ("Code", "ShouldRetry", "RetryAfter")
_ASKED: Mapping[str, tuple[str, str, Json]] = {
    "Provider": ("x-provider", "The one provider id that may answer.", TEXT),
    "Cache": ("x-securellm-cache", "`no-store` or `no-cache`.", TEXT),
    "Deadline": ("x-request-deadline", "Seconds the caller will wait.", {**TEXT, "pattern": r"^\d{1,8}(\.\d{1,3})?$"}),
    "Preferences": (personal.HEADER, "`apply`: answer a chat as its person prefers.", {"enum": [personal.APPLY]}),
    "IdempotencyKey": ("idempotency-key", "What the caller calls this request.", {**TEXT, "pattern": "^[ -~]{1,255}$"}),
}
_SCHEMES: Mapping[str, Json] = {
    "bearer": {"type": "http", "scheme": "bearer"},
    **{name: {"type": "apiKey", "in": "header", "name": name} for name in KEY_HEADERS},
}


def document() -> Json:
    """The whole document. Equal code, equal document: nothing of an installation stands in it."""
    paths: dict[str, Json] = {
        **{route.template: {"post": _governed(route)} for route in ROUTES.values()},
        **{template: {method.lower(): _kept(row) for method, row in rows.items()} for template, rows in PATHS.items()},
        **{listing.template: {_method(listing): _listed(listing)} for listing in LISTINGS.values()},
        **{
            template: {method.lower(): _personal(place, method) for method in place.methods}
            for template, place in personal.PATHS.items()
        },
    }
    for path, content in _OPEN.items():
        paths[path] = {"get": _open(path, content)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "SecureLLM Bridge: data plane",
            "version": "1",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{name: []} for name in _SCHEMES],
        "paths": paths,
        "components": {
            "securitySchemes": dict(_SCHEMES),
            "headers": {
                name: {"description": about, "schema": schema} for name, (_, about, schema) in _HEADERS.items()
            },
            "parameters": {
                name: {"name": header, "in": "header", "description": about, "schema": schema}
                for name, (header, about, schema) in _ASKED.items()
            },
            "schemas": _schemas(),
            "responses": {
                _error_name(manner, status): _error(manner, status)
                for manner in (*Manner, None)
                for status in _statuses()
            },
        },
    }


@cache
def written() -> bytes:
    """The document as it is served."""
    return json.dumps(document(), ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def _asked(*without: str) -> list[Json]:
    return [ref("parameters", name) for name in _ASKED if name not in without]


def _governed(route: Route) -> Json:
    manner = manner_of(route.surface)
    parameters = _asked(*(() if route.surface is Surface.CHAT else ("Preferences",)))
    if MODEL in route.template:
        parameters.append(_PATH_MODEL)
    if route.alt:
        forms = {"enum": [route.alt]}
        parameters.append({"name": "alt", "in": "query", "required": route.alt == "sse", "schema": forms})
    kind = "multipart/form-data" if route.form else "application/json"
    return {
        "operationId": _operation_id("post", route.template),
        "tags": [_family(manner)],
        "summary": f"The surface {route.surface.value}.",
        "parameters": parameters,
        "requestBody": {"required": True, "content": {kind: {"schema": ref("schemas", _request_name(route.surface))}}},
        "responses": {
            "200": {
                "description": "The provider's answer, screened.",
                "headers": _sent("RequestId", "DecisionId", "Dropped"),
                "content": _answers(route),
            },
            **_refusals(manner, _statuses()),
        },
    }


def _kept(row: Row) -> Json:
    errand = row.errand
    manner = manner_of(errand.surface)
    operation: Json = {
        "operationId": _operation_id(errand.method.lower(), row.template),
        "tags": [_family(manner)],
        "summary": f"The errand {errand.name}, on the surface {errand.surface.value}. No model is named.",
        "parameters": [
            *_asked("Cache", "Preferences"),
            *(
                {"name": name, "in": "path", "required": True, "schema": ref("schemas", "KeptId")}
                for name in re.findall(r"\{(\w+)\}", row.template)
            ),
            *(
                {"name": name, "in": "query", "schema": {**TEXT, "pattern": QUERY_VALUE}}
                for name in sorted(errand.query)
                if "[" not in name
            ),
        ],
        "responses": {
            "200": {
                "description": "The provider's answer, screened.",
                "headers": _sent("RequestId", "DecisionId"),
                "content": {"*/*": {}} if errand.dialect.raw else {"application/json": {"schema": OBJECT}},
            },
            **_refusals(manner, _statuses()),
        },
    }
    if errand.takes != "nothing":
        kind = "multipart/form-data" if errand.takes == "form" else "application/json"
        schema = KEPT_REQUESTS[errand.name]
        operation["requestBody"] = {"required": True, "content": {kind: {"schema": schema}}}
    return operation


_ASKED_OF_A_PERSON: Mapping[str, tuple[str, str]] = {
    "/preferences": ("Preferences", "What the person has stated; nothing is inferred."),
    "/memories": ("Memories", "What the person has agreed to have remembered."),
    "/memories/{memory_id}": ("Deleted", "One memory."),
    personal.PROCESS: ("Processed", "A text, processed as its person prefers: a chat like any other."),
}
"""Of each path of a person's own, what it answers with and what it is."""


def _personal(place: Personal, method: str) -> Json:
    answer, about = _ASKED_OF_A_PERSON[place.template]
    statuses = {"200"}
    if method == "DELETE":
        answer = "Deleted"
    elif method == "POST" and place.acts:
        answer, statuses = "Memory", {"200", "201"}
    asked = [] if place.acts else _asked("Preferences")
    if place.template == "/preferences" and method != "GET":
        asked.append({"name": "if-match", "in": "header", "schema": {**TEXT, "pattern": '^"[0-9]{1,19}"$'}})
    if "{memory_id}" in place.template:
        asked.append({"name": "memory_id", "in": "path", "required": True, "schema": TEXT})
    operation: Json = {
        "operationId": _operation_id(method.lower(), place.template),
        "tags": ["Personal"],
        "summary": about,
        "parameters": asked,
        "responses": {
            **{
                status: {
                    "description": "In the gateway's own shape.",
                    "headers": _sent("RequestId"),
                    "content": {"application/json": {"schema": ref("schemas", answer)}},
                }
                for status in sorted(statuses)
            },
            **_refusals(Manner.PLAIN, _statuses()),
        },
    }
    schema = PERSONAL_REQUESTS.get((place.template, method))
    if schema is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _answers(route: Route) -> Json:
    content: Json = {}
    if route.alt != "sse":
        content["application/json"] = {"schema": OBJECT}
    if route.alt == "sse" or route.surface in _STREAMED:
        lines = manner_of(route.surface) is Manner.OLLAMA
        content["application/x-ndjson" if lines else "text/event-stream"] = {}
    if route.surface is Surface.SPEECH:
        content["audio/*"] = {"schema": FILE}
    if route.surface in _HEARD:
        content["text/plain"] = {"schema": TEXT}
    return content


def _method(listing: Listing) -> str:
    return "post" if listing.in_body else "get"


def _listed(listing: Listing) -> Json:
    manners = _BY_HEADERS if listing.manner is None else (listing.manner,)
    if listing.answer is listings.version:
        schema = _VERSION
    else:
        names = [_model_name(manner, one=listing.answer is not listings.every) for manner in manners]
        schemas = [ref("schemas", name) for name in names]
        schema = schemas[0] if len(schemas) == 1 else {"anyOf": schemas}
    operation: Json = {
        "operationId": _operation_id(_method(listing), listing.template),
        "tags": ["Models"],
        "summary": "What this key may use.",
        "parameters": [_PATH_MODEL] if MODEL in listing.template else [],
        "responses": {
            "200": {
                "description": "In the caller's shape.",
                "headers": _sent("RequestId"),
                "content": {"application/json": {"schema": schema}},
            },
            **_refusals(listing.manner, _ON_LISTS | (_ON_SHORT_BODIES if listing.in_body else set())),
        },
    }
    if listing.in_body:
        body = object_of(["model"], {"model": ref("schemas", "Model")})
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation


_OPEN: Mapping[str, Json] = {
    **{
        path: {"application/json": {"schema": _WELL}}
        for path in (
            "/",
            "/livez",
            "/health/liveliness",
            "/health/liveness",
            "/readyz",
            "/health",
            "/health/readiness",
        )
    },
    "/metrics": {"text/plain": {"schema": TEXT}},
    PATH: {"application/json": {"schema": OBJECT}},
}
"""What needs no key."""
_READY = {"/readyz", "/health", "/health/readiness"}


def _open(path: str, content: Json) -> Json:
    answers: Json = {"200": {"description": "Well.", "headers": _sent("RequestId"), "content": content}}
    if path in _READY:
        answers["503"] = {"description": "Not ready.", "headers": _sent("RequestId"), "content": content}
    return {
        "operationId": _operation_id("get", path),
        "tags": ["Health"],
        "summary": "Without a key.",
        "security": [],
        "responses": {**answers, **_refusals(None, {405})},
    }


# Components

_PATH_MODEL: Json = {"name": "model", "in": "path", "required": True, "schema": ref("schemas", "Model")}


def _schemas() -> Json:
    return {
        "Model": {
            "type": "string",
            "pattern": "^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$",
            "description": "A name that GET /v1/models lists. In a body it may be left out: the default is meant.",
        },
        "KeptId": {
            "type": "string",
            "pattern": ID,
            "description": "An id that a provider gave out to this tenant; any other is answered with 404.",
        },
        "Code": {"enum": [code.value for code in Code if code not in _NEVER_ANSWERED]},
        **{_request_name(surface): schema for surface, schema in REQUESTS.items()},
        **{f"{_family(manner)}Error": schema for manner, schema in ERRORS.items()},
        **PERSONAL_ANSWERS,
        **{_model_name(manner, one=True): schema for manner, schema in ONE_MODEL.items()},
        **{_model_name(manner, one=False): schema for manner, schema in EVERY_MODEL.items()},
    }


def _family(manner: Manner) -> str:
    return manner.name.title()


def _error_name(manner: Manner | None, status: int) -> str:
    return f"{'Any' if manner is None else _family(manner)}{status}"


def _error(manner: Manner | None, status: int) -> Json:
    codes = [code.value for code in Code if code.spec.status == status and code not in _NEVER_ANSWERED]
    manners = _BY_HEADERS if manner is None else (manner,)
    schemas = [ref("schemas", f"{_family(each)}Error") for each in manners]
    return {
        "description": ", ".join(f"`{code}`" for code in codes),
        "headers": _sent("RequestId", *_ON_ERRORS),
        "content": {"application/json": {"schema": schemas[0] if len(schemas) == 1 else {"anyOf": schemas}}},
    }


def _refusals(manner: Manner | None, statuses: Iterable[int]) -> Json:
    return {str(status): ref("responses", _error_name(manner, status)) for status in sorted(statuses)}


def _statuses() -> list[int]:
    return sorted({code.spec.status for code in Code if code not in _NEVER_ANSWERED})


def _sent(*names: str) -> Json:
    return {_HEADERS[name][0]: ref("headers", name) for name in names}


def _request_name(surface: Surface) -> str:
    return f"{surface.value.title().replace('_', '')}Request"


def _model_name(manner: Manner, *, one: bool) -> str:
    return f"{_family(manner)}Model{'' if one else 's'}"


def _operation_id(method: str, template: str) -> str:
    return f"{method}_{re.sub('[^A-Za-z0-9]+', '_', template).strip('_')}"
