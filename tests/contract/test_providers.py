"""One contract for every kind of provider and each of its surfaces, on a real socket, through the governed front door.

The rows of `FAILURES` say what a provider may do wrong and what the caller, the audit and the ledger must then say.
"""

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import msgspec
import pytest
from tests.flows.front import CHAT, EMBEDDINGS, FINISHES, MESSAGES, RESPONSES, TERMINAL, Call, World, asking, world
from tests.harness import Site, free_ports
from tests.upstream import CREDENTIALS, Entry
from tests.upstream.faces import hashed
from tests.upstream.speech import SENTENCE

from securellm.audit import tail
from securellm.core.errors import Code
from securellm.core.surfaces import FREE, Manner, Surface, manner_of
from securellm.providers import KINDS

PATHS = {
    Surface.CHAT: CHAT,
    Surface.RESPONSES: RESPONSES,
    Surface.MESSAGES: MESSAGES,
    Surface.MESSAGE_TOKENS: "/v1/messages/count_tokens",
    Surface.EMBEDDINGS: EMBEDDINGS,
    Surface.RERANK: "/v1/rerank",
    Surface.GENERATE_CONTENT: "/v1beta/models/{model}:generateContent",
    Surface.CONTENT_TOKENS: "/v1beta/models/{model}:countTokens",
    Surface.EMBED_CONTENT: "/v1beta/models/{model}:embedContent",
    Surface.BATCH_EMBED_CONTENTS: "/v1beta/models/{model}:batchEmbedContents",
    Surface.OLLAMA_CHAT: "/api/chat",
    Surface.OLLAMA_GENERATE: "/api/generate",
    Surface.OLLAMA_EMBED: "/api/embed",
}
SPEAKING = frozenset(
    {
        Surface.CHAT,
        Surface.RESPONSES,
        Surface.MESSAGES,
        Surface.GENERATE_CONTENT,
        Surface.OLLAMA_CHAT,
        Surface.OLLAMA_GENERATE,
    }
)
"""Surfaces whose answer is text; they stream, too."""
NAMELESS = frozenset(
    {Surface.MESSAGE_TOKENS, Surface.CONTENT_TOKENS, Surface.EMBED_CONTENT, Surface.BATCH_EMBED_CONTENTS}
)
"""Surfaces whose answers do not say which model made them."""
EMBEDDING = frozenset({Surface.EMBEDDINGS, Surface.EMBED_CONTENT, Surface.BATCH_EMBED_CONTENTS, Surface.OLLAMA_EMBED})
FACES = {"openai-compatible": "compatible"}
"""The face of the fake that stands for a kind, where it is not called the same."""

CASES = [
    pytest.param(kind, surface, id=f"{kind}-{surface}")
    for kind, row in KINDS.items()
    if not row.demo_only
    for surface in row.surfaces
    if surface in PATHS
]
STREAMED = [case for case in CASES if case.values[1] in SPEAKING]
WITH_TOOLS = [case for case in STREAMED if case.values[1] is not Surface.OLLAMA_GENERATE]
MOCKED = [
    pytest.param(kind, surface, stream, id=f"{kind}-{surface}-{'stream' if stream else 'whole'}")
    for kind, row in KINDS.items()
    if row.demo_only
    for surface in row.surfaces
    for stream in (False, True)
    if not (stream and surface is Surface.EMBEDDINGS)
]
STATUSES = {
    401: Code.AUTH_ERROR,
    403: Code.AUTH_ERROR,
    429: Code.PROVIDER_RATE_LIMITED,
    500: Code.PROVIDER_ERROR,
    503: Code.PROVIDER_OVERLOADED,
    529: Code.PROVIDER_OVERLOADED,
}
"""What the mock is asked to fail with."""

BILL: dict[str, Any] = {"input_tokens": 120, "output_tokens": 40}
"""What a whole answer of these tests is billed for, cached and reasoning tokens aside."""
PROMPT = "How is the weather there? " * 6
"""Long enough to be billed so much of: a provider that bills more than was reserved is not asked again."""
PER_TOKEN = {"input": 1_000, "cache_read": 100, "output": 2_000, "reasoning": 2_000}
"""Nanos, of every model of a test site."""

HASTE = {"first_byte": "100ms", "idle": "100ms", "total": "400ms"}
"""The timeouts that a route may be short of; each is tried on a route of its own."""
HASTE_US = {"first_byte": 100_000, "idle": 100_000, "total": 400_000}
_EARLY_US = 5_000
"""How much earlier than due a timer of the event loop may run: its own resolution, amply."""

