"""What an upstream's stream of responses may and may not say, and how it is told."""

from typing import Any

import msgspec
import pytest
from tests.unit.providers.translation.clients import JSON, events, occasion

from securellm.core.errors import Code, UpstreamFailure
from securellm.core.usage import Usage
from securellm.providers.translation.model import (
    Answer,
    Began,
    BlockBegan,
    BlockEnded,
    BlockGrew,
    BlockSigned,
    Choice,
    Counted,
    Finish,
    Finished,
    Reasoning,
    Refused,
    Step,
    Text,
    ToolCall,
)
from securellm.providers.translation.responses import RESPONSES

CREATED: JSON = {"type": "response.created", "response": {"id": "resp_1", "model": "g", "status": "in_progress"}}
CALL: JSON = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": ""}


def ended(status: str = "completed", **members: Any) -> JSON:
    return {"type": f"response.{status}", "response": {"id": "resp_1", "model": "g", "status": status, **members}}


def added(item: JSON, index: int = 0) -> JSON:
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def done(item: JSON, index: int = 0) -> JSON:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def arguments(piece: str, index: int = 0) -> JSON:
    return {"type": "response.function_call_arguments.delta", "output_index": index, "item_id": "fc", "delta": piece}


def text(piece: str, index: int = 0, content: int = 0) -> JSON:
    place = {"output_index": index, "content_index": content, "item_id": "msg"}
    return {"type": "response.output_text.delta", "delta": piece, **place}


def read(*stream: JSON) -> list[Step]:
    reader = RESPONSES.read_steps()
    return [step for event in stream for step in reader.read(event)] + list(reader.end())


def fails(*stream: JSON) -> UpstreamFailure:
    with pytest.raises(UpstreamFailure) as failed:
        read(*stream)
    return failed.value


@pytest.mark.requirement("GW-8")
def test_what_was_not_streamed_is_told_when_its_item_or_the_response_is_complete() -> None:
    item = {"type": "message", "content": [{"type": "output_text", "text": "hi"}]}
    call = {**CALL, "arguments": '{"a":1}'}
    said = [
        BlockBegan(block=0, kind="text"),
        BlockGrew(block=0, text="hi"),
        BlockEnded(block=0),
        BlockBegan(block=1, kind="tool", id="c1", name="f"),
        BlockGrew(block=1, text='{"a":1}'),
        BlockEnded(block=1),
        Finished(finish="tools"),
    ]
    began = Began(id="resp_1", model="g")
    assert read(CREATED, done(item), done(call, 1), ended(output=[])) == [began, *said]
    assert read(CREATED, ended(output=[item, call])) == [began, *said]


@pytest.mark.requirement("GW-8")
def test_arguments_that_lacked_their_end_get_it_and_those_told_in_two_ways_are_never_run() -> None:
    whole = {"type": "response.function_call_arguments.done", "output_index": 0, "arguments": '{"a":1}'}
    steps = read(CREATED, added(CALL), arguments('{"a"'), whole, ended())
    assert "".join(step.text for step in steps if isinstance(step, BlockGrew)) == '{"a":1}'
    other = {**whole, "arguments": '{"b":1}'}
    assert fails(CREATED, added(CALL), arguments('{"a"'), other, ended()).code is Code.BAD_REPLY
    shorter = {**CALL, "arguments": "{"}
    assert fails(CREATED, added(CALL), arguments('{"a"'), done(shorter), ended()).code is Code.BAD_REPLY


@pytest.mark.requirement("GW-8")
@pytest.mark.parametrize(
    "stream",
    [
        pytest.param([arguments("{")], id="arguments before their call"),
        pytest.param([added(CALL), added(CALL)], id="two calls share an index"),
        pytest.param([added({**CALL, "name": ""})], id="a call without a name"),
        pytest.param([added(CALL), text("x")], id="text in a call"),
        pytest.param([text("x"), done({"type": "message", "content": []}), text("y")], id="text after its end"),
        pytest.param([added({"type": "computer_call", "id": "cu_1"})], id="an item that only OpenAI runs"),
        pytest.param([{"type": "response.shell_call_command.delta", "delta": "ls"}], id="an unknown event that speaks"),
        pytest.param(
            [{"type": "response.output_text.delta", "output_index": 0, "delta": 3}], id="a piece that is none"
        ),
        pytest.param([{"type": "response.output_text.delta", "delta": "x"}], id="a piece without its place"),
        pytest.param([{"delta": "x"}], id="an event without a type"),
        pytest.param([ended(output=["x"])], id="an item that is no object"),
        pytest.param([{"type": "response.completed"}], id="an end without the response"),
        pytest.param([ended(), text("x")], id="an event after the last"),
        pytest.param([text("x")], id="no last event"),
    ],
)
def test_a_stream_that_contradicts_itself_fails(stream: list[JSON]) -> None:
    closing = [] if stream[-1].get("type") in {"response.output_text.delta", "response.completed"} else [ended()]
    assert fails(CREATED, *stream, *closing).code is Code.BAD_REPLY


