"""Ollama's own chat, as a client asks (POST /api/chat)."""

from collections.abc import Mapping

from securellm.core.document import Document
from securellm.core.surfaces import Surface
from securellm.finops import Estimate
from securellm.gateway.model import Request
from securellm.ingress import facts
from securellm.ingress.facts import Members
from securellm.ingress.leaves import Shape, collect
from securellm.ingress.needs import ollama_needs

SURFACE = Surface.OLLAMA_CHAT

COMMON = frozenset(
    {
        "model", "stream", "format", "keep_alive", "options", "think", "logprobs", "top_logprobs", "truncate", "shift",
        "num_keep", "seed", "num_predict", "num_ctx", "num_batch", "num_gpu", "main_gpu", "num_thread", "low_vram",
        "f16_kv", "logits_all", "vocab_only", "use_mmap", "use_mlock", "embedding_only", "numa", "top_k", "top_p",
        "min_p", "tfs_z", "typical_p", "repeat_last_n", "temperature", "repeat_penalty", "presence_penalty",
        "frequency_penalty", "mirostat", "mirostat_tau", "mirostat_eta", "penalize_newline", "stop", "images", "type",
        "properties", "required", "items", "enum", "description", "$defs", "additionalProperties", "anyOf",
    }
)  # fmt: skip
"""Member names of every surface that generates."""

SHAPE = Shape(
    names=COMMON
    | frozenset(
        {
            "messages", "role", "content", "thinking", "tool_calls", "function", "name", "arguments", "tool_name",
            "tool_call_id", "id", "index", "tools", "parameters", "strict",
        }
    ),
    ids=frozenset({("messages", "*", "tool_calls", "*", "id"), ("messages", "*", "tool_call_id")}),
    media=frozenset({("messages", "*", "images", "*")}),
    numbers=frozenset({"seed"}),
    system=frozenset(),
)  # fmt: skip

_PER_MESSAGE = 8
_PER_TOOLS = 1_000


def extract(document: Document, headers: Mapping[str, str]) -> Request:
    """The facts of a chat; one without messages loads or unloads the model. Raises Refusal(INVALID_REQUEST)."""
    members = document.members()
    messages = facts.objects(members, "messages")
    tools = facts.objects(members, "tools")
    options = facts.mapping(members, "options")
    texts = collect(members, SHAPE)
    return Request(
        document=document,
        model=facts.text(members, "model", default=""),
        stream=streams(members),
        wants_usage=True,
        leaves=texts.leaves,
        message_count=len(messages),
        images=sum(pictures(message) for message in messages),
        estimate=Estimate(
            input_tokens=texts.bytes + _PER_MESSAGE * (len(messages) + 1) + (_PER_TOOLS if tools else 0),
            output_cap=cap(options),
            choices=1,
            cache_writes=False,
        ),
        needs=ollama_needs(members),
        deterministic=facts.is_zero(options.get("temperature")) and not tools,
        cache_control=headers.get("x-securellm-cache", ""),
    )


def streams(members: Members) -> bool:
    """Whether the answer is streamed: it is unless the caller says no."""
    return members.get("stream") is None or facts.flag(members, "stream")


def cap(options: Members) -> int | None:
    """The caller's cap on the answer, thinking included; whatever is below 1 means that there is none."""
    value = options.get("num_predict")
    if isinstance(value, int) and not isinstance(value, bool) and value < 1:
        return None
    return facts.count(options, "num_predict")


def pictures(members: Members) -> int:
    """How many images a message or prompt carries."""
    images = members.get("images")
    return len(images) if isinstance(images, list) else 0
