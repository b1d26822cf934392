"""The goldens are what the official SDKs can read, and no event family that an SDK knows is missing among them."""

import json
import typing
from typing import Any

import anthropic.types
import anthropic.types.beta
import openai.types
import openai.types.chat
import openai.types.responses
import pydantic
import pytest
from tests.unit.providers.goldens import REPLIES, STREAMS, events_of, surface_of

from securellm.core.surfaces import Surface


def by_type(union: Any) -> dict[str, type[pydantic.BaseModel]]:
    """The members of a discriminated union, by their `type`."""
    members = typing.get_args(typing.get_args(union)[0])
    return {typing.get_args(member.model_fields["type"].annotation)[0]: member for member in members}


EVENTS: dict[Surface, dict[str, type[pydantic.BaseModel]]] = {
    Surface.CHAT: {"": openai.types.chat.ChatCompletionChunk},
    Surface.RESPONSES: by_type(openai.types.responses.ResponseStreamEvent),
    Surface.MESSAGES: by_type(anthropic.types.beta.BetaRawMessageStreamEvent),
}
WHOLE: dict[Surface, type[pydantic.BaseModel]] = {
    Surface.CHAT: openai.types.chat.ChatCompletion,
    Surface.RESPONSES: openai.types.responses.Response,
    Surface.EMBEDDINGS: openai.types.CreateEmbeddingResponse,
    Surface.MESSAGES: anthropic.types.beta.BetaMessage,
    Surface.MESSAGE_TOKENS: anthropic.types.beta.BetaMessageTokensCount,
}
UNKNOWN = frozenset({"response.some_event_of_tomorrow", "response.steer.applied", "ping"})
"""What the SDKs skip."""
LENIENT = frozenset(
    {
        "azure.chat.filtered",  # Its first chunk has no id, object or model worth the name.
        "openai.responses.function",  # Cut down to what the machine must see.
        "openai.responses.text",
        "openai.responses.whole",
        "xai.responses.text",  # Its usage lacks a figure that the SDK says is always there.
        "anthropic-2023-06-01.messages.web_search",
    }
)


def known(name: str) -> list[Any]:
    bodies = [json.loads(event.data) for event in events_of(name) if event.data and event.data != b"[DONE]"]
    return [body for body in bodies if body.get("type") not in UNKNOWN]


@pytest.mark.parametrize("name", [name for name in STREAMS if surface_of(name) in EVENTS and name not in LENIENT])
def test_a_golden_stream_is_what_the_official_sdk_reads(name: str) -> None:
    for body in known(name):
        EVENTS[surface_of(name)][body.get("type", "")].model_validate(body)


@pytest.mark.parametrize("name", [name for name in REPLIES if surface_of(name) in WHOLE and name not in LENIENT])
def test_a_golden_reply_is_what_the_official_sdk_reads(name: str) -> None:
    if name != "openai.embeddings.base64":  # The SDK decodes it before it validates.
        WHOLE[surface_of(name)].model_validate(json.loads(REPLIES[name].read_bytes()))


def test_the_goldens_have_every_event_family_of_the_official_sdks() -> None:
    owed = {Surface.RESPONSES: {"error", "response.failed"}, Surface.MESSAGES: set()}
    for surface, failures in owed.items():
        seen = {body["type"] for name in STREAMS if surface_of(name) is surface for body in known(name)}
        assert EVENTS[surface].keys() - seen == failures
