"""The surfaces a client can speak to, one name each in keys, policies, metrics and records."""

from enum import StrEnum


class Surface(StrEnum):
    CHAT = "chat"
    RESPONSES = "responses"
    MESSAGES = "messages"
    EMBEDDINGS = "embeddings"
