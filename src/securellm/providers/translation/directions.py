"""Every direction there is, by the client's dialect and the upstream's."""

from collections.abc import Mapping
from types import MappingProxyType

from securellm.core.surfaces import Surface
from securellm.providers.translation import (
    chat_to_generate_content,
    chat_to_messages,
    chat_to_responses,
    generate_content_to_chat,
    generate_content_to_messages,
    generate_content_to_responses,
    messages_to_chat,
    messages_to_generate_content,
    messages_to_responses,
    ollama_chat_to_chat,
    ollama_chat_to_generate_content,
    ollama_chat_to_messages,
    ollama_chat_to_responses,
    ollama_generate_to_chat,
    ollama_generate_to_generate_content,
    ollama_generate_to_messages,
    ollama_generate_to_responses,
    responses_to_chat,
    responses_to_generate_content,
    responses_to_messages,
)
from securellm.providers.translation.model import Direction

_ALL = (
    chat_to_generate_content.DIRECTION,
    chat_to_messages.DIRECTION,
    chat_to_responses.DIRECTION,
    generate_content_to_chat.DIRECTION,
    generate_content_to_messages.DIRECTION,
    generate_content_to_responses.DIRECTION,
    messages_to_chat.DIRECTION,
    messages_to_generate_content.DIRECTION,
    messages_to_responses.DIRECTION,
    ollama_chat_to_chat.DIRECTION,
    ollama_chat_to_generate_content.DIRECTION,
    ollama_chat_to_messages.DIRECTION,
    ollama_chat_to_responses.DIRECTION,
    ollama_generate_to_chat.DIRECTION,
    ollama_generate_to_generate_content.DIRECTION,
    ollama_generate_to_messages.DIRECTION,
    ollama_generate_to_responses.DIRECTION,
    responses_to_chat.DIRECTION,
    responses_to_generate_content.DIRECTION,
    responses_to_messages.DIRECTION,
)

DIRECTIONS: Mapping[tuple[Surface, Surface], Direction] = MappingProxyType(
    {(direction.source.surface, direction.target.surface): direction for direction in _ALL}
)
