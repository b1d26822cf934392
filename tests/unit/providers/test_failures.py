"""Providers' errors in the words of our own enumeration."""

import json
from typing import Any

import pytest

from securellm.core.errors import Code, UpstreamFailure
from securellm.providers import KINDS, failure

NOW_US = 1_767_225_600_000_000  # 2026-01-01 00:00:00 UTC


def fail(
    status: int,
    body: dict[str, Any] | bytes = b"",
    headers: dict[str, str] | None = None,
    kind: str = "openai-compatible",
    *,
    shown: bool = True,
) -> UpstreamFailure:
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    redact = (lambda text: text.replace("sk-secret", "[secret]")) if shown else None
    return failure(KINDS[kind], status, headers or {}, data, now_us=NOW_US, redact=redact)


def said(message: str = "m", **error: Any) -> dict[str, Any]:
    return {"error": {"message": message, **error}}


def google(status: int, name: str, reason: str = "", *, message: str = "m", delay: str = "") -> dict[str, Any]:
    """An error as google.rpc writes it."""
    details: list[dict[str, Any]] = [{"@type": "type.googleapis.com/google.rpc.Help", "links": []}]
    if reason:
        details.append(
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}
        )
    if delay:
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
    return {"error": {"code": status, "message": message, "status": name, "details": details}}


