"""What generated content can hold comes back as it was; an answer says the same to its clients, streamed or whole."""

import base64
import json
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.providers.translation.clients import (
    JSON,
    Heard,
    events,
    occasion,
    translated_stream,
    upstream_stream,
)
from tests.unit.providers.translation.conversations import (
    answers,
    binary,
    choices_among,
    compact,
    joined,
    names,
    objects,
    pdfs,
    signatures,
    sounds,
    streamed,
    tools,
    words,
)
from tests.unit.providers.translation.test_hostile import spoilt

from securellm.core.document import Document
from securellm.core.errors import Code, Refusal, UpstreamFailure
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers.dialects import figures
from securellm.providers.translation import DIRECTIONS, Direction, translate_answer, translate_ask
from securellm.providers.translation.generate_content import GENERATE_CONTENT
from securellm.providers.translation.model import (
    Answer,
    Ask,
    BlockBegan,
    BlockGrew,
    BlockSigned,
    Choice,
    File,
    Finished,
    Format,
    Image,
    Part,
    Reasoning,
    Step,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Turn,
)
from securellm.providers.translation.signatures import marked

TO_EACH = [direction for direction in DIRECTIONS.values() if direction.source is GENERATE_CONTENT]
of_each = pytest.mark.parametrize("direction", TO_EACH, ids=lambda direction: str(direction.target.surface))


def of_all_but(surface: Surface) -> pytest.MarkDecorator:
    directions = [direction for direction in TO_EACH if direction.target.surface is not surface]
    return pytest.mark.parametrize("direction", directions, ids=lambda direction: str(direction.target.surface))


of_those_with_text = of_all_but(Surface.MESSAGES)
"""Upstreams that tell a call's arguments as text."""
of_those_that_sign = of_all_but(Surface.CHAT)


def read_back(body: dict[str, Any]) -> Any:
    """The body as it arrives."""
    return Document(json.dumps(body).encode()).members()


# Requests

images = st.builds(Image, media_type=st.sampled_from(["image/png", "image/jpeg"]), data=binary) | st.builds(
    Image, media_type=st.just("image/webp"), url=names.map(lambda name: f"https://pictures.example/{name}.webp?size=1")
)


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    """What generated content can hold, as `read_ask` tells it: speakers take turns."""
    turns: list[Turn] = []
    if draw(st.booleans()):
        system = tuple(Text(text=text) for text in draw(st.lists(words, min_size=1, max_size=2)))
        turns.append(Turn(role="system", parts=system))
    calls = iter(range(1000))
    open_calls: list[ToolCall] = []
    for _ in range(draw(st.integers(1, 4))):
        results = tuple(draw(_result(call)) for call in open_calls)
        said = draw(st.lists(st.builds(Text, text=words) | images | pdfs | sounds, min_size=1, max_size=3))
        turns.append(Turn(role="user", parts=results or tuple(said)))
        spoken, open_calls = draw(_spoken(calls))
        turns.append(spoken)
    offered = tuple(msgspec.structs.replace(tool, strict=None) for tool in draw(tools()))
    return Ask(
        model="",
        turns=tuple(turns),
        tools=offered,
        tool_choice=draw(choices_among(offered)),
        max_output=draw(st.none() | st.integers(1, 10**6)),
        temperature=draw(st.none() | st.floats(0, 2)),
        top_p=draw(st.none() | st.floats(0, 1)),
        stop=tuple(draw(st.lists(words, max_size=3))),
        seed=draw(st.none() | st.integers(0, 2**31)),
        choices=draw(st.integers(1, 3)),
        presence_penalty=draw(st.none() | st.floats(-2, 2)),
        frequency_penalty=draw(st.none() | st.floats(-2, 2)),
        format=draw(
            st.none()
            | st.just(Format(kind="json"))
            | st.builds(Format, kind=st.just("schema"), schema=st.just({"type": "string"}), strict=st.just(True))
        ),
        thinking=draw(
            st.none()
            | st.builds(Thinking, budget=st.integers(-1, 10**5), show=st.none() | st.booleans())
            | st.builds(
                Thinking,
                effort=st.sampled_from(["minimal", "low", "medium", "high", "xhigh"]),
                show=st.none() | st.booleans(),
            )
        ),
    )


