"""Replies and streams between chat completions and messages: every reason, every id, and nothing made up."""

import json
from typing import Any

import pytest
from tests.unit.providers.translation.clients import events, hear_messages_stream, occasion

from securellm.core.errors import Code, UpstreamFailure
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers.translation import DIRECTIONS, StreamTranslation, translate_answer, translate_ask
from securellm.providers.translation.chat import CHAT
from securellm.providers.translation.messages import MESSAGES
from securellm.providers.translation.messages import stream as messages_stream
from securellm.providers.translation.messages.answer import written_usage as messages_usage
from securellm.providers.translation.model import BlockBegan, BlockGrew, Finished, Step
from securellm.providers.translation.signatures import marked

TO_MESSAGES = DIRECTIONS[Surface.CHAT, Surface.MESSAGES]
TO_CHAT = DIRECTIONS[Surface.MESSAGES, Surface.CHAT]
TO_GEMINI = DIRECTIONS[Surface.MESSAGES, Surface.GENERATE_CONTENT]
JSON = dict[str, Any]


def chat_reply(finish: str | None, message: JSON | None = None, **members: Any) -> JSON:
    said = {"role": "assistant", "content": "hi", **(message or {})}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "m",
        "choices": [{"index": 0, "message": said, "finish_reason": finish}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
        **members,
    }


def message_reply(reason: str | None, content: list[JSON] | None = None, **members: Any) -> JSON:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "hi"}] if content is None else content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 4},
        **members,
    }


def to_messages_client(reply: JSON) -> JSON:
    answer: JSON = json.loads(translate_answer(TO_CHAT, reply, occasion()))
    return answer


def to_chat_client(reply: JSON) -> JSON:
    answer: JSON = json.loads(translate_answer(TO_MESSAGES, reply, occasion()))
    return answer


def chunk(delta: JSON | None = None, finish: str | None = None, **members: Any) -> JSON:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **members}


def call(index: int, *, given: str | None = None, name: str | None = None, arguments: str | None = None) -> JSON:
    said: JSON = {"index": index}
    if given is not None:
        said |= {"id": given, "type": "function"}
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    return {"tool_calls": [{**said, "function": function}]}


def streamed_to_messages_client(*chunks: JSON) -> bytes:
    translation = StreamTranslation(TO_CHAT, occasion())
    return b"".join(translation.feed(one) for one in chunks) + translation.end()


def failure_of(*chunks: JSON) -> UpstreamFailure:
    with pytest.raises(UpstreamFailure) as failed:
        streamed_to_messages_client(*chunks)
    return failed.value


