"""Every dialect, by its surface."""

from securellm.core.surfaces import Surface
from securellm.providers.dialects.audio import AUDIO_TRANSLATIONS, SPEECH, TRANSCRIPTIONS
from securellm.providers.dialects.chat import CHAT
from securellm.providers.dialects.content_tokens import CONTENT_TOKENS
from securellm.providers.dialects.embed_content import BATCH_EMBED_CONTENTS, EMBED_CONTENT
from securellm.providers.dialects.embeddings import EMBEDDINGS
from securellm.providers.dialects.generate_content import GENERATE_CONTENT
from securellm.providers.dialects.images import IMAGE_EDITS, IMAGES
from securellm.providers.dialects.message_tokens import MESSAGE_TOKENS
from securellm.providers.dialects.messages import MESSAGES
from securellm.providers.dialects.moderations import MODERATIONS
from securellm.providers.dialects.ollama_chat import OLLAMA_CHAT
from securellm.providers.dialects.ollama_embed import OLLAMA_EMBED
from securellm.providers.dialects.ollama_generate import OLLAMA_GENERATE
from securellm.providers.dialects.rerank import RERANK
from securellm.providers.dialects.responses import RESPONSES
from securellm.providers.model import Dialect

DIALECTS: dict[Surface, Dialect] = {
    row.surface: row
    for row in (
        CHAT,
        RESPONSES,
        MESSAGES,
        MESSAGE_TOKENS,
        EMBEDDINGS,
        RERANK,
        GENERATE_CONTENT,
        CONTENT_TOKENS,
        EMBED_CONTENT,
        BATCH_EMBED_CONTENTS,
        OLLAMA_CHAT,
        OLLAMA_GENERATE,
        OLLAMA_EMBED,
        MODERATIONS,
        IMAGES,
        IMAGE_EDITS,
        SPEECH,
        TRANSCRIPTIONS,
        AUDIO_TRANSLATIONS,
    )
}
