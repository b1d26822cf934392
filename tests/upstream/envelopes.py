"""The body of an error, in each provider's own words."""

from tests.upstream.faces import OLLAMA_NATIVE, Refused

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
_GOOGLE_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def envelope(face: str, surface: str, refused: Refused, *, request_id: str) -> dict[str, object]:
    """The error body this provider sends."""
    status = refused.status
    if face == "gemini":
        return google(refused)
    if surface in OLLAMA_NATIVE:
        return {"error": refused.message}
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


def google(refused: Refused) -> dict[str, object]:
    """A google.rpc.Status in JSON."""
    status = refused.code or _GOOGLE_STATUSES.get(refused.status, "UNKNOWN")
    error: dict[str, object] = {"code": refused.status, "message": refused.message, "status": status}
    if refused.details:
        error["details"] = list(refused.details)
    return {"error": error}
