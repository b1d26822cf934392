"""From clients of generated content to upstreams of responses."""

from securellm.providers.translation.generate_content import GENERATE_CONTENT, MERE_HINTS
from securellm.providers.translation.model import Direction
from securellm.providers.translation.responses import RESPONSES

DIRECTION = Direction(
    source=GENERATE_CONTENT,
    target=RESPONSES,
    dropped=MERE_HINTS | {"generationConfig.topK"},
)
