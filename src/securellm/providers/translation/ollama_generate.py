"""Ollama's own completion of a prompt: read from clients and written for them."""

from securellm.core.document import Value
from securellm.core.surfaces import Surface
from securellm.providers.translation.members import Fields, broken
from securellm.providers.translation.model import Answer, Ask, Members, Occasion, Source, Text, Turn
from securellm.providers.translation.ollama_chat import documented
from securellm.providers.translation.ollama_chat.answer import Said, ending, head, said_in
from securellm.providers.translation.ollama_chat.settings import pictures, with_settings
from securellm.providers.translation.ollama_chat.telling import WriteSteps

_HOLDS = documented.COMMON | {"prompt": "turns", "system": "turns", "images": "image"}
_KNOWS = documented.KNOWS | {"context", "height", "raw", "steps", "suffix", "template", "width"}
_DEFAULTS: tuple[tuple[str, Value], ...] = (
    ("context", []),
    ("height", 0),
    ("raw", False),
    ("steps", 0),
    ("suffix", ""),
    ("template", ""),
    ("width", 0),
)
"""What says no more than leaving it out."""


def read_ask(members: Members) -> Ask:
    """A client's request."""
    rest: dict[str, Value] = {}
    fields = Fields(members, rest)
    model, system, prompt = fields.needed("model"), fields.text("system"), fields.text("prompt")
    if not prompt:
        raise fields.unsaid("prompt", "the loading of a model, which a completion without a prompt asks for,")
    turns = [Turn(role="system", parts=(Text(text=system),))] if system else []
    turns.append(Turn(role="user", parts=(*pictures(fields), Text(text=prompt))))
    for name, default in _DEFAULTS:
        fields.skip(name, default)
    return with_settings(Ask(model=model, turns=tuple(turns)), fields, rest)


def _worded(said: Said) -> dict[str, Value]:
    if said.calls:
        raise broken("the answer holds a tool call, and no tool was offered")
    members: dict[str, Value] = {"response": said.text}
    if said.thought:
        members["thinking"] = said.thought
    return members


def write_answer(answer: Answer, occasion: Occasion) -> dict[str, Value]:
    """The whole reply for a client, without the token ids that only a server of this dialect could go on from."""
    said, finish = said_in(answer, occasion)
    return {**head(occasion), **_worded(said), **ending(finish, answer.usage)}


def write_steps(occasion: Occasion) -> WriteSteps:
    """The writer of a client's stream."""
    return WriteSteps(occasion, _worded)


OLLAMA_GENERATE = Source(
    surface=Surface.OLLAMA_GENERATE,
    read_ask=read_ask,
    write_answer=write_answer,
    write_steps=write_steps,
    holds=_HOLDS,
    knows=_KNOWS,
)