@st.composite
def _result(draw: st.DrawFn, call: ToolCall) -> ToolResult:
    is_error = draw(st.booleans())
    said = tuple(Text(text=text) for text in draw(st.lists(words, min_size=1, max_size=2)))
    media = tuple(draw(st.lists(images, max_size=1)))
    return ToolResult(call_id=call.id, name=call.name, parts=said + media, is_error=is_error)


@st.composite
def _spoken(draw: st.DrawFn, ids: Any) -> tuple[Turn, list[ToolCall]]:
    parts: list[Part] = []
    for kind in draw(st.lists(st.sampled_from(["text", "thought", "proof"]), min_size=1, max_size=3)):
        match kind:
            case "text":
                parts.append(Text(text=draw(words)))
            case "thought":
                parts.append(Reasoning(text=draw(words), signature=draw(signatures)))
            case _:
                parts += [Text(text=draw(words)), Reasoning(signature=draw(signatures), redacted=True)]
    called = [
        ToolCall(id=f"call_{next(ids)}", name=name, arguments=compact(draw(objects)), signature=draw(signatures))
        for name in draw(st.lists(names, max_size=3))
    ]
    return Turn(role="assistant", parts=joined((*parts, *called))), called


def without_names(ask: Ask) -> Ask:
    """A file's name is a hint that Google's API does not use."""
    turns = (
        msgspec.structs.replace(
            turn,
            parts=tuple(
                msgspec.structs.replace(part, name=None) if isinstance(part, File) else part for part in turn.parts
            ),
        )
        for turn in ask.turns
    )
    return msgspec.structs.replace(ask, turns=tuple(turns))


@pytest.mark.requirement("GW-5", "GW-7")
@given(asks())
def test_what_generated_content_can_hold_comes_back(ask: Ask) -> None:
    body, hints = GENERATE_CONTENT.write_ask(ask)
    assert set(hints) <= {"file.name"}
    assert GENERATE_CONTENT.read_ask(read_back(body)) == without_names(ask)


@pytest.mark.requirement("GW-7", "GW-12")
@of_each
@given(ask=asks(), data=st.data())
def test_a_spoilt_request_is_translated_or_refused(direction: Direction, ask: Ask, data: st.DataObject) -> None:
    body, _ = GENERATE_CONTENT.write_ask(ask)
    try:
        found = translate_ask(direction, spoilt(data, body), model="m", stream=False, default_max_output=9)
    except Refusal:
        return
    json.loads(found.body)


# Answers, to a client


