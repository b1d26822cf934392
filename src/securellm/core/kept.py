"""Something that a provider keeps after it has answered, by the id it gave out."""

from enum import StrEnum

import msgspec


class KeptKind(StrEnum):
    RESPONSE = "response"
    CONVERSATION = "conversation"
    ITEM = "item"
    """A part of a stored response, to which a later request can refer."""
    AUDIO = "audio"
    FILE = "file"
    CONTAINER = "container"
    """Where a provider runs code, with the files in it."""
    CACHED_CONTENT = "cached_content"
    BATCH = "batch"


class Kept(msgspec.Struct, frozen=True):
    """One thing a provider keeps. Whoever knows the id can ask for it there."""

    kind: KeptKind
    id: str
