"""From clients of Ollama's own completion to upstreams of responses."""

from securellm.providers.translation.model import Direction
from securellm.providers.translation.ollama_chat import ENFORCED, MERE_HINTS
from securellm.providers.translation.ollama_generate import OLLAMA_GENERATE
from securellm.providers.translation.responses import RESPONSES

DIRECTION = Direction(
    source=OLLAMA_GENERATE,
    target=RESPONSES,
    dropped=MERE_HINTS | {ENFORCED, "options.top_k"},
)