TOOL_SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: dict[Surface, dict[str, Any]] = {
    Surface.CHAT: {"type": "function", "function": {"name": "get_weather", "parameters": TOOL_SCHEMA}},
    Surface.RESPONSES: {"type": "function", "name": "get_weather", "parameters": TOOL_SCHEMA},
    Surface.MESSAGES: {"name": "get_weather", "input_schema": TOOL_SCHEMA},
    Surface.GENERATE_CONTENT: {"functionDeclarations": [{"name": "get_weather", "parameters": TOOL_SCHEMA}]},
    Surface.OLLAMA_CHAT: {"type": "function", "function": {"name": "get_weather", "parameters": TOOL_SCHEMA}},
}
ARGUMENTS = {"city": "São Paulo"}


OF_OPENAI = (Surface.CHAT, Surface.RESPONSES, Surface.EMBEDDINGS)
OLLAMAS = (Surface.OLLAMA_CHAT, Surface.OLLAMA_GENERATE, Surface.OLLAMA_EMBED)
NAMING_ERRORS = tuple(surface for surface in PATHS if surface not in OLLAMAS)
"""Surfaces whose errors have a name; Ollama's are a text."""
LONG = tuple(surface for surface in PATHS if surface not in FREE and surface is not Surface.RERANK)
"""Surfaces whose whole answers are longer than a head and a few words."""
GOOGLE_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""What Google's errors are called, by their status."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One thing a provider does wrong, and what must come of it."""

    id: str
    knobs: dict[str, Any] = {}
    """How the fake behaves."""
    code: Code
    route: str = ""
    """The suffix of the model that is asked for, where it is not the plain one."""
    provider_code: dict[str, str] = {}
    """What `x-securellm-provider-code` says, by face; `*` is every other one that speaks OpenAI's dialects."""
    retry_after: str | None = None
    billed: bool = False
    """Whether the money stays presumed spent: bytes were sent, and the provider did not say no."""
    reached: bool = True
    """Whether the request reaches the provider at all."""
    begun: bool = False
    """Of a stream: whether it is the stream that breaks, so that the failure comes in an event."""
    streams: tuple[bool, ...] = (False, True)
    surfaces: tuple[Surface, ...] = tuple(PATHS)
    at_least_us: int = 0
    """How long it must have taken."""


