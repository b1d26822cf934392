"""Calls to providers: what leaves, and what comes back in our own words."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from securellm.core.errors import Code, Fault, GatewayError, UpstreamFailure
from securellm.core.surfaces import KEPT, Surface
from securellm.providers import KINDS, Provider, Providers, Sender, UpstreamReply, build_request
from securellm.secrets import FixedCredential, SecretValue
from securellm.transport import Headers, OutboundRequest, Timeouts, parse_base_url

TIMEOUTS = Timeouts(connect=1, first_byte=1, idle=1, total=1)
JSON: Headers = ((b"content-type", b"application/json"),)
SSE: Headers = ((b"content-type", b"text/event-stream; charset=utf-8"),)


class StillClock:
    def now_us(self) -> int:
        return 0

    def monotonic(self) -> float:
        return 0.0


class CannedReply:
    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.body

    async def read(self, limit: int) -> bytes:
        if len(self.body) > limit:
            raise UpstreamFailure(Code.REPLY_TOO_LARGE, "too large")
        return self.body

    async def aclose(self) -> None:
        self.closed = True


class CannedSender:
    def __init__(self, reply: CannedReply) -> None:
        self.reply = reply
        self.sent: list[OutboundRequest] = []

    async def send(self, request: OutboundRequest, *, timeouts: Timeouts) -> UpstreamReply:
        self.sent.append(request)
        return self.reply


def provider(kind: str, *, credential: str | None = "sk-ours", sender: Sender | None = None) -> Provider:
    return Provider(
        id="p",
        kind=KINDS[kind],
        base=parse_base_url(KINDS[kind].default_base_url or "https://llm.example/base/v1"),
        credential=None if credential is None else FixedCredential(SecretValue(credential)),
        timeouts=TIMEOUTS,
        sender=sender or CannedSender(CannedReply(200, JSON, b"{}")),
    )


def headers_of(
    kind: str, surface: Surface, *, client: dict[str, str] | None = None, stream: bool = False, query: str = ""
) -> tuple[dict[str, str], OutboundRequest]:
    request = build_request(
        provider(kind),
        surface,
        b"{}",
        client_headers=client or {},
        request_id="req_1",
        traceparent="00-a-b-01",
        stream=stream,
        query=query,
    )
    headers = {name.decode(): value.decode() for name, value in request.headers}
    assert len(headers) == len(request.headers)
    return headers, request


def call(reply: CannedReply, *, stream: bool = False) -> UpstreamReply:
    providers = Providers([provider("openai", sender=CannedSender(reply))], clock=StillClock())
    return asyncio.run(
        providers.call("p", Surface.CHAT, b"{}", client_headers={}, request_id="r", traceparent="t", stream=stream)
    )


@pytest.mark.requirement("PR-1")
@pytest.mark.parametrize(
    ("kind", "surface", "path", "auth"),
    [
        ("openai", Surface.CHAT, "/v1/chat/completions", ("authorization", "Bearer sk-ours")),
        ("openai", Surface.RESPONSES, "/v1/responses", ("authorization", "Bearer sk-ours")),
        ("openai", Surface.EMBEDDINGS, "/v1/embeddings", ("authorization", "Bearer sk-ours")),
        ("anthropic", Surface.MESSAGES, "/v1/messages", ("x-api-key", "sk-ours")),
        ("xai", Surface.CHAT, "/v1/chat/completions", ("authorization", "Bearer sk-ours")),
        ("xai", Surface.RESPONSES, "/v1/responses", ("authorization", "Bearer sk-ours")),
        ("deepseek", Surface.CHAT, "/chat/completions", ("authorization", "Bearer sk-ours")),
        ("ollama", Surface.CHAT, "/v1/chat/completions", ("authorization", "Bearer sk-ours")),
        ("openai-compatible", Surface.CHAT, "/base/v1/chat/completions", ("authorization", "Bearer sk-ours")),
    ],
)
def test_each_kind_is_asked_at_its_own_path_with_its_own_credential(
    kind: str, surface: Surface, path: str, auth: tuple[str, str]
) -> None:
    headers, request = headers_of(kind, surface)
    assert (request.method, request.path, request.body) == ("POST", path, b"{}")
    assert headers[auth[0]] == auth[1]
    assert headers["content-type"] == "application/json"
    assert headers["accept"] == "application/json"
    assert headers["x-client-request-id"] == "req_1"
    assert headers["traceparent"] == "00-a-b-01"


@pytest.mark.requirement("PR-1")
def test_a_models_name_stays_inside_the_place_it_has_in_a_path() -> None:
    def path_of(model: str) -> str:
        return build_request(
            provider("gemini"),
            Surface.GENERATE_CONTENT,
            b"{}",
            client_headers={},
            request_id="r",
            traceparent="t",
            stream=False,
            model=model,
        ).path

    assert path_of("gemini-2.5-pro") == "/v1beta/models/gemini-2.5-pro:generateContent"
    assert path_of("tuned/a..b") == "/v1beta/models/tuned/a..b:generateContent"
    assert path_of("a?b#c%2e%2e/d") == "/v1beta/models/a%3Fb%23c%252e%252e/d:generateContent"
    for outside in ("..", ".", "../files", "a/../../b", "a/./b"):
        with pytest.raises(Fault):
            path_of(outside)


def test_the_callers_own_credentials_and_private_headers_never_travel_on() -> None:
    client = {
        "authorization": "Bearer virtual",
        "x-api-key": "virtual",
        "api-key": "virtual",
        "cookie": "c",
        "x-forwarded-for": "10.0.0.1",
        "host": "gateway",
        "idempotency-key": "k",
        "openai-organization": "theirs",
        "anthropic-version": "2026-10-21",
        "anthropic-beta": "a,b",
    }
    for kind, row in KINDS.items():
        for surface in set(row.surfaces) - KEPT:
            headers, _ = headers_of(kind, surface, client=client)
            assert "virtual" not in " ".join(headers.values())
            assert not {"cookie", "x-forwarded-for", "host", "idempotency-key", "openai-organization"} & headers.keys()


def test_a_client_chooses_its_api_version_and_betas() -> None:
    default, request = headers_of("anthropic", Surface.MESSAGES, query="beta=true&key=secret")
    assert default["anthropic-version"] == "2023-06-01"
    assert request.path == "/v1/messages?beta=true"
    chosen, _ = headers_of(
        "anthropic", Surface.MESSAGES, client={"anthropic-version": "2026-10-21", "anthropic-beta": "a,b"}
    )
    assert chosen["anthropic-version"] == "2026-10-21"
    assert chosen["anthropic-beta"] == "a,b"


def test_a_stream_is_asked_for_as_one() -> None:
    assert headers_of("openai", Surface.CHAT, stream=True)[0]["accept"] == "text/event-stream"


def test_a_kind_that_needs_a_credential_is_not_built_without_one() -> None:
    with pytest.raises(ValueError, match="provider p needs a credential"):
        provider("openai", credential=None)
    request = build_request(
        provider("ollama", credential=None),
        Surface.CHAT,
        b"{}",
        client_headers={},
        request_id="r",
        traceparent="t",
    )
    assert b"authorization" not in dict(request.headers)


@pytest.mark.parametrize("credential", ["sk\r\nx-evil: 1", "sk-ção", "sk\x00"])
def test_a_credential_that_no_header_can_hold_is_named_not_shown(credential: str) -> None:
    with pytest.raises(Fault) as caught:
        build_request(
            provider("openai", credential=credential),
            Surface.CHAT,
            b"{}",
            client_headers={},
            request_id="r",
            traceparent="t",
        )
    assert caught.value.code is Code.CREDENTIAL_UNAVAILABLE
    assert "sk" not in caught.value.reason


@pytest.mark.parametrize("provider_id", ["nobody", ""])
def test_an_unknown_provider_is_our_fault(provider_id: str) -> None:
    with pytest.raises(Fault):
        Providers([], clock=StillClock()).get(provider_id)


def test_a_success_is_handed_over_unread() -> None:
    for stream, headers in ((False, JSON), (False, ()), (True, SSE), (True, ())):
        reply = CannedReply(200, headers, b"{}")
        assert call(reply, stream=stream) is reply
        assert not reply.closed


@pytest.mark.requirement("PR-4")
@pytest.mark.parametrize(
    ("status", "headers", "body", "stream", "code"),
    [
        (500, JSON, b"{}", False, Code.PROVIDER_ERROR),
        (401, JSON, b'{"error":{"code":"invalid_api_key"}}', True, Code.AUTH_ERROR),
        (404, JSON, b"x" * 100_000, False, Code.BAD_REPLY),
        (301, (), b"", False, Code.BAD_REPLY),
        (201, JSON, b"{}", False, Code.BAD_REPLY),
        (200, ((b"content-type", b"text/html"),), b"<html>", False, Code.BAD_REPLY),
        (200, SSE, b"data: {}\n\n", False, Code.BAD_REPLY),
        (200, JSON, b"{}", True, Code.BAD_REPLY),
        (200, JSON, b'{"error":{"type":"overloaded_error"}}', True, Code.PROVIDER_OVERLOADED),
        (200, (*JSON, (b"content-encoding", b"gzip")), b"\x1f\x8b", False, Code.BAD_REPLY),
    ],
)
def test_any_other_answer_is_a_failure_and_is_closed(
    status: int, headers: Headers, body: bytes, stream: bool, code: Code
) -> None:
    reply = CannedReply(status, headers, body)
    with pytest.raises(GatewayError) as caught:
        call(reply, stream=stream)
    assert isinstance(caught.value, UpstreamFailure)
    assert caught.value.code is code
    assert reply.closed
