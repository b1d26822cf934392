"""From clients of messages to upstreams of content generation."""

import msgspec

from securellm.providers.translation.generate_content import GENERATE_CONTENT
from securellm.providers.translation.messages import MERE_HINTS, MESSAGES
from securellm.providers.translation.model import Ask, Direction
from securellm.providers.translation.turns import refuse_beginning


def _adapted(ask: Ask) -> Ask:
    """Thoughts are shown unless the client says otherwise: here they are its default, there they are not."""
    refuse_beginning(ask)
    thinking = ask.thinking
    if thinking is None or thinking.show is not None or thinking.effort == "none":
        return ask
    return msgspec.structs.replace(ask, thinking=msgspec.structs.replace(thinking, show=True))


DIRECTION = Direction(
    source=MESSAGES,
    target=GENERATE_CONTENT,
    dropped=MERE_HINTS,
    adapt=_adapted,
)
