"""OpenAI chat completions, as a client asks (POST /v1/chat/completions)."""

from collections.abc import Mapping

from securellm.core.document import Document
from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.finops import Estimate
from securellm.gateway.model import Request
from securellm.ingress import facts
from securellm.ingress.facts import Members
from securellm.ingress.leaves import Shape, collect
from securellm.ingress.needs import chat_needs

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
            "prompt_cache_key", "safety_identifier", "properties", "required", "additionalProperties", "items",
            "enum", "reasoning_content", "web_search_options", "functions", "function_call", "index", "grammar",
            "definition", "syntax", "allowed_tools", "mode", "search_context_size", "user_location", "approximate",
            "city", "country", "region", "timezone", "moderation", "policy", "include_obfuscation",
            "prompt_cache_options", "prompt_cache_retention", "prompt_cache_breakpoint", "ttl", "audio_url",
            "video_url", "thinking", "extra_content", "google", "thought_signature", "search_parameters", "prefix",
            "cache_control", "output",
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
            ("messages", "*", "content", "*", "audio_url", "url"),
            ("messages", "*", "content", "*", "video_url", "url"),
            ("messages", "*", "content", "*", "input_audio", "data"),
            ("messages", "*", "content", "*", "file", "file_data"),
            ("messages", "*", "tool_calls", "*", "extra_content", "google", "thought_signature"),
        }
    ),
    numbers=frozenset({"seed"}),
    system=frozenset(),
)  # fmt: skip

_PER_MESSAGE = 8
"""Tokens a chat template may add around one message, and once around all: more than published templates do."""
_PER_TOOLS = 1_000
"""Tokens a provider's own tool preamble may add: more than any documents."""
_CALLED_BY_CALLER = ("function", "custom")
_BY_NAME = ("file", "image_url", "input_audio", "audio_url", "video_url")
"""What a part may hold that can be a file kept by the provider; some servers take its name beside them."""


def extract(document: Document, headers: Mapping[str, str]) -> Request:
    """The facts of a chat completion. Raises Refusal (INVALID_REQUEST, UNSUPPORTED_FIELD) naming the field."""
    members = document.members()
    facts.refuse_other_models(members)
    if facts.flag(members, "deferred"):
        raise Refusal(Code.UNSUPPORTED_FIELD, "deferred answers outlive their audit record", param="deferred")
    messages = facts.objects(members, "messages", required=True)
    tools = facts.objects(members, "tools")
    asked = bool(tools or facts.objects(members, "functions"))
    texts = collect(members, SHAPE)
    caps = [cap for name in ("max_completion_tokens", "max_tokens") if (cap := facts.count(members, name))]
    images = 0
    whole = hears = False
    kept: list[str] = []
    for message in messages:
        for part in facts.parts(message.get("content")):
            kind = part.get("type")
            images += kind == "image_url"
            whole = whole or kind in ("file", "video_url")
            hears = hears or kind in ("input_audio", "audio_url")
            for place in (part, *(part.get(name) for name in _BY_NAME)):
                kept += facts.names(place, "file_id")
        hears = hears or isinstance(message.get("audio"), dict)
        kept += facts.names(message.get("audio"), "id")
    modalities = members.get("modalities")
    speaks = members.get("audio") is not None or (isinstance(modalities, list) and "audio" in modalities)
    choices = facts.count(members, "n", largest=128) or 1
    return Request(
        document=document,
        model=facts.text(members, "model", default=""),
        stream=facts.flag(members, "stream"),
        wants_usage=facts.flag(facts.mapping(members, "stream_options"), "include_usage"),
        leaves=texts.leaves,
        message_count=len(messages),
        images=images,
        histories=tuple(dict.fromkeys(kept)),
        estimate=Estimate(
            input_tokens=texts.bytes + _PER_MESSAGE * (len(messages) + 1) + (_PER_TOOLS if asked else 0),
            output_cap=max(caps) if caps else None,
            choices=choices,
            whole_context=whole or hears,
            features=("prediction",) if members.get("prediction") is not None else (),
            audio_input=hears,
            audio_output=speaks,
            cache_writes=facts.asks_for_cache_writes(document),
            server_tool_uses=_server_tools(members, tools),
            service_tier=facts.text(members, "service_tier", default="") or None,
        ),
        needs=chat_needs(members),
        deterministic=facts.is_zero(members.get("temperature")) and not asked and choices == 1 and not kept,
        cache_control=headers.get("x-securellm-cache", ""),
    )


def _server_tools(members: Members, tools: list[Members]) -> tuple[tuple[str, int | None], ...]:
    """The tools that the provider itself runs; how often, it decides."""
    uses = [str(tool.get("type")) for tool in tools if tool.get("type") not in _CALLED_BY_CALLER]
    if members.get("web_search_options") is not None:
        uses.append("web_search")
    searching = members.get("search_parameters")
    if searching is not None and not (isinstance(searching, dict) and searching.get("mode") == "off"):
        uses.append("live_search")
    return tuple((name, None) for name in uses)
