"""What responses can hold comes back as it was, and an answer says the same to OpenAI's own SDK, streamed or whole."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter
from tests.unit.providers.translation.clients import (
    JSON,
    Heard,
    _client,
    events,
    occasion,
    translated_stream,
    upstream_stream,
)
from tests.unit.providers.translation.conversations import (
    answers,
    choices_among,
    efforts,
    images,
    json_texts,
    names,
    objects,
    pdfs,
    schemas,
    signatures,
    streamed,
    tools,
    usages,
    words,
)
from tests.unit.providers.translation.test_hostile import spoilt

from securellm.core.document import Document
from securellm.core.errors import Refusal, UpstreamFailure
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers.dialects import figures
from securellm.providers.translation import DIRECTIONS, Direction, Occasion, translate_answer, translate_ask
from securellm.providers.translation.model import (
    Answer,
    Ask,
    BlockBegan,
    BlockEnded,
    BlockGrew,
    BlockSigned,
    Choice,
    Finished,
    Format,
    Part,
    Reasoning,
    Refused,
    Step,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
    Turn,
)
from securellm.providers.translation.responses import RESPONSES

TO_EACH = [direction for direction in DIRECTIONS.values() if direction.source is RESPONSES]
of_each = pytest.mark.parametrize("direction", TO_EACH, ids=lambda direction: str(direction.target.surface))
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def read_back(body: dict[str, Any]) -> Any:
    """The body as it arrives."""
    return Document(json.dumps(body).encode()).members()


# Requests


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    """What responses can hold, as `read_ask` tells it."""
    turns: list[Turn] = []
    if draw(st.booleans()):
        turns.append(Turn(role="system", parts=(Text(text=draw(words)),)))
    calls = iter(range(1000))
    for _ in range(draw(st.integers(1, 4))):
        said = draw(st.lists(st.builds(Text, text=words) | images | pdfs, min_size=1, max_size=3))
        turns.append(Turn(role=draw(st.sampled_from(["user", "user", "system"])), parts=tuple(said)))
        if draw(st.booleans()):
            turns += draw(_spoken(calls))
    offered = tuple(msgspec.structs.replace(tool, strict=bool(tool.strict)) for tool in draw(tools()))
    return Ask(
        model=draw(names),
        turns=tuple(turns),
        tools=offered,
        tool_choice=draw(choices_among(offered)),
        parallel_tools=draw(st.none() | st.booleans()),
        max_output=draw(st.none() | st.integers(16, 10**6)),
        temperature=draw(st.none() | st.floats(0, 2)),
        top_p=draw(st.none() | st.floats(0, 1)),
        format=draw(st.none() | st.just(Format(kind="text")) | st.just(Format(kind="json")) | _formats),
        thinking=draw(st.none() | st.builds(Thinking, effort=efforts, show=st.none() | st.just(True))),
        user=draw(st.none() | names),
        stream=draw(st.booleans()),
    )


_formats = st.builds(
    Format,
    kind=st.just("schema"),
    name=names,
    description=st.none() | words,
    schema=schemas,
    strict=st.booleans(),
)


@st.composite
def _spoken(draw: st.DrawFn, ids: Any) -> list[Turn]:
    parts: list[Part] = []
    made: list[ToolCall] = []
    for _ in range(draw(st.integers(1, 4))):
        match draw(st.sampled_from(["text", "refusal", "thought", "hidden", "call"])):
            case "text":
                parts.append(Text(text=draw(words)))
            case "refusal":
                parts.append(Refused(text=draw(words)))
            case "thought":
                parts.append(Reasoning(text=draw(words), signature=draw(signatures)))
            case "hidden":
                parts.append(Reasoning(signature=draw(signatures), redacted=True))
            case _:
                made.append(ToolCall(id=f"call_{next(ids)}", name=draw(names), arguments=draw(words | json_texts())))
                parts.append(made[-1])
    spoken = Turn(role="assistant", parts=tuple(parts))
    if not made:
        return [spoken]
    results: list[Part] = [
        ToolResult(
            call_id=call.id,
            name=call.name,
            parts=tuple(draw(st.lists(st.builds(Text, text=words) | images | pdfs, max_size=2))),
        )
        for call in made
    ]
    return [spoken, Turn(role="user", parts=tuple(results))]


@pytest.mark.requirement("GW-7")
@given(asks())
def test_what_responses_can_hold_comes_back(ask: Ask) -> None:
    body, hints = RESPONSES.write_ask(ask)
    assert hints == ()
    assert RESPONSES.read_ask(read_back(body)) == ask


@pytest.mark.requirement("GW-7", "GW-12")
@of_each
@given(ask=asks(), data=st.data())
def test_a_spoilt_request_is_translated_or_refused(direction: Direction, ask: Ask, data: st.DataObject) -> None:
    body, _ = RESPONSES.write_ask(ask)
    try:
        found = translate_ask(direction, spoilt(data, body), model="m", stream=False, default_max_output=9)
    except Refusal:
        return
    json.loads(found.body)


# Answers, to OpenAI's SDK


def hear_responses(reply: JSON) -> Heard:
    """The reply as the SDK reads it, which must be one by its types."""
    response = Response.model_validate(reply)
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[tuple[str, str, Any]] = []
    arguments: list[str] = []
    for item in response.output:
        match item.type:
            case "message":
                texts += [part.text for part in item.content if part.type == "output_text"]
            case "reasoning":
                thoughts += [part.text for part in item.summary]
            case "function_call":
                calls.append((item.call_id, item.name, json.loads(item.arguments or "{}")))
                arguments.append(item.arguments)
            case kind:
                raise AssertionError(kind)
    assert response.output_text == "".join(texts)
    usage = reply["usage"]
    return Heard(
        text="".join(texts),
        thought="".join(thoughts),
        calls=tuple(calls),
        finish=_finish(response),
        usage=None if usage is None else figures.inclusive(usage, prompt="input_tokens", completion="output_tokens"),
        arguments=tuple(arguments),
    )


def _finish(response: Response) -> str:
    if response.status == "completed":
        return "tools" if any(item.type == "function_call" for item in response.output) else "stop"
    details = response.incomplete_details
    assert response.status == "incomplete"
    assert details is not None
    return {"max_output_tokens": "length", "content_filter": "filter", None: "other"}[details.reason]


def hear_responses_stream(data: bytes) -> Heard:
    """The last event's response, once the SDK has read every event, and each has proved to be one by its types."""
    told = events(data)
    assert [event["sequence_number"] for event in told] == list(range(len(told)))
    assert [event["type"] for event in told[:2]] == ["response.created", "response.in_progress"]
    for event in told:
        EVENT.validate_python(event)
    with (
        openai.OpenAI(api_key="k", base_url="http://gateway.test/v1", http_client=_client(data)) as client,
        client.responses.stream(model="m", input="x") as stream,
    ):
        last = list(stream)[-1]
    assert last.type in {"response.completed", "response.incomplete"}
    assert [*_snapshots(told)] == told[-1]["response"]["output"]
    return hear_responses(told[-1]["response"])


