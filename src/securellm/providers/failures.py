"""Providers' errors in the words of our own enumeration, the provider's code kept."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

import msgspec

from securellm.core.document import Document, Value
from securellm.core.errors import Code, Refusal, UpstreamFailure
from securellm.providers.model import ProviderKind

_LONGEST_MESSAGE = 500
_CODE = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
_PLACE = re.compile(r"[A-Za-z0-9_.:/\[\]$-]{1,128}")
_LONGEST_WAIT = 86_400.0

_BY_NAME = {
    "insufficient_quota": Code.PROVIDER_QUOTA,
    "billing_error": Code.PROVIDER_QUOTA,
    "billing_hard_limit_reached": Code.PROVIDER_QUOTA,
    "billing_not_active": Code.PROVIDER_QUOTA,
    "context_length_exceeded": Code.CONTEXT_TOO_LONG,
    "request_too_large": Code.CONTEXT_TOO_LONG,
    "content_filter": Code.CONTENT_FILTERED,
    "content_policy_violation": Code.CONTENT_FILTERED,
    "image_content_policy_violation": Code.CONTENT_FILTERED,
    "misalignment_policy_violation": Code.CONTENT_FILTERED,
    "bio_policy": Code.CONTENT_FILTERED,
    "cyber_policy": Code.CONTENT_FILTERED,
    "moderation_blocked": Code.CONTENT_FILTERED,
    "authentication_error": Code.AUTH_ERROR,
    "permission_error": Code.AUTH_ERROR,
    "permission_denied": Code.AUTH_ERROR,
    "invalid_api_key": Code.AUTH_ERROR,
    "rate_limit_error": Code.PROVIDER_RATE_LIMITED,
    "rate_limit_exceeded": Code.PROVIDER_RATE_LIMITED,
    "overloaded_error": Code.PROVIDER_OVERLOADED,
    "overloaded": Code.PROVIDER_OVERLOADED,
    "server_is_overloaded": Code.PROVIDER_OVERLOADED,
    "slow_down": Code.PROVIDER_OVERLOADED,
    "timeout_error": Code.TIMEOUT,
    "vector_store_timeout": Code.TIMEOUT,
    "server_error": Code.PROVIDER_ERROR,
    "internal_server_error": Code.PROVIDER_ERROR,
    "api_error": Code.PROVIDER_ERROR,
    "invalid_request_error": Code.BAD_REQUEST,
    "not_found_error": Code.BAD_REQUEST,
    "invalid_prompt": Code.BAD_REQUEST,
    "model_not_found": Code.BAD_REQUEST,
    "unauthenticated": Code.AUTH_ERROR,
    "api_key_invalid": Code.AUTH_ERROR,
    "api_key_expired": Code.AUTH_ERROR,
    "api_key_service_blocked": Code.AUTH_ERROR,
    "api_key_ip_address_blocked": Code.AUTH_ERROR,
    "service_disabled": Code.AUTH_ERROR,
    "billing_disabled": Code.PROVIDER_QUOTA,
    "resource_exhausted": Code.PROVIDER_RATE_LIMITED,
    "unavailable": Code.PROVIDER_OVERLOADED,
    "deadline_exceeded": Code.TIMEOUT,
    "internal": Code.PROVIDER_ERROR,
    "invalid_argument": Code.BAD_REQUEST,
    "failed_precondition": Code.BAD_REQUEST,
    "out_of_range": Code.BAD_REQUEST,
    "not_found": Code.BAD_REQUEST,
}
"""Providers' own codes and types, lower case, that say more than the status (or stand where there is none)."""

_MORE_THAN_STATUS = frozenset({Code.PROVIDER_QUOTA, Code.CONTEXT_TOO_LONG, Code.CONTENT_FILTERED, Code.AUTH_ERROR})
"""What a 4xx may turn out to be by its name; the rest is told by the status."""

