"""What a client of messages sees of another provider's thoughts, and what two calls of one id come to."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from securellm.core.document import Value
from securellm.core.errors import Code, UpstreamFailure
from securellm.core.surfaces import Surface
from securellm.providers import DIRECTIONS, Occasion, StreamTranslation, translate_answer, translate_ask

FROM_GEMINI = DIRECTIONS[Surface.MESSAGES, Surface.GENERATE_CONTENT]
PROOF = "cHJvb2Ygb2YgdGhlIHdvcmRz"
CALL: dict[str, Value] = {"functionCall": {"id": "c1", "name": "forecast", "args": {"city": "Natal"}}}


def asked(**members: Value) -> dict[str, Value]:
    turns: list[Value] = [{"role": "user", "content": "hello"}]
    return {"model": "m", "max_tokens": 2000, "messages": turns, **members}


def occasion() -> Occasion:
    ask = translate_ask(FROM_GEMINI, asked(), model="m", stream=True, default_max_output=100).ask
    return Occasion(request_id="req_1", model="m", created=1_795_000_000, ask=ask, asked=asked())


def chunk(*parts: Value, finish: str | None = None) -> dict[str, Value]:
    candidate: dict[str, Value] = {"index": 0, "content": {"role": "model", "parts": list(parts)}}
    if finish is not None:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2}}


def blocks_of(*chunks: dict[str, Value]) -> list[str]:
    """The content blocks of the translated stream, by their type."""
    translation = StreamTranslation(FROM_GEMINI, occasion())
    said = b"".join(translation.feed(each) for each in chunks) + translation.end()
    events: Sequence[Any] = [json.loads(line[6:]) for line in said.split(b"\n") if line.startswith(b"data: ")]
    return [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"]


def whole_blocks_of(*parts: Value) -> list[str]:
    answer = json.loads(translate_answer(FROM_GEMINI, chunk(*parts, finish="STOP"), occasion()))
    return [block["type"] for block in answer["content"]]


def test_a_wordless_proof_after_the_words_is_not_told_as_the_last_block() -> None:
    words: Value = {"text": "It rains."}
    proof: Value = {"text": "", "thoughtSignature": PROOF}
    assert blocks_of(chunk(words), chunk(proof, finish="STOP")) == ["text"]
    assert whole_blocks_of(words, proof) == ["text"]


def test_a_wordless_proof_before_a_tool_call_is_told() -> None:
    words: Value = {"text": "Let me look."}
    call: Value = {**CALL, "thoughtSignature": PROOF}
    assert blocks_of(chunk(words), chunk(call, finish="STOP")) == ["text", "thinking", "tool_use"]
    assert whole_blocks_of(words, call) == ["text", "thinking", "tool_use"]


@pytest.mark.parametrize(
    ("thinking", "shown"),
    [
        ({"type": "enabled", "budget_tokens": 1024}, True),
        ({"type": "adaptive"}, True),
        ({"type": "enabled", "budget_tokens": 1024, "display": "omitted"}, False),
    ],
)
def test_thoughts_are_shown_unless_the_client_of_messages_says_otherwise(
    thinking: dict[str, Value], shown: bool
) -> None:
    body = translate_ask(FROM_GEMINI, asked(thinking=thinking), model="m", stream=False, default_max_output=100).body
    assert json.loads(body)["generationConfig"]["thinkingConfig"]["includeThoughts"] is shown


def test_two_tool_calls_of_one_id_are_no_answer() -> None:
    translation = StreamTranslation(FROM_GEMINI, occasion())
    translation.feed(chunk(CALL))
    with pytest.raises(UpstreamFailure) as refused:
        translation.feed(chunk(CALL, finish="STOP"))
    assert refused.value.code is Code.BAD_REPLY
    with pytest.raises(UpstreamFailure):
        translate_answer(FROM_GEMINI, chunk(CALL, CALL, finish="STOP"), occasion())
