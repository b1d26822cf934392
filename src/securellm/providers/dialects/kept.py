"""Which ids a provider gives out, in a whole answer or in an event, for what it keeps."""

from collections.abc import Iterator

from securellm.core.document import Value
from securellm.core.kept import Kept, KeptKind


def of_response(response: Value, *, stored: bool = True) -> Iterator[Kept]:
    """A response, its parts and its containers; of one that is not stored the containers only."""
    if not isinstance(response, dict):
        return
    stored = stored and response.get("store") is not False
    if stored:
        yield from _kept(KeptKind.RESPONSE, response.get("id"))
    items = response.get("output")
    for item in items if isinstance(items, list) else ():
        yield from of_item(item, stored=stored)


def of_item(item: Value, *, stored: bool) -> Iterator[Kept]:
    """One part of a response."""
    if isinstance(item, dict):
        if stored:
            yield from _kept(KeptKind.ITEM, item.get("id"))
        yield from _kept(KeptKind.CONTAINER, item.get("container_id"))


def of_conversation(conversation: Value) -> Iterator[Kept]:
    """A conversation that was made."""
    if isinstance(conversation, dict):
        yield from _kept(KeptKind.CONVERSATION, conversation.get("id"))


def of_message(message: Value) -> Iterator[Kept]:
    """A message, or what an event adds to it: the container its code ran in, and the files that were left there."""
    if not isinstance(message, dict):
        return
    container = message.get("container")
    if isinstance(container, dict):
        yield from _kept(KeptKind.CONTAINER, container.get("id"))
    blocks = message.get("content")
    for block in blocks if isinstance(blocks, list) else ():
        yield from of_block(block)


def of_block(block: Value) -> Iterator[Kept]:
    """One content block of a message: the result of running code names the files it made."""
    result = block.get("content") if isinstance(block, dict) else None
    files = result.get("content") if isinstance(result, dict) else None
    for file in files if isinstance(files, list) else ():
        if isinstance(file, dict):
            yield from _kept(KeptKind.FILE, file.get("file_id"))


def of_choices(choices: Value, said: str) -> Iterator[Kept]:
    """Chat choices; `said` is the member that holds what a choice says. What was spoken can be referred to."""
    for choice in choices if isinstance(choices, list) else ():
        message = choice.get(said) if isinstance(choice, dict) else None
        audio = message.get("audio") if isinstance(message, dict) else None
        if isinstance(audio, dict):
            yield from _kept(KeptKind.AUDIO, audio.get("id"))


def _kept(kind: KeptKind, given: Value) -> Iterator[Kept]:
    if isinstance(given, str) and given:
        yield Kept(kind, given)