# fmt: off
FAILURES = (
    Row(id="401", knobs={"status": 401, "message": "echo"}, code=Code.AUTH_ERROR,
        provider_code={"anthropic": "authentication_error", "*": "invalid_request_error"}),
    Row(id="401 with a code", knobs={"status": 401, "code": "invalid_api_key", "message": "echo"},
        code=Code.AUTH_ERROR, provider_code={"anthropic": "authentication_error", "*": "invalid_api_key"}),
    Row(id="402", knobs={"status": 402}, code=Code.PROVIDER_QUOTA,
        provider_code={"anthropic": "billing_error", "*": "insufficient_quota"}),
    Row(id="403", knobs={"status": 403}, code=Code.AUTH_ERROR,
        provider_code={"anthropic": "permission_error", "*": "permission_error"}),
    Row(id="429", knobs={"status": 429, "retry_after": "7"}, code=Code.PROVIDER_RATE_LIMITED, retry_after="7",
        provider_code={"anthropic": "rate_limit_error", "*": "rate_limit_exceeded"}),
    Row(id="429 out of credit", knobs={"status": 429, "code": "insufficient_quota"}, code=Code.PROVIDER_QUOTA,
        provider_code={"*": "insufficient_quota"}, surfaces=OF_OPENAI),
    Row(id="400 too long", knobs={"status": 400, "code": "context_length_exceeded", "message": "prompt is too long"},
        code=Code.CONTEXT_TOO_LONG, provider_code={"anthropic": "invalid_request_error",
                                                   "*": "context_length_exceeded"}),
    Row(id="400", knobs={"status": 400}, code=Code.BAD_REQUEST,
        provider_code={"anthropic": "invalid_request_error", "*": "invalid_request_error"}),
    Row(id="500", knobs={"status": 500}, code=Code.PROVIDER_ERROR,
        provider_code={"anthropic": "api_error", "*": "server_error"}),
    Row(id="503", knobs={"status": 503, "retry_after": "2"}, code=Code.PROVIDER_OVERLOADED, retry_after="2",
        provider_code={"anthropic": "api_error", "*": "server_error"}),
    Row(id="529", knobs={"status": 529}, code=Code.PROVIDER_OVERLOADED,
        provider_code={"anthropic": "overloaded_error", "*": "server_error"}),
    Row(id="504", knobs={"status": 504}, code=Code.TIMEOUT, billed=True,
        provider_code={"anthropic": "api_error", "*": "server_error"}),
    Row(id="524 of a proxy that stopped waiting", knobs={"status": 524, "html": True}, code=Code.PROVIDER_ERROR,
        billed=True),
    Row(id="502 of a load balancer", knobs={"status": 502, "html": True}, code=Code.PROVIDER_ERROR),
    Row(id="404 of a load balancer", knobs={"status": 404, "html": True}, code=Code.BAD_REPLY),
    Row(id="a redirect", knobs={"redirect": "elsewhere"}, code=Code.BAD_REPLY),
    Row(id="HTML that says 200", knobs={"html": True}, code=Code.BAD_REPLY, billed=True),
    Row(id="compressed unasked", knobs={"gzip": True}, code=Code.BAD_REPLY, billed=True, streams=(False,)),
    Row(id="a head without end", knobs={"head_bytes": 300_000}, code=Code.BAD_REPLY, billed=True),
    Row(id="cut in the head", knobs={"cut_byte": 40}, code=Code.TRUNCATED, billed=True),
    Row(id="closed unanswered", knobs={"close_unanswered": True}, code=Code.PROVIDER_UNREACHABLE, billed=True),
    Row(id="reset unanswered", knobs={"close_unanswered": True, "reset": True}, code=Code.PROVIDER_UNREACHABLE,
        billed=True),
    Row(id="malformed JSON", knobs={"garbage": True}, code=Code.BAD_REPLY, billed=True, begun=True),
    Row(id="cut in the body", knobs={"cut_byte": 420}, code=Code.TRUNCATED, billed=True, begun=True,
        streams=(False,), surfaces=LONG),
    Row(id="a cut stream", knobs={"cut_event": 2}, code=Code.TRUNCATED, billed=True, begun=True, streams=(True,)),
    Row(id="a reset stream", knobs={"cut_event": 2, "reset": True}, code=Code.TRUNCATED, billed=True, begun=True,
        streams=(True,)),
    Row(id="a stream that only seems whole", knobs={"cut_event": 2, "clean_cut": True}, code=Code.TRUNCATED,
        billed=True, begun=True, streams=(True,)),
    Row(id="an overload told in the stream", knobs={"error_event": 2, "code": "overloaded_error"},
        code=Code.PROVIDER_OVERLOADED, billed=True, begun=True, streams=(True,), surfaces=NAMING_ERRORS),
    Row(id="a failure told in the stream", knobs={"error_event": 2, "code": "server_error"},
        code=Code.PROVIDER_ERROR, billed=True, begun=True, streams=(True,)),
    Row(id="silence before the first byte", knobs={"hang": True}, route="-first_byte", code=Code.TIMEOUT, billed=True,
        at_least_us=HASTE_US["first_byte"]),
    Row(id="silence in the stream", knobs={"hang_event": 2}, route="-idle", code=Code.TIMEOUT, billed=True,
        begun=True, streams=(True,), at_least_us=HASTE_US["idle"]),
    Row(id="an answer without end", knobs={"queued": 20.0}, route="-total", code=Code.TIMEOUT, billed=True,
        begun=True, at_least_us=HASTE_US["total"]),
    Row(id="connect refused", route="-gone", code=Code.PROVIDER_UNREACHABLE, reached=False),
)
# fmt: on


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def opened(loop: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One application before one fake, for the whole table."""
    stack = AsyncExitStack()
    yield loop.run(stack.enter_async_context(world(tmp_path_factory.mktemp("contract"), every_kind)))
    loop.run(stack.aclose())


def every_kind(site: Site) -> None:
    """Each kind as a provider with a model on every route the table asks for."""
    closed = free_ports(1)[0]
    for kind, row in KINDS.items():
        if row.demo_only:
            site.provider(kind, kind=kind)
            for name in ("echo", "tool", "embed", "cut", *(f"error-{status}" for status in STATUSES)):
                site.model(f"{kind}-{name}", kind, upstream=name, retries=0)
            continue
        face = FACES.get(kind, kind)
        site.model(face, face, retries=0)
        site.model(f"{face}-embed", face, upstream="fake-embed", retries=0)
        for name, bound in HASTE.items():
            route = {"provider": face, "model": "fake-small", "timeouts": {name: bound}}
            site.model(f"{face}-{name}", retries=0, route=[route])
        site.provider(f"{face}-gone", kind=kind, base_url=f"http://127.0.0.1:{closed}/v1")
        if CREDENTIALS[face]:
            site.provider(f"{face}-gone", credential=f"env:FAKE_{face.upper()}_CREDENTIAL")
        site.model(f"{face}-gone", f"{face}-gone", retries=0)
    site.tenant("acme", budget="1000.00 USD")
    site.extra = "[cache]\nenabled = false"


class Asking(msgspec.Struct, frozen=True):
    """One request as a client of its surface sends it."""

    path: str
    body: dict[str, Any]
    query: str = ""


def request_for(kind: str, surface: Surface, *, route: str = "", stream: bool = False, tools: bool = False) -> Asking:
    model = FACES.get(kind, kind) + (route or ("-embed" if surface in EMBEDDING else ""))
    return request_to(model, surface, stream=stream, tools=tools)


def request_to(
    model: str, surface: Surface, *, text: str = PROMPT, stream: bool = False, tools: bool = False
) -> Asking:
    content = {"role": "user", "parts": [{"text": text}]}
    body: dict[str, Any]
    match surface:
        case Surface.GENERATE_CONTENT | Surface.CONTENT_TOKENS:
            body = {"contents": [content]}
        case Surface.EMBED_CONTENT:
            body = {"content": content}
        case Surface.BATCH_EMBED_CONTENTS:
            body = {"requests": [{"model": f"models/{model}", "content": content}]}
        case Surface.MESSAGE_TOKENS | Surface.OLLAMA_CHAT:
            body = {"model": model, "messages": [{"role": "user", "content": text}]}
        case Surface.OLLAMA_GENERATE:
            body = {"model": model, "prompt": text}
        case Surface.OLLAMA_EMBED:
            body = {"model": model, "input": text}
        case Surface.RERANK:
            body = {"model": model, "query": text, "documents": ["sun", {"text": "rain"}], "return_documents": True}
        case _:
            body = asking(PATHS[surface], text, model=model)
    if tools:
        body["tools"] = [TOOLS[surface]]
    path = PATHS[surface].replace("{model}", model)
    if surface is Surface.GENERATE_CONTENT:
        return Asking(path.replace(":g", ":streamG"), body, "alt=sse") if stream else Asking(path, body)
    if surface in (Surface.OLLAMA_CHAT, Surface.OLLAMA_GENERATE):
        return Asking(path, body if stream else body | {"stream": False})
    return Asking(path, body | {"stream": True} if stream else body)


def said_by(surface: Surface, body: Any) -> str:
    """The text of a whole answer."""
    match surface:
        case Surface.CHAT:
            return str(body["choices"][0]["message"]["content"])
        case Surface.MESSAGES:
            return "".join(block["text"] for block in body["content"] if block["type"] == "text")
        case Surface.GENERATE_CONTENT:
            return "".join(part["text"] for part in parts_of(body) if not part.get("thought"))
        case Surface.OLLAMA_CHAT:
            return str(body["message"]["content"])
        case Surface.OLLAMA_GENERATE:
            return str(body["response"])
        case _:
            return "".join(part["text"] for item in body["output"] for part in item.get("content", ()))


def parts_of(body: Any) -> list[Any]:
    """The parts of all candidates of one answer of Google's."""
    return [part for candidate in body.get("candidates", ()) for part in candidate.get("content", {}).get("parts", ())]


def said_in(surface: Surface, events: list[Any]) -> str:
    """The text of a stream."""
    match surface:
        case Surface.CHAT:
            deltas = [choice["delta"] for event in events for choice in event.get("choices", ())]
            return "".join(delta.get("content") or "" for delta in deltas)
        case Surface.MESSAGES:
            return "".join(event["delta"].get("text", "") for event in events if event["type"] == "content_block_delta")
        case Surface.GENERATE_CONTENT | Surface.OLLAMA_CHAT | Surface.OLLAMA_GENERATE:
            return "".join(said_by(surface, event) for event in events)
        case _:
            return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")


def tool_in(surface: Surface, body: Any) -> tuple[str, Any]:
    """The tool that a whole answer calls, and with what."""
    match surface:
        case Surface.CHAT:
            function = body["choices"][0]["message"]["tool_calls"][0]["function"]
            return function["name"], json.loads(function["arguments"])
        case Surface.MESSAGES:
            block = next(block for block in body["content"] if block["type"] == "tool_use")
            return block["name"], block["input"]
        case Surface.GENERATE_CONTENT:
            call = next(part["functionCall"] for part in parts_of(body) if "functionCall" in part)
            return call["name"], call["args"]
        case Surface.OLLAMA_CHAT:
            function = body["message"]["tool_calls"][0]["function"]
            return function["name"], function["arguments"]
        case _:
            item = next(item for item in body["output"] if item["type"] == "function_call")
            return item["name"], json.loads(item["arguments"])


def tool_of_stream(surface: Surface, events: list[Any]) -> tuple[str, Any]:
    """The tool that a stream calls, and with what."""
    match surface:
        case Surface.CHAT:
            deltas = [choice["delta"] for event in events for choice in event.get("choices", ())]
            pieces = [call["function"] for delta in deltas for call in delta.get("tool_calls") or ()]
            return pieces[0]["name"], json.loads("".join(piece.get("arguments", "") for piece in pieces))
        case Surface.MESSAGES:
            start = next(e for e in events if e["type"] == "content_block_start" and "name" in e["content_block"])
            deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
            return start["content_block"]["name"], json.loads("".join(d.get("partial_json", "") for d in deltas))
        case Surface.GENERATE_CONTENT:
            return tool_in(surface, {"candidates": [each for event in events for each in event.get("candidates", ())]})
        case Surface.OLLAMA_CHAT:
            return tool_in(surface, next(event for event in events if "tool_calls" in event["message"]))
        case _:
            item = next(e["item"] for e in events if e["type"] == "response.output_item.done")
            return item["name"], json.loads(item["arguments"])


def events_of(call: Call) -> list[Any]:
    """The stream's events as JSON, the terminal mark of the chat dialect left out."""
    if call.headers["content-type"] == "application/x-ndjson":
        return [json.loads(line) for line in call.body.splitlines() if line]
    data = [line[6:] for line in call.body.splitlines() if line.startswith(b"data: ")]
    return [json.loads(each) for each in data if each != b"[DONE]"]


def is_over(surface: Surface, call: Call) -> bool:
    """Whether the last that a stream says is that its answer is whole."""
    last = events_of(call)[-1]
    if surface is Surface.GENERATE_CONTENT:
        return all(candidate.get("finishReason") for candidate in last["candidates"])
    if surface in OLLAMAS:
        return last["done"] is True
    return any(mark in call.events[-1] for mark in TERMINAL)


FINISH = {
    Surface.CHAT: "stop",
    Surface.RESPONSES: "completed",
    Surface.MESSAGES: "end_turn",
    Surface.GENERATE_CONTENT: "STOP",
    Surface.OLLAMA_CHAT: "stop",
    Surface.OLLAMA_GENERATE: "stop",
}
FINISH_WITH_TOOL = {**FINISH, Surface.CHAT: "tool_calls", Surface.MESSAGES: "tool_use"}


def cost_of(usage: dict[str, int]) -> int:
    """Nanos, by the price of every model here."""
    return sum(count * PER_TOKEN[bucket] for bucket, count in usage.items() if count)


class Asked(msgspec.Struct, frozen=True):
    """A request that was answered, and all that is known of it."""

    call: Call
    outcome: dict[str, Any]
    settled: int
    presumed: int
    reached: Entry | None
    billed: dict[str, int]
    """What the provider itself put on its bill."""


async def ask(opened: World, asked: Asking, **how: Any) -> Asked:
    """Ask; afterwards nothing may be held, whatever happened."""
    settled, presumed = opened.money()
    before = len(opened.reached())
    call = await opened.ask(asked.path, asked.body, query=asked.query, **how)
    opened.upstream.forget_scripts()
    await opened.app.gates.journal.drain()
    await opened.upstream.quiet()
    assert opened.open_holds == 0
    reached = opened.reached()[before:]
    assert len(reached) <= 1, "one attempt only, and no redirect followed"
    bill = {}
    if reached:
        answer = next(e for e in opened.upstream.journal.entries("answer") if e.request == reached[0].order)
        bill = {bucket: count for bucket, count in (answer.usage or {}).items() if count}
    now_settled, now_presumed = opened.money()
    newest = [json.loads(line) for line in tail(opened.app.data.audit, 4)]
    outcomes = [record for record in newest if record["type"] == "OUTCOME" and record["request_id"] == call.request_id]
    assert len(outcomes) == 1, (call.status, call.body)
    return Asked(
        call,
        outcomes[0],
        now_settled - settled,
        now_presumed - presumed,
        reached[0] if reached else None,
        bill,
    )


def assert_recorded_whole(asked: Asked, provider: str, surface: Surface) -> None:
    """The OUTCOME of a good answer: what the provider billed, who served it, how long it took; and the ledger."""
    outcome = asked.outcome
    assert (outcome["status"], outcome["http_status"], outcome["code"]) == ("ok", 200, None)
    assert (outcome["provider"], outcome["attempts"], outcome["cost_known"]) == (provider, 1, True)
    assert {bucket: count for bucket, count in outcome["usage"].items() if count} == asked.billed
    assert asked.reached is not None
    assert outcome["model_served"] == (None if surface in NAMELESS else asked.reached.model)
    assert 0 <= outcome["first_byte_us"] <= outcome["duration_us"]
    assert (outcome["settled"], outcome["presumed"]) == (cost_of(asked.billed), 0)
    assert (asked.settled, asked.presumed) == (cost_of(asked.billed), 0)


def assert_only_our_credential(asked: Asked, opened: World, kind: str) -> None:
    """The provider got its own credential in its own header, and nothing of the client's."""
    entry = asked.reached
    assert entry is not None
    assert entry.refused is None
    credential = CREDENTIALS[FACES.get(kind, kind)]
    wanted = hashed(credential) if credential else None
    given = dict.fromkeys(("authorization", "x-api-key", "x-goog-api-key"))
    auth = KINDS[kind].auth
    if wanted is not None:
        given |= {"authorization": f"Bearer {wanted}"} if auth == "bearer" else {auth: wanted}
    assert {name: entry.header(name) for name in given} == given
    spelt = msgspec.json.encode(entry).decode() + entry.text
    assert opened.key not in spelt
    assert hashed(opened.key) not in spelt


def assert_envelope(surface: Surface, error: Any, row: Row, *, request_id: str) -> None:
    """An error as the SDKs of the caller's dialect expect it."""
    inside = error["error"]
    types = {400: "invalid_request_error", 429: "rate_limit_error", 503: "overloaded_error", 504: "timeout_error"}
    match manner_of(surface):
        case Manner.ANTHROPIC:
            assert set(error) == {"type", "error", "request_id"}
            assert (error["type"], error["request_id"]) == ("error", request_id)
            assert inside["type"] == types.get(row.code.spec.status, "api_error")
        case Manner.GOOGLE:
            assert (set(error), inside["code"]) == ({"error"}, row.code.spec.status)
            assert inside["details"][0]["metadata"]["code"] == row.code
            assert row.code.spec.remedy in inside["message"]
            return
        case Manner.OLLAMA:
            assert error["code"] == row.code
            assert row.code.spec.remedy in inside
            return
        case Manner.OPENAI:
            if "sequence_number" in error:
                assert (error["type"], error["code"]) == ("error", row.code)
            else:
                assert set(error) == {"error"}
            types |= {503: "service_unavailable_error"}
            assert inside["type"] == types.get(row.code.spec.status, "server_error")
    assert inside["code"] == row.code
    assert row.code.spec.remedy in inside["message"]


# What goes well


@pytest.mark.requirement("PR-1", "PR-3", "PR-9")
@pytest.mark.parametrize(("kind", "surface"), CASES)
def test_a_whole_answer_is_typed_and_billed_as_the_provider_billed_it(
    opened: World, loop: asyncio.Runner, kind: str, surface: Surface
) -> None:
    face = FACES.get(kind, kind)
    opened.behave(**BILL, cached=0 if face == "ollama" else 30, reasoning=0 if face == "ollama" else 11)
    asked = loop.run(ask(opened, request_for(kind, surface)))
    call, body = asked.call, asked.call.json()
    assert call.status == 200, call.body
    assert_recorded_whole(asked, face, surface)
    assert_only_our_credential(asked, opened, kind)
    assert (asked.outcome["usage"]["input"] > 0) == (surface not in FREE)
    assert call.headers["x-securellm-provider"] == face
    assert call.headers["x-securellm-cost-nanos"] == str(asked.settled)
    if surface not in SPEAKING:
        assert body.keys() & {"data", "results", "input_tokens", "totalTokens", "embedding", "embeddings"}
        return
    assert said_by(surface, body) == "".join(SENTENCE)
    assert asked.outcome["finish"] == FINISH[surface]
    assert asked.outcome["usage"]["output"] == BILL["output_tokens"]
    assert call.headers["x-securellm-model"] == "fake-small"


@pytest.mark.requirement("PR-1", "PR-3", "PR-9")
@pytest.mark.parametrize(("kind", "surface"), STREAMED)
def test_a_stream_is_relayed_to_its_end_and_billed_as_the_provider_billed_it(
    opened: World, loop: asyncio.Runner, kind: str, surface: Surface
) -> None:
    face = FACES.get(kind, kind)
    opened.behave(**BILL, cached=0 if face == "ollama" else 30, reasoning=0 if face == "ollama" else 11)
    asked = loop.run(ask(opened, request_for(kind, surface, stream=True)))
    assert asked.call.status == 200, asked.call.body
    assert said_in(surface, events_of(asked.call)) == "".join(SENTENCE)
    assert is_over(surface, asked.call)
    assert_recorded_whole(asked, face, surface)
    assert_only_our_credential(asked, opened, kind)
    assert asked.outcome["finish"] == FINISH[surface]
    assert asked.outcome["usage"]["output"] == BILL["output_tokens"]


@pytest.mark.requirement("PR-3", "PR-9")
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("kind", "surface"), WITH_TOOLS)
def test_a_tool_call_comes_through_with_its_arguments(
    opened: World, loop: asyncio.Runner, kind: str, surface: Surface, stream: bool
) -> None:
    asked = loop.run(ask(opened, request_for(kind, surface, tools=True, stream=stream)))
    assert asked.call.status == 200, asked.call.body
    called = tool_of_stream(surface, events_of(asked.call)) if stream else tool_in(surface, asked.call.json())
    assert called == ("get_weather", ARGUMENTS)
    assert_recorded_whole(asked, FACES.get(kind, kind), surface)
    assert asked.outcome["finish"] == FINISH_WITH_TOOL[surface]


