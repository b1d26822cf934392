"""Clients of Ollama's own API: what they ask is said whole, and what is answered loses no word and no argument."""

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.providers.translation.clients import occasion, translated_stream, upstream_stream
from tests.unit.providers.translation.conversations import answers, streamed
from tests.unit.providers.translation.ollama import (
    CLOSED,
    chat_body,
    generate_body,
    hear,
    hear_stream,
    lines_of,
    ollama_asks,
)

from securellm.core.document import Document
from securellm.core.errors import Code, Refusal, UpstreamFailure
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.ingress.ollama_chat import SHAPE as CHAT_SHAPE
from securellm.ingress.ollama_generate import SHAPE as GENERATE_SHAPE
from securellm.providers.translation import DIRECTIONS, Direction, Translated, table, translate_answer, translate_ask
from securellm.providers.translation.model import (
    Answer,
    Ask,
    BlockBegan,
    BlockEnded,
    BlockGrew,
    Choice,
    Counted,
    Finish,
    Finished,
    Reasoning,
    Refused,
    Step,
    Text,
    ToolCall,
    ToolResult,
    Turn,
)
from securellm.providers.translation.ollama_chat import OLLAMA_CHAT
from securellm.providers.translation.ollama_generate import OLLAMA_GENERATE

JSON = dict[str, Any]
BITMAP = base64.b64encode(b"BM, a bitmap").decode("ascii")
FROM_CHAT = [direction for direction in DIRECTIONS.values() if direction.source is OLLAMA_CHAT]
FROM_GENERATE = [direction for direction in DIRECTIONS.values() if direction.source is OLLAMA_GENERATE]
of_each = pytest.mark.parametrize("direction", FROM_CHAT, ids=lambda direction: direction.target.surface)
of_all = pytest.mark.parametrize(
    "direction",
    FROM_CHAT + FROM_GENERATE,
    ids=lambda direction: f"{direction.source.surface}-{direction.target.surface}",
)
TO_CHAT, TO_MESSAGES = DIRECTIONS[Surface.OLLAMA_CHAT, Surface.CHAT], DIRECTIONS[Surface.OLLAMA_CHAT, Surface.MESSAGES]
HELLO = [{"role": "user", "content": "hello"}]
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(8)).decode("ascii")


def read_back(body: JSON) -> Any:
    """The body as it arrives."""
    return Document(json.dumps(body).encode()).members()


def asked(**members: Any) -> Ask:
    return OLLAMA_CHAT.read_ask(read_back({"model": "m", "messages": HELLO, **members}))


def said_to(direction: Direction, **members: Any) -> Translated:
    what: JSON = {"messages": HELLO} if direction.source is OLLAMA_CHAT else {"prompt": "hello"}
    body = read_back({"model": "m", **what, **members})
    return translate_ask(direction, body, model="m", stream=False, default_max_output=9)


def refused(read: Any, *arguments: Any, **members: Any) -> Refusal:
    with pytest.raises(Refusal) as found:
        read(*arguments, **members)
    return found.value


# What is asked


@pytest.mark.requirement("GW-7")
@settings(deadline=None)
@given(ollama_asks(), st.booleans())
def test_what_a_chat_can_hold_is_read_whole_with_ids_or_without(ask: Ask, ids: bool) -> None:
    assert OLLAMA_CHAT.read_ask(read_back(chat_body(ask, ids=ids))) == ask


@pytest.mark.requirement("GW-7")
@settings(deadline=None)
@given(ollama_asks(prompt=True))
def test_what_a_completion_can_hold_is_read_whole(ask: Ask) -> None:
    assert OLLAMA_GENERATE.read_ask(read_back(generate_body(ask))) == ask


