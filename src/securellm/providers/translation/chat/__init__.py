"""Chat completions: read from clients and upstreams, written for either."""

from securellm.providers.translation.chat.asked import MERE_HINTS
from securellm.providers.translation.chat.speaker import CHAT

__all__ = ["CHAT", "MERE_HINTS"]
