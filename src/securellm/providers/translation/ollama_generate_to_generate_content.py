"""From clients of Ollama's own completion to upstreams of content generation."""

from securellm.providers.translation.generate_content import GENERATE_CONTENT
from securellm.providers.translation.model import Direction
from securellm.providers.translation.ollama_chat import ENFORCED, MERE_HINTS
from securellm.providers.translation.ollama_generate import OLLAMA_GENERATE

DIRECTION = Direction(
    source=OLLAMA_GENERATE,
    target=GENERATE_CONTENT,
    dropped=MERE_HINTS,
    ignored=frozenset({ENFORCED}),
    carried={"options.top_k": "generationConfig.topK"},
)
