"""The fake's Ollama in its own words: lines of JSON, objects for arguments, errors in one member."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.harness import Reply, request
from tests.upstream import FakeUpstream, marked

SAID = [{"role": "user", "content": "olá"}]
TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream().in_thread() as running:
        yield running


def chat(upstream: FakeUpstream, model: str = "fake", **members: Any) -> Reply:
    body = {"model": model, "messages": SAID, **members}
    return request(upstream.root, "POST", "/ollama/api/chat", body=body)


def lines(reply: Reply) -> list[dict[str, Any]]:
    assert reply.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in reply.body.splitlines()]


def test_it_streams_unless_told_not_to(upstream: FakeUpstream) -> None:
    streamed = lines(chat(upstream))
    assert upstream.requests()[-1].stream is True
    whole = chat(upstream, stream=False).json()
    assert "".join(line["message"]["content"] for line in streamed) == whole["message"]["content"]
    assert [line["done"] for line in streamed] == [False] * (len(streamed) - 1) + [True]
    figures = ("done_reason", "prompt_eval_count", "eval_count", "total_duration", "eval_duration")
    for name in figures:
        assert streamed[-1][name] == whole[name]
        assert name not in streamed[0]
    bill = upstream.answers()[-1].usage
    assert bill is not None
    assert (bill["input"], bill["output"]) == (whole["prompt_eval_count"], whole["eval_count"])


def test_a_calls_arguments_are_an_object(upstream: FakeUpstream) -> None:
    whole = chat(upstream, tools=[TOOL], stream=False).json()["message"]["tool_calls"]
    streamed = [line["message"]["tool_calls"] for line in lines(chat(upstream, tools=[TOOL]))[:-1]]
    assert whole[0]["function"] == streamed[0][0]["function"]
    assert whole[0]["function"]["arguments"] == {"city": "São Paulo"}
    answered = [
        *SAID,
        {"role": "assistant", "content": "", "tool_calls": whole},
        {"role": "tool", "tool_name": "weather", "content": "sol"},
    ]
    assert chat(upstream, tools=[TOOL], messages=answered, stream=False).json()["message"]["content"]
    whole[0]["function"]["arguments"] = "{}"
    refused = chat(upstream, messages=answered)
    assert refused.status == 400
    assert "cannot unmarshal string" in refused.json()["error"]


@pytest.mark.parametrize(
    ("members", "status", "said"),
    [
        ({"model": ""}, 400, "model is required"),
        ({"model": "no-such"}, 404, "model 'no-such' not found"),
        ({"messages": [{"role": "developer", "content": "x"}]}, 400, "invalid role"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, 400, "cannot unmarshal array"),
        ({"messages": [{"role": "user", "content": "x", "images": ["%"]}]}, 400, "base64"),
        ({"format": "xml"}, 400, "invalid format"),
        ({"think": "deeply"}, 400, "invalid think value"),
        ({"stream": "no"}, 400, "cannot unmarshal string"),
        ({"options": {"num_predict": "2"}}, 400, "num_predict"),
    ],
)
def test_it_refuses_in_one_member(upstream: FakeUpstream, members: dict[str, Any], status: int, said: str) -> None:
    reply = chat(upstream, **members)
    assert reply.status == status
    assert list(reply.json()) == ["error"]
    assert said in reply.json()["error"]


def test_options_formats_and_thoughts_are_honoured(upstream: FakeUpstream) -> None:
    short = chat(upstream, stream=False, options={"num_predict": 2}).json()
    assert (short["done_reason"], short["eval_count"]) == ("length", 2)
    assert chat(upstream, stream=False, options={"num_predict": -1}).json()["done_reason"] == "stop"
    assert chat(upstream, stream=False, options={"stop": ["!"]}).json()["message"]["content"] == "Olá"
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    assert json.loads(chat(upstream, stream=False, format=schema).json()["message"]["content"]) == {"n": 3}
    assert json.loads(chat(upstream, stream=False, format="json").json()["message"]["content"])
    thinking = lines(chat(upstream, think="high"))
    assert "".join(line["message"].get("thinking", "") for line in thinking) == "Let me think."
    model = marked("fake", thinking=True)
    assert "thinking" in chat(upstream, model, stream=False).json()["message"]
    assert "thinking" not in chat(upstream, model, stream=False, think=False).json()["message"]


def test_a_stream_breaks_with_a_line(upstream: FakeUpstream) -> None:
    reply = chat(upstream, marked("fake", error_event=2, message="out of memory"))
    assert reply.status == 200
    assert lines(reply)[-1] == {"error": "out of memory"}


def test_what_only_loads_the_model_is_one_line_without_a_bill(upstream: FakeUpstream) -> None:
    assert chat(upstream, messages=[]).json()["done_reason"] == "load"
    assert chat(upstream, messages=[], keep_alive=0).json()["done_reason"] == "unload"
    assert upstream.answers()[-1].usage is None


def test_a_prompt_is_completed(upstream: FakeUpstream) -> None:
    picture = base64.b64encode(b"png").decode()
    body: dict[str, object] = {"model": "fake", "prompt": "olá", "images": [picture]}
    streamed = lines(request(upstream.root, "POST", "/ollama/api/generate", body=body))
    whole = request(upstream.root, "POST", "/ollama/api/generate", body={**body, "stream": False}).json()
    assert "".join(line["response"] for line in streamed) == whole["response"]
    assert whole["context"] == streamed[-1]["context"]
    raw = request(upstream.root, "POST", "/ollama/api/generate", body={**body, "stream": False, "raw": True})
    assert "context" not in raw.json()


def test_embeddings_are_a_list_of_lists(upstream: FakeUpstream) -> None:
    for given, count in (("um", 1), (["um", "dois"], 2), ([], 0)):
        reply = request(upstream.root, "POST", "/ollama/api/embed", body={"model": "fake-embed", "input": given})
        assert [len(vector) for vector in reply.json()["embeddings"]] == [16] * count
    wrong = request(upstream.root, "POST", "/ollama/api/embed", body={"model": "fake-embed", "input": 5})
    assert (wrong.status, wrong.json()) == (400, {"error": "invalid input type"})


def test_what_is_installed_can_be_asked(upstream: FakeUpstream) -> None:
    names = [row["name"] for row in request(upstream.root, "GET", "/ollama/api/tags").json()["models"]]
    assert "fake-small:latest" in names
    assert request(upstream.root, "GET", "/ollama/api/version").json()["version"]
    shown = request(upstream.root, "POST", "/ollama/api/show", body={"model": "fake-small"}).json()
    assert "tools" in shown["capabilities"]


@pytest.mark.parametrize(
    ("knobs", "done"),
    [
        ({"no_done": True}, [False] * 8),
        ({"after_done": True}, [False] * 8 + [True, False]),
        ({"unknown_event": True}, [False] * 9 + [True]),
        ({"duplicate_event": 8}, [False] * 8 + [True, True]),
        ({"swap_events": 7}, [False] * 7 + [True, False]),
        ({"cut_event": 3, "clean_cut": True}, [False] * 3),
        ({"line_ending": "crlf", "split_utf8": True}, [False] * 8 + [True]),
    ],
)
def test_its_stream_goes_wrong_as_asked(upstream: FakeUpstream, knobs: dict[str, object], done: list[bool]) -> None:
    found = lines(chat(upstream, marked("fake", **knobs)))
    assert [line["done"] for line in found] == done