_BY_STATUS = {
    401: Code.AUTH_ERROR,
    402: Code.PROVIDER_QUOTA,
    403: Code.AUTH_ERROR,
    408: Code.TIMEOUT,
    413: Code.CONTEXT_TOO_LONG,
    429: Code.PROVIDER_RATE_LIMITED,
    503: Code.PROVIDER_OVERLOADED,
    504: Code.TIMEOUT,
    529: Code.PROVIDER_OVERLOADED,
}

_TOO_LONG = (
    "prompt is too long",
    "maximum context length",
    "exceed context limit",
    "context window",
    "exceeds the maximum number of tokens",
    "exceeds the context length",
)
"""How providers without a code of their own for it begin to say so."""

_OUT_OF_CREDIT = ("credit balance is too low", "credits are depleted")

_REASONS = {
    Code.AUTH_ERROR: "the provider refused its credential",
    Code.PROVIDER_QUOTA: "the provider account is out of quota or credit",
    Code.TIMEOUT: "the provider gave up waiting",
    Code.CONTEXT_TOO_LONG: "the prompt is too long for the model",
    Code.CONTENT_FILTERED: "the provider's own filter refused the content",
    Code.PROVIDER_RATE_LIMITED: "the provider limits the rate of requests",
    Code.PROVIDER_OVERLOADED: "the provider is overloaded",
    Code.BAD_REQUEST: "the provider refused the request",
    Code.PROVIDER_ERROR: "the provider failed",
}

_MESSAGE_MAY_BE_SHOWN = frozenset({Code.BAD_REQUEST, Code.CONTEXT_TOO_LONG, Code.CONTENT_FILTERED})
"""What the caller can correct. Any other message is the operator's affair and may echo the credential."""


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider's error body says."""

    code: str | None = None
    kind: str | None = None
    message: str = ""
    param: str | None = None
    retry_after: float | None = None


def failure(
    kind: ProviderKind,
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    now_us: int,
    redact: Callable[[str], str] | None = None,
) -> UpstreamFailure:
    """What an answer that is not a success means. `headers` have lower-case names.

    The provider's own message is part of the reason only where the caller can act on it, and only as `redact`
    returns it.
    """
    said = envelope(body)
    if status < 400:
        what = "redirected, which is never followed" if status >= 300 else f"answered with status {status}"
        return UpstreamFailure(Code.BAD_REPLY, f"the {kind.kind} provider {what}", provider_status=status)
    if said is None and 400 <= status < 500 and status not in _BY_STATUS:
        return UpstreamFailure(
            Code.BAD_REPLY,
            f"the {kind.kind} provider answered with status {status} and a body that is not its own error",
            provider_status=status,
        )
    said = said if said is not None else Envelope()
    wait = retry_after(headers, now_us=now_us)
    code = _code(said, status)
    reason = _REASONS[code]
    if redact is not None and said.message and code in _MESSAGE_MAY_BE_SHOWN:
        reason = f"{reason}: {redact(said.message)[:_LONGEST_MESSAGE]}"
    return UpstreamFailure(
        code,
        reason,
        provider_code=said.code or said.kind,
        provider_status=status,
        param=said.param if code in _MESSAGE_MAY_BE_SHOWN else None,
        retry_after=said.retry_after if wait is None else wait,
    )


def told(error: Value) -> UpstreamFailure:
    """What an error object means that came inside a success: in a stream, or as a body with status 200."""
    said = _envelope_of(error)
    code = _code(said, None)
    return UpstreamFailure(
        code,
        f"{_REASONS[code]}, after it had begun to answer",
        provider_code=said.code or said.kind,
        retry_after=said.retry_after,
    )


def envelope(body: bytes) -> Envelope | None:
    """The error in a body, in any provider's shape. None when there is none."""
    try:
        root = Document(body).root
    except Refusal:
        return None
    if isinstance(root, list) and len(root) == 1:
        root = root[0]  # As some servers answer where a list of events was due.
    if not isinstance(root, dict):
        return None
    error = root.get("error")
    if isinstance(error, dict):
        return _envelope_of(error)
    if error is None and "message" not in root and "detail" not in root:
        return None
    return _envelope_of(root)


