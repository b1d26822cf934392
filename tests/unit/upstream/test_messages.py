"""The fake's Anthropic: versions, signatures, the prompt cache, its own tools, structured answers, batches."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import anthropic
import pytest
from tests.harness import Reply, request
from tests.upstream import CREDENTIALS, FakeUpstream, marked

SAID: list[dict[str, Any]] = [{"role": "user", "content": "olá"}]
TOOL = {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
NEWS = {"name": "news", "input_schema": {"type": "object"}}
OLD, NEW = "2023-06-01", "2026-10-21"


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream().in_thread() as running:
        yield running


@pytest.fixture
def client(upstream: FakeUpstream) -> Iterator[anthropic.Anthropic]:
    root = f"{upstream.root}/anthropic"
    with anthropic.Anthropic(base_url=root, api_key=CREDENTIALS["anthropic"], max_retries=0) as made:
        yield made


def ask(
    upstream: FakeUpstream,
    model: str = "fake",
    *,
    path: str = "/v1/messages",
    headers: Mapping[str, str] = {},
    without: tuple[str, ...] = (),
    **members: Any,
) -> Reply:
    body = {"model": model, "max_tokens": 2000, "messages": SAID, **members}
    given = {"x-api-key": CREDENTIALS["anthropic"], "anthropic-version": OLD, **headers}
    kept = {name: value for name, value in body.items() if name not in without}
    return request(upstream.root, "POST", f"/anthropic{path}", body=kept, headers=given)


def refused(reply: Reply) -> str:
    assert reply.status == 400
    message: str = reply.json()["error"]["message"]
    return message


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
def test_the_newer_version_knows_no_sampling(upstream: FakeUpstream, name: str) -> None:
    sampling: dict[str, Any] = {name: 1}
    assert ask(upstream, **sampling).status == 200
    assert name in refused(ask(upstream, headers={"anthropic-version": NEW}, **sampling))


def test_the_newer_version_wants_documents_from_the_user_alone(upstream: FakeUpstream) -> None:
    paper = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}
    for role, status in (("user", 200), ("assistant", 400)):
        history = [*SAID, {"role": role, "content": [paper]}]
        assert ask(upstream, headers={"anthropic-version": NEW}, messages=history).status == status
        assert ask(upstream, messages=history).status == 200


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"messages": [{"role": "assistant", "content": "x"}]}, "first message"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]}, "non-empty"),
        ({"reasoning_effort": "low"}, "Extra inputs"),
        ({"thinking": {"type": "enabled", "budget_tokens": 100}}, "1024"),
        ({"thinking": {"type": "enabled", "budget_tokens": 5000}}, "greater than `thinking.budget_tokens`"),
        ({"stop_sequences": [" "]}, "non-whitespace"),
        ({"headers": {"anthropic-beta": "a-2025-01-01,whatever"}}, "`whatever`"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}, "additionalProperties"),
        ({"path": "/v1/messages/count_tokens"}, "max_tokens: Extra inputs"),
    ],
)
def test_it_refuses_as_anthropic_does(upstream: FakeUpstream, members: dict[str, Any], said: str) -> None:
    assert said in refused(ask(upstream, **members))


def test_counting_asks_for_no_more_than_the_prompt(upstream: FakeUpstream) -> None:
    path = "/v1/messages/count_tokens?beta=true"
    assert ask(upstream, path=path, without=("max_tokens",)).json() == {"input_tokens": 5}
    assert upstream.answers()[-1].usage is None


@pytest.mark.parametrize("sealed", [False, True])
def test_what_was_thought_comes_back_unchanged_or_not_at_all(upstream: FakeUpstream, sealed: bool) -> None:
    thinking = {"type": "enabled", "budget_tokens": 1024}
    model = marked("fake", thinking=True, redacted=sealed)
    content = ask(upstream, model, tools=[TOOL], thinking=thinking).json()["content"]
    assert [block["type"] for block in content] == ["redacted_thinking" if sealed else "thinking", "tool_use"]
    result = {"type": "tool_result", "tool_use_id": content[1]["id"], "content": "sol"}

    def continued(blocks: list[dict[str, Any]]) -> Reply:
        history = [*SAID, {"role": "assistant", "content": blocks}, {"role": "user", "content": [result]}]
        return ask(upstream, model, tools=[TOOL], thinking=thinking, messages=history)

    assert continued(content).status == 200
    assert "found `tool_use`" in refused(continued(content[1:]))
    forged = {**content[0], **({"data": "Zm9yZ2Vk"} if sealed else {"thinking": "Let me think"})}
    assert "Invalid `" in refused(continued([forged, content[1]]))


def test_a_prefix_is_written_to_the_cache_once_and_then_read(upstream: FakeUpstream) -> None:
    system = [
        {"type": "text", "text": "a" * 8000, "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "text", "text": "b" * 4000, "cache_control": {"type": "ephemeral"}},
    ]
    first, second, other = (ask(upstream, model, system=system).json()["usage"] for model in ("c1", "c1", "c2"))
    written = first["cache_creation"]
    assert written["ephemeral_1h_input_tokens"] > 2000 > written["ephemeral_5m_input_tokens"] > 1000
    assert first["cache_creation_input_tokens"] == sum(written.values())
    assert second["cache_read_input_tokens"] == first["cache_creation_input_tokens"]
    assert (second["cache_creation_input_tokens"], second["input_tokens"]) == (0, first["input_tokens"])
    assert other["cache_read_input_tokens"] == 0
    bills = [entry.usage for entry in upstream.answers()[-3:-1]]
    assert [(bill or {})["cache_read"] for bill in bills] == [0, second["cache_read_input_tokens"]]
    assert "5m" in refused(ask(upstream, system=[system[1], system[0]]))
    assert "maximum of 4" in refused(ask(upstream, system=system * 3))


@pytest.mark.parametrize(
    ("knobs", "members", "reason"),
    [
        ({}, {"stop_sequences": ["provider"]}, "stop_sequence"),
        ({"stop": "pause_turn", "server_tool": True}, {}, "pause_turn"),
        ({"refusal": True}, {}, "refusal"),
        ({"stop": "model_context_window_exceeded"}, {}, "model_context_window_exceeded"),
        ({}, {"max_tokens": 2}, "max_tokens"),
    ],
)
def test_it_stops_for_its_reasons(
    client: anthropic.Anthropic, knobs: dict[str, Any], members: dict[str, Any], reason: str
) -> None:
    model = marked("fake", **knobs)
    asked: dict[str, Any] = {"model": model, "max_tokens": 50, "messages": SAID, **members}
    whole = client.messages.create(**asked)
    with client.messages.stream(**asked) as stream:
        streamed = stream.get_final_message()
    assert whole.stop_reason == streamed.stop_reason == reason
    assert [block.type for block in whole.content] == [block.type for block in streamed.content]
    assert getattr(whole.content[-1], "text", None) == getattr(streamed.content[-1], "text", None)
    assert whole.usage.output_tokens == streamed.usage.output_tokens
    assert (whole.stop_sequence == "provider") is (reason == "stop_sequence")
    assert (whole.stop_details is not None) is (reason == "refusal")


def test_its_own_tool_and_structured_answers_parse(client: anthropic.Anthropic) -> None:
    with client.messages.stream(model=marked("fake", server_tool=True), max_tokens=50, messages=SAID) as stream:  # type: ignore[arg-type]
        message = stream.get_final_message()
    assert [block.type for block in message.content] == ["server_tool_use", "web_search_tool_result", "text"]
    assert message.usage.server_tool_use is not None
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}
    form: Any = {"format": {"type": "json_schema", "schema": schema}}
    whole = client.messages.create(model="fake", max_tokens=50, messages=SAID, output_config=form)  # type: ignore[arg-type]
    assert whole.content[0].type == "text"
    assert json.loads(whole.content[0].text) == {"n": 3}


def events(reply: Reply) -> list[dict[str, Any]]:
    return [json.loads(data) for data in reply.events]


def test_calls_arrive_in_turns_or_under_one_index(upstream: FakeUpstream) -> None:
    usual, mixed, shared = (
        [
            (event["type"].removeprefix("content_block_"), event["index"])
            for event in events(ask(upstream, marked("fake", **knobs), tools=[TOOL, NEWS], stream=True))
            if "index" in event
        ]
        for knobs in ({}, {"interleave": True}, {"shared_index": True})
    )
    assert [index for _, index in usual] == sorted(index for _, index in usual)
    assert mixed[:4] == [("start", 0), ("start", 1), ("delta", 0), ("delta", 1)]
    assert sorted(mixed) == sorted(usual)
    assert {index for _, index in shared} == {0}


@pytest.mark.parametrize(("written", "count"), [("", 1), ("{}", 2)])
def test_empty_arguments_are_spelled_as_asked(upstream: FakeUpstream, written: str, count: int) -> None:
    model = marked("fake", empty_arguments=written)
    pieces = [
        event["delta"]["partial_json"]
        for event in events(ask(upstream, model, tools=[TOOL], stream=True))
        if event["type"] == "content_block_delta"
    ]
    assert (len(pieces), "".join(pieces)) == (count, written)


def test_a_batch_of_messages_is_answered_when_somebody_looks(
    upstream: FakeUpstream, client: anthropic.Anthropic
) -> None:
    rows: Any = [
        {"custom_id": "good", "params": {"model": "fake", "max_tokens": 5, "messages": SAID}},
        {"custom_id": "bad", "params": {"model": "fake", "messages": SAID}},
    ]
    batch = client.messages.batches.create(requests=rows)
    assert (batch.processing_status, batch.request_counts.processing) == ("in_progress", 2)
    assert client.messages.batches.retrieve(batch.id).processing_status == "ended"
    bill = upstream.answers()[-1].usage
    assert bill is not None
    assert bill["output"] == 5
    results = {row.custom_id: row.result.type for row in client.messages.batches.results(batch.id)}
    assert results == {"good": "succeeded", "bad": "errored"}
    stopped = client.messages.batches.create(requests=rows[:1])
    assert client.messages.batches.cancel(stopped.id).processing_status == "canceling"
    assert client.messages.batches.retrieve(stopped.id).request_counts.canceled == 1
    assert upstream.answers()[-1].usage is None
    assert [row.id for row in client.messages.batches.list()] == [stopped.id, batch.id]
    with pytest.raises(anthropic.NotFoundError):
        client.messages.batches.retrieve("msgbatch_other")


def test_files_are_kept(client: anthropic.Anthropic) -> None:
    file = client.beta.files.upload(file=("a.txt", b"one\r\ntwo"))
    assert (file.filename, file.size_bytes) == ("a.txt", 8)
    assert client.beta.files.retrieve_metadata(file.id) == file
    assert client.beta.files.delete(file.id).id == file.id
    with pytest.raises(anthropic.NotFoundError):
        client.beta.files.retrieve_metadata(file.id)
