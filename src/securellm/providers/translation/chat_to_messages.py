"""From clients of chat completions to upstreams of messages."""

from securellm.providers.translation.chat import CHAT, MERE_HINTS
from securellm.providers.translation.messages import MESSAGES
from securellm.providers.translation.model import Direction
from securellm.providers.translation.turns import refuse_beginning

DIRECTION = Direction(
    source=CHAT,
    target=MESSAGES,
    dropped=MERE_HINTS,
    ignored=frozenset({'service_tier="default"'}),
    adapt=refuse_beginning,
)
