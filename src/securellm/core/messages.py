"""The canonical view of what is said: every text of a request or reply, wherever its dialect keeps it."""

from enum import StrEnum

import msgspec

Path = tuple[str | int, ...]
"""Where a value stands in a JSON document: member names and array indexes from the root."""


class Role(StrEnum):
    """Who speaks. Trust falls in this order; `TOOL` and `DATA` are never authority."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"
    DATA = "data"


class Kind(StrEnum):
    """What a leaf of the document is, as far as screening must know."""

    TEXT = "text"
    """Prose: a message, an instruction, an unknown field's string."""
    ARGUMENTS = "arguments"
    """JSON written inside a string: tool-call arguments."""
    KEY = "key"
    """The name of an object member."""
    NUMBER = "number"
    """A number spelled with digits enough to be an identifier, under a name the dialect does not declare numeric."""
    ENCODED = "encoded"
    """What a data URI or base64 says, behind the URI's own head (`core.encoded`)."""


class Leaf(msgspec.Struct, frozen=True):
    """One screenable text and where it stands."""

    path: Path
    text: str
    role: Role = Role.DATA
    kind: Kind = Kind.TEXT


class Replacement(msgspec.Struct, frozen=True):
    """Put `text` in place of `leaf.text[start:end]`. Offsets count characters of the decoded text."""

    leaf: int
    start: int
    end: int
    text: str


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A file that travels beside a request's fields, in a multipart form (RFC 7578)."""

    field: str
    filename: str
    content_type: str
    data: bytes
