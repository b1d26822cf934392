"""Ollama's own chat, as translation knows it."""

from securellm.core.surfaces import Surface
from securellm.providers.translation.model import Source
from securellm.providers.translation.ollama_chat.answer import write_answer
from securellm.providers.translation.ollama_chat.asked import read_ask
from securellm.providers.translation.ollama_chat.documented import HOLDS, KNOWS
from securellm.providers.translation.ollama_chat.telling import WriteSteps

OLLAMA_CHAT = Source(
    surface=Surface.OLLAMA_CHAT,
    read_ask=read_ask,
    write_answer=write_answer,
    write_steps=WriteSteps,
    holds=HOLDS,
    knows=KNOWS,
)
