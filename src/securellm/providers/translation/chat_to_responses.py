"""From clients of chat completions to upstreams of responses."""

from securellm.providers.translation.chat import CHAT, MERE_HINTS
from securellm.providers.translation.model import Direction
from securellm.providers.translation.responses import RESPONSES

DIRECTION = Direction(
    source=CHAT,
    target=RESPONSES,
    dropped=MERE_HINTS,
    carried={
        "metadata": "metadata",
        "moderation": "moderation",
        "prompt_cache_key": "prompt_cache_key",
        "prompt_cache_options": "prompt_cache_options",
        "prompt_cache_retention": "prompt_cache_retention",
        "service_tier": "service_tier",
        "store": "store",
        "stream_options.include_obfuscation": "stream_options.include_obfuscation",
        "verbosity": "text.verbosity",
    },
)
