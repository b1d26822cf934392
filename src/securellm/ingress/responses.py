"""OpenAI responses, as a client asks (POST /v1/responses)."""

from collections.abc import Collection, Iterable, Iterator, Mapping

from securellm.core.document import Document, Value
from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.finops import Estimate
from securellm.gateway.model import Request
from securellm.ingress import facts
from securellm.ingress.facts import Members
from securellm.ingress.leaves import Shape, collect
from securellm.ingress.needs import responses_needs

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
            "client_metadata", "stream_options", "generate_summary", "top_logprobs", "include_obfuscation", "phase",
            "refusal", "action", "actions", "query", "queries", "sources", "url", "pattern", "command", "commands",
            "env", "timeout_ms", "max_output_length", "working_directory", "x", "y", "scroll_x", "scroll_y", "button",
            "keys", "path", "namespace", "caller", "caller_id", "async", "execution", "fingerprint", "result",
            "results", "attributes", "score", "code", "container_id", "outputs", "logs", "outcome", "exit_code",
            "stdout", "stderr", "operation", "diff", "server_label", "approval_request_id", "approve", "reason",
            "error", "message", "param", "pending_safety_checks", "acknowledged_safety_checks", "revised_prompt",
            "title", "index", "start_index", "end_index", "annotation_index", "variables", "version", "context",
            "mode", "moderation", "policy", "context_management", "compact_threshold", "prompt_cache_options",
            "prompt_cache_retention", "prompt_cache_breakpoint", "ttl", "prewarm", "comparison_response_id", "image",
            "access_programs", "container", "file_ids", "memory_limit", "network_policy", "vector_store_ids",
            "max_num_results", "ranking_options", "ranker", "score_threshold", "hybrid_search", "embedding_weight",
            "text_weight", "filters", "key", "value", "user_location", "city", "country", "region", "timezone",
            "search_context_size", "search_content_types", "allowed_domains", "external_web_access", "server_url",
            "server_description", "connector_id", "headers", "authorization", "require_approval", "always", "never",
            "allowed_tools", "tool_names", "read_only", "tunnel_id", "defer_loading", "allowed_callers",
            "display_width", "display_height", "environment", "skills", "skill_id", "source", "input_image_mask",
            "input_fidelity", "output_format", "output_compression", "output_schema", "input_schema", "quality",
            "partial_images", "size", "definition", "syntax", "input_audio", "data", "cyber", "context_compression",
            "bytes", "logprob", "token", "svg", "complexity", "frame_count", "frame_duration_ms", "input_tokens",
            "output_tokens", "reasoning_tokens", "total_tokens", "svg_usage", "domain_secrets", "domain",
            "moderation_details", "categories", "moderation_stage", "media_type",
        }
    ),
    ids=frozenset(
        {
            ("previous_response_id",),
            ("conversation",),
            ("conversation", "id"),
            ("input", "*", "id"),
            ("input", "*", "call_id"),
            ("input", "*", "container_id"),
            ("input", "*", "approval_request_id"),
            ("input", "*", "content", "*", "file_id"),
            ("input", "*", "output", "*", "file_id"),
            ("input", "*", "output", "file_id"),
            ("prompt", "id"),
            ("prompt_cache_options", "comparison_response_id"),
            ("tools", "*", "container"),
            ("tools", "*", "container", "file_ids", "*"),
            ("tools", "*", "vector_store_ids", "*"),
        }
    ),
    media=frozenset(
        {
            ("input", "*", "encrypted_content"),
            ("input", "*", "fingerprint"),
            ("input", "*", "content", "*", "image_url"),
            ("input", "*", "content", "*", "file_data"),
            ("input", "*", "content", "*", "input_audio", "data"),
            ("input", "*", "output", "*", "image_url"),
            ("input", "*", "output", "*", "file_data"),
            ("input", "*", "output", "image_url"),
            ("input", "*", "result"),
            ("tools", "*", "input_image_mask", "image_url"),
        }
    ),
    numbers=frozenset({"seed"}),
    system=frozenset({"instructions"}),
)  # fmt: skip

_PER_ITEM = 8
_PER_TOOLS = 1_000
_CALLED_BY_CALLER = frozenset(
    {"function", "custom", "namespace", "local_shell", "apply_patch", "computer", "computer_use_preview", "tool_search"}
)
"""The tools whose calls the caller runs (or which only find such tools): they cost tokens only."""
_WHOLE = tuple(
    f"{call}{part}"
    for call in ("function_call", "custom_tool_call", "local_shell_call", "apply_patch_call")
    for part in ("", "_output")
)
"""The items that hold all there is to know of them."""
_UNSEEN = ("previous_response_id", "conversation", "prompt")
"""What lets the provider add to the prompt."""


