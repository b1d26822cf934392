"""From clients of Ollama's own chat to upstreams of chat completions."""

from securellm.providers.translation.chat import CHAT
from securellm.providers.translation.model import Direction
from securellm.providers.translation.ollama_chat import ENFORCED, MERE_HINTS, OLLAMA_CHAT
from securellm.providers.translation.thinking import with_level_alone
from securellm.providers.translation.turns import refuse_beginning

DIRECTION = Direction(
    source=OLLAMA_CHAT,
    target=CHAT,
    dropped=MERE_HINTS | {ENFORCED, "options.top_k"},
    adapt=lambda ask: with_level_alone(refuse_beginning(ask)),
)
