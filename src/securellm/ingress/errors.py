"""Every error, in the caller's manner: as an HTTP answer before the first byte, as a stream event after it."""

import json
import math
from collections.abc import Callable, Mapping

from securellm.core.errors import Code, GatewayError, UpstreamFailure
from securellm.core.surfaces import Manner, Surface, manner_of
from securellm.ingress.exchange import RawHeaders

_OPENAI_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    421: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
    503: "service_unavailable_error",
    504: "timeout_error",
}
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    415: "invalid_request_error",
    421: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_GOOGLE_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "RESOURCE_EXHAUSTED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    421: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    431: "INVALID_ARGUMENT",
    499: "CANCELLED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""Names of google.rpc.Code, nearest to each status."""
_DETAIL = "type.googleapis.com/google.rpc."


def message(error: GatewayError, *, portuguese: bool) -> str:
    """The reason and what to do about it."""
    spec = error.code.spec
    return f"{error.reason}. {spec.remedy_pt if portuguese else spec.remedy}"


def envelope(error: GatewayError, manner: Manner, *, request_id: str, portuguese: bool = False) -> bytes:
    """The error body as the caller's family of SDKs reads it."""
    if manner is Manner.PLAIN:
        return _dump(_plain(error, request_id, portuguese=portuguese))
    return _dump(_BODIES[manner](error, message(error, portuguese=portuguese), request_id))


def error_headers(error: GatewayError) -> RawHeaders:
    """What tells an SDK whether and when to try again, and an operator which decision it was."""
    headers: RawHeaders = [
        (b"content-type", b"application/json"),
        (b"x-should-retry", b"true" if error.retryable else b"false"),
        (b"x-securellm-code", error.code.value.encode("ascii")),
    ]
    if error.retry_after is not None:
        headers.append((b"retry-after", str(_whole_seconds(error.retry_after)).encode("ascii")))
        headers.append((b"retry-after-ms", str(max(1, math.ceil(error.retry_after * 1000))).encode("ascii")))
    if error.code is Code.METHOD_NOT_ALLOWED and error.param is not None:
        headers.append((b"allow", error.param.encode("ascii")))
    if error.decision_id is not None:
        headers.append((b"x-securellm-decision-id", error.decision_id.encode("ascii")))
    if isinstance(error, UpstreamFailure) and error.provider_code:
        safe = error.provider_code.encode("ascii", "replace")[:128]
        headers.append((b"x-securellm-provider-code", bytes(c if 32 <= c < 127 else 63 for c in safe)))
    return headers


def error_event(
    error: GatewayError, surface: Surface, *, request_id: str, sequence: int, portuguese: bool = False
) -> bytes:
    """The event that ends a stream which cannot end well. No finish reason and no terminal event follows it."""
    manner = manner_of(surface)
    body = envelope(error, manner, request_id=request_id, portuguese=portuguese)
    if surface is Surface.RESPONSES:
        said = _openai(error, message(error, portuguese=portuguese), request_id)["error"]
        # The SDKs raise on the member `error`; without it they would hand the event on and end in silence.
        beside = {"type": "error", "sequence_number": sequence + 1, "error": said}
        body = _dump({**{name: value for name, value in said.items() if name != "type"}, **beside})
    if surface is Surface.RESPONSES or manner is Manner.ANTHROPIC:
        return b"event: error\ndata: " + body + b"\n\n"
    if manner is Manner.OLLAMA:
        return body + b"\n"
    return b"data: " + body + b"\n\n"


def _openai(
    error: GatewayError,
    text: str,
    request_id: str,  # noqa: ARG001 - one signature for all manners
) -> dict[str, dict[str, object]]:
    kind = _OPENAI_TYPES.get(error.status, "server_error")
    return {"error": {"message": text, "type": kind, "param": error.param, "code": error.code.value}}


def _anthropic(error: GatewayError, text: str, request_id: str) -> dict[str, object]:
    kind = _ANTHROPIC_TYPES.get(error.status, "api_error")
    said = {"type": kind, "message": text, "code": error.code.value}
    return {"type": "error", "error": said, "request_id": request_id}


def _google(error: GatewayError, text: str, request_id: str) -> dict[str, object]:
    """A google.rpc.Status. `error` comes first and alone, and `code` is a number: else the SDKs raise nothing."""
    details: list[dict[str, object]] = [
        {
            "@type": f"{_DETAIL}ErrorInfo",
            "reason": error.code.value.upper(),
            "domain": "securellm",
            "metadata": {"code": error.code.value},
        },
        {"@type": f"{_DETAIL}RequestInfo", "requestId": request_id},
    ]
    if error.param is not None and error.code is not Code.METHOD_NOT_ALLOWED:
        field = {"field": error.param, "description": error.reason}
        details.append({"@type": f"{_DETAIL}BadRequest", "fieldViolations": [field]})
    if error.retry_after is not None:
        details.append({"@type": f"{_DETAIL}RetryInfo", "retryDelay": f"{_whole_seconds(error.retry_after)}s"})
    status = _GOOGLE_STATUSES.get(error.status, "INTERNAL")
    return {"error": {"code": error.status, "message": text, "status": status, "details": details}}


def _ollama(error: GatewayError, text: str, request_id: str) -> dict[str, object]:  # noqa: ARG001 - one signature
    """A text, which is all that clients read; what machines need stands beside it."""
    return {"error": text, "code": error.code.value}


def _plain(error: GatewayError, request_id: str, *, portuguese: bool) -> dict[str, object]:
    """A problem in the gateway's own words (RFC 9457)."""
    spec = error.code.spec
    return {
        "type": f"urn:securellm-bridge:error:{error.code.value}",
        "title": error.code.value.replace("_", " ").capitalize(),
        "status": error.status,
        "code": error.code.value,
        "reason": error.reason,
        "remedy": spec.remedy_pt if portuguese else spec.remedy,
        "param": error.param,
        "request_id": request_id,
    }


_BODIES: Mapping[Manner, Callable[[GatewayError, str, str], Mapping[str, object]]] = {
    Manner.OPENAI: _openai,
    Manner.ANTHROPIC: _anthropic,
    Manner.GOOGLE: _google,
    Manner.OLLAMA: _ollama,
}


def _whole_seconds(wait: float) -> int:
    return max(1, math.ceil(wait))


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