HTML = b"<html><body>502 Bad Gateway</body></html>"
TABLE: list[tuple[str, int, dict[str, Any] | bytes, Code, str | None]] = [
    ("openai", 401, said(type="invalid_request_error", code="invalid_api_key"), Code.AUTH_ERROR, "invalid_api_key"),
    (
        "openai",
        403,
        said(code="unsupported_country_region_territory"),
        Code.AUTH_ERROR,
        "unsupported_country_region_territory",
    ),
    ("openai", 404, said(type="invalid_request_error", code="model_not_found"), Code.BAD_REQUEST, "model_not_found"),
    ("openai", 400, said(code="context_length_exceeded"), Code.CONTEXT_TOO_LONG, "context_length_exceeded"),
    ("openai", 400, said(code="content_policy_violation"), Code.CONTENT_FILTERED, "content_policy_violation"),
    (
        "openai",
        429,
        said(type="requests", code="rate_limit_exceeded"),
        Code.PROVIDER_RATE_LIMITED,
        "rate_limit_exceeded",
    ),
    (
        "openai",
        429,
        said(type="insufficient_quota", code="insufficient_quota"),
        Code.PROVIDER_QUOTA,
        "insufficient_quota",
    ),
    ("openai", 500, said(type="server_error", code=None), Code.PROVIDER_ERROR, "server_error"),
    ("openai", 503, said(code="slow_down"), Code.PROVIDER_OVERLOADED, "slow_down"),
    ("openai", 408, b"", Code.TIMEOUT, None),
    ("openai", 409, said(code="conflict"), Code.BAD_REQUEST, "conflict"),
    (
        "anthropic",
        400,
        {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "prompt is too long: 208310 tokens > 200000 maximum"},
        },
        Code.CONTEXT_TOO_LONG,
        "invalid_request_error",
    ),
    (
        "anthropic",
        400,
        {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "Your credit balance is too low to access the API"},
        },
        Code.PROVIDER_QUOTA,
        "invalid_request_error",
    ),
    (
        "anthropic",
        401,
        {"type": "error", "error": {"type": "authentication_error"}},
        Code.AUTH_ERROR,
        "authentication_error",
    ),
    ("anthropic", 402, {"type": "error", "error": {"type": "billing_error"}}, Code.PROVIDER_QUOTA, "billing_error"),
    (
        "anthropic",
        413,
        {"type": "error", "error": {"type": "request_too_large"}},
        Code.CONTEXT_TOO_LONG,
        "request_too_large",
    ),
    (
        "anthropic",
        429,
        {"type": "error", "error": {"type": "rate_limit_error"}},
        Code.PROVIDER_RATE_LIMITED,
        "rate_limit_error",
    ),
    ("anthropic", 504, {"type": "error", "error": {"type": "timeout_error"}}, Code.TIMEOUT, "timeout_error"),
    (
        "anthropic",
        529,
        {"type": "error", "error": {"type": "overloaded_error"}},
        Code.PROVIDER_OVERLOADED,
        "overloaded_error",
    ),
    (
        "deepseek",
        402,
        said("Insufficient Balance", type="unknown_error", code="invalid_request_error"),
        Code.PROVIDER_QUOTA,
        "invalid_request_error",
    ),
    ("deepseek", 422, said(code="invalid_parameter"), Code.BAD_REQUEST, "invalid_parameter"),
    (
        "xai",
        400,
        {"code": "Client specified an invalid argument", "error": "Incorrect API key"},
        Code.BAD_REQUEST,
        None,
    ),
    ("ollama", 404, {"error": "model 'x' not found"}, Code.BAD_REQUEST, None),
    ("ollama", 503, {"error": "server busy, please try again"}, Code.PROVIDER_OVERLOADED, None),
    ("ollama", 400, {"error": "the input length exceeds the context length"}, Code.CONTEXT_TOO_LONG, None),
    ("gemini", 400, google(400, "INVALID_ARGUMENT"), Code.BAD_REQUEST, "INVALID_ARGUMENT"),
    ("gemini", 400, google(400, "INVALID_ARGUMENT", "API_KEY_INVALID"), Code.AUTH_ERROR, "API_KEY_INVALID"),
    (
        "gemini",
        400,
        google(
            400,
            "INVALID_ARGUMENT",
            message="The input token count (9) exceeds the maximum number of tokens allowed (8).",
        ),
        Code.CONTEXT_TOO_LONG,
        "INVALID_ARGUMENT",
    ),
    ("gemini", 403, google(403, "PERMISSION_DENIED"), Code.AUTH_ERROR, "PERMISSION_DENIED"),
    ("gemini", 403, google(403, "PERMISSION_DENIED", "BILLING_DISABLED"), Code.PROVIDER_QUOTA, "BILLING_DISABLED"),
    ("gemini", 404, google(404, "NOT_FOUND"), Code.BAD_REQUEST, "NOT_FOUND"),
    ("gemini", 429, google(429, "RESOURCE_EXHAUSTED"), Code.PROVIDER_RATE_LIMITED, "RESOURCE_EXHAUSTED"),
    (
        "gemini",
        429,
        google(429, "RESOURCE_EXHAUSTED", message="Your prepayment credits are depleted."),
        Code.PROVIDER_QUOTA,
        "RESOURCE_EXHAUSTED",
    ),
    ("gemini", 500, google(500, "INTERNAL"), Code.PROVIDER_ERROR, "INTERNAL"),
    ("gemini", 503, google(503, "UNAVAILABLE"), Code.PROVIDER_OVERLOADED, "UNAVAILABLE"),
    ("gemini", 504, google(504, "DEADLINE_EXCEEDED"), Code.TIMEOUT, "DEADLINE_EXCEEDED"),
    (
        "gemini",
        429,
        json.dumps([google(429, "RESOURCE_EXHAUSTED")]).encode(),
        Code.PROVIDER_RATE_LIMITED,
        "RESOURCE_EXHAUSTED",
    ),
    (
        "openai-compatible",
        400,
        {
            "object": "error",
            "message": "This model's maximum context length is 4096 tokens.",
            "type": "BadRequestError",
            "code": 400,
        },
        Code.CONTEXT_TOO_LONG,
        "BadRequestError",
    ),
    (
        "openai-compatible",
        400,
        said(code="content_filter", innererror={"code": "x"}),
        Code.CONTENT_FILTERED,
        "content_filter",
    ),
    ("openai-compatible", 422, {"detail": [{"loc": ["body"]}]}, Code.BAD_REQUEST, None),
    ("openai-compatible", 502, HTML, Code.PROVIDER_ERROR, None),
    ("openai-compatible", 503, HTML, Code.PROVIDER_OVERLOADED, None),
    ("openai-compatible", 400, HTML, Code.BAD_REPLY, None),
    ("openai-compatible", 418, b"", Code.BAD_REPLY, None),
    ("openai-compatible", 403, HTML, Code.AUTH_ERROR, None),
    ("openai-compatible", 302, HTML, Code.BAD_REPLY, None),
    ("openai-compatible", 204, b"", Code.BAD_REPLY, None),
    ("openai-compatible", 599, b"\xff\xfe", Code.PROVIDER_ERROR, None),
]