@pytest.mark.requirement("GW-7")
@of_each
@settings(deadline=None, max_examples=40)
@given(ask=ollama_asks())
def test_a_conversation_arrives_with_every_argument_result_and_picture(direction: Direction, ask: Ask) -> None:
    plain = msgspec.structs.replace(
        ask, format=None, temperature=None, stop=(), seed=None, presence_penalty=None, frequency_penalty=None
    )
    said = json.loads(
        translate_ask(
            direction, read_back(chat_body(plain)), model=ask.model, stream=ask.stream, default_max_output=9
        ).body
    )
    target = direction.target
    turns = target.read_ask(read_back(said)).turns
    assert inside(turns, ToolCall) == inside(ask.turns, ToolCall)
    assert inside(turns, ToolResult) == inside(ask.turns, ToolResult)
    sent = json.dumps(said, ensure_ascii=False)
    assert all(image in sent for turn in chat_body(ask)["messages"] for image in turn.get("images", ()))


def inside(turns: tuple[Turn, ...], kind: type) -> list[Any]:
    found: list[Any] = [part for turn in turns for part in turn.parts if isinstance(part, kind)]
    return [
        (part.id, part.name, json.loads(part.arguments)) if isinstance(part, ToolCall) else (part.call_id, part.parts)
        for part in found
    ]


@pytest.mark.requirement("GW-5", "GW-7")
def test_results_find_their_calls_by_id_by_name_and_order_or_by_order_alone() -> None:
    def calls(*named: str) -> JSON:
        return {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": name, "arguments": {}}} for name in named],
        }

    def answered(*results: JSON, made: JSON) -> list[tuple[str, str | None]]:
        messages = [*HELLO, made, *({"role": "tool", "content": "x", **result} for result in results)]
        [*_, last] = asked(messages=messages).turns
        return [(part.call_id, part.name) for part in last.parts if isinstance(part, ToolResult)]

    two = calls("f", "g")
    assert answered({"tool_name": "g"}, {"tool_name": "f"}, made=two) == [("call_1", "g"), ("call_0", "f")]
    assert answered({}, {}, made=two) == [("call_0", "f"), ("call_1", "g")]
    assert answered({"tool_name": "f"}, {"tool_name": "f"}, made=calls("f", "f")) == [("call_0", "f"), ("call_1", "f")]
    given = {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f"}}, {"function": {"name": "g"}}]}
    assert answered({"tool_name": "g"}, {"tool_call_id": "a"}, made=given) == [("call_1", "g"), ("a", "f")]
    assert answered({"tool_call_id": "made up", "tool_name": "g"}, made=two) == [("call_1", "g")]
    for lost in ({"tool_name": "h"}, {"tool_call_id": "zzz"}):
        refusal = refused(answered, lost, made=two)
        assert (refusal.code, refusal.param) == (Code.INVALID_REQUEST, "messages.2")


@pytest.mark.requirement("GW-7")
def test_a_result_never_belongs_to_a_call_of_an_earlier_turn() -> None:
    made: JSON = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"n": 1}}}]}
    again = [*HELLO, made, *HELLO, made, {"role": "tool", "tool_name": "f", "content": "x"}]
    [*_, last] = asked(messages=again).turns
    assert last.parts == (ToolResult(call_id="call_1", name="f", parts=(Text(text="x"),)),)