def hear(chunks: Iterable[JSON]) -> Heard:
    """What a client makes of an answer: its chunks, or the whole of it as the only one."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[tuple[str, str, Any]] = []
    finish: list[str] = []
    usage: JSON = {}
    for chunk in chunks:
        usage = chunk.get("usageMetadata", usage)
        for candidate in chunk["candidates"]:
            assert candidate["index"] == 0
            content = candidate["content"]
            assert content["role"] == "model"
            assert content["parts"]
            for part in content["parts"]:
                if "functionCall" in part:
                    call = part["functionCall"]
                    calls.append((call["id"], call["name"], call["args"]))
                else:
                    (thoughts if part.get("thought") else texts).append(part.get("text", ""))
            if "finishReason" in candidate:
                finish.append(candidate["finishReason"])
    assert len(finish) == 1
    return Heard(
        text="".join(texts),
        thought="".join(thoughts),
        calls=tuple(calls),
        finish=finish[0],
        usage=figures.by_modality(usage),
    )


WORDS = {"stop": "STOP", "tools": "STOP", "length": "MAX_TOKENS"}


def said(answer: Answer) -> Heard:
    choice = answer.choices[0]
    calls = [part for part in choice.parts if isinstance(part, ToolCall)]
    return Heard(
        text="".join(part.text for part in choice.parts if isinstance(part, Text)),
        thought="".join(part.text for part in choice.parts if isinstance(part, Reasoning)),
        calls=tuple((call.id, call.name, json.loads(call.arguments or "{}")) for call in calls),
        finish=WORDS[choice.finish],
        usage=answer.usage,
    )


@pytest.mark.requirement("GW-5", "GW-7", "GW-8", "PR-3")
@of_each
@given(data=st.data())
def test_a_stream_says_what_the_provider_said(direction: Direction, data: st.DataObject) -> None:
    target = direction.target.surface
    answer = data.draw(answers(of=target))
    steps = data.draw(streamed(answer, interleaved=target is Surface.CHAT))
    written = translated_stream(direction, upstream_stream(direction, steps))
    assert all(line.startswith(b"data: {") for line in written.split(b"\n\n")[:-1])
    assert by_id(hear(events(written))) == by_id(said(answer))


def by_id(heard: Heard) -> Heard:
    """Calls in no order: each is told when it is complete."""
    return msgspec.structs.replace(heard, calls=tuple(sorted(heard.calls, key=str)))


@pytest.mark.requirement("GW-5", "GW-7", "PR-3")
@of_each
@given(data=st.data())
def test_a_whole_reply_says_what_its_stream_says(direction: Direction, data: st.DataObject) -> None:
    answer = data.draw(answers(of=direction.target.surface))
    whole = read_back(direction.target.write_answer(answer, occasion()))
    assert hear([json.loads(translate_answer(direction, whole, occasion()))]) == said(answer)


@pytest.mark.requirement("GW-7", "GW-8")
@of_those_with_text
@pytest.mark.parametrize("arguments", ['{"a": 1', "[1]", '"a"', '{"a": 1, "a": 2}', '{"a": 1e999}', "nonsense"])
def test_arguments_that_are_no_object_are_never_told(direction: Direction, arguments: str) -> None:
    call = ToolCall(id="c", name="f", arguments=arguments)
    answer = Answer(id=None, model=None, choices=(Choice(parts=(call,), finish="tools"),), usage=Usage(output=1))
    whole = read_back(direction.target.write_answer(answer, occasion()))
    with pytest.raises(UpstreamFailure) as failed:
        translate_answer(direction, whole, occasion())
    assert failed.value.code is Code.BAD_REPLY
    began, grew = BlockBegan(block=0, kind="tool", id="c", name="f"), BlockGrew(block=0, text=arguments)
    stream = upstream_stream(direction, [began, grew, Finished(finish="tools")])
    with pytest.raises(UpstreamFailure) as failed:
        translated_stream(direction, stream)
    assert failed.value.code is Code.BAD_REPLY


# As an upstream


@st.composite
def replies(draw: st.DrawFn) -> Answer:
    """What an upstream of generated content can answer."""
    parts: list[Part] = []
    for kind in draw(st.lists(st.sampled_from(["text", "thought", "proof", "call"]), max_size=4)):
        match kind:
            case "text":
                parts.append(Text(text=draw(words)))
            case "thought":
                parts.append(Reasoning(text=draw(words), signature=draw(st.none() | signatures)))
            case "proof":
                parts += [Text(text=draw(words)), Reasoning(signature=draw(signatures), redacted=True)]
            case _:
                parts.append(
                    ToolCall(
                        id=draw(st.just("") | names),
                        name=draw(names),
                        arguments=compact(draw(objects)),
                        signature=draw(st.none() | signatures),
                    )
                )
    calls = any(isinstance(part, ToolCall) for part in parts)
    finish: Any = draw(st.sampled_from(["tools" if calls else "stop", "length", "filter", "malformed", "other"]))
    figures = {
        name: draw(st.integers(0, 999)) for name in Usage.__struct_fields__ if not name.startswith("cache_write")
    }
    return Answer(id="r", model="g", choices=(Choice(parts=joined(parts), finish=finish),), usage=Usage(**figures))


REASONS = {
    "stop": "STOP",
    "tools": "STOP",
    "length": "MAX_TOKENS",
    "filter": "RECITATION",
    "malformed": "MALFORMED_FUNCTION_CALL",
    "other": "TOO_MANY_TOOL_CALLS",
}


def wire_parts(parts: Sequence[Part]) -> list[JSON]:
    """The parts as Google's API writes them."""
    found: list[JSON] = []
    for part in parts:
        match part:
            case Text():
                found.append({"text": part.text})
            case Reasoning():
                found.append({"text": part.text} | ({"thought": True} if part.text else {}))
            case ToolCall():
                call = {"name": part.name, "args": json.loads(part.arguments)} | ({"id": part.id} if part.id else {})
                found.append({"functionCall": call})
            case _:
                raise AssertionError(part)
        signature = getattr(part, "signature", None)
        if signature is not None:
            found[-1]["thoughtSignature"] = signature
    return found