TOOL_CALL = {"tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}
TOOL_USE = [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]


@pytest.mark.requirement("GW-7", "GW-8")
@pytest.mark.parametrize(
    ("finish", "message", "reason"),
    [
        ("stop", {}, "end_turn"),
        ("length", {}, "max_tokens"),
        ("content_filter", {}, "refusal"),
        ("tool_calls", TOOL_CALL, "tool_use"),
        ("stop", TOOL_CALL, "tool_use"),
        ("length", TOOL_CALL, "max_tokens"),
        ("stop", {"content": None, "refusal": "I will not."}, "refusal"),
    ],
)
def test_a_chat_reason_is_said_in_messages(finish: str, message: JSON, reason: str) -> None:
    whole = to_messages_client(chat_reply(finish, message))
    assert whole["stop_reason"] == reason
    said = {name: value for name, value in {"content": "hi", **message}.items() if name != "tool_calls"}
    calls = [{**one, "index": place} for place, one in enumerate(message.get("tool_calls", []))]
    streamed = events(streamed_to_messages_client(chunk({**said, "tool_calls": calls}), chunk(finish=finish)))
    assert [event["delta"]["stop_reason"] for event in streamed if event["type"] == "message_delta"] == [reason]


@pytest.mark.requirement("GW-7", "GW-8")
@pytest.mark.parametrize(
    ("reason", "content", "finish"),
    [
        ("end_turn", None, "stop"),
        ("stop_sequence", None, "stop"),
        ("max_tokens", None, "length"),
        ("model_context_window_exceeded", None, "length"),
        ("tool_use", TOOL_USE, "tool_calls"),
        ("refusal", [], "content_filter"),
    ],
)
def test_a_messages_reason_is_said_in_chat(reason: str, content: list[JSON] | None, finish: str) -> None:
    assert to_chat_client(message_reply(reason, content))["choices"][0]["finish_reason"] == finish


@pytest.mark.requirement("GW-8")
@pytest.mark.parametrize("reason", [None, "pause_turn", "compaction", "tool_use"])
def test_a_messages_reason_without_a_word_in_chat_is_a_failure(reason: str | None) -> None:
    with pytest.raises(UpstreamFailure) as failed:
        to_chat_client(message_reply(reason))
    assert failed.value.code is Code.BAD_REPLY


@pytest.mark.requirement("GW-8")
@pytest.mark.parametrize("reason", [None, "insufficient_system_resource", "tool_calls"])
def test_a_chat_reason_without_a_word_in_messages_is_a_failure(reason: str | None) -> None:
    with pytest.raises(UpstreamFailure) as failed:
        to_messages_client(chat_reply(reason))
    assert failed.value.code is Code.BAD_REPLY


@pytest.mark.requirement("GW-7")
def test_the_stop_sequence_that_was_met_is_told_where_it_can_be() -> None:
    reply = message_reply("stop_sequence", stop_sequence="END")
    assert MESSAGES.write_answer(MESSAGES.read_answer(reply), occasion())["stop_sequence"] == "END"


@pytest.mark.requirement("PR-3")
def test_every_bucket_of_usage_is_told_to_both() -> None:
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 20,
        "cache_creation_input_tokens": 7,
        "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4},
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 30},
        "service_tier": "priority",
    }
    told = to_chat_client(message_reply("end_turn", usage=usage))
    assert told["service_tier"] == "priority"
    assert told["usage"] == {
        "prompt_tokens": 37,
        "completion_tokens": 50,
        "total_tokens": 87,
        "prompt_tokens_details": {"cached_tokens": 20, "cache_write_tokens": 7, "audio_tokens": 0, "image_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 0},
    }
    written = messages_usage(
        Usage(
            input=10,
            cache_read=20,
            cache_write_5m=3,
            cache_write_1h=4,
            output=20,
            reasoning=30,
            audio_input=1,
            image_input=2,
            audio_output=5,
        ),
        "default",
    )
    assert written == {
        **usage,
        "input_tokens": 13,
        "output_tokens": 55,
        "service_tier": "standard",
    }


@pytest.mark.requirement("GW-7", "GW-8")
def test_interleaved_tool_calls_become_blocks_one_after_the_other() -> None:
    data = streamed_to_messages_client(
        chunk({"role": "assistant", "content": ""}),
        chunk(call(0, given="c0", name="f", arguments="")),
        chunk(call(1, given="c1", name="g", arguments='{"b"')),
        chunk(call(0, arguments='{"a":')),
        chunk(call(1, arguments=": 2}")),
        chunk(call(0, arguments="1}")),
        chunk(finish="tool_calls"),
    )
    order = [
        (event["type"].removeprefix("content_block_"), event["index"]) for event in events(data) if "index" in event
    ]
    blocks = [index for _, index in order]
    assert blocks == sorted(blocks)
    assert order[0] == ("start", 0)
    assert [step for step, index in order if step != "delta"] == ["start", "stop", "start", "stop"]
    heard = hear_messages_stream(data)
    assert heard.calls == (("c0", "f", {"a": 1}), ("c1", "g", {"b": 2}))


@pytest.mark.requirement("GW-7", "GW-12")
def test_blocks_do_not_wait_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages_stream, "MAX_WAITING", 1000)
    writer = messages_stream.WriteSteps(occasion())
    writer.write(BlockBegan(block=0, kind="tool", id="c0", name="f"))
    writer.write(BlockGrew(block=0, text="{"))
    writer.write(BlockBegan(block=1, kind="tool", id="c1", name="g"))
    for _ in range(10):
        writer.write(BlockGrew(block=1, text="x" * 100))
    with pytest.raises(UpstreamFailure) as failed:
        writer.write(BlockGrew(block=1, text="x"))
    assert failed.value.code is Code.REPLY_TOO_LARGE