def extract(document: Document, headers: Mapping[str, str]) -> Request:
    """The facts of a response request. Raises Refusal (INVALID_REQUEST, UNSUPPORTED_FIELD) naming the field."""
    members = document.members()
    facts.refuse_other_models(members)
    background = facts.flag(members, "background")
    if background and facts.flag(members, "stream"):
        reason = "a stream ends with its record, and a response in the background goes on after it"
        raise Refusal(Code.UNSUPPORTED_FIELD, reason, param="background")
    given = members.get("input")
    items: list[Members] = []
    if isinstance(given, list):
        items = facts.objects(members, "input")
    elif not isinstance(given, str) and given is not None:
        raise Refusal(Code.INVALID_REQUEST, "input must be a string or a list", param="input")
    tools = facts.objects(members, "tools")
    texts = collect(members, SHAPE)
    images = 0
    whole = any(members.get(name) is not None for name in _UNSEEN)
    hears = False
    for part in _parts(items):
        kind = part.get("type")
        images += kind in ("input_image", "computer_screenshot")
        whole = whole or kind == "input_file"
        hears = hears or kind == "input_audio"
    for item in items:
        drawn = item.get("type") == "image_generation_call"
        images += drawn
        # Of what it keeps, the provider may add more to the prompt than the item says.
        whole = whole or (not drawn and not item.get("encrypted_content") and any(mentioned_in((item,))))
    # Tools may be found, and added, in the middle of a conversation.
    asked = [*tools, *(tool for item in items for tool in facts.parts(item.get("tools")))]
    kept = tuple(dict.fromkeys(_kept(members, items, asked)))
    mentions = tuple(dict.fromkeys(mentioned_in(items)))
    most = facts.count(members, "max_tool_calls")
    return Request(
        document=document,
        model=facts.text(members, "model", default=""),
        stream=facts.flag(members, "stream"),
        wants_usage=True,
        leaves=texts.leaves,
        message_count=max(1, len(items)),
        images=images,
        histories=kept,
        mentions=mentions,
        estimate=Estimate(
            input_tokens=texts.bytes + _PER_ITEM * (len(items) + 2) + (_PER_TOOLS if asked else 0),
            output_cap=facts.count(members, "max_output_tokens"),
            choices=1,
            whole_context=whole or hears or bool(kept),
            features=("context_management",) if members.get("context_management") else (),
            audio_input=hears,
            cache_writes=facts.asks_for_cache_writes(document),
            server_tool_uses=tuple((str(tool.get("type")), most) for tool in asked if not _is_callers(tool)),
            service_tier=facts.text(members, "service_tier", default="") or None,
        ),
        needs=responses_needs(members),
        deterministic=facts.is_zero(members.get("temperature")) and not (asked or whole or kept or background),
        cache_control=headers.get("x-securellm-cache", ""),
        background=background,
    )


def _parts(items: Iterable[Members]) -> Iterator[Members]:
    """What items hold: the parts of what was said, of what tools gave back, and the one picture of a screen."""
    for item in items:
        output = item.get("output")
        yield from facts.parts(item.get("content"))
        yield from facts.parts([output] if isinstance(output, dict) else output)


def _is_callers(tool: Members) -> bool:
    kind = tool.get("type")
    if kind == "shell":
        where = tool.get("environment")
        return where is None or (isinstance(where, dict) and where.get("type") == "local")
    return isinstance(kind, str) and kind in _CALLED_BY_CALLER


def _kept(members: Members, items: Collection[Members], tools: Iterable[Members]) -> Iterator[str]:
    """The names of everything in a body that a provider keeps for those who know its name."""
    conversation: Value = members.get("conversation")
    yield from facts.listed_names([members.get("previous_response_id"), conversation])
    yield from facts.names(conversation, "id")
    yield from facts.names(members.get("prompt_cache_options"), "comparison_response_id")
    yield from named_in(items)
    prompt = members.get("prompt")
    variables = prompt.get("variables") if isinstance(prompt, dict) else None
    for value in variables.values() if isinstance(variables, dict) else ():
        yield from facts.names(value, "file_id")
    for tool in tools:
        for place in (tool.get("container"), tool.get("environment")):
            yield from facts.listed_names([place])
            yield from facts.names(place, "container_id")
            if isinstance(place, dict):
                yield from facts.listed_names(place.get("file_ids"))
        yield from facts.listed_names(tool.get("vector_store_ids"))
        yield from facts.names(tool.get("input_image_mask"), "file_id")


def named_in(items: Collection[Members]) -> Iterator[str]:
    """The names of what a provider keeps, as items name it."""
    for item in items:
        if _is_reference(item):
            yield from facts.names(item, "id")
    for part in (*items, *_parts(items)):
        yield from facts.names(part, "file_id")


def mentioned_in(items: Iterable[Members]) -> Iterator[str]:
    """The names of what a provider may have kept, of items that need not hold all that they once were.

    A provider looks its own items up by their ids: a picture that it drew, a thought that it had, what it searched for.
    It goes on in the container that such an item ran in. One that keeps nothing is told the same ids, so that they
    need not be known here.
    """
    for item in items:
        kind = item.get("type")
        if not (_is_reference(item) or kind in (None, "message", *_WHOLE)):
            yield from facts.names(item, "id")
        yield from facts.names(item, "container_id")
        yield from facts.names(item.get("environment"), "container_id")
        yield from facts.names(item, "approval_request_id")


def _is_reference(item: Members) -> bool:
    """Whether an item is nothing but the id of another: it need not say so, and may be dressed up as a message."""
    kind = item.get("type")
    return kind == "item_reference" or (kind is None and (item.get("role") is None or item.get("content") is None))
