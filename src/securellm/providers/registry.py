"""Every kind of provider, one row each. No other source file names one."""

from securellm.core.surfaces import Surface
from securellm.providers.model import ProviderKind, Rate

_CHAT = {Surface.CHAT: "/chat/completions"}
_RESPONSES = {Surface.RESPONSES: "/responses"}
_STORED = {Surface.STORED_RESPONSES: "/responses"}
_CONVERSATIONS = {Surface.CONVERSATIONS: "/conversations"}
_BATCHES = {Surface.FILES: "/files", Surface.BATCHES: "/batches"}
_MESSAGES = {Surface.MESSAGES: "/messages"}
_EMBEDDINGS = {Surface.EMBEDDINGS: "/embeddings"}
_MEDIA = {
    Surface.MODERATIONS: "/moderations",
    Surface.IMAGES: "/images/generations",
    Surface.IMAGE_EDITS: "/images/edits",
    Surface.SPEECH: "/audio/speech",
    Surface.TRANSCRIPTIONS: "/audio/transcriptions",
    Surface.AUDIO_TRANSLATIONS: "/audio/translations",
}
_OLLAMA = {
    Surface.OLLAMA_CHAT: "../api/chat",
    Surface.OLLAMA_GENERATE: "../api/generate",
    Surface.OLLAMA_EMBED: "../api/embed",
}
_CONTENT_CAPS = (
    "generationConfig.maxOutputTokens",
    "generation_config.max_output_tokens",
    "generationConfig.max_output_tokens",
    "generation_config.maxOutputTokens",
)
"""Its JSON takes either spelling of every name."""
_UNBOUND = Rate(requests_per_minute=10_000, burst=1_000)

_ROWS = (
    ProviderKind(
        kind="openai",
        default_base_url="https://api.openai.com/v1",
        auth="bearer",
        credential_required=True,
        default_rate=Rate(requests_per_minute=3_500, burst=100),
        surfaces={**_CHAT, **_RESPONSES, **_STORED, **_CONVERSATIONS, **_EMBEDDINGS, **_MEDIA, **_BATCHES},
        cap_fields={
            Surface.CHAT: ("max_completion_tokens", "max_tokens"),
            Surface.RESPONSES: ("max_output_tokens",),
        },
        forwarded_headers=frozenset({"openai-beta"}),
    ),
    ProviderKind(
        kind="anthropic",
        default_base_url="https://api.anthropic.com/v1",
        auth="x-api-key",
        credential_required=True,
        default_rate=Rate(requests_per_minute=50, burst=5),
        surfaces={
            **_MESSAGES,
            Surface.MESSAGE_TOKENS: "/messages/count_tokens",
            Surface.MESSAGE_BATCHES: "/messages/batches",
        },
        cap_fields={Surface.MESSAGES: ("max_tokens",)},
        extra_headers={"anthropic-version": "2023-06-01"},
        forwarded_headers=frozenset({"anthropic-version", "anthropic-beta"}),
        forwarded_query=frozenset({"beta"}),
    ),
    ProviderKind(
        kind="gemini",
        default_base_url="https://generativelanguage.googleapis.com/v1beta",
        auth="x-goog-api-key",
        credential_required=True,
        default_rate=Rate(requests_per_minute=150, burst=20),
        surfaces={
            Surface.GENERATE_CONTENT: "/models/{model}:generateContent",
            Surface.CONTENT_TOKENS: "/models/{model}:countTokens",
            Surface.EMBED_CONTENT: "/models/{model}:embedContent",
            Surface.BATCH_EMBED_CONTENTS: "/models/{model}:batchEmbedContents",
        },
        stream_paths={Surface.GENERATE_CONTENT: "/models/{model}:streamGenerateContent?alt=sse"},
        cap_fields={Surface.GENERATE_CONTENT: _CONTENT_CAPS},
    ),
    ProviderKind(
        kind="xai",
        default_base_url="https://api.x.ai/v1",
        auth="bearer",
        credential_required=True,
        default_rate=Rate(requests_per_minute=480, burst=50),
        surfaces={**_CHAT, **_RESPONSES, **_STORED},
        cap_fields={
            Surface.CHAT: ("max_completion_tokens", "max_tokens"),
            Surface.RESPONSES: ("max_output_tokens",),
        },
    ),
    ProviderKind(
        kind="deepseek",
        default_base_url="https://api.deepseek.com",
        auth="bearer",
        credential_required=True,
        default_rate=Rate(requests_per_minute=60, burst=10),
        surfaces=_CHAT,
        cap_fields={Surface.CHAT: ("max_tokens",)},
    ),
    ProviderKind(
        kind="ollama",
        default_base_url="http://127.0.0.1:11434/v1",
        auth="bearer",
        credential_required=False,
        default_rate=_UNBOUND,
        surfaces={**_CHAT, **_RESPONSES, **_EMBEDDINGS, **_OLLAMA},
        cap_fields={
            Surface.CHAT: ("max_tokens",),
            Surface.RESPONSES: ("max_output_tokens",),
            Surface.OLLAMA_CHAT: ("options.num_predict",),
            Surface.OLLAMA_GENERATE: ("options.num_predict",),
        },
    ),
    ProviderKind(
        kind="openai-compatible",
        default_base_url=None,
        auth="bearer",
        credential_required=False,
        default_rate=_UNBOUND,
        surfaces={
            **_CHAT,
            **_RESPONSES,
            **_STORED,
            **_CONVERSATIONS,
            **_EMBEDDINGS,
            **_MEDIA,
            **_BATCHES,
            Surface.RERANK: "/rerank",
        },
        cap_fields={Surface.CHAT: ("max_tokens",), Surface.RESPONSES: ("max_output_tokens",)},
    ),
    ProviderKind(
        kind="mock",
        default_base_url="http://mock.invalid/v1",
        auth="none",
        credential_required=False,
        demo_only=True,
        default_rate=_UNBOUND,
        surfaces={**_CHAT, **_RESPONSES, **_MESSAGES, **_EMBEDDINGS},
        cap_fields={
            Surface.CHAT: ("max_completion_tokens", "max_tokens"),
            Surface.RESPONSES: ("max_output_tokens",),
            Surface.MESSAGES: ("max_tokens",),
        },
        forwarded_headers=frozenset({"anthropic-version", "anthropic-beta"}),
        forwarded_query=frozenset({"beta"}),
    ),
)

KINDS: dict[str, ProviderKind] = {row.kind: row for row in _ROWS}
"""By the name used in the configuration."""

DEMO_KIND = next(row for row in _ROWS if row.demo_only)
"""The kind that `mock.MockSender` answers for."""
