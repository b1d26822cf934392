"""From clients of messages to upstreams of responses."""

from securellm.providers.translation.messages import MERE_HINTS, MESSAGES
from securellm.providers.translation.model import Direction
from securellm.providers.translation.responses import RESPONSES
from securellm.providers.translation.turns import refuse_beginning

DIRECTION = Direction(
    source=MESSAGES,
    target=RESPONSES,
    dropped=MERE_HINTS,
    adapt=refuse_beginning,
)
