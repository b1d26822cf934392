"""Messages: read from clients and upstreams, written for either."""

from securellm.providers.translation.messages.asked import MERE_HINTS
from securellm.providers.translation.messages.speaker import MESSAGES

__all__ = ["MERE_HINTS", "MESSAGES"]
