"""What a provider remembers between two requests: stored responses, conversations, files and batches."""

from typing import Any

import msgspec


class Stored(msgspec.Struct, kw_only=True):
    """A response that can be asked for again."""

    value: dict[str, Any]
    items: list[dict[str, Any]]
    """What went in, with an id each."""
    history: list[Any]
    """That, and what came before it."""
    later: list[dict[str, Any]] = []
    """Of one in the background: what it will be, a state for each time it is asked for."""
    bill: dict[str, int] = {}
    """What is billed when the last of them is reached."""


class File(msgspec.Struct, kw_only=True):
    """An uploaded or produced file."""

    value: dict[str, Any]
    content: bytes


class Batch(msgspec.Struct, kw_only=True):
    """Requests that are answered when somebody looks."""

    value: dict[str, Any]
    requests: list[dict[str, Any]]


class Memory:
    """One provider's, for as long as the fake runs; each thing by its id."""

    def __init__(self) -> None:
        self.responses: dict[str, Stored] = {}
        self.reasoned: set[str] = set()
        """Ids of the reasoning items of stored responses."""
        self.conversations: dict[str, dict[str, Any]] = {}
        self.items: dict[str, list[dict[str, Any]]] = {}
        """Of each conversation."""
        self.files: dict[str, File] = {}
        self.batches: dict[str, Batch] = {}
        self.results: dict[str, bytes] = {}
        """Of each batch that keeps them beside no file."""
        self.prefixes: set[str] = set()
        """Prompts in the cache, by their hash."""

    def known(self) -> set[str]:
        """The ids of every item that is stored."""
        stored = [item for each in self.responses.values() for item in (*each.items, *each.value["output"])]
        return {str(item.get("id")) for item in (*stored, *(item for row in self.items.values() for item in row))}
