"""How a caller is spoken to before it is known what it asks for: by its path, then by its headers."""

from collections.abc import Iterable

from securellm.core.surfaces import Manner

_BY_PATH = (
    ("/v1/messages", Manner.ANTHROPIC),
    ("/v1beta/", Manner.GOOGLE),
    ("/api/", Manner.OLLAMA),
    ("/openai/", Manner.OPENAI),
    ("/preferences", Manner.PLAIN),
    ("/memories", Manner.PLAIN),
    ("/process", Manner.PLAIN),
)
_GOOGLE = (b"x-goog-api-key", b"x-goog-api-client")
_ANTHROPIC_AGENT = b"anthropic/"


def manner_at(path: str, headers: Iterable[tuple[bytes, bytes]]) -> Manner:
    """Of a path that is no surface."""
    for prefix, manner in _BY_PATH:
        if path.startswith(prefix):
            return manner
    return manner_in(headers)


def manner_in(headers: Iterable[tuple[bytes, bytes]]) -> Manner:
    """By what only one family of SDKs sends."""
    given = dict(headers)
    if any(name in given for name in _GOOGLE):
        return Manner.GOOGLE
    if b"anthropic-version" in given:
        return Manner.ANTHROPIC
    if b"x-api-key" in given and given.get(b"user-agent", b"").lower().startswith(_ANTHROPIC_AGENT):
        return Manner.ANTHROPIC
    return Manner.OPENAI