@pytest.mark.requirement("PR-9", "SC-2")
@pytest.mark.parametrize("header", ["authorization", "x-api-key", "api-key", "x-goog-api-key"])
@pytest.mark.parametrize("kind", [kind for kind, row in KINDS.items() if not row.demo_only])
def test_however_the_client_sends_its_key_only_the_providers_own_credential_leaves(
    opened: World, loop: asyncio.Runner, kind: str, header: str
) -> None:
    surface = next(iter(KINDS[kind].surfaces))
    given = {header: f"Bearer {opened.key}" if header == "authorization" else opened.key, "cookie": f"k={opened.key}"}
    asked = loop.run(ask(opened, request_for(kind, surface), key="", headers=given))
    assert asked.call.status == 200, asked.call.body
    assert_only_our_credential(asked, opened, kind)


# What goes wrong


def failing(streamed: bool) -> list[Any]:
    """Each case of the table that fits: every row over every kind and surface."""
    return [
        pytest.param(*case.values, row, id=f"{case.id}-{row.id}")
        for case in (STREAMED if streamed else CASES)
        for row in FAILURES
        if streamed in row.streams and case.values[1] in row.surfaces
    ]


def fail(opened: World, loop: asyncio.Runner, kind: str, surface: Surface, row: Row, *, stream: bool = False) -> Asked:
    """Have the provider do what the row says, ask, and check all that does not depend on how the answer is sent."""
    face = FACES.get(kind, kind)
    knobs = dict(row.knobs)
    if knobs.get("message") == "echo":
        knobs["message"] = f"Incorrect key: {CREDENTIALS[face]}"
    if "redirect" in knobs:
        knobs["redirect"] = f"{opened.upstream.root}/openai/v1/chat/completions"
    if row.reached:
        opened.behave(**knobs)
    asked = loop.run(ask(opened, request_for(kind, surface, route=row.route, stream=stream)))
    outcome = asked.outcome
    assert outcome["status"] == ("truncated" if row.code is Code.TRUNCATED else "failed")
    assert (outcome["code"], outcome["http_status"], outcome["attempts"]) == (row.code, row.code.spec.status, 1)
    assert outcome["duration_us"] >= row.at_least_us - _EARLY_US
    assert (asked.reached is not None) == row.reached
    # The ledger: what a provider may have billed is covered, and what it surely has not costs nothing.
    spent = asked.settled + asked.presumed
    assert (outcome["settled"], outcome["presumed"]) == (asked.settled, asked.presumed)
    assert (asked.presumed > 0) == (row.billed and surface not in FREE)
    assert spent >= cost_of(asked.billed)
    assert row.billed or spent == 0
    if CREDENTIALS[face]:
        assert CREDENTIALS[face].encode() not in asked.call.body
        assert CREDENTIALS[face] not in json.dumps(outcome)
    return asked


