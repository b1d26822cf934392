"""From clients of responses to upstreams of chat completions."""

from securellm.providers.translation.chat import CHAT
from securellm.providers.translation.model import Direction
from securellm.providers.translation.responses import EMPTY, MERE_HINTS, RESPONSES

DIRECTION = Direction(
    source=RESPONSES,
    target=CHAT,
    dropped=MERE_HINTS,
    ignored=EMPTY,
)
