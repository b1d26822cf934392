"""Anthropic messages, as a client asks (POST /v1/messages, versions 2023-06-01 and 2026-10-21)."""

from collections.abc import Mapping

from securellm.core.document import Document
from securellm.core.surfaces import Surface
from securellm.finops import Estimate
from securellm.gateway.model import Request
from securellm.ingress import facts
from securellm.ingress.leaves import Shape, collect, text_bytes

SURFACE = Surface.MESSAGES

SHAPE = Shape(
    names=frozenset(
        {
            "model", "messages", "role", "content", "type", "text", "source", "media_type", "data", "url", "id",
            "name", "input", "tool_use_id", "is_error", "thinking", "signature", "cache_control", "ttl", "system",
            "max_tokens", "metadata", "user_id", "stop_sequences", "stream", "temperature", "top_k", "top_p", "tools",
            "description", "input_schema", "tool_choice", "disable_parallel_tool_use", "budget_tokens",
            "service_tier", "properties", "required", "additionalProperties", "items", "enum", "max_uses", "title",
            "context", "citations", "enabled", "file_id", "context_management", "edits", "container", "mcp_servers",
            "output_config", "effort",
        }
    ),
    ids=frozenset(
        {
            ("messages", "*", "content", "*", "id"),
            ("messages", "*", "content", "*", "tool_use_id"),
            ("messages", "*", "content", "*", "source", "file_id"),
            ("container",),
        }
    ),
    media=frozenset(
        {
            ("messages", "*", "content", "*", "source", "data"),
            ("messages", "*", "content", "*", "content", "*", "source", "data"),
            ("messages", "*", "content", "*", "signature"),
            ("messages", "*", "content", "*", "data"),
        }
    ),
    numbers=frozenset(),
    system=frozenset({"system"}),
)  # fmt: skip

_CLIENT_TOOLS = ("computer_", "bash_", "text_editor_", "memory_")
"""Anthropic-defined tools that the caller itself runs: they cost tokens only."""
_PER_MESSAGE = 8
_PER_TOOLS = 1_000


def extract(document: Document, headers: Mapping[str, str]) -> Request:
    """The facts of a message request. Raises Refusal(INVALID_REQUEST) naming the field."""
    members = document.members()
    messages = facts.objects(members, "messages", required=True)
    tools = facts.objects(members, "tools")
    texts = collect(members, SHAPE)
    images = 0
    whole = False
    for message in messages:
        for part in facts.parts(message.get("content")):
            for block in (part, *facts.parts(part.get("content"))):
                images += block.get("type") == "image"
                whole = whole or block.get("type") == "document"
    uses: list[tuple[str, int | None]] = []
    for tool in tools:
        kind = tool.get("type")
        if kind is None or kind == "custom" or (isinstance(kind, str) and kind.startswith(_CLIENT_TOOLS)):
            continue
        uses.append((str(kind), facts.count(tool, "max_uses")))
    features = [name for name in ("mcp_servers", "container") if members.get(name)]
    if members.get("speed") not in (None, "standard"):
        features.append("speed")
    return Request(
        document=document,
        model=facts.text(members, "model", default=""),
        stream=facts.flag(members, "stream"),
        wants_usage=True,
        leaves=texts.leaves,
        message_count=len(messages),
        images=images,
        estimate=Estimate(
            input_tokens=text_bytes(texts.leaves) + _PER_MESSAGE * (len(messages) + 1) + (_PER_TOOLS if tools else 0),
            output_cap=facts.count(members, "max_tokens"),
            choices=1,
            whole_context=whole,
            features=tuple(features),
            cache_writes="cache_control" in document.text,
            server_tool_uses=tuple(uses),
            service_tier=facts.text(members, "service_tier", default="") or None,
        ),
        deterministic=facts.is_zero(members.get("temperature")) and not tools,
        cache_control=headers.get("x-securellm-cache", ""),
    )
