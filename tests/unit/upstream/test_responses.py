"""The fake's responses: what it remembers, what it does in the background, what it wants back."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from tests.harness import Reply, request
from tests.upstream import CREDENTIALS, FakeUpstream, marked

TOOLS: list[Any] = [
    {
        "type": "function",
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
    {"type": "function", "name": "news", "parameters": {"type": "object"}},
]


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream().in_thread() as running:
        yield running


@pytest.fixture
def client(upstream: FakeUpstream) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=upstream.url(), api_key=CREDENTIALS["openai"], max_retries=0) as made:
        yield made


def ask(upstream: FakeUpstream, model: str = "fake", *, given: object = "olá", **members: object) -> Reply:
    body = {"model": model, "input": given, **members}
    return request(upstream.root, "POST", "/openai/v1/responses", key=CREDENTIALS["openai"], body=body)


def events(reply: Reply) -> list[dict[str, Any]]:
    return [json.loads(data) for data in reply.events]


def test_a_response_is_continued_by_its_id(client: openai.OpenAI) -> None:
    first = client.responses.create(model="fake", input="olá")
    second = client.responses.create(model="fake", input="e?", previous_response_id=first.id)
    alone = client.responses.create(model="fake", input="e?")
    assert first.usage is not None
    assert second.usage is not None
    assert alone.usage is not None
    assert second.usage.input_tokens > alone.usage.input_tokens
    assert client.responses.retrieve(second.id) == second
    items = client.responses.input_items.list(second.id).data
    assert [(item.type, getattr(item, "role", None)) for item in items] == [("message", "user")]


def test_what_is_not_stored_is_not_known(upstream: FakeUpstream, client: openai.OpenAI) -> None:
    secret = client.responses.create(model="fake", input="olá", store=False)
    kept = client.responses.create(model="fake", input="olá")
    client.responses.delete(kept.id)
    for name in (secret.id, kept.id, "resp_other"):
        reply = ask(upstream, previous_response_id=name)
        assert (reply.status, reply.json()["error"]["code"]) == (400, "previous_response_not_found")
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(name)
    assert ask(upstream, previous_response_id=kept.id, conversation="conv_1").status == 400


def test_one_face_does_not_know_the_others_responses(upstream: FakeUpstream, client: openai.OpenAI) -> None:
    made = client.responses.create(model="fake", input="olá")
    key = CREDENTIALS["xai"]
    assert request(upstream.root, "GET", f"/xai/v1/responses/{made.id}", key=key).status == 404


def test_one_in_the_background_is_queued_runs_and_is_billed_at_its_end(
    upstream: FakeUpstream, client: openai.OpenAI
) -> None:
    queued = client.responses.create(model="fake", input="olá", background=True)
    seen = [client.responses.retrieve(queued.id) for _ in range(3)]
    assert [queued.status, *(each.status for each in seen)] == ["queued", "in_progress", "completed", "completed"]
    assert seen[-1].output_text == "Olá! The fake provider answers: ação ✓ 🎉."
    assert [entry.usage is not None for entry in upstream.answers()[-4:]] == [False, False, True, False]
    stopped = client.responses.create(model="fake", input="olá", background=True)
    assert client.responses.cancel(stopped.id).status == "cancelled"
    assert client.responses.retrieve(stopped.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(client.responses.create(model="fake", input="olá").id)
    assert ask(upstream, background=True, store=False).status == 400


def test_a_conversation_collects_what_is_said_in_it(client: openai.OpenAI) -> None:
    talk = client.conversations.create(items=[{"type": "message", "role": "user", "content": "before"}])
    made = client.responses.create(model="fake", input="olá", conversation=talk.id)
    assert made.conversation is not None
    assert made.conversation.id == talk.id
    assert len(client.conversations.items.list(talk.id, order="asc").data) == 3
    assert client.conversations.delete(talk.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="fake", input="olá", conversation=talk.id)


def test_reasoning_comes_back_as_it_was(upstream: FakeUpstream) -> None:
    model = marked("fake", thinking=True)
    wanted = {"tools": TOOLS[:1], "include": ["reasoning.encrypted_content"]}
    for store in (True, False):
        thought, call = ask(upstream, model, store=store, **wanted).json()["output"]
        assert thought["encrypted_content"]
        said = {"role": "user", "content": "olá"}
        result = {"type": "function_call_output", "call_id": call["call_id"], "output": "sol"}
        bare = {name: value for name, value in thought.items() if name != "encrypted_content"}
        forged = {**thought, "encrypted_content": "Zm9yZ2Vk"}
        statuses = [
            ask(upstream, model, given=[said, *items, call, result], store=store).status
            for items in ([thought], [forged], [bare], [])
        ]
        assert statuses == ([200, 400, 200, 400] if store else [200, 400, 404, 200])


def test_the_sdk_understands_every_event_of_a_stream(client: openai.OpenAI) -> None:
    model = marked("fake", thinking=True, server_tool=True)
    seen = list(client.responses.create(model=model, input="olá", stream=True))
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    kinds = {event.type for event in seen}
    assert {"response.web_search_call.searching", "response.output_text.annotation.added"} <= kinds
    last = seen[-1]
    assert last.type == "response.completed"
    assert [item.type for item in last.response.output] == ["reasoning", "web_search_call", "message"]


@pytest.mark.parametrize(
    ("knobs", "last", "member"),
    [
        ({"stop": "failed", "code": "server_error"}, "response.failed", "error"),
        ({"stop": "content_filter"}, "response.incomplete", "incomplete_details"),
        ({}, "response.completed", "usage"),
    ],
)
def test_a_stream_ends_in_one_of_its_ways(
    upstream: FakeUpstream, knobs: dict[str, object], last: str, member: str
) -> None:
    end = events(ask(upstream, marked("fake", **knobs), stream=True))[-1]
    assert end["type"] == last
    assert end["response"][member]


def test_a_refusal_has_a_place_of_its_own(client: openai.OpenAI) -> None:
    model = marked("fake", refusal=True)
    kinds = {event.type for event in client.responses.create(model=model, input="olá", stream=True)}
    assert {"response.refusal.delta", "response.refusal.done"} <= kinds
    said = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "x"}]).choices[0].message
    assert (said.content, bool(said.refusal)) == (None, True)


def test_calls_arrive_in_turns_or_under_one_index(upstream: FakeUpstream) -> None:
    kind = "response.function_call_arguments.delta"
    usual, mixed, shared = (
        [
            event["output_index"]
            for event in events(ask(upstream, marked("fake", **knobs), tools=TOOLS, stream=True))
            if event["type"] == kind
        ]
        for knobs in ({}, {"interleave": True}, {"shared_index": True})
    )
    assert usual == sorted(usual)
    assert mixed[:2] == [0, 1]
    assert sorted(mixed) == usual
    assert set(shared) == {0}


def test_tokens_are_counted_without_a_bill(upstream: FakeUpstream, client: openai.OpenAI) -> None:
    assert client.responses.input_tokens.count(model="fake", input="olá").input_tokens == 4
    assert upstream.answers()[-1].usage is None