def retry_after(headers: Mapping[str, str], *, now_us: int) -> float | None:
    """Seconds to wait as the provider asks, in `retry-after-ms` or `retry-after` (seconds or an HTTP date)."""
    in_millis = _number(headers.get("retry-after-ms"))
    if in_millis is not None:
        return min(in_millis / 1_000, _LONGEST_WAIT)
    written = headers.get("retry-after")
    seconds = _number(written)
    if seconds is None and written is not None:
        try:
            moment = parsedate_to_datetime(written)
            moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
            seconds = max(0.0, moment.timestamp() - now_us / 1_000_000)
        except (ValueError, OverflowError):
            return None
    return None if seconds is None else min(seconds, _LONGEST_WAIT)


def _code(said: Envelope, status: int | None) -> Code:
    named = _named(said)
    if status is None:
        return named or Code.PROVIDER_ERROR
    if status < 500 and named in _MORE_THAN_STATUS:
        return named
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return Code.PROVIDER_ERROR if status >= 500 else Code.BAD_REQUEST


def _named(said: Envelope) -> Code | None:
    codes = [_BY_NAME[name.lower()] for name in (said.code, said.kind) if name is not None and name.lower() in _BY_NAME]
    named = codes[0] if codes else None
    message = said.message[:_LONGEST_MESSAGE].lower()
    if named in {None, Code.BAD_REQUEST} and any(words in message for words in _TOO_LONG):
        return Code.CONTEXT_TOO_LONG
    if named in {None, Code.BAD_REQUEST, Code.PROVIDER_RATE_LIMITED} and any(
        words in message for words in _OUT_OF_CREDIT
    ):
        return Code.PROVIDER_QUOTA
    return named


def _envelope_of(error: Value) -> Envelope:
    if not isinstance(error, dict):
        return Envelope(message=error if isinstance(error, str) else "")
    message = next((error[name] for name in ("message", "error", "detail") if isinstance(error.get(name), str)), "")
    details = _details(error.get("details"))
    return Envelope(
        code=_name(error.get("code")) or _name(details.get("ErrorInfo", {}).get("reason")),
        kind=_name(error.get("type")) or _name(error.get("status")),
        message=str(message),
        param=_place(error.get("param")),
        retry_after=_delay(details.get("RetryInfo", {}).get("retryDelay")),
    )


def _details(given: Value) -> dict[str, dict[str, Value]]:
    """The details of a google.rpc error, by the name of their type."""
    found: dict[str, dict[str, Value]] = {}
    for detail in given if isinstance(given, list) else ():
        kind = detail.get("@type") if isinstance(detail, dict) else None
        if isinstance(detail, dict) and isinstance(kind, str):
            found.setdefault(kind.rpartition("google.rpc.")[2], detail)
    return found


def _delay(written: Value) -> float | None:
    """A duration as proto JSON writes it: `19.5s`."""
    seconds = _number(written.removesuffix("s")) if isinstance(written, str) else None
    return None if seconds is None else min(seconds, _LONGEST_WAIT)


def _name(value: Value) -> str | None:
    """A code as providers write them; whatever is longer or looser could carry content."""
    return value if isinstance(value, str) and _CODE.fullmatch(value) and _digits(value) <= 4 else None


def _place(value: Value) -> str | None:
    """A place in a request as providers write them, without what could be somebody's number."""
    return value if isinstance(value, str) and _PLACE.fullmatch(value) and _digits(value) <= 10 else None


def _digits(text: str) -> int:
    return sum(character.isdigit() for character in text)


def _number(written: str | None) -> float | None:
    if written is None:
        return None
    whole, _, fraction = written.strip().partition(".")
    if not (whole.isascii() and whole.isdecimal()) or not (fraction == "" or fraction.isdecimal()):
        return None
    return float(written) if len(written) < 20 else _LONGEST_WAIT
