"""From clients of generated content to upstreams of messages."""

from securellm.providers.translation.generate_content import GENERATE_CONTENT, MERE_HINTS
from securellm.providers.translation.messages import MESSAGES
from securellm.providers.translation.model import Direction
from securellm.providers.translation.turns import refuse_beginning

DIRECTION = Direction(
    source=GENERATE_CONTENT,
    target=MESSAGES,
    dropped=MERE_HINTS - {"generationConfig.responseSchema.enforced"},
    ignored=frozenset({"generationConfig.responseSchema.enforced"}),
    carried={"generationConfig.topK": "top_k"},
    adapt=refuse_beginning,
)
