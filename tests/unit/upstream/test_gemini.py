"""The fake's Gemini: Google's words, Google's strictness."""

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from tests.harness import Reply, request
from tests.upstream import CREDENTIALS, FakeUpstream, marked

KEY = {"x-goog-api-key": CREDENTIALS["gemini"]}
SAID: list[dict[str, Any]] = [{"role": "user", "parts": [{"text": "olá"}]}]
WEATHER = {"name": "weather", "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}}}
NEWS = {"name": "news", "parametersJsonSchema": {"type": "object", "properties": {}, "additionalProperties": False}}
TOOLS = [{"functionDeclarations": [WEATHER, NEWS]}]


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream().in_thread() as running:
        yield running


def generate(
    upstream: FakeUpstream,
    model: str = "fake",
    *,
    verb: str = "generateContent",
    version: str = "v1beta",
    headers: dict[str, str] = KEY,
    **members: Any,
) -> Reply:
    path = f"/gemini/{version}/models/{quote(model, safe='')}:{verb}"
    return request(upstream.root, "POST", path, headers=headers, body={"contents": SAID, **members})


def chunks(reply: Reply) -> list[dict[str, Any]]:
    assert reply.body.endswith(b"\r\n\r\n")
    return [json.loads(data) for data in reply.events]


def stream(upstream: FakeUpstream, model: str = "fake", **members: Any) -> list[dict[str, Any]]:
    return chunks(generate(upstream, model, verb="streamGenerateContent?alt=sse", **members))


def parts(value: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = value["candidates"][0]["content"]["parts"]
    return found


@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_a_whole_answer_is_shaped_as_google_documents_it(upstream: FakeUpstream, version: str) -> None:
    model = marked("fake", input_tokens=100, cached=40, image_input=20, reasoning=5, tool_use=7)
    reply = generate(upstream, model, version=version)
    assert (reply.status, reply.headers["x-gemini-service-tier"]) == (200, "standard")
    assert "x-request-id" not in reply.headers
    value = reply.json()
    assert parts(value) == [{"text": "Olá! The fake provider answers: ação ✓ 🎉."}]
    assert value["candidates"][0]["finishReason"] == "STOP"
    assert value["modelVersion"] == model
    assert value["usageMetadata"] == {
        "promptTokenCount": 100,
        "candidatesTokenCount": 14,
        "totalTokenCount": 126,
        "cachedContentTokenCount": 40,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 80},
            {"modality": "IMAGE", "tokenCount": 20},
        ],
        "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": 40}],
        "toolUsePromptTokenCount": 7,
        "toolUsePromptTokensDetails": [{"modality": "TEXT", "tokenCount": 7}],
        "thoughtsTokenCount": 5,
    }
    bill = upstream.answers()[-1].usage
    assert bill is not None
    assert (bill["input"], bill["cache_read"], bill["image_input"]) == (47, 40, 20)
    assert sum(bill.values()) == 126


def test_a_stream_counts_on_and_ends_without_a_marker(upstream: FakeUpstream) -> None:
    values = stream(upstream)
    assert "".join(parts(value)[0]["text"] for value in values) == "Olá! The fake provider answers: ação ✓ 🎉."
    assert [value["candidates"][0].get("finishReason") for value in values] == [None] * (len(values) - 1) + ["STOP"]
    counts = [value["usageMetadata"]["candidatesTokenCount"] for value in values]
    assert counts == sorted(counts)
    assert {value["responseId"] for value in values} == {values[0]["responseId"]}
    request_, answer = upstream.requests()[-1], upstream.answers()[-1]
    assert (request_.face, request_.model, request_.stream) == ("gemini", "fake", True)
    assert answer.usage is not None
    assert answer.usage["output"] == counts[-1]


def test_a_stream_without_alt_sse_is_one_array(upstream: FakeUpstream) -> None:
    reply = generate(upstream, verb="streamGenerateContent")
    assert reply.headers["content-type"].startswith("application/json")
    assert len(reply.json()) == len(stream(upstream))