def provider_code(row: Row, face: str, surface: Surface) -> str | None:
    """The provider's own code, as the caller sees it in a header."""
    manner = manner_of(surface)
    if manner is Manner.OLLAMA:
        return None
    if manner is Manner.GOOGLE and row.provider_code:
        return row.knobs.get("code") or GOOGLE_NAMES.get(row.knobs["status"], "UNKNOWN")
    if face == "xai" and surface is not Surface.MESSAGES:
        # xAI's envelope has one code, which our fake spells in words unless the test gives it one.
        return row.knobs.get("code")
    if face == "deepseek" and row.knobs.get("status") == 401:
        return "invalid_request_error"
    if manner is Manner.ANTHROPIC:
        return row.provider_code.get("anthropic")
    return row.provider_code.get("*")


@pytest.mark.requirement("PR-4", "PR-5", "PR-9", "GW-9")
@pytest.mark.parametrize(("kind", "surface", "row"), failing(streamed=False))
def test_a_failing_provider_becomes_one_of_our_codes_in_the_callers_dialect(
    opened: World, loop: asyncio.Runner, kind: str, surface: Surface, row: Row
) -> None:
    call = fail(opened, loop, kind, surface, row).call
    assert call.status == row.code.spec.status
    assert_envelope(surface, call.json(), row, request_id=call.request_id)
    assert_error_headers(call, kind, surface, row)