@pytest.mark.requirement("GW-7")
def test_calls_that_a_client_kept_piece_by_piece_of_a_stream_are_one_turn() -> None:
    def piece(name: str) -> JSON:
        return {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": name, "arguments": {}}}]}

    results = [{"role": "tool", "tool_name": name, "content": name} for name in ("f", "g")]
    _, made, answered = asked(messages=[*HELLO, piece("f"), piece("g"), *results]).turns
    assert [part.name for part in made.parts if isinstance(part, ToolCall)] == ["f", "g"]
    assert [part.call_id for part in answered.parts if isinstance(part, ToolResult)] == ["call_0", "call_1"]


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("members", "place"),
    [
        ({"messages": "x"}, "messages"),
        ({"messages": [{"role": "developer", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "images": ["?"]}]}, "messages.0.images.0"),
        ({"messages": [*HELLO, {"role": "tool", "content": "x"}]}, "messages.1"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}]},
         "messages.0.tool_calls.0.function.arguments"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"format": "yaml"}, "format"),
        ({"think": "hard"}, "think"),
        ({"think": 1}, "think"),
        ({"options": {"num_predict": "9"}}, "options.num_predict"),
        ({"options": {"top_k": 0.5}}, "options.top_k"),
        ({"options": []}, "options"),
        ({"stream": "no"}, "stream"),
    ],
)  # fmt: skip
def test_what_the_dialect_does_not_allow_is_refused_by_name(members: JSON, place: str) -> None:
    refusal = refused(asked, **members)
    assert (refusal.code, refusal.param) == (Code.INVALID_REQUEST, place)


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("members", "place"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": [{"role": "user", "images": [BITMAP]}]}, "messages.0.images.0"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
    ],
)  # fmt: skip
def test_what_no_other_dialect_has_is_refused_by_name(members: JSON, place: str) -> None:
    refusal = refused(asked, **members)
    assert (refusal.code, refusal.param) == (Code.NOT_REPRESENTABLE, place)


@pytest.mark.requirement("GW-7")
def test_settings_that_say_no_more_than_leaving_them_out_say_nothing() -> None:
    nothing = {"num_predict": -1, "seed": -1, "top_k": 0, "stop": [], "temperature": None}
    more: JSON = {"logprobs": False, "top_logprobs": 0, "format": "", "keep_alive": None, "tools": None}
    assert asked(options=nothing, **more) == asked()
    assert asked(options={"num_predict": -2}).max_output is None
    assert asked(options={"stop": "END"}).stop == ("END",)
    assert asked().stream
    assert not asked(stream=False).stream
    empty: JSON = {"raw": False, "suffix": "", "template": "", "context": [], "width": 0, "height": 0, "steps": 0}
    assert OLLAMA_GENERATE.read_ask(read_back({"model": "m", "prompt": "x", **empty})).rest == {}


# No member is overlooked

SAMPLES: JSON = {
    "keep_alive": "5m",
    "shift": False,
    "truncate": False,
    "logprobs": True,
    "top_logprobs": 3,
    "options.top_k": 40,
    "options.numa": True,
    "format.enforced": {"type": "object", "properties": {"a": {}}},
    "context": [1],
    "raw": True,
    "suffix": "x",
    "template": "{{ .Prompt }}",
    "width": 9,
    "height": 9,
    "steps": 9,
}
"""Of each documented member that a request does not hold a value; of options that have none here, 1."""
REFUSED = {"logprobs", "top_logprobs", "context", "raw", "suffix", "template", "width", "height", "steps"}


def with_member(path: str) -> JSON:
    value = SAMPLES.get(path, 1)
    if path == "format.enforced":
        return {"format": value}
    return {"options": {path.removeprefix("options."): value}} if path.startswith("options.") else {path: value}


@pytest.mark.requirement("GW-7")
@of_all
def test_every_documented_member_is_said_dropped_or_refused_by_name(direction: Direction) -> None:
    rows = dict(table(direction))
    assert rows.keys() == {*direction.source.holds, *direction.source.knows}
    assert {*direction.dropped, *direction.carried, *direction.ignored} <= direction.source.knows
    for path in direction.source.knows:
        if path in REFUSED:
            refusal = refused(said_to, direction, **with_member(path))
            assert (refusal.code, refusal.param) == (Code.NOT_REPRESENTABLE, path)
            assert rows[path] == "refused"
            continue
        said = said_to(direction, **with_member(path))
        if path in direction.dropped:
            assert said.dropped == (path,)
        else:
            assert said.dropped == ()
            assert path in {"options.top_k", "format.enforced"}