@pytest.mark.requirement("GW-8")
def test_events_that_say_nothing_are_passed_over() -> None:
    steps = read(CREATED, {"type": "keepalive", "sequence_number": 3}, {"type": "response.queued"}, text("x"), ended())
    assert steps[1:] == [
        BlockBegan(block=0, kind="text"),
        BlockGrew(block=0, text="x"),
        BlockEnded(block=0),
        Finished(finish="stop"),
    ]


@pytest.mark.requirement("PR-4", "GW-8")
@pytest.mark.parametrize(
    "event",
    [
        {"type": "error", "code": "rate_limit_exceeded", "message": "slow"},
        {"type": "error", "error": {"code": "rate_limit_exceeded", "message": "slow"}},
        ended("failed", error={"code": "rate_limit_exceeded", "message": "slow"}),
    ],
)
def test_an_error_in_the_stream_is_the_providers_failure(event: JSON) -> None:
    assert fails(CREATED, event).code is Code.PROVIDER_RATE_LIMITED


def test_a_thought_is_one_whether_its_text_or_its_summary_is_told() -> None:
    def piece(kind: str, index: int, delta: str) -> JSON:
        place = {"summary_index" if "summary" in kind else "content_index": index}
        return {"type": f"response.{kind}.delta", "output_index": 0, "delta": delta, **place}

    proof = done({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"})
    told = [piece("reasoning_summary_text", 0, "a"), piece("reasoning_summary_text", 1, "b")]
    steps = read(CREATED, *told, piece("reasoning_text", 0, "c"), proof, ended())
    assert steps[1:-1] == [
        BlockBegan(block=0, kind="reasoning"),
        BlockGrew(block=0, text="a"),
        BlockGrew(block=0, text="\n\n"),
        BlockGrew(block=0, text="b"),
        BlockSigned(block=0, signature="gAAA"),
        BlockEnded(block=0),
    ]
    assert [step for step in read(CREATED, proof, ended()) if isinstance(step, BlockSigned)] == [
        BlockSigned(block=0, signature="gAAA", redacted=True)
    ]


ENDS: list[tuple[Finish, tuple[Any, ...], str, Any]] = [
    ("stop", (Text(text="x"),), "completed", None),
    ("sequence", (Text(text="x"),), "completed", None),
    ("tools", (ToolCall(id="c", name="f", arguments="{}"),), "completed", None),
    ("refusal", (Refused(text="no"),), "completed", None),
    ("refusal", (Text(text="x"),), "incomplete", {"reason": "content_filter"}),
    ("length", (Text(text="x"),), "incomplete", {"reason": "max_output_tokens"}),
    ("filter", (), "incomplete", {"reason": "content_filter"}),
    ("other", (Text(text="x"),), "incomplete", None),
]


@pytest.mark.requirement("GW-8")
@pytest.mark.parametrize(("finish", "parts", "status", "details"), ENDS)
def test_every_end_is_told_by_its_status_and_none_is_made_up(
    finish: Finish, parts: tuple[Any, ...], status: str, details: Any
) -> None:
    answer = Answer(id=None, model=None, choices=(Choice(parts=parts, finish=finish),), usage=None)
    reply: Any = RESPONSES.write_answer(answer, occasion())
    assert (reply["status"], reply["incomplete_details"], reply["usage"]) == (status, details, None)
    assert all(item["status"] == status for item in reply["output"])


@pytest.mark.requirement("GW-8")
@pytest.mark.parametrize("finish", ["pause", "malformed"])
def test_an_end_that_no_status_tells_is_a_failure(finish: Finish) -> None:
    answer = Answer(id=None, model=None, choices=(Choice(parts=(), finish=finish),), usage=None)
    with pytest.raises(UpstreamFailure):
        RESPONSES.write_answer(answer, occasion())
    writer = RESPONSES.write_steps(occasion())
    writer.write(Finished(finish=finish))
    with pytest.raises(UpstreamFailure):
        writer.end()
    with pytest.raises(UpstreamFailure):
        RESPONSES.write_steps(occasion()).end()


@pytest.mark.requirement("GW-8")
@pytest.mark.parametrize("status", ["in_progress", "queued", "cancelled", None, "done"])
def test_a_response_that_has_not_ended_is_a_bad_reply(status: Any) -> None:
    with pytest.raises(UpstreamFailure):
        RESPONSES.read_answer({"id": "r", "output": [], "status": status})


@pytest.mark.requirement("GW-2")
def test_two_choices_cannot_be_told() -> None:
    choice = Choice(parts=(Text(text="x"),), finish="stop")
    with pytest.raises(UpstreamFailure):
        RESPONSES.write_answer(Answer(id=None, model=None, choices=(choice, choice), usage=None), occasion())
    with pytest.raises(UpstreamFailure):
        RESPONSES.write_steps(occasion()).write(BlockBegan(block=0, kind="text", choice=1))


@pytest.mark.requirement("GW-2")
def test_the_answer_repeats_what_was_asked_and_says_that_nothing_is_stored() -> None:
    asked: JSON = {
        "instructions": "be kind",
        "store": True,
        "temperature": 0.5,
        "metadata": {"a": "b"},
        "tool_choice": "none",
        "max_output_tokens": 9,
        "reasoning": {"effort": "low"},
        "text": {"format": {"type": "json_object"}},
        "previous_response_id": None,
    }
    answer = Answer(id="chatcmpl-1", model="up", choices=(Choice(parts=(), finish="stop"),), usage=None)
    reply = RESPONSES.write_answer(answer, msgspec.structs.replace(occasion(), asked=asked))
    repeated = {"instructions", "temperature", "metadata", "tool_choice", "max_output_tokens", "text"}
    assert {name: reply[name] for name in repeated} == {name: asked[name] for name in repeated}
    assert reply["reasoning"] == {"effort": "low", "summary": None}
    assert (reply["store"], reply["id"], reply["model"]) == (False, "resp_req_1", "m")


@pytest.mark.requirement("GW-2")
def test_a_tool_call_without_an_id_gets_one_and_its_proof_stands_before_it() -> None:
    writer = RESPONSES.write_steps(occasion())
    steps: list[Step] = []
    for block, proof in enumerate(("c2ln", None)):
        steps.append(BlockBegan(block=block, kind="tool", name="f"))
        if proof is not None:
            steps.append(BlockSigned(block=block, signature=proof))
        steps += [BlockGrew(block=block, text="{}"), BlockEnded(block=block)]
    written = b"".join(map(writer.write, [*steps, Finished(finish="tools")])) + writer.end()
    told = events(written)
    output = told[-1]["response"]["output"]
    assert [(item["type"], item.get("call_id")) for item in output] == [
        ("reasoning", None),
        ("function_call", "call_req_1_0"),
        ("function_call", "call_req_1_1"),
    ]
    assert len({item["id"] for item in output}) == 3
    assert writer.sequence == told[-1]["sequence_number"] == len(told) - 1


def test_a_stream_that_says_nothing_is_whole_all_the_same() -> None:
    writer = RESPONSES.write_steps(occasion())
    assert writer.sequence == -1
    assert writer.write(Finished(finish="stop")) == b""
    kinds = [event["type"] for event in events(writer.end())]
    assert kinds == ["response.created", "response.in_progress", "response.completed"]


def test_a_thought_that_is_hidden_has_no_summary_and_one_that_is_empty_has_an_empty_one() -> None:
    thoughts = (Reasoning(signature="a", redacted=True), Reasoning(signature="b"))
    answer = Answer(id=None, model=None, choices=(Choice(parts=thoughts, finish="stop"),), usage=None)
    reply: Any = RESPONSES.write_answer(answer, occasion())
    assert [item["summary"] for item in reply["output"]] == [[], [{"type": "summary_text", "text": ""}]]
    body: JSON = {"model": "m", "input": [{"role": "user", "content": "x"}, *reply["output"]]}
    assert RESPONSES.read_ask(body).turns[-1].parts == thoughts


def test_the_last_count_is_the_one_that_is_told() -> None:
    writer = RESPONSES.write_steps(occasion())
    for count in (1, 2):
        writer.write(Counted(usage=Usage(input=count, output=count)))
    writer.write(Finished(finish="stop"))
    assert events(writer.end())[-1]["response"]["usage"]["total_tokens"] == 4