@pytest.mark.requirement("PR-4", "PR-5", "PR-9", "GW-8", "GW-9")
@pytest.mark.parametrize(("kind", "surface", "row"), failing(streamed=True))
def test_a_provider_that_fails_a_stream_never_seems_to_have_finished_it(
    opened: World, loop: asyncio.Runner, kind: str, surface: Surface, row: Row
) -> None:
    call = fail(opened, loop, kind, surface, row, stream=True).call
    if not row.begun:
        assert call.status == row.code.spec.status
        assert_envelope(surface, call.json(), row, request_id=call.request_id)
        assert_error_headers(call, kind, surface, row)
        return
    assert call.status == 200
    assert_envelope(surface, events_of(call)[-1], row, request_id=call.request_id)
    assert not any(mark in call.body for mark in (*TERMINAL, *FINISHES, b'"finishReason":"', b'"done":true'))


def assert_error_headers(call: Call, kind: str, surface: Surface, row: Row) -> None:
    headers = call.headers
    assert headers["content-type"] == "application/json"
    assert headers["x-securellm-code"] == row.code
    assert headers["x-should-retry"] == ("true" if row.code.spec.retryable else "false")
    assert headers.get("retry-after") == row.retry_after
    assert headers.get("x-securellm-provider-code") == provider_code(row, FACES.get(kind, kind), surface)


