"""Ollama's own chat: read from clients and written for them. Its servers speak chat completions as well."""

from securellm.providers.translation.ollama_chat.documented import ENFORCED, MERE_HINTS
from securellm.providers.translation.ollama_chat.speaker import OLLAMA_CHAT

__all__ = ["ENFORCED", "MERE_HINTS", "OLLAMA_CHAT"]