@pytest.mark.requirement("GW-7")
@of_all
def test_an_unknown_member_is_refused_by_name(direction: Direction) -> None:
    for members, name in (({"x_future": 1}, "x_future"), ({"options": {"x_future": 1}}, "options.x_future")):
        refusal = refused(said_to, direction, **members)
        assert (refusal.code, refusal.param) == (Code.NOT_REPRESENTABLE, name)


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("source", "shape"), [(OLLAMA_CHAT, CHAT_SHAPE), (OLLAMA_GENERATE, GENERATE_SHAPE)], ids=["chat", "generate"]
)
def test_every_name_that_the_surface_reads_is_known(source: Any, shape: Any) -> None:
    of_schemas = {"properties", "required", "items", "enum", "description", "$defs", "additionalProperties", "anyOf"}
    known = {part for path in (*source.holds, *source.knows) for part in path.split(".")}
    assert shape.names - of_schemas - {"type"} <= known


@pytest.mark.requirement("GW-7")
def test_how_much_to_think_is_said_to_each_and_what_is_lost_is_named() -> None:
    def body(direction: Direction, think: object) -> tuple[JSON, tuple[str, ...]]:
        said = said_to(direction, think=think)
        return json.loads(said.body), said.dropped

    assert body(TO_CHAT, True)[1] == ("think",)
    said, dropped = body(TO_CHAT, "high")
    assert (said["reasoning_effort"], dropped) == ("high", ())
    said, dropped = body(TO_MESSAGES, True)
    assert (said["thinking"], dropped) == ({"type": "adaptive", "display": "summarized"}, ())
    said, dropped = body(TO_MESSAGES, False)
    assert (said["thinking"], dropped) == ({"type": "disabled"}, ())
    said, dropped = body(DIRECTIONS[Surface.OLLAMA_CHAT, Surface.GENERATE_CONTENT], "low")
    assert (said["generationConfig"]["thinkingConfig"], dropped) == (
        {"thinkingLevel": "LOW", "includeThoughts": True},
        (),
    )
    said, dropped = body(DIRECTIONS[Surface.OLLAMA_CHAT, Surface.RESPONSES], "low")
    assert (said["reasoning"], dropped) == ({"effort": "low", "summary": "auto"}, ())


@pytest.mark.requirement("GW-7")
def test_a_schema_is_enforced_where_it_can_be_and_top_k_is_carried_where_it_is_known() -> None:
    loose = {"type": "object", "properties": {"a": {"type": "string"}}}
    said = said_to(TO_CHAT, format=CLOSED)
    assert json.loads(said.body)["response_format"]["json_schema"] == {
        "name": "answer",
        "schema": CLOSED,
        "strict": True,
    }
    assert said_to(TO_CHAT, format=loose).dropped == ("format.enforced",)
    assert json.loads(said_to(TO_MESSAGES, format=loose).body)["output_config"]["format"]["schema"] == loose
    assert json.loads(said_to(TO_MESSAGES, options={"top_k": 7}).body)["top_k"] == 7
    to_gemini = DIRECTIONS[Surface.OLLAMA_GENERATE, Surface.GENERATE_CONTENT]
    assert json.loads(said_to(to_gemini, options={"top_k": 7, "num_predict": 5}).body)["generationConfig"] == {
        "topK": 7,
        "maxOutputTokens": 5,
    }


@pytest.mark.requirement("GW-7")
@of_each
def test_a_request_that_ends_with_the_models_turn_is_said_only_where_it_goes_on(direction: Direction) -> None:
    messages = [*HELLO, {"role": "assistant", "content": "It is"}]
    if direction is TO_MESSAGES:
        assert json.loads(said_to(direction, messages=messages).body)["messages"][-1]["role"] == "assistant"
    else:
        assert refused(said_to, direction, messages=messages).param == "messages"


@pytest.mark.requirement("GW-7")
def test_thoughts_of_a_history_are_shown_to_no_provider() -> None:
    messages = [*HELLO, {"role": "assistant", "content": "yes", "thinking": "secret"}, *HELLO]
    for direction in FROM_CHAT:
        said = said_to(direction, messages=messages)
        assert b"secret" not in said.body
        assert said.dropped == ("messages.*.thinking",)


# What is answered


