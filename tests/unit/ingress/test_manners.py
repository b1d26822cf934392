"""How a caller is spoken to on a path that is no surface."""

import pytest

from securellm.core.surfaces import Manner
from securellm.ingress.manners import manner_at

GOOGLE = [(b"x-goog-api-key", b"k")]
ANTHROPIC = [(b"anthropic-version", b"2026-10-21")]


@pytest.mark.requirement("GW-9")
@pytest.mark.parametrize(
    ("path", "headers", "manner"),
    [
        ("/nowhere", [], Manner.OPENAI),
        ("/nowhere", GOOGLE, Manner.GOOGLE),
        ("/nowhere", [(b"x-goog-api-client", b"google-genai-sdk/3.4.0")], Manner.GOOGLE),
        ("/nowhere", ANTHROPIC, Manner.ANTHROPIC),
        ("/v1/models", [(b"x-api-key", b"k"), (b"user-agent", b"Anthropic/Python 2.11.0")], Manner.ANTHROPIC),
        ("/v1/models", [(b"x-api-key", b"k"), (b"user-agent", b"curl/8")], Manner.OPENAI),
        ("/v1/models", [(b"user-agent", b"Anthropic/Python 2.11.0")], Manner.OPENAI),
        ("/v1/messages/batches", [], Manner.ANTHROPIC),
        ("/v1beta/files", [], Manner.GOOGLE),
        ("/api/pull", [], Manner.OLLAMA),
        ("/openai/assistants", ANTHROPIC, Manner.OPENAI),
        # The path says more than the headers.
        ("/v1/messages/batches", GOOGLE, Manner.ANTHROPIC),
        ("/v1beta/files", ANTHROPIC, Manner.GOOGLE),
        ("/api/pull", GOOGLE, Manner.OLLAMA),
    ],
)
def test_the_path_decides_and_then_what_only_one_family_sends(
    path: str, headers: list[tuple[bytes, bytes]], manner: Manner
) -> None:
    assert manner_at(path, headers) is manner
