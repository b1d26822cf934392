"""OpenAI chat completions, as a client asks (POST /v1/chat/completions)."""

from collections.abc import Mapping

from securellm.core.document import Document
from securellm.core.surfaces import Surface
from securellm.finops import Estimate
from securellm.gateway.model import Request
from securellm.ingress import facts
from securellm.ingress.leaves import Shape, collect, text_bytes

SURFACE = Surface.CHAT

SHAPE = Shape(
    names=frozenset(
        {
            "model", "messages", "role", "content", "name", "type", "text", "image_url", "url", "detail", "refusal",
            "tool_calls", "tool_call_id", "id", "function", "arguments", "custom", "input", "input_audio", "data",
            "format", "file", "file_id", "file_data", "filename", "tools", "parameters", "description", "strict",
            "tool_choice", "parallel_tool_calls", "stream", "stream_options", "include_usage", "temperature", "top_p",
            "n", "stop", "max_tokens", "max_completion_tokens", "presence_penalty", "frequency_penalty", "logit_bias",
            "logprobs", "top_logprobs", "user", "seed", "response_format", "json_schema", "schema", "metadata",
            "store", "service_tier", "reasoning_effort", "modalities", "audio", "voice", "prediction", "verbosity",
            "prompt_cache_key", "safety_identifier", "properties", "required", "additionalProperties", "items", "enum",
            "reasoning_content", "web_search_options",
        }
    ),
    ids=frozenset(
        {
            ("messages", "*", "tool_call_id"),
            ("messages", "*", "tool_calls", "*", "id"),
            ("messages", "*", "audio", "id"),
            ("messages", "*", "content", "*", "file", "file_id"),
        }
    ),
    media=frozenset(
        {
            ("messages", "*", "content", "*", "image_url", "url"),
            ("messages", "*", "content", "*", "input_audio", "data"),
            ("messages", "*", "content", "*", "file", "file_data"),
        }
    ),
    numbers=frozenset({"seed"}),
    system=frozenset(),
)  # fmt: skip

_PER_MESSAGE = 8
"""Tokens a chat template may add around one message, and once around all: more than published templates do."""
_PER_TOOLS = 1_000
"""Tokens a provider's own tool preamble may add: more than any documents."""


def extract(document: Document, headers: Mapping[str, str]) -> Request:
    """The facts of a chat completion. Raises Refusal(INVALID_REQUEST) naming the field."""
    members = document.members()
    messages = facts.objects(members, "messages", required=True)
    tools = facts.objects(members, "tools")
    texts = collect(members, SHAPE)
    caps = [cap for name in ("max_completion_tokens", "max_tokens") if (cap := facts.count(members, name))]
    images = 0
    whole = hears = False
    for message in messages:
        for part in facts.parts(message.get("content")):
            kind = part.get("type")
            images += kind == "image_url"
            whole = whole or kind == "file"
            hears = hears or kind == "input_audio"
        hears = hears or isinstance(message.get("audio"), dict)
    modalities = members.get("modalities")
    speaks = members.get("audio") is not None or (isinstance(modalities, list) and "audio" in modalities)
    features: list[str] = []
    if members.get("prediction") is not None:
        features.append("prediction")
    uses: list[tuple[str, int | None]] = [
        (str(tool.get("type")), None) for tool in tools if tool.get("type") not in ("function", "custom")
    ]
    if members.get("web_search_options") is not None:
        uses.append(("web_search", None))
    choices = facts.count(members, "n", largest=128) or 1
    return Request(
        document=document,
        model=facts.text(members, "model", default=""),
        stream=facts.flag(members, "stream"),
        wants_usage=facts.flag(facts.mapping(members, "stream_options"), "include_usage"),
        leaves=texts.leaves,
        message_count=len(messages),
        images=images,
        estimate=Estimate(
            input_tokens=text_bytes(texts.leaves) + _PER_MESSAGE * (len(messages) + 1) + (_PER_TOOLS if tools else 0),
            output_cap=max(caps) if caps else None,
            choices=choices,
            whole_context=whole or hears,
            features=tuple(features),
            audio_input=hears,
            audio_output=speaks,
            cache_writes=False,
            server_tool_uses=tuple(uses),
            service_tier=facts.text(members, "service_tier", default="") or None,
        ),
        deterministic=facts.is_zero(members.get("temperature")) and not tools and choices == 1,
        cache_control=headers.get("x-securellm-cache", ""),
    )
