"""OpenAI responses, as a client asks (POST /v1/responses)."""

from collections.abc import Mapping

from securellm.core.document import Document
from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.finops import Estimate
from securellm.gateway.model import Request
from securellm.ingress import facts
from securellm.ingress.leaves import Shape, collect, text_bytes

SURFACE = Surface.RESPONSES

SHAPE = Shape(
    names=frozenset(
        {
            "model", "input", "instructions", "role", "content", "type", "text", "id", "call_id", "name", "arguments",
            "output", "status", "summary", "encrypted_content", "image_url", "detail", "file_id", "file_url",
            "file_data", "filename", "tools", "parameters", "description", "strict", "tool_choice", "stream", "store",
            "parallel_tool_calls", "previous_response_id", "conversation", "include", "metadata", "temperature",
            "top_p", "max_output_tokens", "max_tool_calls", "reasoning", "effort", "service_tier", "truncation",
            "user", "format", "schema", "verbosity", "prompt_cache_key", "safety_identifier", "background", "prompt",
            "properties", "required", "additionalProperties", "items", "enum", "annotations", "logprobs",
            "client_metadata", "stream_options", "generate_summary",
        }
    ),
    ids=frozenset(
        {
            ("previous_response_id",),
            ("conversation",),
            ("conversation", "id"),
            ("input", "*", "id"),
            ("input", "*", "call_id"),
            ("input", "*", "content", "*", "file_id"),
            ("prompt", "id"),
        }
    ),
    media=frozenset(
        {
            ("input", "*", "encrypted_content"),
            ("input", "*", "content", "*", "image_url"),
            ("input", "*", "content", "*", "file_data"),
            ("input", "*", "output", "*", "image_url"),
            ("input", "*", "result"),
        }
    ),
    numbers=frozenset({"seed"}),
    system=frozenset({"instructions"}),
)  # fmt: skip

_PER_ITEM = 8
_PER_TOOLS = 1_000


def extract(document: Document, headers: Mapping[str, str]) -> Request:
    """The facts of a response request. Raises Refusal (INVALID_REQUEST, UNSUPPORTED_FIELD) naming the field."""
    members = document.members()
    if facts.flag(members, "background"):
        raise Refusal(Code.UNSUPPORTED_FIELD, "background responses outlive their audit record", param="background")
    given = members.get("input")
    items: list[facts.Members] = []
    if isinstance(given, list):
        items = facts.objects(members, "input")
    elif not isinstance(given, str) and given is not None:
        raise Refusal(Code.INVALID_REQUEST, "input must be a string or a list", param="input")
    tools = facts.objects(members, "tools")
    texts = collect(members, SHAPE)
    images = 0
    whole = any(members.get(name) is not None for name in ("previous_response_id", "conversation", "prompt"))
    hears = False
    for item in items:
        whole = whole or item.get("type") == "item_reference"
        for part in [*facts.parts(item.get("content")), *facts.parts(item.get("output"))]:
            kind = part.get("type")
            images += kind == "input_image"
            whole = whole or kind == "input_file"
            hears = hears or kind == "input_audio"
    most = facts.count(members, "max_tool_calls")
    return Request(
        document=document,
        model=facts.text(members, "model", default=""),
        stream=facts.flag(members, "stream"),
        wants_usage=True,
        leaves=texts.leaves,
        message_count=max(1, len(items)),
        images=images,
        histories=_histories(members),
        estimate=Estimate(
            input_tokens=text_bytes(texts.leaves) + _PER_ITEM * (len(items) + 2) + (_PER_TOOLS if tools else 0),
            output_cap=facts.count(members, "max_output_tokens"),
            choices=1,
            whole_context=whole or hears,
            audio_input=hears,
            cache_writes=False,
            server_tool_uses=tuple(
                (str(tool.get("type")), most) for tool in tools if tool.get("type") not in ("function", "custom")
            ),
            service_tier=facts.text(members, "service_tier", default="") or None,
        ),
        deterministic=facts.is_zero(members.get("temperature")) and not tools and not whole,
        cache_control=headers.get("x-securellm-cache", ""),
    )


def _histories(members: facts.Members) -> tuple[str, ...]:
    conversation = members.get("conversation")
    named = conversation.get("id") if isinstance(conversation, dict) else conversation
    given = (members.get("previous_response_id"), named)
    return tuple(history for history in given if isinstance(history, str))
