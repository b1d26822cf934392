"""From clients of responses to upstreams of messages."""

from securellm.providers.translation.messages import MESSAGES
from securellm.providers.translation.model import Direction
from securellm.providers.translation.responses import EMPTY, MERE_HINTS, RESPONSES
from securellm.providers.translation.turns import refuse_beginning

DIRECTION = Direction(
    source=RESPONSES,
    target=MESSAGES,
    dropped=MERE_HINTS,
    ignored=EMPTY,
    adapt=refuse_beginning,
)
