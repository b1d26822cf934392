"""Every error, in the caller's dialect: as an HTTP answer before the first byte, as a stream event after it."""

import json
import math

from securellm.core.errors import Code, Family, GatewayError, UpstreamFailure
from securellm.core.surfaces import Surface
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
    429: "rate_limit_error",
    431: "invalid_request_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def message(error: GatewayError, *, portuguese: bool) -> str:
    """The reason and what to do about it."""
    spec = error.code.spec
    return f"{error.reason}. {spec.remedy_pt if portuguese else spec.remedy}"


def envelope(error: GatewayError, surface: Surface | None, *, request_id: str, portuguese: bool = False) -> bytes:
    """The error body of the surface's dialect: Anthropic's for messages, OpenAI's for all else."""
    text = message(error, portuguese=portuguese)
    if surface is Surface.MESSAGES:
        return _dump(
            {
                "type": "error",
                "error": {
                    "type": _ANTHROPIC_TYPES.get(error.status, "api_error"),
                    "message": text,
                    "code": error.code.value,
                },
                "request_id": request_id,
            }
        )
    return _dump(
        {
            "error": {
                "message": text,
                "type": _OPENAI_TYPES.get(error.status, "server_error"),
                "param": error.param,
                "code": error.code.value,
            }
        }
    )


def error_headers(error: GatewayError) -> RawHeaders:
    """What tells an SDK whether and when to try again, and an operator which decision it was."""
    headers: RawHeaders = [
        (b"content-type", b"application/json"),
        (b"x-should-retry", b"true" if error.retryable else b"false"),
        (b"x-securellm-code", error.code.value.encode("ascii")),
    ]
    if error.retry_after is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after))).encode("ascii")))
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
    if surface is Surface.MESSAGES:
        body = envelope(error, surface, request_id=request_id, portuguese=portuguese)
        return b"event: error\ndata: " + body + b"\n\n"
    if surface is Surface.RESPONSES:
        data = _dump(
            {
                "type": "error",
                "code": error.code.value,
                "message": message(error, portuguese=portuguese),
                "param": error.param,
                "sequence_number": sequence + 1,
                # The SDKs raise on this member; without it they would hand the event on and end in silence.
                "error": {
                    "type": _OPENAI_TYPES.get(error.status, "server_error"),
                    "code": error.code.value,
                    "message": message(error, portuguese=portuguese),
                    "param": error.param,
                },
            }
        )
        return b"event: error\ndata: " + data + b"\n\n"
    return b"data: " + envelope(error, surface, request_id=request_id, portuguese=portuguese) + b"\n\n"


def is_ours(error: GatewayError) -> bool:
    """Whether the operator, not the caller or the provider, must act."""
    return error.code.spec.family is Family.FAULT or error.code is Code.AUTH_ERROR


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