@pytest.mark.requirement("PR-4")
@pytest.mark.parametrize(("kind", "status", "body", "code", "provider_code"), TABLE)
def test_every_providers_error_has_one_code_of_ours_and_keeps_its_own(
    kind: str, status: int, body: dict[str, Any] | bytes, code: Code, provider_code: str | None
) -> None:
    failed = fail(status, body, kind=kind)
    assert failed.code is code
    assert failed.provider_code == provider_code
    assert failed.provider_status == status
    assert failed.sent


@pytest.mark.parametrize("status", [401, 402, 403, 429, 500, 503])
def test_a_message_that_may_echo_the_credential_is_not_shown(status: int) -> None:
    failed = fail(status, said("Incorrect API key provided: sk-secret", param="sk-secret"))
    assert "Incorrect" not in failed.reason
    assert failed.param is None


def test_a_message_for_the_caller_is_shown_redacted_and_bounded() -> None:
    failed = fail(400, said("bad sk-secret value " + "x" * 5000, param="messages"))
    assert "bad [secret] value" in failed.reason
    assert len(failed.reason) < 600
    assert failed.param == "messages"
    assert fail(400, said("bad value"), shown=False).reason == "the provider refused the request"


@pytest.mark.parametrize("code", ["a text with spaces", "x" * 200, "ação", 7, None, {"a": 1}])
def test_a_code_that_is_none_is_not_kept(code: Any) -> None:
    assert fail(400, said(code=code)).provider_code is None


@pytest.mark.requirement("PR-4")
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "20"}, 20.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "20"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "20"}, 20.0),
        ({"retry-after": "Thu, 01 Jan 2026 00:01:30 GMT"}, 90.0),
        ({"retry-after": "Wed, 31 Dec 2025 23:00:00 GMT"}, 0.0),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "1."}, 1.0),
        ({"retry-after": "9" * 400}, 86_400.0),
        ({"retry-after": "tomorrow"}, None),
    ],
)
def test_the_wait_that_a_provider_asks_for_is_kept(headers: dict[str, str], seconds: float | None) -> None:
    assert fail(429, b"{}", headers).retry_after == seconds


def test_a_provider_without_credit_is_not_asked_again() -> None:
    assert not fail(429, said(code="insufficient_quota")).retryable
    assert fail(429, said(code="rate_limit_exceeded")).retryable


@pytest.mark.requirement("PR-4")
@pytest.mark.parametrize(
    ("delay", "headers", "seconds"),
    [
        ("19s", {}, 19.0),
        ("0.5s", {}, 0.5),
        ("3.000000001s", {}, 3.000000001),
        ("19s", {"retry-after": "2"}, 2.0),
        ("soon", {}, None),
        ("-1s", {}, None),
        ("9" * 40 + "s", {}, 86_400.0),
    ],
)
def test_a_wait_that_stands_in_the_error_itself_is_kept(
    delay: str, headers: dict[str, str], seconds: float | None
) -> None:
    assert fail(429, google(429, "RESOURCE_EXHAUSTED", delay=delay), headers, "gemini").retry_after == seconds


@pytest.mark.parametrize("details", [None, "x", [7, {"@type": 7}, {"@type": "RetryInfo", "retryDelay": {}}], {"a": 1}])
def test_odd_details_are_no_trouble(details: Any) -> None:
    failed = fail(429, said(status="RESOURCE_EXHAUSTED", details=details), kind="gemini")
    assert (failed.code, failed.retry_after) == (Code.PROVIDER_RATE_LIMITED, None)
