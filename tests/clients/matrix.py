"""Which client shows which feature through which provider, and why a cell has nothing to show."""

from collections.abc import Iterator

import msgspec
from tests.clients.clients import CLIENTS, NATIVE, Client, Dialect, Face


class Feature(msgspec.Struct, frozen=True):
    """A column of the table."""

    name: str
    title: str
    says: str


ASKED = (
    Feature("answer", "answer", "A whole answer, with its finish reason."),
    Feature("stream", "stream", "The same, streamed piece by piece to the dialect's own end."),
    Feature("usage", "usage", "The provider's figures: prompt, cached, output and reasoning, each once."),
    Feature("stream_usage", "usage of a stream", "The same figures at the end of a stream."),
    Feature("tools", "tool", "A tool call with its arguments, answered, and the answer after it."),
    Feature("parallel_tools", "two tools", "Two tool calls in one answer, both answered."),
    Feature("tool_stream", "tools of a stream", "Tool calls with whole arguments out of a stream."),
    Feature("structured", "schema", "An answer that fits a JSON Schema."),
    Feature("image", "image", "An image in the prompt, unaltered at the provider."),
    Feature("thinking", "thinking", "The model's reasoning, apart from the answer."),
    Feature("choices", "choices", "Two answers at once, with log probabilities."),
    Feature("embeddings", "embeddings", "A vector for each text."),
    Feature("count", "count", "How many tokens a prompt has, without an answer."),
    Feature("models", "models", "The list of models, in the client's shape."),
    Feature("chain", "chain", "A turn that continues an earlier one by its id."),
    Feature("stored", "stored", "A stored answer: shown again, its input listed, deleted, and gone."),
    Feature("conversation", "conversation", "A conversation: made, carried on, listed, changed, deleted, and gone."),
    Feature("batch", "batch", "A batch: begun, listed, looked at until it ends, its answers read, and deleted."),
)
PROMISED = (
    Feature("unknown", "unknown", "Members and events that nobody knows yet pass both ways."),
    Feature("silence", "silence", "A provider that is silent for a while: heartbeats disturb nothing."),
    Feature("ids", "request id", "The client learns the id under which the gateway recorded the request."),
    Feature("repeat", "repeat", "The same Idempotency-Key twice: one answer."),
    Feature("bad_key", "401", "A wrong key is the client's own authentication error."),
    Feature("bad_model", "404", "An unknown model is the client's own not-found error."),
    Feature("no_money", "402", "A spent budget is an error, and not asked again."),
    Feature("rate", "429", "A rate limit is an error, or waited for as the gateway says."),
    Feature("broken", "broken", "A provider's error in the middle of a stream is an error."),
    Feature("cut", "cut", "A stream that the provider ends too early is an error, never a finished answer."),
)
FEATURES = (*ASKED, *PROMISED)
_NAMES = [feature.name for feature in FEATURES]

_PROVIDERS = frozenset(NATIVE.values())
_NO_TURNS = dict.fromkeys(("chain", "stored", "conversation"), "the dialect has no stored turns")
_NO_COUNT = "the dialect cannot count"
_NO_EMBEDDINGS = "the dialect has no embeddings"
_ONE_ANSWER = "the dialect gives one answer"
_LACKED_BY_DIALECT: dict[Dialect, dict[str, str]] = {
    "chat": {
        "thinking": "OpenAI's chat completions do not show it",
        "count": _NO_COUNT,
        **_NO_TURNS,
    },
    "responses": {"choices": _ONE_ANSWER, "count": _NO_COUNT},
    "messages": {"choices": _ONE_ANSWER, "embeddings": _NO_EMBEDDINGS, **_NO_TURNS},
    "generate": {**_NO_TURNS, "batch": "Google's batches are not served"},
    "ollama": {
        "choices": _ONE_ANSWER,
        "count": _NO_COUNT,
        **_NO_TURNS,
        "batch": "the dialect has no batches",
        "unknown": "the client takes no member it does not know",
        "ids": "the client does not show the answer's headers",
        "repeat": "the client sends no header of one request",
        "rate": "the client never asks again by itself",
    },
}


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """One upstream that rows are shown against."""

    name: str
    title: str
    says: str
    features: tuple[str, ...]
    clients: tuple[str, ...]
    """`client` for all its faces, `client/face` for one."""
    notes: dict[str, str] = {}
    """What a client must be told here, by its name."""

    def provider(self, dialect: Dialect) -> str:
        """Which of the site's providers serves a dialect here."""
        match self.name:
            case "own":
                return NATIVE[dialect]
            case "aimock":
                return f"aimock-{NATIVE[dialect]}"
            case _:
                return self.name

    def has(self, client: Client, face: Face) -> bool:
        if self.name in _PROVIDERS and NATIVE[face.dialect] == self.name:
            return False
        return client.name in self.clients or f"{client.name}/{face.name}" in self.clients


