"""The surfaces a client can speak to, one name each in keys, policies, metrics and records."""

from enum import Enum, StrEnum, auto


class Surface(StrEnum):
    CHAT = "chat"
    RESPONSES = "responses"
    MESSAGES = "messages"
    MESSAGE_TOKENS = "count_tokens"
    EMBEDDINGS = "embeddings"
    RERANK = "rerank"
    MODERATIONS = "moderations"
    IMAGES = "images"
    IMAGE_EDITS = "image_edits"
    SPEECH = "speech"
    TRANSCRIPTIONS = "transcriptions"
    AUDIO_TRANSLATIONS = "audio_translations"
    GENERATE_CONTENT = "generate_content"
    CONTENT_TOKENS = "count_content_tokens"
    EMBED_CONTENT = "embed_content"
    BATCH_EMBED_CONTENTS = "batch_embed_contents"
    OLLAMA_CHAT = "ollama_chat"
    OLLAMA_GENERATE = "ollama_generate"
    OLLAMA_EMBED = "ollama_embed"
    STORED_RESPONSES = "stored_responses"
    CONVERSATIONS = "conversations"
    FILES = "files"
    BATCHES = "batches"
    MESSAGE_BATCHES = "message_batches"


class Manner(Enum):
    """How errors, lists and headers are worded, by the family of SDKs that reads them."""

    OPENAI = auto()
    ANTHROPIC = auto()
    GOOGLE = auto()
    OLLAMA = auto()
    PLAIN = auto()
    """The gateway's own: what no SDK asks."""


MANNERS: dict[Surface, Manner] = {
    Surface.MESSAGES: Manner.ANTHROPIC,
    Surface.MESSAGE_TOKENS: Manner.ANTHROPIC,
    Surface.MESSAGE_BATCHES: Manner.ANTHROPIC,
    Surface.GENERATE_CONTENT: Manner.GOOGLE,
    Surface.CONTENT_TOKENS: Manner.GOOGLE,
    Surface.EMBED_CONTENT: Manner.GOOGLE,
    Surface.BATCH_EMBED_CONTENTS: Manner.GOOGLE,
    Surface.OLLAMA_CHAT: Manner.OLLAMA,
    Surface.OLLAMA_GENERATE: Manner.OLLAMA,
    Surface.OLLAMA_EMBED: Manner.OLLAMA,
}
"""Of each surface that is not worded as OpenAI words it."""

FREE = frozenset(
    {
        Surface.MESSAGE_TOKENS,
        Surface.CONTENT_TOKENS,
        Surface.MODERATIONS,
        Surface.STORED_RESPONSES,
        Surface.CONVERSATIONS,
        Surface.FILES,
        Surface.BATCHES,
        Surface.MESSAGE_BATCHES,
    }
)
"""Surfaces that no provider bills: they count, judge or keep, and generate nothing. What a batch costs, it costs when
its requests are answered."""

KEPT = frozenset(
    {Surface.STORED_RESPONSES, Surface.CONVERSATIONS, Surface.FILES, Surface.BATCHES, Surface.MESSAGE_BATCHES}
)
"""Surfaces of what providers keep: a request names things by their ids, and no model."""


def manner_of(surface: Surface | None) -> Manner:
    """How a caller of `surface` is spoken to; None, a path that is no surface, as OpenAI's are."""
    return Manner.OPENAI if surface is None else MANNERS.get(surface, Manner.OPENAI)