@pytest.mark.requirement("GW-7", "GW-8")
@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param(
            [chunk(call(0, given="c0", name="f", arguments="{")), chunk(call(0, given="c1", name="f", arguments="}"))],
            id="two ids under one index",
        ),
        pytest.param(
            [chunk(call(0, given="c0", name="f", arguments="{}")), chunk(call(0, name="g", arguments="{}"))],
            id="two names under one index",
        ),
        pytest.param([chunk(call(0, given="c0", arguments="{}"))], id="a call without a name"),
        pytest.param([chunk(call(0, name="f", arguments="")), chunk(call(0, given="c"))], id="an id that comes late"),
        pytest.param([chunk(call(0, given="c0", name="f", arguments='{"a"'))], id="arguments that are cut"),
        pytest.param([chunk(call(0, given="c0", name="f", arguments="[1]"))], id="arguments that are no object"),
        pytest.param([chunk(call(0, given="c0", name="f", arguments='{"a":1,"a":2}'))], id="a name twice"),
        pytest.param([chunk({"tool_calls": [{"index": 0, "type": "custom"}]})], id="a call of another type"),
        pytest.param([chunk({"tool_calls": ["x"]})], id="a call that is no object"),
        pytest.param([chunk({"content": 1})], id="content that is no text"),
        pytest.param([chunk({"audio": {"data": "UklG"}})], id="sound"),
        pytest.param([chunk({"function_call": {"name": "f"}})], id="a call of the older kind"),
        pytest.param([], id="calls announced and none made"),
    ],
)
def test_a_chat_stream_that_cannot_be_trusted_is_a_failure(chunks: list[JSON]) -> None:
    assert failure_of(*chunks, chunk(finish="tool_calls")).code is Code.BAD_REPLY


@pytest.mark.requirement("GW-8")
def test_a_stream_without_its_reason_is_a_failure_and_never_given_one() -> None:
    assert failure_of(chunk({"content": "half"})).code is Code.BAD_REPLY
    translation = StreamTranslation(TO_MESSAGES, occasion())
    translation.feed({"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 1}}})
    with pytest.raises(UpstreamFailure):
        translation.end()


@pytest.mark.requirement("GW-8")
def test_a_choice_that_goes_on_after_its_end_is_a_failure() -> None:
    assert failure_of(chunk({"content": "a"}, "stop"), chunk({"content": "b"})).code is Code.BAD_REPLY


@pytest.mark.requirement("GW-8")
def test_the_providers_error_in_a_stream_is_its_failure() -> None:
    assert failure_of({"error": {"code": "server_is_overloaded"}}).code is Code.PROVIDER_OVERLOADED
    translation = StreamTranslation(TO_MESSAGES, occasion())
    with pytest.raises(UpstreamFailure) as failed:
        translation.feed({"type": "error", "error": {"type": "overloaded_error"}})
    assert failed.value.code is Code.PROVIDER_OVERLOADED


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize("arguments", ["", " "])
def test_a_call_without_arguments_is_the_empty_object_only_where_it_must_be_one(arguments: str) -> None:
    message = {"content": None, "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": arguments}}]}
    whole = to_messages_client(chat_reply("tool_calls", message))
    assert whole["content"] == [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]
    data = streamed_to_messages_client(
        chunk(call(0, given="c", name="f", arguments=arguments)), chunk(finish="tool_calls")
    )
    assert hear_messages_stream(data).calls == (("c", "f", {}),)
    answer = CHAT.read_answer(chat_reply("tool_calls", message))
    choices: Any = CHAT.write_answer(answer, occasion())["choices"]
    assert choices[0]["message"]["tool_calls"][0]["function"]["arguments"] == arguments


@pytest.mark.requirement("GW-7")
def test_blanks_before_the_arguments_do_not_upset_the_client() -> None:
    pieces = (" ", "\n", ' {"a"', ": ", "1}", " ")
    chunks = [chunk(call(0, given="c", name="f")), *(chunk(call(0, arguments=piece)) for piece in pieces)]
    data = streamed_to_messages_client(*chunks, chunk(finish="tool_calls"))
    assert hear_messages_stream(data).calls == (("c", "f", {"a": 1}),)
    said = [event["delta"]["partial_json"] for event in events(data) if event["type"] == "content_block_delta"]
    assert "".join(said) == "".join(pieces)