_TRANSLATED = tuple(
    name
    for name in _NAMES
    if name
    not in (
        *("models", "unknown", "ids", "repeat", "bad_key", "bad_model", "no_money", "rate", "embeddings"),
        *("stored", "conversation", "batch"),
    )
)
"""What depends on the provider's dialect; the rest is the gateway's own and shown once."""
_SPEAKERS = ("openai-python", "anthropic-python", "google-python", "ollama-python/chat", "codex", "claude-code")

_UNAIDED = {
    "claude-code": "with `CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK` and without retries, so that what breaks is seen"
}
_TOLD = {
    "codex": 'with `web_search = "disabled"` in its configuration: OpenAI\'s own tools run at OpenAI only',
    **_UNAIDED,
}

LANES = (
    Lane(
        name="own",
        title="The client's own dialect",
        says="The provider speaks what the client speaks: what leaves is what came, but for named edits.",
        features=tuple(_NAMES),
        clients=tuple(client.name for client in CLIENTS),
        notes=_UNAIDED,
    ),
    Lane(
        name="openai",
        title="Translated to OpenAI",
        says="The model is served by a provider of kind `openai`.",
        features=_TRANSLATED,
        clients=_SPEAKERS,
        notes=_UNAIDED,
    ),
    Lane(
        name="anthropic",
        title="Translated to Anthropic",
        says="The model is served by a provider of kind `anthropic`.",
        features=_TRANSLATED,
        clients=_SPEAKERS,
        notes=_TOLD,
    ),
    Lane(
        name="gemini",
        title="Translated to Gemini",
        says="The model is served by a provider of kind `gemini`.",
        features=_TRANSLATED,
        clients=_SPEAKERS,
        notes=_TOLD,
    ),
    Lane(
        name="aimock",
        title="A second upstream",
        says="The provider is `@copilotkit/aimock`, which others wrote.",
        features=("answer", "stream", "tools", "tool_stream", "structured", "embeddings"),
        clients=(
            *("openai-python", "openai-node", "anthropic-python", "anthropic-node", "google-python", "google-node"),
            *("ollama-python/chat", "vercel", "codex", "claude-code"),
        ),
    ),
)


class ByDesign(msgspec.Struct, frozen=True):
    """A refusal on purpose."""

    status: int
    says: str
    """Words of the message the client shows."""
    why: str


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One client, one feature, one lane."""

    client: Client
    face: Face
    lane: Lane
    feature: Feature

    def __repr__(self) -> str:
        return f"<{self.id}>"

    @property
    def id(self) -> str:
        return f"{self.lane.name}-{self.client.name}-{self.face.name}-{self.feature.name}"

    @property
    def lacked(self) -> str | None:
        """Why the client has nothing to show, or None."""
        name = self.feature.name
        if self.lacked_by_dialect is not None:
            return self.lacked_by_dialect
        if self.face.only and name not in self.face.only:
            return self.face.rest
        return self.face.lacks.get(name) or _LACKED_IN_LANE.get(f"{self.lane.name} {self.face.dialect} {name}")

    @property
    def lacked_by_dialect(self) -> str | None:
        """Why no client that speaks this dialect has something to show, or None."""
        return _LACKED_BY_DIALECT[self.face.dialect].get(self.feature.name)

    @property
    def refusal(self) -> ByDesign | None:
        """What the gateway says instead, on purpose."""
        return REFUSED.get(f"{self.lane.name} {self.face.dialect} {self.feature.name}") if self.lacked is None else None


_NOT_IN_CHAT = "OpenAI's chat completions, which it is translated to, do not show it"
_LACKED_IN_LANE = {
    "openai messages thinking": _NOT_IN_CHAT,
    "openai generate thinking": _NOT_IN_CHAT,
    "openai ollama thinking": _NOT_IN_CHAT,
    "aimock generate embeddings": "aimock has no batchEmbedContents",
    "aimock ollama embeddings": "aimock answers in the shape of the older /api/embeddings",
}
"""By lane, dialect and feature: what the upstream does not have."""
_COUNTS = ByDesign(400, "no provider of this model speaks", "a count is the provider's own; an estimate would be a lie")
_CHOICES = ByDesign(400, "this model's provider", "several answers with log probabilities cannot be said there")
_CHAIN = ByDesign(404, "names nothing that was made here", "only OpenAI keeps the turns of an answer by its id")
REFUSED: dict[str, ByDesign] = {
    "openai messages count": _COUNTS,
    "openai generate count": _COUNTS,
    "anthropic generate count": _COUNTS,
    "gemini messages count": _COUNTS,
    "anthropic chat choices": _CHOICES,
    "gemini chat choices": _CHOICES,
    "anthropic generate choices": _CHOICES,
    "anthropic responses chain": _CHAIN,
    "gemini responses chain": _CHAIN,
}
"""By lane, dialect and feature."""


def cells() -> Iterator[Cell]:
    """Every cell, row by row."""
    for lane in LANES:
        for client in CLIENTS:
            for face in client.faces:
                if lane.has(client, face):
                    for feature in FEATURES:
                        if feature.name in lane.features:
                            yield Cell(client=client, face=face, lane=lane, feature=feature)


CELLS = tuple(cells())
