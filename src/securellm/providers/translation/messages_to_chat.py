"""From clients of messages to upstreams of chat completions."""

from securellm.providers.translation.chat import CHAT
from securellm.providers.translation.messages import MERE_HINTS, MESSAGES
from securellm.providers.translation.model import Direction
from securellm.providers.translation.turns import refuse_beginning

DIRECTION = Direction(
    source=MESSAGES,
    target=CHAT,
    dropped=MERE_HINTS,
    adapt=refuse_beginning,
)