def wire_usage(usage: Usage) -> JSON:
    return {
        "promptTokenCount": usage.prompt_tokens,
        "cachedContentTokenCount": usage.cache_read,
        "candidatesTokenCount": usage.output + usage.audio_output,
        "thoughtsTokenCount": usage.reasoning,
        "totalTokenCount": usage.total_tokens,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": usage.input + usage.cache_read},
            {"modality": "AUDIO", "tokenCount": usage.audio_input},
            {"modality": "IMAGE", "tokenCount": usage.image_input},
        ],
        "candidatesTokensDetails": [
            {"modality": "TEXT", "tokenCount": usage.output},
            {"modality": "AUDIO", "tokenCount": usage.audio_output},
        ],
    }


def wire(answer: Answer, parts: Sequence[JSON], *, last: bool = True) -> JSON:
    usage = answer.usage
    assert usage is not None
    candidate: JSON = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if last:
        candidate["finishReason"] = REASONS[answer.choices[0].finish]
    return {
        "candidates": [candidate],
        "usageMetadata": wire_usage(usage if last else msgspec.structs.replace(usage, output=0, audio_output=0)),
        "modelVersion": "g",
        "responseId": "r",
    }


@pytest.mark.requirement("GW-5", "GW-7", "PR-3")
@given(replies())
def test_a_reply_of_googles_is_read(answer: Answer) -> None:
    parts = wire_parts(answer.choices[0].parts)
    assert GENERATE_CONTENT.read_answer(read_back(wire(answer, parts))) == answer


@pytest.mark.requirement("GW-5", "GW-7", "GW-8", "PR-3")
@given(replies(), st.data())
def test_a_stream_of_googles_is_read(answer: Answer, data: st.DataObject) -> None:
    pieces = [piece for part in wire_parts(answer.choices[0].parts) for piece in data.draw(_pieces(part))]
    cuts = data.draw(st.lists(st.booleans(), min_size=len(pieces), max_size=len(pieces)))
    chunks: list[list[JSON]] = [[]]
    for piece, cut in zip(pieces, cuts, strict=True):
        chunks[-1].append(piece)
        if cut:
            chunks.append([])
    reader = GENERATE_CONTENT.read_steps()
    steps: list[Step] = []
    for place, chunk in enumerate(chunks):
        steps += reader.read(read_back(wire(answer, chunk, last=place == len(chunks) - 1)))
    steps += reader.end()
    parts, finish, usage = gathered(steps)
    assert merged(parts) == merged(answer.choices[0].parts)
    assert (finish, usage) == (answer.choices[0].finish, answer.usage)


@st.composite
def _pieces(draw: Any, part: JSON) -> list[JSON]:
    """A part as it is streamed: words in pieces, their proof with the last or after it; a call in one."""
    text = part.get("text")
    if not text:
        return [part]
    at = draw(st.integers(0, len(text)))
    proof = {"thoughtSignature": part["thoughtSignature"]} if "thoughtSignature" in part else {}
    plain = {name: value for name, value in part.items() if name != "thoughtSignature"}
    apart: bool = draw(st.booleans())
    if proof and apart:
        return [{**plain, "text": text[:at]}, {**plain, "text": text[at:]}, {**plain, "text": "", **proof}]
    return [{**plain, "text": text[:at]}, {**plain, "text": text[at:], **proof}]


def gathered(steps: Sequence[Step]) -> tuple[tuple[Part, ...], str | None, Usage | None]:
    blocks: dict[int, BlockBegan] = {}
    texts: dict[int, str] = {}
    proofs: dict[int, BlockSigned] = {}
    finish: str | None = None
    usage: Usage | None = None
    for step in steps:
        match step:
            case BlockBegan():
                blocks[step.block], texts[step.block] = step, ""
            case BlockGrew():
                texts[step.block] += step.text
            case BlockSigned():
                proofs[step.block] = step
            case Finished():
                finish = step.finish
            case _:
                usage = getattr(step, "usage", None) or usage
    parts: list[Part] = []
    for number, block in blocks.items():
        proof, text = proofs.get(number), texts[number]
        signature = None if proof is None else proof.signature
        match block.kind:
            case "text":
                parts.append(Text(text=text))
            case "reasoning":
                redacted = proof is not None and proof.redacted
                parts.append(Reasoning(text=text, signature=signature, redacted=redacted))
            case _:
                parts.append(ToolCall(id=block.id or "", name=block.name or "", arguments=text, signature=signature))
    return tuple(parts), finish, usage