@pytest.mark.requirement("GW-7")
def test_ids_are_made_of_the_requests_where_the_provider_gives_none() -> None:
    function = {"name": "f", "arguments": "{}"}
    message: JSON = {
        "tool_calls": [{"function": function}, {"id": "own", "function": function}, {"function": function}]
    }
    whole = to_messages_client(chat_reply("tool_calls", message, id=None))
    ids = [block["id"] for block in whole["content"] if block["type"] == "tool_use"]
    assert (whole["id"], ids) == ("msg_req_1", ["toolu_req_1_0", "own", "toolu_req_1_2"])
    calls = [{**one, "index": place} for place, one in enumerate(message["tool_calls"])]
    data = streamed_to_messages_client(chunk({"tool_calls": calls}, "tool_calls", id=None))
    assert [one for one, _, _ in hear_messages_stream(data).calls] == ids


@pytest.mark.requirement("GW-7")
def test_the_model_is_called_what_the_client_calls_it() -> None:
    assert to_messages_client(chat_reply("stop", model="provider-name"))["model"] == "m"
    assert to_chat_client(message_reply("end_turn", model="provider-name"))["model"] == "m"


@pytest.mark.requirement("GW-7")
def test_a_chat_client_that_did_not_ask_for_usage_gets_none_in_its_stream() -> None:
    ask = CHAT.read_ask({"model": "m", "messages": [], "stream": True})
    translation = StreamTranslation(TO_MESSAGES, occasion(ask))
    fed: list[JSON] = [
        {"type": "message_start", "message": {"id": "msg_1", "usage": {"input_tokens": 1, "output_tokens": 1}}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]
    data = b"".join(translation.feed(event) for event in fed) + translation.end()
    assert all("usage" not in event and event["choices"] for event in events(data))
    assert data.endswith(b"data: [DONE]\n\n")


@pytest.mark.requirement("GW-7")
def test_the_first_chunk_tells_the_role_and_the_last_event_ends_the_stream() -> None:
    translation = StreamTranslation(TO_MESSAGES, occasion())
    first = translation.feed({"type": "message_start", "message": {"id": "msg_1"}})
    assert events(first)[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    data = streamed_to_messages_client(chunk({"content": "x"}, "stop"))
    assert [event["type"] for event in events(data)] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    "kind", ["server_tool_use", "web_search_tool_result", "mcp_tool_use", "container_upload", "compaction", "novelty"]
)
def test_a_block_that_would_be_lost_is_a_failure(kind: str) -> None:
    with pytest.raises(UpstreamFailure):
        to_chat_client(message_reply("end_turn", [{"type": kind, "id": "s", "name": "web_search", "input": {}}]))
    translation = StreamTranslation(TO_MESSAGES, occasion())
    with pytest.raises(UpstreamFailure):
        translation.feed({"type": "content_block_start", "index": 0, "content_block": {"type": kind}})


@pytest.mark.requirement("GW-7")
def test_citations_are_left_out_and_the_text_is_kept() -> None:
    cited = {"type": "text", "text": "It rains.", "citations": [{"type": "char_location", "cited_text": "rain"}]}
    message = to_chat_client(message_reply("end_turn", [cited]))["choices"][0]["message"]
    assert message["content"] == "It rains."
    annotations = [{"type": "url_citation", "url_citation": {"url": "https://x.example"}}]
    content = to_messages_client(chat_reply("stop", {"annotations": annotations}))["content"]
    assert content == [{"type": "text", "text": "hi"}]


# Proofs


@pytest.mark.requirement("GW-7")
def test_a_thought_of_chat_is_marked_for_its_way_back() -> None:
    reply = chat_reply("stop", {"reasoning_content": "hm"})
    thought = {"type": "thinking", "thinking": "hm", "signature": marked(Surface.CHAT, None)}
    content = to_messages_client(reply)["content"]
    assert content == [thought, {"type": "text", "text": "hi"}]
    data = streamed_to_messages_client(chunk({"reasoning": "hm"}), chunk({"content": "hi"}, "stop"))
    assert hear_messages_stream(data).thought == "hm"
    asked: JSON = {
        "model": "m",
        "max_tokens": 9,
        "messages": [{"role": "assistant", "content": content}, {"role": "user", "content": "go on"}],
    }
    back = json.loads(translate_ask(TO_CHAT, asked, model="m", stream=False, default_max_output=9).body)
    assert back["messages"][0]["reasoning_content"] == "hm"


@pytest.mark.requirement("GW-7")
def test_the_proof_of_geminis_call_survives_a_client_of_messages() -> None:
    part = {"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "CiQBVKhcVQ=="}
    reply: JSON = {
        "responseId": "r",
        "candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2, "totalTokenCount": 3},
    }
    whole = json.loads(translate_answer(TO_GEMINI, reply, occasion()))
    translation = StreamTranslation(TO_GEMINI, occasion())
    streamed = hear_messages_stream(translation.feed(reply) + translation.end())
    assert [block["type"] for block in whole["content"]] == ["thinking", "tool_use"]
    call_id = whole["content"][1]["id"]
    assert streamed.calls == ((call_id, "f", {"a": 1}),)
    asked: JSON = {
        "model": "m",
        "max_tokens": 9,
        "messages": [
            {"role": "user", "content": "go"},
            {"role": "assistant", "content": whole["content"]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call_id, "content": "done"}]},
        ],
    }
    back = json.loads(translate_ask(TO_GEMINI, asked, model="m", stream=False, default_max_output=9).body)
    said = back["contents"][1]["parts"]
    assert [one.get("thoughtSignature") for one in said] == ["CiQBVKhcVQ=="]
    # Another provider gets neither the proof nor the thought that carried it.
    other = json.loads(translate_ask(TO_CHAT, asked, model="m", stream=False, default_max_output=9).body)
    assert "CiQB" not in json.dumps(other)
    assert "extra_content" not in json.dumps(other)


