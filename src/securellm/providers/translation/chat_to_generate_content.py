"""From clients of chat completions to upstreams of content generation."""

from securellm.providers.translation.chat import CHAT, MERE_HINTS
from securellm.providers.translation.generate_content import GENERATE_CONTENT
from securellm.providers.translation.model import Direction

DIRECTION = Direction(
    source=CHAT,
    target=GENERATE_CONTENT,
    dropped=MERE_HINTS,
    ignored=frozenset({'service_tier="default"'}),
)