def merged(parts: Sequence[Part]) -> list[Part]:
    """Thoughts that follow each other unsigned are one in a stream, and a proof ends the thought before it."""
    found: list[Part] = []
    for part in joined(parts):
        last = found[-1] if found else None
        if isinstance(part, Reasoning) and isinstance(last, Reasoning) and last.signature is None:
            found[-1] = Reasoning(text=last.text + part.text, signature=part.signature)
        else:
            found.append(part)
    return found


@pytest.mark.requirement("GW-7", "GW-8")
def test_a_prompt_that_was_blocked_is_told_as_filtered_and_not_made_up() -> None:
    blocked: JSON = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 4}}
    answer = GENERATE_CONTENT.read_answer(blocked)
    assert answer.choices == (Choice(parts=(), finish="filter"),)
    assert answer.usage == Usage(input=4)
    reader = GENERATE_CONTENT.read_steps()
    assert [*reader.read(blocked), *reader.end()][-1] == Finished(finish="filter")


@pytest.mark.requirement("GW-7", "GW-8")
@pytest.mark.parametrize(
    "reply",
    [
        {},
        {"candidates": []},
        {"candidates": [{"content": {"parts": [{"text": "x"}]}}]},
        {"candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "FINISH_REASON_UNSPECIFIED"}]},
        {"candidates": [{"content": {"parts": [{"inlineData": {}}]}, "finishReason": "STOP"}]},
        {"candidates": [{"content": {"parts": [{"functionCall": {"args": {}}}]}, "finishReason": "STOP"}]},
        {"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "partialArgs": [{}]}}]}}]},
        {"candidates": ["x"]},
    ],
)
def test_a_reply_without_an_end_or_with_more_than_words_and_calls_is_a_bad_one(reply: JSON) -> None:
    with pytest.raises(UpstreamFailure):
        GENERATE_CONTENT.read_answer(reply)
    reader = GENERATE_CONTENT.read_steps()
    with pytest.raises(UpstreamFailure):
        (*reader.read(reply), *reader.end())


def test_a_call_without_arguments_has_the_empty_object() -> None:
    reply: JSON = {"candidates": [{"content": {"parts": [{"functionCall": {"name": "f"}}]}, "finishReason": "STOP"}]}
    assert GENERATE_CONTENT.read_answer(reply).choices[0].parts == (ToolCall(id="", name="f", arguments="{}"),)


# Proofs


def history(*parts: Part) -> Ask:
    return Ask(
        model="",
        turns=(
            Turn(role="user", parts=(Text(text="go"),)),
            Turn(role="assistant", parts=parts),
            Turn(
                role="user",
                parts=tuple(ToolResult(call_id=part.id) for part in parts if isinstance(part, ToolCall)),
            ),
        ),
    )


def proofs(ask: Ask) -> list[tuple[str, Any]]:
    contents: Any = GENERATE_CONTENT.write_ask(ask)[0]["contents"]
    return [
        (next(name for name in ("functionCall", "text") if name in part), part.get("thoughtSignature"))
        for part in contents[1]["parts"]
    ]


def call(place: int, signature: str | None = None) -> ToolCall:
    return ToolCall(id=f"c{place}", name="f", arguments="{}", signature=signature)


@pytest.mark.requirement("GW-7")
def test_only_the_first_call_of_a_step_must_have_a_proof() -> None:
    dummy = "skip_thought_signature_validator"
    assert proofs(history(call(0), call(1))) == [("functionCall", dummy), ("functionCall", None)]
    assert proofs(history(call(0, "own"), call(1))) == [("functionCall", "own"), ("functionCall", None)]
    assert proofs(history(Text(text="x"), call(0))) == [("text", None), ("functionCall", dummy)]


@pytest.mark.requirement("GW-7")
def test_a_proof_that_was_shown_as_a_thought_goes_back_to_its_call() -> None:
    thought = Reasoning(text="hm", signature="own")
    assert proofs(history(thought, call(0))) == [("text", None), ("functionCall", "own")]
    hidden = Reasoning(signature="own", redacted=True)
    assert proofs(history(hidden, call(0))) == [("functionCall", "own")]
    assert proofs(history(Text(text="x"), hidden)) == [("text", None), ("text", "own")]


@pytest.mark.requirement("GW-7")
@of_those_that_sign
@given(signature=signatures, call_signature=signatures)
def test_a_signature_of_the_upstream_comes_back_to_it_through_the_client(
    direction: Direction, signature: str, call_signature: str
) -> None:
    target = direction.target.surface
    own = marked(target, signature)
    thoughts: tuple[Part, ...] = (Reasoning(text="hm", signature=own), Reasoning(signature=own, redacted=True))
    answer = Answer(
        id=None, model=None, choices=(Choice(parts=(*thoughts, call(0)), finish="tools"),), usage=Usage(output=1)
    )
    reply: Any = GENERATE_CONTENT.write_answer(answer, occasion())
    shown = reply["candidates"][0]["content"]
    for part in shown["parts"]:
        if "thoughtSignature" in part:
            # What an SDK does that keeps bytes, and writes them in the other alphabet.
            raw = base64.b64decode(part["thoughtSignature"], validate=True)
            part["thoughtSignature"] = base64.urlsafe_b64encode(raw).decode()
    body = {
        "contents": [
            {"role": "user", "parts": [{"text": "go"}]},
            shown,
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": "x"}}}]},
        ]
    }
    found = translate_ask(direction, read_back(body), model="m", stream=False, default_max_output=9)
    assert found.body.decode().count(signature) == 2
    other = next(one for one in TO_EACH if one.target.surface is not target)
    foreign = translate_ask(other, read_back(body), model="m", stream=False, default_max_output=9)
    assert signature not in foreign.body.decode()
    assert "contents.*.parts.*.thought" in foreign.dropped


@pytest.mark.requirement("GW-7")
def test_results_without_an_id_go_to_calls_by_name_and_order() -> None:
    body: JSON = {
        "contents": [
            {"role": "user", "parts": [{"text": "go"}]},
            {"role": "model", "parts": [
                {"functionCall": {"name": "f", "args": {"n": 1}}},
                {"functionCall": {"name": "g"}},
                {"functionCall": {"name": "f", "args": {"n": 2}, "id": "own"}},
            ]},
            {"role": "function", "parts": [
                {"functionResponse": {"name": "g", "response": {"error": "no"}}},
                {"functionResponse": {"name": "f", "response": {"output": {"n": 1}}}},
                {"functionResponse": {"name": "f", "id": "own", "response": {"a": 1, "b": 2}}},
            ]},
        ]
    }  # fmt: skip
    turns = GENERATE_CONTENT.read_ask(body).turns
    assert [part.id for part in turns[1].parts if isinstance(part, ToolCall)] == ["call_0", "call_1", "own"]
    assert turns[2].parts == (
        ToolResult(call_id="call_1", name="g", parts=(Text(text="no"),), is_error=True),
        ToolResult(call_id="call_0", name="f", parts=(Text(text='{"n":1}'),)),
        ToolResult(call_id="own", name="f", parts=(Text(text='{"a":1,"b":2}'),)),
    )


@pytest.mark.requirement("GW-7")
def test_a_result_without_its_call_and_arguments_that_are_none_are_refused() -> None:
    lost = Ask(model="", turns=(Turn(role="user", parts=(ToolResult(call_id="c9"),)),))
    with pytest.raises(Refusal) as refused:
        GENERATE_CONTENT.write_ask(lost)
    assert refused.value.code is Code.INVALID_REQUEST
    with pytest.raises(Refusal) as refused:
        GENERATE_CONTENT.write_ask(history(ToolCall(id="c", name="f", arguments="[1]")))
    assert refused.value.code is Code.INVALID_REQUEST


def test_no_arguments_stay_none() -> None:
    contents: Any = GENERATE_CONTENT.write_ask(history(ToolCall(id="c", name="f", arguments="")))[0]["contents"]
    assert contents[1]["parts"][0]["functionCall"] == {"id": "c", "name": "f"}


def test_the_system_in_mid_conversation_keeps_its_place_and_loses_its_authority_by_name() -> None:
    said = (("system", "a"), ("user", "b"), ("assistant", "c"), ("system", "d"), ("user", "e"))
    turns = tuple(Turn(role=role, parts=(Text(text=text),)) for role, text in said)  # type: ignore[arg-type]
    body, hints = GENERATE_CONTENT.write_ask(Ask(model="", turns=turns))
    assert hints == ("turn.role",)
    assert body["systemInstruction"] == {"parts": [{"text": "a"}]}
    assert body["contents"] == [
        {"role": "user", "parts": [{"text": "b"}]},
        {"role": "model", "parts": [{"text": "c"}]},
        {"role": "user", "parts": [{"text": "d"}, {"text": "e"}]},
    ]