@pytest.mark.requirement("GW-7")
def test_the_proof_of_geminis_call_stands_where_google_puts_it_for_a_client_of_chat() -> None:
    direction = DIRECTIONS[Surface.CHAT, Surface.GENERATE_CONTENT]
    part = {"functionCall": {"id": "c", "name": "f", "args": {}}, "thoughtSignature": "CiQBVKhcVQ=="}
    reply: JSON = {"candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP"}]}
    message = json.loads(translate_answer(direction, reply, occasion()))["choices"][0]["message"]
    assert message["tool_calls"][0]["extra_content"] == {"google": {"thought_signature": "CiQBVKhcVQ=="}}
    translation = StreamTranslation(direction, occasion())
    data = translation.feed(reply) + translation.end()
    [first] = [
        choice["delta"]["tool_calls"][0]
        for event in events(data)
        for choice in event["choices"]
        if "extra_content" in choice["delta"].get("tool_calls", [{}])[0]
    ]
    assert (first["id"], first["extra_content"]["google"]["thought_signature"]) == ("c", "CiQBVKhcVQ==")
    asked: JSON = {
        "model": "m",
        "messages": [message, {"role": "tool", "tool_call_id": "c", "content": "done"}],
    }
    back = json.loads(translate_ask(direction, asked, model="m", stream=False, default_max_output=9).body)
    assert back["contents"][0]["parts"][0]["thoughtSignature"] == "CiQBVKhcVQ=="


@pytest.mark.requirement("GW-7")
def test_several_choices_keep_their_places_in_chat() -> None:
    writer = CHAT.write_steps(occasion())
    steps: list[Step] = [
        BlockBegan(block=0, kind="text", choice=1),
        BlockGrew(block=0, text="b", choice=1),
        BlockBegan(block=0, kind="text"),
        BlockGrew(block=0, text="a"),
        Finished(finish="stop", choice=1),
        Finished(finish="length"),
    ]
    said = [choice for event in events(b"".join(map(writer.write, steps))) for choice in event["choices"]]
    texts = {
        index: "".join(one["delta"].get("content", "") for one in said if one["index"] == index) for index in (0, 1)
    }
    assert texts == {0: "a", 1: "b"}
    assert [(one["index"], one["finish_reason"]) for one in said if one["finish_reason"]] == [
        (1, "stop"),
        (0, "length"),
    ]
