"""From clients of Ollama's own chat to upstreams of content generation."""

from securellm.providers.translation.generate_content import GENERATE_CONTENT
from securellm.providers.translation.model import Direction
from securellm.providers.translation.ollama_chat import ENFORCED, MERE_HINTS, OLLAMA_CHAT
from securellm.providers.translation.turns import refuse_beginning

DIRECTION = Direction(
    source=OLLAMA_CHAT,
    target=GENERATE_CONTENT,
    dropped=MERE_HINTS,
    ignored=frozenset({ENFORCED}),
    carried={"options.top_k": "generationConfig.topK"},
    adapt=refuse_beginning,
)