def _snapshots(told: Sequence[JSON]) -> Sequence[JSON]:
    """The items by their own events, and their texts by their pieces: all three tellings must agree."""
    items: dict[int, JSON] = {}
    pieces: dict[int, str] = {}
    for event in told:
        index = event.get("output_index")
        if index is None:
            continue
        if event["type"].endswith(".delta"):
            pieces[index] = pieces.get(index, "") + event["delta"]
        if event["type"] == "response.output_item.done":
            items[index] = event["item"]
    for index, item in items.items():
        match item["type"]:
            case "message":
                part = item["content"][0]
                assert pieces.get(index, "") == part.get("text", part.get("refusal"))
            case "function_call":
                assert pieces.get(index, "") == item["arguments"]
            case "custom_tool_call":
                assert pieces.get(index, "") == item["input"]
            case _:
                assert pieces.get(index, "") == "".join(part["text"] for part in item["summary"])
    return [items[index] for index in sorted(items)]


def said(answer: Answer, *, wordless: str) -> Heard:
    """What a client should hear of an answer. `wordless`: arguments that say nothing, as the upstream's are read."""
    choice = answer.choices[0]
    calls = [part for part in choice.parts if isinstance(part, ToolCall)]
    return Heard(
        text="".join(part.text for part in choice.parts if isinstance(part, Text)),
        thought="".join(part.text for part in choice.parts if isinstance(part, Reasoning)),
        calls=tuple((call.id, call.name, json.loads(call.arguments or "{}")) for call in calls),
        finish=choice.finish,
        usage=answer.usage,
        arguments=tuple(call.arguments or wordless for call in calls),
    )


WORDLESS = {Surface.CHAT: "", Surface.MESSAGES: "{}", Surface.GENERATE_CONTENT: "{}"}


@pytest.mark.requirement("GW-2", "GW-7", "GW-8", "PR-3")
@of_each
@given(data=st.data())
def test_a_stream_says_to_the_sdk_what_the_provider_said(direction: Direction, data: st.DataObject) -> None:
    target = direction.target.surface
    answer = data.draw(answers(of=target))
    steps = data.draw(streamed(answer, interleaved=target is Surface.CHAT))
    heard = hear_responses_stream(translated_stream(direction, upstream_stream(direction, steps)))
    assert heard == said(answer, wordless=WORDLESS[target])