def said_by(answer: Answer) -> tuple[str, str, list[tuple[str, str, Any]], str, Usage | None]:
    """What a client should hear of an answer: the tokens as one sum for each way."""
    [choice] = answer.choices
    calls = [part for part in choice.parts if isinstance(part, ToolCall)]
    usage = answer.usage
    return (
        "".join(part.text for part in choice.parts if isinstance(part, Text)),
        "".join(part.text for part in choice.parts if isinstance(part, Reasoning)),
        [(call.id, call.name, json.loads(call.arguments or "{}")) for call in calls],
        "length" if choice.finish == "length" else "stop",
        None if usage is None else Usage(input=usage.prompt_tokens, output=usage.completion_tokens),
    )


@pytest.mark.requirement("GW-7", "GW-8", "PR-3")
@of_each
@settings(deadline=None)
@given(data=st.data())
def test_a_stream_and_a_whole_reply_say_what_the_provider_said(direction: Direction, data: st.DataObject) -> None:
    target = direction.target.surface
    answer = data.draw(answers(of=target))
    steps = data.draw(streamed(answer, interleaved=target is Surface.CHAT))
    whole = json.loads(
        translate_answer(direction, read_back(direction.target.write_answer(answer, occasion())), occasion())
    )
    for heard in (hear_stream(translated_stream(direction, upstream_stream(direction, steps))), hear(whole)):
        assert (heard.text, heard.thought, list(heard.calls), heard.finish, heard.usage) == said_by(answer)
    assert (whole["model"], whole["created_at"]) == ("m", "2026-11-18T11:06:40Z")
    assert not any(name.endswith("_duration") for name in whole)


def stream(*steps: Step, source: Any = OLLAMA_CHAT) -> bytes:
    writer = source.write_steps(occasion())
    return b"".join(writer.write(step) for step in steps) + bytes(writer.end())


def reply(*parts: Any, finish: Finish = "stop", source: Any = OLLAMA_CHAT, usage: Usage | None = None) -> JSON:
    answer = Answer(id=None, model=None, choices=(Choice(parts=parts, finish=finish),), usage=usage)
    written: JSON = source.write_answer(answer, occasion())
    return written


def failure(say: Any, *arguments: Any, **named: Any) -> Code:
    with pytest.raises(UpstreamFailure) as failed:
        say(*arguments, **named)
    return failed.value.code


@pytest.mark.requirement("GW-5", "GW-7")
def test_a_completion_is_told_in_its_own_words() -> None:
    said = reply(Reasoning(text="hm"), Text(text="yes"), source=OLLAMA_GENERATE, usage=Usage(input=3, output=2))
    assert said == {
        "model": "m",
        "created_at": "2026-11-18T11:06:40Z",
        "response": "yes",
        "thinking": "hm",
        "done": True,
        "done_reason": "stop",
        "prompt_eval_count": 3,
        "eval_count": 2,
    }
    steps = (BlockBegan(block=0, kind="text"), BlockGrew(block=0, text="yes"), BlockEnded(block=0))
    first, last = lines_of(stream(*steps, Finished(finish="length"), source=OLLAMA_GENERATE))
    assert (first["response"], first["done"]) == ("yes", False)
    assert (last["response"], last["done"], last["done_reason"]) == ("", True, "length")
    assert failure(reply, ToolCall(id="a", name="f", arguments="{}"), source=OLLAMA_GENERATE) is Code.BAD_REPLY


@pytest.mark.requirement("GW-8")
@pytest.mark.parametrize("finish", ["filter", "refusal", "pause", "malformed", "other"])
@pytest.mark.parametrize("source", [OLLAMA_CHAT, OLLAMA_GENERATE], ids=["chat", "generate"])
def test_an_answer_that_did_not_come_to_its_end_is_never_said_to_have_stopped(source: Any, finish: Finish) -> None:
    assert failure(reply, Text(text="yes"), finish=finish, source=source) is Code.BAD_REPLY
    assert failure(stream, Finished(finish=finish), source=source) is Code.BAD_REPLY


