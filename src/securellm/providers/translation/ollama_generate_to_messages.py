"""From clients of Ollama's own completion to upstreams of messages."""

from securellm.providers.translation.messages import MESSAGES
from securellm.providers.translation.model import Direction
from securellm.providers.translation.ollama_chat import ENFORCED, MERE_HINTS
from securellm.providers.translation.ollama_generate import OLLAMA_GENERATE

DIRECTION = Direction(
    source=OLLAMA_GENERATE,
    target=MESSAGES,
    dropped=MERE_HINTS,
    ignored=frozenset({ENFORCED}),
    carried={"options.top_k": "top_k"},
)