@pytest.mark.requirement("GW-2", "GW-7", "PR-3")
@of_each
@given(data=st.data())
def test_a_whole_reply_says_what_its_stream_says(direction: Direction, data: st.DataObject) -> None:
    target = direction.target.surface
    answer = data.draw(answers(of=target))
    whole = read_back(direction.target.write_answer(answer, occasion()))
    heard = hear_responses(json.loads(translate_answer(direction, whole, occasion())))
    assert heard == said(answer, wordless=WORDLESS[target])


# As an upstream


@st.composite
def replies(draw: st.DrawFn) -> Answer:
    """What an upstream of responses can answer."""
    parts: list[Part] = []
    made = 0
    for _ in range(draw(st.integers(0, 4))):
        match draw(st.sampled_from(["text", "refusal", "thought", "hidden", "call"])):
            case "text":
                parts.append(Text(text=draw(words)))
            case "refusal":
                parts.append(Refused(text=draw(words)))
            case "thought":
                parts.append(Reasoning(text=draw(words), signature=draw(st.none() | signatures)))
            case "hidden":
                parts.append(Reasoning(signature=draw(signatures), redacted=True))
            case _:
                parts.append(
                    ToolCall(
                        id=f"call_{made}",
                        name=draw(names),
                        arguments=draw(words | json_texts()),
                        custom=draw(st.booleans()),
                    )
                )
                made += 1
    refused = any(isinstance(part, Refused) for part in parts)
    ended = "tools" if made else "refusal" if refused else "stop"
    finish: Any = draw(st.sampled_from([ended, "length", "filter", "other"]))
    usage = draw(
        usages()
        | st.builds(Usage, **{name: st.integers(0, 999) for name in Usage.__struct_fields__}).filter(
            lambda usage: usage.cache_read > 0
        )
    )
    choices = (Choice(parts=tuple(parts), finish=finish),)
    # Every answer names a tier in this dialect.
    return Answer(id="resp_req_1", model="m", choices=choices, usage=usage, service_tier="default")


def without_ids(parts: Sequence[Part]) -> tuple[Part, ...]:
    return tuple(msgspec.structs.replace(part, id=None) if isinstance(part, Reasoning) else part for part in parts)


@pytest.mark.requirement("GW-7", "PR-3")
@given(replies())
def test_a_reply_comes_back(answer: Answer) -> None:
    found = RESPONSES.read_answer(read_back(RESPONSES.write_answer(answer, occasion())))
    choice = found.choices[0]
    choice = msgspec.structs.replace(choice, parts=without_ids(choice.parts))
    assert msgspec.structs.replace(found, choices=(choice,)) == answer


@pytest.mark.requirement("GW-7", "GW-8", "PR-3")
@given(replies(), st.data())
def test_a_stream_comes_back(answer: Answer, data: st.DataObject) -> None:
    steps = _custom(answer, data.draw(streamed(answer, interleaved=True)))
    writer, reader = RESPONSES.write_steps(occasion()), RESPONSES.read_steps()
    written = b"".join(writer.write(step) for step in steps) + writer.end()
    found = [step for event in events(written) for step in reader.read(event)]
    assert reader.end() == ()
    assert gathered(found) == gathered(steps)


def _custom(answer: Answer, steps: Sequence[Step]) -> list[Step]:
    customs = {part.id for part in answer.choices[0].parts if isinstance(part, ToolCall) and part.custom}
    return [
        msgspec.structs.replace(step, custom=True) if isinstance(step, BlockBegan) and step.id in customs else step
        for step in steps
    ]


def gathered(steps: Sequence[Step]) -> Any:
    """What was said, however it was cut: the parts in the order they began, why it ended, and what it cost."""
    parts: dict[int, list[Any]] = {}
    finish: str | None = None
    usage: Usage | None = None
    for step in steps:
        match step:
            case BlockBegan():
                parts[step.block] = [step.kind, step.name, step.id, step.custom, "", None]
            case BlockGrew():
                parts[step.block][4] += step.text
            case BlockSigned():
                parts[step.block][5] = (step.signature, step.redacted)
            case Finished():
                finish = step.finish
            case BlockEnded():
                pass
            case _:
                usage = step.usage or usage
    return sorted(map(str, parts.values())), finish, usage


# What only clients of responses have

CUSTOM: JSON = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edit files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"},
}
NAMESPACE: JSON = {
    "type": "namespace",
    "name": "agents",
    "description": "Other agents.",
    "tools": [{"type": "function", "name": "spawn", "parameters": {"type": "object"}, "strict": False}],
}


