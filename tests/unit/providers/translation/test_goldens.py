"""The golden replies and streams of every provider, said to clients of every other dialect."""

import pytest
from tests.unit.providers.goldens import REPLIES, STREAMS, events_of, expected_of, surface_of
from tests.unit.providers.translation.clients import occasion

from securellm.core.document import Document
from securellm.core.errors import Code, UpstreamFailure
from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers import DIALECTS
from securellm.providers.translation import DIRECTIONS, Direction, StreamTranslation, translate_answer

UNSAID = {
    "anthropic-2023-06-01.messages.web_search": "a search that the provider ran",
    "anthropic-2026-10-21.messages.compaction": "a summary that only its provider can read",
    "gemini.generate_content.code": "code that the provider ran",
    "gemini.generate_content.spoken": "sound",
    "gemini.generate_content.whole": "a picture",
    "openai.chat.whole": "sound",
    "openai.responses.families": "tools that the provider ran",
    "openai.responses.whole": "a picture",
}
"""What was not asked for in translation, and would be lost."""
TWICE = {"openai.chat.two_choices", "gemini.generate_content.two_candidates"}
"""Two answers in one."""
OLLAMA = {Surface.OLLAMA_CHAT, Surface.OLLAMA_GENERATE}
SINGLE = {Surface.MESSAGES, Surface.RESPONSES} | OLLAMA
"""Dialects with one answer only."""
FILTERED = {
    "anthropic-2026-10-21.messages.refusal",
    "azure.chat.filtered",
    "gemini.generate_content.blocked",
    "gemini.generate_content.blocked_whole",
}
"""Answers that did not come to their end, which clients of Ollama have no word for."""
CALLING = {
    "anthropic-2023-06-01.messages.tools",
    "anthropic-2023-06-01.messages.whole",
    "anthropic-2026-10-21.messages.tools",
    "deepseek.chat.tools",
    "gemini.generate_content.tools",
    "openai.chat.tools",
    "openai.responses.function",
    "xai.chat.tools",
}
"""Answers with tool calls, for which a prompt's completion by Ollama has no place."""

EACH = [
    pytest.param(direction, name, id=f"{name}-to-{direction.source.surface}")
    for name in (*STREAMS, *REPLIES)
    for direction in DIRECTIONS.values()
    if direction.target.surface is surface_of(name)
]


def can_be_said(direction: Direction, name: str) -> bool:
    surface = direction.source.surface
    if name in FILTERED and surface in OLLAMA:
        return False
    if name in CALLING and surface is Surface.OLLAMA_GENERATE:
        return False
    return name not in UNSAID and not (name in TWICE and surface in SINGLE)


def translated(direction: Direction, name: str) -> bytes:
    if name in REPLIES:
        return translate_answer(direction, Document(REPLIES[name].read_bytes()).members(), occasion())
    translation = StreamTranslation(direction, occasion())
    data = [event.data for event in events_of(name) if event.data and event.data.strip() != b"[DONE]"]
    return b"".join(translation.feed(Document(one).members()) for one in data) + translation.end()


def read_again(surface: Surface, name: str, data: bytes) -> Usage | None:
    """What the client's dialect says was consumed, once it has been read to its end."""
    dialect = DIALECTS[surface]
    if name in REPLIES:
        facts = dialect.read_reply(Document(data))
        assert facts.failure is None
        return facts.usage
    assert dialect.framing is not None
    assert dialect.open_stream is not None
    parser, machine = dialect.framing.parser(), dialect.open_stream(choices=expected_of(name).choices)
    assert [view.failure for view in map(machine.read, parser.feed(data)) if view.failure is not None] == []
    assert machine.eof() is None
    return machine.usage


@pytest.mark.requirement("GW-7", "GW-8", "PR-3")
@pytest.mark.parametrize(("direction", "name"), EACH)
def test_a_golden_is_a_whole_answer_in_every_dialect_with_the_providers_usage(direction: Direction, name: str) -> None:
    if not can_be_said(direction, name):
        with pytest.raises(UpstreamFailure) as failed:
            translated(direction, name)
        assert failed.value.code is Code.BAD_REPLY
        return
    surface, expected = direction.source.surface, expected_of(name).usage
    usage = read_again(surface, name, translated(direction, name))
    if expected is None:
        # Only messages cannot leave the figures out.
        assert usage == (Usage() if surface is Surface.MESSAGES else None)
        return
    assert usage is not None
    # Ollama tells what went in and what came out, and nothing of either.
    told = 2 if surface in OLLAMA else 4
    assert figures(usage)[:told] == figures(expected)[:told]


def figures(usage: Usage) -> tuple[int, int, int, int]:
    """What every dialect has a place for."""
    return usage.prompt_tokens, usage.completion_tokens, usage.cache_read, usage.reasoning
