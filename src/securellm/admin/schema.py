"""The OpenAPI 3.1 document of the admin API: every parameter it reads and every answer it can give."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from securellm.admin.calls import GLASS
from securellm.admin.permissions import API_ROOT
from securellm.admin.problems import Problem
from securellm.admin.repeats import HEADER
from securellm.core.errors import Code

_EVERYWHERE = (Code.INVALID_HEADER, Code.MISDIRECTED, Code.INTERNAL)
_ALWAYS = (Code.ADMIN_REQUIRED, Code.RATE_LIMITED, Code.STORAGE_UNAVAILABLE, Code.AUDIT_UNAVAILABLE)
_READING = (Code.FORBIDDEN, Code.NOT_FOUND)
_BODY = (Code.REQUEST_TIMEOUT, Code.BODY_TOO_LARGE)
_CHANGING = (Code.CONFLICT,)
_UNPROCESSABLE = 422
_STATUSES = sorted({_UNPROCESSABLE, *(code.spec.status for code in Code)})
_METHODS = ("get", "put", "post", "delete", "patch")


def schema_of(app: FastAPI) -> dict[str, Any]:
    """The document of `app`, made once."""
    if app.openapi_schema is None:
        app.openapi_schema = _described(app)
    return app.openapi_schema


def _described(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version="3.1.0",
        description=app.description,
        routes=app.routes,
    )
    components = schema.setdefault("components", {})
    shapes = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        shapes.pop(name, None)
    shape = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    shapes.update(shape.pop("$defs", {}))
    shapes["Problem"] = shape
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An access token, a JWT or the host's token."},
        "one_time": {"type": "http", "scheme": "bearer", "description": "A set-up token or an invitation."},
    }
    components["responses"] = {f"Problem{status}": _problem(status) for status in _STATUSES}
    schema["security"] = [{"bearer": []}]
    for path, item in schema["paths"].items():
        for method in _METHODS:
            if method in item:
                _complete(path, method, item[method])
    return schema


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    for status, answer in list(responses.items()):
        # FastAPI announces its own shape of a validation error, which is never sent.
        if status == str(_UNPROCESSABLE):
            del responses[status]
        elif path.startswith(API_ROOT):
            answer.setdefault("headers", {})["X-Request-Id"] = {"schema": {"type": "string"}}
    for status in sorted(_statuses(path, method, operation)):
        responses.setdefault(str(status), {"$ref": f"#/components/responses/Problem{status}"})
    asked = operation.setdefault("parameters", [])
    if operation.get("x-precondition") or operation.get("x-precondition-optional"):
        asked.append(_header("If-Match", "The ETag of what was read.", required=bool(operation.get("x-precondition"))))
    if method == "post" and path.startswith(API_ROOT):
        asked.append(_header(HEADER, "A name for this request, so that sending it again does not do it twice."))
    if operation.get("x-four-eyes"):
        asked.append(_header(GLASS, "Why the host does alone what takes two people."))
    if not asked:
        del operation["parameters"]


def _statuses(path: str, method: str, operation: dict[str, Any]) -> set[int]:
    """Every status that the operation can refuse with."""
    codes = {*_EVERYWHERE}
    if path.startswith(API_ROOT):
        codes |= {*_ALWAYS, *_READING}
    statuses = {code.spec.status for code in codes}
    if operation.get("parameters") or "requestBody" in operation:
        statuses.add(_UNPROCESSABLE)
    if method != "get":
        statuses |= {code.spec.status for code in (*_CHANGING, *_BODY)}
    if method == "post":
        statuses |= {Code.IDEMPOTENT_MISMATCH.spec.status}
    if operation.get("x-precondition") or operation.get("x-precondition-optional"):
        statuses |= {Code.PRECONDITION_FAILED.spec.status, Code.PRECONDITION_REQUIRED.spec.status}
    return statuses


def _problem(status: int) -> dict[str, Any]:
    headers: dict[str, Any] = {
        "X-Request-Id": {"schema": {"type": "string"}},
        "Content-Language": {"schema": {"enum": ["en", "pt-BR"]}},
    }
    if status == Code.RATE_LIMITED.spec.status:
        headers["Retry-After"] = {"schema": {"type": "string"}}
    return {
        "description": f"An RFC 9457 problem, {status}",
        "headers": headers,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def _header(name: str, description: str, *, required: bool = False) -> dict[str, Any]:
    longest = 255 if name == HEADER else 1000
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": description,
        "schema": {"type": "string", "minLength": 1, "maxLength": longest, "pattern": "^[!-~]([ -~]*[!-~])?$"},
    }