def agent_occasion() -> Occasion:
    body: JSON = {"model": "m", "input": "go", "tools": [CUSTOM, NAMESPACE]}
    return Occasion(request_id="req_1", model="m", created=1, ask=RESPONSES.read_ask(body), asked=body)


def test_tools_of_free_text_and_of_namespaces_become_plain_functions() -> None:
    free, spawn = agent_occasion().ask.tools
    assert free.name == "apply_patch"
    assert free.description == "Edit files.\n\nThe input follows this lark grammar:\nstart: /.+/"
    assert free.parameters is not None
    assert free.parameters["required"] == ["input"]
    assert spawn == Tool(name="agents__spawn", parameters={"type": "object"}, strict=False)


@given(words)
def test_what_the_model_says_to_them_is_told_by_the_clients_own_names(text: str) -> None:
    parts = (
        ToolCall(id="c1", name="apply_patch", arguments=json.dumps({"input": text})),
        ToolCall(id="c2", name="agents__spawn", arguments="{ }"),
    )
    answer = Answer(id=None, model=None, choices=(Choice(parts=parts, finish="tools"),), usage=None)
    reply = RESPONSES.write_answer(answer, agent_occasion())
    Response.model_validate(reply)
    output: Any = reply["output"]
    assert [(item["type"], item["call_id"], item["name"]) for item in output] == [
        ("custom_tool_call", "c1", "apply_patch"),
        ("function_call", "c2", "spawn"),
    ]
    assert output[0]["input"] == text
    assert (output[1]["namespace"], output[1]["arguments"]) == ("agents", "{ }")


@given(words, st.data())
def test_their_stream_tells_free_text_when_it_is_whole(text: str, data: st.DataObject) -> None:
    call = ToolCall(id="c1", name="apply_patch", arguments=json.dumps({"input": text}))
    answer = Answer(id=None, model=None, choices=(Choice(parts=(call,), finish="tools"),), usage=None)
    writer = RESPONSES.write_steps(agent_occasion())
    written = b"".join(writer.write(step) for step in data.draw(streamed(answer, interleaved=False))) + writer.end()
    told = events(written)
    for event in told:
        EVENT.validate_python(event)
    kinds = [event["type"].removeprefix("response.") for event in told]
    assert kinds == [
        "created",
        "in_progress",
        "output_item.added",
        "custom_tool_call_input.delta",
        "custom_tool_call_input.done",
        "output_item.done",
        "completed",
    ]
    assert told[3]["delta"] == told[4]["input"] == told[5]["item"]["input"] == text


@pytest.mark.parametrize("arguments", ["", "{}", '{"input": 1}', '{"input": "a", "b": 2}', '{"input": "a'])
def test_free_text_that_is_none_is_never_made_up(arguments: str) -> None:
    call = ToolCall(id="c1", name="apply_patch", arguments=arguments)
    answer = Answer(id=None, model=None, choices=(Choice(parts=(call,), finish="tools"),), usage=None)
    with pytest.raises(UpstreamFailure):
        RESPONSES.write_answer(answer, agent_occasion())


@pytest.mark.requirement("GW-7")
@given(objects, signatures)
def test_a_history_of_such_calls_says_what_was_said(inner: dict[str, Any], signature: str) -> None:
    text = json.dumps(inner)
    call = ToolCall(id="c1", name="agents__spawn", arguments=text, signature=signature)
    answer = Answer(id=None, model=None, choices=(Choice(parts=(call,), finish="tools"),), usage=None)
    shown: Any = RESPONSES.write_answer(answer, agent_occasion())["output"]
    body = {
        "model": "m",
        "tools": [CUSTOM, NAMESPACE],
        "input": [
            {"role": "user", "content": "go"},
            *shown,
            {"type": "custom_tool_call", "call_id": "c2", "name": "apply_patch", "input": text},
            {"type": "function_call_output", "call_id": "c1", "output": "done"},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "so"}]},
        ],
    }
    turns = RESPONSES.read_ask(read_back(body)).turns
    assert turns[1:] == (
        Turn(
            role="assistant",
            parts=(
                call,
                ToolCall(
                    id="c2",
                    name="apply_patch",
                    arguments=json.dumps({"input": text}, ensure_ascii=False, separators=(",", ":")),
                ),
            ),
        ),
        Turn(
            role="user",
            parts=(
                ToolResult(call_id="c1", name="agents__spawn", parts=(Text(text="done"),)),
                ToolResult(call_id="c2", name="apply_patch", parts=(Text(text="so"),)),
            ),
        ),
    )
