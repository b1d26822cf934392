"""Errors as RFC 9457 problems: every answer of the admin API that is not a success has this shape."""

import math
from collections.abc import Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from securellm.admin.browsing import Language, ProblemPage, quality_of
from securellm.admin.portuguese import in_portuguese
from securellm.core.errors import Code, Fault, GatewayError, Refusal
from securellm.storage import StorageConflict, StorageError
from securellm.telemetry.logs import logger, place_of

_log = logger("admin")

_LONGEST_NAME = 64
_LONGEST_PREFERENCE = 500
_UNPROCESSABLE = 422
_BY_STATUS = {404: Code.NOT_FOUND, 405: Code.METHOD_NOT_ALLOWED, 413: Code.BODY_TOO_LARGE}


class FieldProblem(BaseModel):
    """What is wrong with one member of the request; never its value."""

    field: str
    reason: str


class Problem(BaseModel):
    """An RFC 9457 problem."""

    model_config = ConfigDict(json_schema_extra={"required": ["type", "title", "status", "detail", "code", "remedy"]})

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable; what programs switch on.")
    remedy: str
    request_id: str
    param: str | None = None
    errors: list[FieldProblem] | None = None


class ProblemResponse(JSONResponse):
    media_type = "application/problem+json"


class Unacceptable(Refusal):
    """A body whose shape is right and whose content is not, with everything that is wrong in it."""

    def __init__(self, errors: Sequence[FieldProblem]) -> None:
        reason = f"{len(errors)} member(s) of the request are not valid"
        super().__init__(Code.INVALID_REQUEST, reason, param=errors[0].field)
        self.errors = tuple(errors)


def problem(
    error: GatewayError,
    *,
    request_id: str,
    status: int | None = None,
    errors: Sequence[FieldProblem] = (),
    allow: str | None = None,
    language: Language = "en",
    page: bool = False,
) -> Response:
    """The answer to `error`, in the language of who reads it. A `page` is for a browser."""
    code = error.code
    shown = status if status is not None else error.status
    body = Problem(
        type=f"urn:securellm-bridge:error:{code.value}",
        title=code.value.replace("_", " ").capitalize(),
        status=shown,
        detail=in_portuguese(error.reason) if language == "pt-BR" else error.reason,
        code=code.value,
        remedy=code.spec.remedy_pt if language == "pt-BR" else error.remedy,
        request_id=request_id,
        param=error.param,
        errors=list(errors) or None,
    )
    headers: dict[str, str] = {"content-language": language}
    if shown == 401:
        headers["www-authenticate"] = 'Bearer realm="admin"'
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after)))
    if allow is not None:
        headers["allow"] = allow
    if page:
        response = ProblemPage(
            code=body.code,
            reason=body.detail,
            remedy=body.remedy,
            request_id=request_id,
            language=language,
            status=shown,
        )
        response.headers.update(headers)
        return response
    return ProblemResponse(body.model_dump(exclude_none=True), status_code=shown, headers=headers)


async def answer_gateway_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)
    if isinstance(error, Unacceptable):
        return _problem(request, error, status=_UNPROCESSABLE, errors=error.errors)
    return _problem(request, error)


async def answer_http_error(request: Request, error: Exception) -> Response:
    """What the router itself refuses: unknown paths, wrong methods."""
    assert isinstance(error, HTTPException)
    code = _BY_STATUS.get(error.status_code, Code.INVALID_REQUEST)
    reasons = {
        Code.NOT_FOUND: "nothing is served at this path",
        Code.METHOD_NOT_ALLOWED: "this path does not take this method",
    }
    return _problem(
        request,
        Refusal(code, reasons.get(code, "the request cannot be read")),
        status=error.status_code,
        allow=_allowed(request) if code is Code.METHOD_NOT_ALLOWED else None,
    )


async def answer_validation_error(request: Request, error: Exception) -> Response:
    """What does not fit the schema. Values are never repeated; they may be secrets in the wrong place."""
    assert isinstance(error, RequestValidationError)
    errors = [_field_problem(item) for item in error.errors()]
    refusal = Refusal(
        Code.INVALID_REQUEST, f"{len(errors)} member(s) of the request are not valid", param=errors[0].field
    )
    return _problem(request, refusal, status=_UNPROCESSABLE, errors=errors)


async def answer_storage_error(request: Request, error: Exception) -> Response:
    """What contradicts the stored data, such as a name that is taken; or data that cannot be read."""
    return _problem(request, fault_of(error, request_id=request.state.request_id))


def fault_of(error: Exception, *, request_id: str) -> GatewayError:
    """What to answer for an exception that is none of ours: the server logs where it was, the caller learns nothing."""
    if isinstance(error, StorageConflict):
        return Refusal(Code.CONFLICT, error.reason)
    if isinstance(error, StorageError):
        _log.error("storage_failed", request_id=request_id, error=str(error))
        return Fault(Code.STORAGE_UNAVAILABLE, "what is stored cannot be read")
    _log.error("unexpected", request_id=request_id, error=type(error).__name__, where=place_of(error))
    return Fault(Code.INTERNAL, "an unexpected error stopped this request")


def language_of(header: str | None) -> Language:
    """What `Accept-Language` prefers among the two that we speak."""
    best: tuple[float, Language] = (0.0, "en")
    for item in (header or "")[:_LONGEST_PREFERENCE].split(","):
        tag, _, weight = item.strip().partition(";")
        name: Language | None = "pt-BR" if tag.lower().split("-")[0] == "pt" else None
        name = "en" if tag.lower().split("-")[0] in ("en", "*") else name
        if name is not None and (quality := quality_of(weight.strip()) if weight.strip() else 1.0) > best[0]:
            best = quality, name
    return best[1]


def _problem(
    request: Request,
    error: GatewayError,
    *,
    status: int | None = None,
    errors: Sequence[FieldProblem] = (),
    allow: str | None = None,
) -> Response:
    state = request.state
    # The edge has a record of it before it is answered.
    state.refusal = error
    return problem(
        error,
        request_id=state.request_id,
        status=status,
        errors=errors,
        allow=allow,
        language=state.language,
        page=state.page,
    )


def _allowed(request: Request) -> str:
    """Every method that is served at the request's path; the router itself names those of one route only."""
    methods: set[str] = set()
    for route in request.app.routes:
        match, _ = route.matches(request.scope)
        if match is not Match.NONE:
            methods |= route.methods
    return ", ".join(sorted(methods))


def _field_problem(item: Any) -> FieldProblem:
    place = ".".join(str(step)[:_LONGEST_NAME] for step in item["loc"][1:]) or str(item["loc"][0])
    return FieldProblem(field=place, reason=str(item["msg"]))