@pytest.mark.requirement("GW-8")
def test_a_stream_without_a_reason_and_a_second_choice_are_no_answer() -> None:
    assert failure(stream) is Code.BAD_REPLY
    assert failure(stream, BlockBegan(block=0, kind="text", choice=1)) is Code.BAD_REPLY
    assert failure(stream, Finished(finish="stop"), Finished(finish="stop", choice=1)) is Code.BAD_REPLY
    two = Answer(id=None, model=None, choices=(Choice(parts=(), finish="stop"),) * 2, usage=None)
    assert failure(OLLAMA_CHAT.write_answer, two, occasion()) is Code.BAD_REPLY


@pytest.mark.requirement("GW-7", "GW-8")
def test_a_tool_call_is_told_whole_with_an_id_or_not_at_all() -> None:
    began = BlockBegan(block=0, kind="tool", name="f")
    pieces = (BlockGrew(block=0, text='{"a":'), BlockGrew(block=0, text="12345678901234567890}"))
    writer = OLLAMA_CHAT.write_steps(occasion())
    assert [writer.write(step) for step in (began, *pieces)] == [b"", b"", b""]
    [line] = lines_of(writer.write(BlockEnded(block=0)))
    assert line["message"]["tool_calls"] == [
        {
            "id": "call_req_1_0_0",
            "function": {"index": 0, "name": "f", "arguments": {"a": 12345678901234567890}},
        }
    ]
    for written in ('{"a":', "[1]", '{"a":1,"a":2}'):
        call = ToolCall(id="a", name="f", arguments=written)
        assert failure(reply, call, finish="tools") is Code.BAD_REPLY
        assert failure(stream, began, BlockGrew(block=0, text=written), Finished(finish="tools")) is Code.BAD_REPLY
    assert failure(reply, ToolCall(id="a", name="f", arguments="x", custom=True)) is Code.BAD_REPLY
    assert failure(stream, BlockBegan(block=0, kind="tool", name="f", custom=True)) is Code.BAD_REPLY
    assert reply(ToolCall(id="a", name="f", arguments=""))["message"]["tool_calls"][0]["function"]["arguments"] == {}


@pytest.mark.requirement("GW-7")
def test_arguments_without_end_are_cut_off() -> None:
    writer = OLLAMA_CHAT.write_steps(occasion())
    writer.write(BlockBegan(block=0, kind="tool", name="f"))
    piece = BlockGrew(block=0, text="x" * 2**22)

    def grow() -> None:
        for _ in range(8):
            writer.write(piece)

    assert failure(grow) is Code.REPLY_TOO_LARGE


@pytest.mark.requirement("GW-8", "PR-3")
def test_words_of_refusal_are_words_and_usage_that_nobody_told_is_not_told() -> None:
    assert reply(Refused(text="I cannot."))["message"] == {"role": "assistant", "content": "I cannot."}
    steps = (BlockBegan(block=0, kind="refusal"), BlockGrew(block=0, text="I cannot."), BlockEnded(block=0))
    said = stream(*steps, Finished(finish="stop"))
    assert hear_stream(said).text == "I cannot."
    assert hear_stream(said).usage is None
    assert "eval_count" not in reply(Text(text="yes"))
    said = stream(Finished(finish="stop"), Counted(usage=Usage(input=5, cache_read=2, output=3)))
    assert hear_stream(said).usage == Usage(input=7, output=3)


@pytest.mark.requirement("GW-7")
def test_a_picture_that_a_tool_returned_stays_with_its_result() -> None:
    made = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    seen = [*HELLO, made, {"role": "tool", "tool_name": "f", "content": "see", "images": [PNG]}]
    said = json.loads(said_to(TO_MESSAGES, messages=seen).body)
    [block] = said["messages"][-1]["content"]
    assert block["type"] == "tool_result"
    assert [part["type"] for part in block["content"]] == ["image", "text"]
