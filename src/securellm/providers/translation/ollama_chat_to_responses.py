"""From clients of Ollama's own chat to upstreams of responses."""

from securellm.providers.translation.model import Direction
from securellm.providers.translation.ollama_chat import ENFORCED, MERE_HINTS, OLLAMA_CHAT
from securellm.providers.translation.responses import RESPONSES
from securellm.providers.translation.turns import refuse_beginning

DIRECTION = Direction(
    source=OLLAMA_CHAT,
    target=RESPONSES,
    dropped=MERE_HINTS | {ENFORCED, "options.top_k"},
    adapt=refuse_beginning,
)
