"""What the official SDKs make of the bytes a client is sent, streamed or whole."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import anthropic
import httpx2
import msgspec
import openai

from securellm.core.document import Document, Value
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers.dialects import figures
from securellm.providers.sse import SseParser
from securellm.providers.translation import Direction, Occasion, StreamTranslation
from securellm.providers.translation.model import Ask, Step

JSON = dict[str, Any]


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """An answer as a client has it."""

    text: str
    thought: str
    calls: tuple[tuple[str, str, Any], ...]
    """Of each tool call its id, its name, and its arguments as a value."""
    finish: str
    usage: Usage | None
    arguments: tuple[str, ...] = ()
    """The arguments as text, where the dialect gives them so."""


def occasion(ask: Ask | None = None) -> Occasion:
    asked = ask if ask is not None else Ask(model="m", turns=(), stream=True, include_usage=True)
    return Occasion(request_id="req_1", model="m", created=1_795_000_000, ask=asked, asked={})


def events(data: bytes) -> list[JSON]:
    """The JSON of a stream's events."""
    parser = SseParser()
    return [json.loads(event.data) for event in parser.feed(data) if event.data not in {b"", b"[DONE]"}]


def upstream_stream(direction: Direction, steps: Iterable[Step]) -> bytes:
    """A stream as an upstream of the direction's target writes it."""
    writer = direction.target.write_steps(occasion())
    return b"".join(writer.write(step) for step in steps) + writer.end()


def translated_stream(direction: Direction, data: bytes) -> bytes:
    translation = StreamTranslation(direction, occasion())
    fed = [translation.feed(Document(json.dumps(event).encode()).members()) for event in events(data)]
    return b"".join(fed) + translation.end()


def _client(stream: bytes) -> httpx2.Client:
    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=stream)

    return httpx2.Client(transport=httpx2.MockTransport(answer))


def hear_chat_stream(data: bytes) -> Heard:
    with (
        openai.OpenAI(api_key="k", base_url="http://gateway.test/v1", http_client=_client(data)) as client,
        client.chat.completions.stream(
            model="m", messages=[{"role": "user", "content": "x"}], stream_options={"include_usage": True}
        ) as stream,
    ):
        try:
            completion = stream.get_final_completion()
        except openai.LengthFinishReasonError as error:
            # So the SDK tells its caller.
            return hear_chat(error.completion.to_dict(mode="json"))
        return hear_chat(completion.to_dict(mode="json"))


def hear_chat(reply: JSON) -> Heard:
    choice = reply["choices"][0]
    message = choice["message"]
    calls = message.get("tool_calls") or []
    usage = reply.get("usage")
    return Heard(
        text=message.get("content") or "",
        thought=message.get("reasoning_content") or "",
        calls=tuple(
            (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"] or "{}")) for call in calls
        ),
        finish=choice["finish_reason"],
        usage=None
        if usage is None
        else figures.inclusive(usage, prompt="prompt_tokens", completion="completion_tokens"),
        arguments=tuple(call["function"]["arguments"] for call in calls),
    )


def hear_messages_stream(data: bytes) -> Heard:
    with (
        anthropic.Anthropic(api_key="k", base_url="http://gateway.test", http_client=_client(data)) as client,
        client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}]) as stream,
    ):
        return hear_messages(stream.get_final_message().to_dict(mode="json"))


def hear_messages(reply: JSON) -> Heard:
    blocks = reply["content"]
    usage: dict[str, Value] = reply["usage"]
    return Heard(
        text="".join(block["text"] for block in blocks if block["type"] == "text"),
        thought="".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
        calls=tuple((block["id"], block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"),
        finish=reply["stop_reason"],
        usage=figures.exclusive(usage),
    )


HEAR_STREAM: dict[Surface, Callable[[bytes], Heard]] = {
    Surface.CHAT: hear_chat_stream,
    Surface.MESSAGES: hear_messages_stream,
}
HEAR: dict[Surface, Callable[[JSON], Heard]] = {Surface.CHAT: hear_chat, Surface.MESSAGES: hear_messages}
