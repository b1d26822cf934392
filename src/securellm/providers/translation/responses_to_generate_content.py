"""From clients of responses to upstreams of generated content."""

from securellm.providers.translation.generate_content import GENERATE_CONTENT
from securellm.providers.translation.model import Direction
from securellm.providers.translation.responses import EMPTY, MERE_HINTS, RESPONSES

DIRECTION = Direction(
    source=RESPONSES,
    target=GENERATE_CONTENT,
    dropped=MERE_HINTS,
    ignored=EMPTY,
)