# The mock, which has no socket


@pytest.mark.requirement("PR-9")
@pytest.mark.parametrize(("kind", "surface", "stream"), MOCKED)
def test_the_mock_keeps_the_same_contract(
    opened: World, loop: asyncio.Runner, kind: str, surface: Surface, stream: bool
) -> None:
    if surface is Surface.EMBEDDINGS:
        whole = loop.run(ask(opened, request_to(f"{kind}-embed", surface)))
        assert whole.call.json()["data"][0]["embedding"]
    else:
        whole = loop.run(ask(opened, request_to(f"{kind}-echo", surface, text="to be echoed", stream=stream)))
        said = said_in(surface, events_of(whole.call)) if stream else said_by(surface, whole.call.json())
        assert said == "to be echoed"
        assert whole.outcome["finish"] == FINISH[surface]
        tool = loop.run(ask(opened, request_to(f"{kind}-tool", surface, stream=stream, tools=True)))
        called = tool_of_stream(surface, events_of(tool.call)) if stream else tool_in(surface, tool.call.json())
        assert called[0] == "get_weather"
        assert tool.outcome["finish"] == FINISH_WITH_TOOL[surface]
    assert (whole.call.status, whole.outcome["status"]) == (200, "ok")
    assert (whole.settled, whole.presumed) == (cost_of(whole.outcome["usage"]), 0)
    for status, code in STATUSES.items():
        failed = loop.run(ask(opened, request_to(f"{kind}-error-{status}", surface, stream=stream)))
        assert (failed.call.status, failed.outcome["code"]) == (code.spec.status, code)
        assert (failed.settled, failed.presumed) == (0, 0)
    if stream:
        cut = loop.run(ask(opened, request_to(f"{kind}-cut", surface, stream=True)))
        assert cut.outcome["status"] == "truncated"
        assert cut.presumed > 0