@pytest.mark.parametrize(
    ("headers", "query", "status", "said"),
    [
        ({"x-goog-api-key": "wrong"}, "", 400, "API_KEY_INVALID"),
        ({}, "", 403, "PERMISSION_DENIED"),
        ({"authorization": f"Bearer {CREDENTIALS['gemini']}"}, "", 401, "UNAUTHENTICATED"),
        ({**KEY, "authorization": "Bearer other"}, "", 401, "UNAUTHENTICATED"),
        ({}, f"?key={CREDENTIALS['gemini']}", 401, "UNAUTHENTICATED"),
        (KEY, f"?key={CREDENTIALS['gemini']}", 401, "UNAUTHENTICATED"),
    ],
)
def test_the_key_stands_in_its_header_alone(
    upstream: FakeUpstream, headers: dict[str, str], query: str, status: int, said: str
) -> None:
    reply = generate(upstream, verb="generateContent" + query, headers=headers)
    assert reply.status == reply.json()["error"]["code"] == status
    assert said in reply.body.decode()


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"messages": []}, 'Unknown name "messages": Cannot find field.'),
        ({"generationConfig": {"max_tokens": 5}}, "Unknown name \"max_tokens\" at 'generation_config'"),
        ({"contents": []}, "contents is not specified"),
        ({"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}, "valid role: user, model"),
        ({"contents": [{"role": "user", "parts": []}]}, "must not be empty"),
        ({"contents": [{"role": "user", "parts": [{}]}]}, "required oneof field"),
        ({"contents": [{"role": "user", "parts": [{"text": 1}]}]}, "TYPE_STRING"),
        ({"contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "%"}}]}]}, "Base64"),
        ({"contents": [{"role": "user", "parts": [{"text": "a", "functionCall": {"name": "b"}}]}]}, "oneof"),
        ({"generationConfig": {"candidateCount": 9}}, "candidateCount"),
        ({"generationConfig": {"responseSchema": {"type": "STRING"}}}, "response_schema"),
        ({"tools": [{"functionDeclarations": [{**WEATHER, "parameters": {"$schema": "x"}}]}]}, "$schema"),
        ({"tools": [{"functionDeclarations": [{**WEATHER, **NEWS}]}]}, "mutually exclusive"),
        ({"toolConfig": {"functionCallingConfig": {"allowedFunctionNames": ["weather"]}}}, "ANY"),
    ],
)
def test_it_refuses_in_googles_words(upstream: FakeUpstream, members: dict[str, Any], said: str) -> None:
    reply = generate(upstream, **members)
    assert (reply.status, reply.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert said in reply.json()["error"]["message"]


def test_both_spellings_of_a_member_are_read(upstream: FakeUpstream) -> None:
    config = {"max_output_tokens": 2, "thinking_config": {"thinking_budget": 0}}
    reply = generate(upstream, generation_config=config, system_instruction={"parts": {"text": "be brief"}})
    assert reply.json()["candidates"][0]["finishReason"] == "MAX_TOKENS"
    twice = generate(upstream, generation_config=config, generationConfig={})
    assert twice.status == 400


def test_calls_are_parallel_and_are_answered_together(upstream: FakeUpstream) -> None:
    called = parts(generate(upstream, tools=TOOLS).json())
    assert [part["functionCall"]["name"] for part in called] == ["weather", "news"]
    assert called[0]["functionCall"]["args"] == {"city": "São Paulo"}
    assert called[0]["functionCall"]["id"] != called[1]["functionCall"]["id"]
    replies = [
        {"functionResponse": {"name": call["name"], "id": call["id"], "response": {"ok": True}}}
        for call in (part["functionCall"] for part in called)
    ]
    history = [*SAID, {"role": "model", "parts": called}]
    whole = generate(upstream, tools=TOOLS, contents=[*history, {"role": "user", "parts": replies}])
    assert "text" in parts(whole.json())[0]
    for wrong in (replies[:1], [replies[0], {"text": "and?"}], [replies[0], replies[0], replies[1]]):
        reply = generate(upstream, tools=TOOLS, contents=[*history, {"role": "user", "parts": wrong}])
        assert reply.status == 400
        assert "number of function response parts" in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("signature", "status", "said"),
    [
        ("as sent", 200, ""),
        (None, 400, "missing a thought_signature"),
        (base64.b64encode(b"forged").decode(), 400, "Corrupted thought signature."),
        ("skip_thought_signature_validator", 200, ""),
    ],
)
def test_a_thinking_model_wants_its_signature_back(
    upstream: FakeUpstream, signature: str | None, status: int, said: str
) -> None:
    model = marked("fake", thinking=True)
    called = parts(generate(upstream, model, tools=TOOLS).json())
    assert ["thoughtSignature" in part for part in called] == [True, False]
    if signature != "as sent":
        called[0] = {"functionCall": called[0]["functionCall"]}
        if signature is not None:
            called[0]["thoughtSignature"] = signature
    replies = [{"functionResponse": {"name": part["functionCall"]["name"], "response": {}}} for part in called]
    contents = [*SAID, {"role": "model", "parts": called}, {"role": "user", "parts": replies}]
    reply = generate(upstream, model, tools=TOOLS, contents=contents)
    assert reply.status == status
    assert said in reply.body.decode()


def test_a_signature_of_an_earlier_turn_may_be_left_out(upstream: FakeUpstream) -> None:
    call = {"functionCall": {"name": "weather", "args": {}}}
    reply = {"functionResponse": {"name": "weather", "response": {}}}
    turns = [*SAID, {"role": "model", "parts": [call]}, {"role": "user", "parts": [reply]}, *SAID]
    assert generate(upstream, marked("fake", thinking=True), contents=turns).status == 200


def test_thoughts_are_shown_when_asked_for(upstream: FakeUpstream) -> None:
    shown = stream(upstream, generationConfig={"thinkingConfig": {"includeThoughts": True}})
    assert [parts(value)[0].get("thought") for value in shown[:3]] == [True, True, None]
    assert parts(shown[-1])[0]["thoughtSignature"]
    hidden = generate(upstream, marked("fake", thinking=True)).json()
    assert len(parts(hidden)) == 1
    assert hidden["usageMetadata"]["thoughtsTokenCount"] == shown[-1]["usageMetadata"]["thoughtsTokenCount"]


def test_structured_answers_and_modalities(upstream: FakeUpstream) -> None:
    schema = {"type": "OBJECT", "properties": {"n": {"type": "INTEGER"}}}
    config: dict[str, object] = {"responseMimeType": "application/json", "responseSchema": schema}
    assert json.loads(parts(generate(upstream, generationConfig=config).json())[0]["text"]) == {"n": 3}
    config = {"responseModalities": ["TEXT", "IMAGE"]}
    picture = parts(generate(upstream, marked("fake", media_bytes=300), generationConfig=config).json())[-1]
    assert len(base64.b64decode(picture["inlineData"]["data"])) == 300


def test_several_candidates_share_a_stream(upstream: FakeUpstream) -> None:
    values = stream(upstream, generationConfig={"candidateCount": 2})
    assert [value["candidates"][0]["index"] for value in values[:4]] == [0, 1, 0, 1]
    assert sum("finishReason" in value["candidates"][0] for value in values) == 2


def test_a_blocked_prompt_has_no_candidates(upstream: FakeUpstream) -> None:
    model = marked("fake", blocked="PROHIBITED_CONTENT")
    for value in (generate(upstream, model).json(), *stream(upstream, model)):
        assert "candidates" not in value
        assert value["promptFeedback"] == {"blockReason": "PROHIBITED_CONTENT"}
        assert upstream.answers()[-1].usage is not None


def test_a_withheld_answer_has_no_content(upstream: FakeUpstream) -> None:
    last = stream(upstream, marked("fake", stop="SAFETY"))[-1]["candidates"][0]
    assert (last["finishReason"], "content" in last) == ("SAFETY", False)


def test_an_outage_says_when_to_come_back_in_its_body(upstream: FakeUpstream) -> None:
    reply = generate(upstream, marked("fake", status=429, retry_after="7"))
    assert reply.json()["error"]["status"] == "RESOURCE_EXHAUSTED"
    assert reply.json()["error"]["details"][0]["retryDelay"] == "7s"
    assert "retry-after" not in reply.headers
    unknown = generate(upstream, "no-such-model")
    assert (unknown.status, unknown.json()["error"]["status"]) == (404, "NOT_FOUND")


def test_a_stream_breaks_with_an_error(upstream: FakeUpstream) -> None:
    framed = generate(upstream, marked("fake", error_event=2), verb="streamGenerateContent?alt=sse")
    assert json.loads(framed.events[-1])["error"]["status"] == "UNAVAILABLE"
    raw = generate(upstream, marked("fake", error_event=2, raw_error=True), verb="streamGenerateContent?alt=sse")
    assert len(raw.events) == 2
    assert json.loads(raw.body.rpartition(b"\r\n\r\n")[2])["error"]["code"] == 503


def test_tokens_are_counted_without_a_bill(upstream: FakeUpstream) -> None:
    plain = generate(upstream, verb="countTokens")
    nested = {"generateContentRequest": {"model": "models/fake", "contents": SAID, "systemInstruction": SAID[0]}}
    path = "/gemini/v1beta/models/fake:countTokens"
    more = request(upstream.root, "POST", path, headers=KEY, body=nested)
    assert more.json()["totalTokens"] > plain.json()["totalTokens"]
    assert upstream.answers()[-1].usage is None


def test_embeddings_come_one_by_one_or_in_batches(upstream: FakeUpstream) -> None:
    content = {"parts": [{"text": "um"}]}
    path = "/gemini/v1beta/models/fake-embed"
    one = request(upstream.root, "POST", f"{path}:embedContent", headers=KEY, body={"content": content})
    rows = [{"model": "models/fake-embed", "content": content, "outputDimensionality": 8}] * 2
    many = request(upstream.root, "POST", f"{path}:batchEmbedContents", headers=KEY, body={"requests": rows})
    assert len(one.json()["embedding"]["values"]) == 16
    assert [len(row["values"]) for row in many.json()["embeddings"]] == [8, 8]
    assert many.json()["usageMetadata"]["promptTokenCount"] == 2
    rows[0] = {**rows[0], "model": "models/other"}
    assert (
        request(upstream.root, "POST", f"{path}:batchEmbedContents", headers=KEY, body={"requests": rows}).status == 400
    )


def test_models_are_listed_by_pages(upstream: FakeUpstream) -> None:
    first = request(upstream.root, "GET", "/gemini/v1beta/models?pageSize=2", headers=KEY).json()
    path = f"/gemini/v1beta/models?pageSize=2&pageToken={first['nextPageToken']}"
    rest = request(upstream.root, "GET", path, headers=KEY).json()
    assert len(first["models"]) + len(rest["models"]) == 3
    assert request(upstream.root, "GET", "/gemini/v1/models/fake-small", headers=KEY).json()["inputTokenLimit"]
    assert request(upstream.root, "GET", "/gemini/v1/models/no-such", headers=KEY).status == 404
