"""Every way to go wrong works on every surface that streams."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from tests.harness import Reply, request
from tests.upstream import CREDENTIALS, FakeUpstream, marked

_SAID = [{"role": "user", "content": "olá"}]
_TOOL = {"name": "t", "description": "", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}
SURFACES: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/openai/v1/chat/completions", {"messages": _SAID, "stream": True}),
    "responses": ("/openai/v1/responses", {"input": "olá", "stream": True}),
    "messages": ("/anthropic/v1/messages", {"messages": _SAID, "max_tokens": 50, "stream": True}),
    "gemini": (
        "/gemini/v1beta/models/{}:streamGenerateContent?alt=sse",
        {"contents": [{"parts": [{"text": "olá"}]}]},
    ),
    "ollama chat": ("/ollama/api/chat", {"messages": _SAID}),
    "ollama generate": ("/ollama/api/generate", {"prompt": "olá"}),
    "images": ("/openai/v1/images/generations", {"prompt": "x", "stream": True, "partial_images": 3}),
    "speech": ("/openai/v1/audio/speech", {"input": "x", "voice": "alloy", "stream_format": "sse"}),
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream().in_thread() as running:
        yield running


def ask(upstream: FakeUpstream, surface: str, **knobs: object) -> Reply:
    path, members = SURFACES[surface]
    model = marked("fake", **knobs)
    headers = {"anthropic-version": "2023-06-01"} if surface == "messages" else {}
    face = path.split("/")[1]
    if face == "gemini":
        headers["x-goog-api-key"] = CREDENTIALS["gemini"]
    else:
        headers["authorization"] = f"Bearer {CREDENTIALS[face] or 'any'}"
        members = {"model": model, **members}
    return request(upstream.root, "POST", path.format(quote(model, safe="")), body=members, headers=headers)


def frames(reply: Reply) -> list[str]:
    """The data of every event, whatever the framing."""
    if reply.headers["content-type"] == "application/x-ndjson":
        return reply.body.decode().splitlines()
    return reply.events


def plain(reply: Reply) -> list[object]:
    """The events without what is different each time."""
    unlike = ("id", "created", "created_at", "responseId", "modelVersion", "model", "item_id", "obfuscation")

    def same(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: same(below) for name, below in value.items() if name not in unlike}
        return [same(item) for item in value] if isinstance(value, list) else value

    return [same(json.loads(data)) if data.startswith("{") else data for data in frames(reply)]


@pytest.mark.parametrize("surface", SURFACES)
def test_events_are_doubled_swapped_and_cut(upstream: FakeUpstream, surface: str) -> None:
    usual = plain(ask(upstream, surface))
    assert len(usual) >= 3
    assert plain(ask(upstream, surface, duplicate_event=1)) == [usual[0], *usual[1:2] * 2, *usual[2:]]
    assert plain(ask(upstream, surface, swap_events=1)) == [usual[0], usual[2], usual[1], *usual[3:]]
    assert plain(ask(upstream, surface, cut_event=2, clean_cut=True)) == usual[:2]
    assert len(plain(ask(upstream, surface, unknown_event=True))) == len(usual) + 1
    assert plain(ask(upstream, surface, write_size=7, split_utf8=True)) == usual
    assert plain(ask(upstream, surface, line_ending="crlf")) == usual


@pytest.mark.parametrize("surface", SURFACES)
def test_a_stream_breaks_in_its_dialect(upstream: FakeUpstream, surface: str) -> None:
    usual = plain(ask(upstream, surface))
    broken = plain(ask(upstream, surface, error_event=2, message="broke"))
    assert broken[:2] == usual[:2]
    assert len(broken) == 3
    assert "broke" in json.dumps(broken[2])
    garbage = frames(ask(upstream, surface, garbage=True))
    assert garbage[1] == "{not json"
    assert upstream.answers()[-1].whole


@pytest.mark.parametrize("surface", SURFACES)
def test_a_cut_stream_costs_no_more_than_a_whole_one(upstream: FakeUpstream, surface: str) -> None:
    ask(upstream, surface)
    ask(upstream, surface, cut_event=2, clean_cut=True)
    whole, cut = (entry.usage for entry in upstream.answers()[-2:])
    assert whole is not None
    assert cut is not None
    assert cut.get("output", 0) <= whole.get("output", 0)
    assert {name: count for name, count in cut.items() if name != "output"} == {
        name: count for name, count in whole.items() if name != "output"
    }


def test_chat_calls_arrive_in_turns_or_under_one_index(upstream: FakeUpstream) -> None:
    tools = [{"type": "function", "function": {**_TOOL, "name": name}} for name in "ab"]
    seen: list[list[int]] = []
    for knobs in ({}, {"interleave": True}, {"shared_index": True}):
        body = {"model": marked("fake", **knobs), "messages": _SAID, "stream": True, "tools": tools}
        reply = request(upstream.root, "POST", "/openai/v1/chat/completions", key=CREDENTIALS["openai"], body=body)
        deltas = [json.loads(data)["choices"][0]["delta"] for data in reply.events[:-1]]
        seen.append([call["index"] for delta in deltas for call in delta.get("tool_calls", ())])
    usual, mixed, shared = seen
    assert usual == sorted(usual)
    assert mixed[:4] == [0, 1, 0, 1]
    assert sorted(mixed) == usual
    assert shared == [0] * len(usual)


@pytest.mark.parametrize("written", ["", "{}"])
def test_empty_arguments_are_spelled_as_asked(upstream: FakeUpstream, written: str) -> None:
    model = marked("fake", empty_arguments=written)
    tools: list[dict[str, Any]] = [{"type": "function", "function": _TOOL}]
    body = {"model": model, "messages": _SAID, "tools": tools}
    key = CREDENTIALS["openai"]
    whole = request(upstream.root, "POST", "/openai/v1/chat/completions", key=key, body=body).json()
    assert whole["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == written
    native = request(upstream.root, "POST", "/ollama/api/chat", body={**body, "stream": False}).json()
    assert native["message"]["tool_calls"][0]["function"].get("arguments") == ({} if written else None)
    path = f"/gemini/v1/models/{quote(model, safe='')}:generateContent"
    asked = {"contents": [{"parts": [{"text": "x"}]}], "tools": [{"functionDeclarations": [_TOOL]}]}
    google = request(upstream.root, "POST", path, headers={"x-goog-api-key": CREDENTIALS["gemini"]}, body=asked).json()
    call = google["candidates"][0]["content"]["parts"][0]["functionCall"]
    assert call.get("args") == ({} if written else None)


def test_sound_and_pictures_are_counted_apart(upstream: FakeUpstream) -> None:
    knobs = {"input_tokens": 100, "audio_input": 30, "output_tokens": 10, "audio_output": 20}
    body = {"model": marked("fake", **knobs), "messages": _SAID}
    reply = request(upstream.root, "POST", "/openai/v1/chat/completions", key=CREDENTIALS["openai"], body=body)
    usage = reply.json()["usage"]
    assert usage["prompt_tokens_details"]["audio_tokens"] == 30
    assert usage["completion_tokens_details"]["audio_tokens"] == 20
    bill = upstream.answers()[-1].usage
    assert bill is not None
    assert (bill["input"], bill["audio_input"], bill["output"], bill["audio_output"]) == (70, 30, 10, 20)
    assert sum(bill.values()) == usage["total_tokens"]
