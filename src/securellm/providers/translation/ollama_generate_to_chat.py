"""From clients of Ollama's own completion to upstreams of chat completions."""

from securellm.providers.translation.chat import CHAT
from securellm.providers.translation.model import Direction
from securellm.providers.translation.ollama_chat import ENFORCED, MERE_HINTS
from securellm.providers.translation.ollama_generate import OLLAMA_GENERATE
from securellm.providers.translation.thinking import with_level_alone

DIRECTION = Direction(
    source=OLLAMA_GENERATE,
    target=CHAT,
    dropped=MERE_HINTS | {ENFORCED, "options.top_k"},
    adapt=with_level_alone,
)
