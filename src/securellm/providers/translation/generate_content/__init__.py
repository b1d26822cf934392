"""Generated content: read from clients and upstreams, written for either."""

from securellm.providers.translation.generate_content.documented import MERE_HINTS
from securellm.providers.translation.generate_content.speaker import GENERATE_CONTENT

__all__ = ["GENERATE_CONTENT", "MERE_HINTS"]
