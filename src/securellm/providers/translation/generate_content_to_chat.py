"""From clients of generated content to upstreams of chat completions."""

from securellm.providers.translation.chat import CHAT
from securellm.providers.translation.generate_content import GENERATE_CONTENT, MERE_HINTS
from securellm.providers.translation.model import Direction

DIRECTION = Direction(
    source=GENERATE_CONTENT,
    target=CHAT,
    dropped=MERE_HINTS | {"generationConfig.topK"},
)
