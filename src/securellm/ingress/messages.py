"""Anthropic messages, as a client asks (POST /v1/messages, versions 2023-06-01 and 2026-10-21)."""

from collections.abc import Iterable, Iterator, Mapping

from securellm.core.document import Document, Value
from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.finops import Estimate
from securellm.gateway.model import Request
from securellm.ingress import facts
from securellm.ingress.facts import Members
from securellm.ingress.leaves import Shape, collect
from securellm.ingress.needs import messages_needs

SURFACE = Surface.MESSAGES

SHAPE = Shape(
    names=frozenset(
        {
            "model", "messages", "role", "content", "type", "text", "source", "media_type", "data", "url", "id",
            "name", "input", "tool_use_id", "is_error", "thinking", "signature", "cache_control", "ttl", "system",
            "max_tokens", "metadata", "user_id", "stop_sequences", "stream", "temperature", "top_k", "top_p", "tools",
            "description", "input_schema", "tool_choice", "disable_parallel_tool_use", "budget_tokens", "display",
            "service_tier", "properties", "required", "additionalProperties", "items", "enum", "max_uses", "title",
            "context", "citations", "enabled", "file_id", "context_management", "edits", "container", "mcp_servers",
            "output_config", "effort", "format", "schema", "output_format", "task_budget", "total", "remaining",
            "keep", "trigger", "value", "clear_at_least", "clear_tool_inputs", "exclude_tools", "instructions",
            "pause_after_compaction", "skills", "skill_id", "version", "authorization_token", "tool_configuration",
            "allowed_tools", "server_name", "toolset_name", "mcp_server_name", "mcp_toolset", "configs",
            "default_config", "defer_loading", "allowed_callers", "caller", "tool_id", "allowed_domains",
            "blocked_domains", "user_location", "city", "country", "region", "timezone", "max_content_tokens",
            "use_cache", "caching", "strict", "input_examples", "eager_input_streaming", "max_characters",
            "display_width_px", "display_height_px", "display_number", "enable_zoom", "response_inclusion",
            "cited_text", "document_index", "document_title", "encrypted_index", "search_result_index",
            "start_char_index", "end_char_index", "start_page_number", "end_page_number", "start_block_index",
            "end_block_index", "encrypted_content", "encrypted_stdout", "error_code", "error_message", "page_age",
            "retrieved_at", "return_code", "stdout", "stderr", "file_type", "is_file_update", "lines", "num_lines",
            "start_line", "total_lines", "old_lines", "old_start", "new_lines", "new_start", "tool_name",
            "tool_references", "tool_changes", "tool", "stop_reason", "speed", "inference_geo", "diagnostics",
            "previous_message_id", "thread", "fallbacks", "fallback_credit_token", "block_binding",
            "prefix_mismatch_behavior", "url_sources", "mode", "token", "clear_at", "state_changes", "tabs", "from",
            "to", "transformations", "oversized_image", "user_input", "server_tool_results", "client_tool_results",
            "download_id", "definition", "size_bytes", "active", "tab_id", "path", "error", "compaction",
        }
    ),
    ids=frozenset(
        {
            ("messages", "*", "content", "*", "id"),
            ("messages", "*", "content", "*", "tool_use_id"),
            ("messages", "*", "content", "*", "file_id"),
            ("messages", "*", "content", "*", "source", "file_id"),
            ("container",),
            ("container", "id"),
            ("diagnostics", "previous_message_id"),
        }
    ),
    media=frozenset(
        {
            ("messages", "*", "content", "*", "source", "data"),
            ("messages", "*", "content", "*", "content", "*", "source", "data"),
            ("messages", "*", "content", "*", "content", "content", "source", "data"),
            ("messages", "*", "content", "*", "signature"),
            ("messages", "*", "content", "*", "data"),
            ("messages", "*", "content", "*", "encrypted_content"),
            ("messages", "*", "content", "*", "content", "encrypted_content"),
            ("messages", "*", "content", "*", "content", "encrypted_stdout"),
            ("messages", "*", "content", "*", "content", "*", "encrypted_content"),
            ("messages", "*", "content", "*", "citations", "*", "encrypted_index"),
        }
    ),
    numbers=frozenset(),
    system=frozenset({"system"}),
)  # fmt: skip

_CALLED_BY_CALLER = ("computer_", "browser_", "bash_", "text_editor_", "memory_", "tool_search_tool_", "mcp_toolset")
"""Prefixes of Anthropic's own tools whose calls the caller runs, or which only find tools: they cost tokens only."""
_AT_LIST_PRICE = {"speed": ("standard",), "inference_geo": ("global", "not_available")}
"""Fields that change what every token costs, and their values that do not."""
_PER_MESSAGE = 8
_PER_TOOLS = 1_000


def extract(document: Document, headers: Mapping[str, str]) -> Request:
    """The facts of a message request. Raises Refusal (INVALID_REQUEST, UNSUPPORTED_FIELD) naming the field."""
    members = document.members()
    facts.refuse_other_models(members)
    if members.get("thread") is not None:
        raise Refusal(
            Code.UNSUPPORTED_FIELD, "the provider would keep the conversation, which nobody here binds", param="thread"
        )
    messages = facts.objects(members, "messages", required=True)
    tools = facts.objects(members, "tools")
    texts = collect(members, SHAPE)
    images = 0
    whole = False
    for block in _blocks(messages):
        kind, source = block.get("type"), block.get("source")
        images += kind == "image"
        # A document of plain text is text like any other; of one in any other form only the provider sees the length.
        whole = whole or kind == "container_upload"
        whole = whole or (kind == "document" and not (isinstance(source, dict) and source.get("type") == "text"))
    features = [name for name in ("mcp_servers", "container") if members.get(name)]
    features += [name for name, usual in _AT_LIST_PRICE.items() if members.get(name) not in (None, *usual)]
    if any(str(edit.get("type")).startswith("compact") for edit in _edits(members)):
        features.append("context_management")
    kept = tuple(dict.fromkeys(_kept(members, messages)))
    return Request(
        document=document,
        model=facts.text(members, "model", default=""),
        stream=facts.flag(members, "stream"),
        wants_usage=True,
        leaves=texts.leaves,
        message_count=len(messages),
        images=images,
        histories=kept,
        mentions=tuple(dict.fromkeys(_mentioned(messages))),
        estimate=Estimate(
            input_tokens=texts.bytes + _PER_MESSAGE * (len(messages) + 1) + (_PER_TOOLS if tools else 0),
            output_cap=facts.count(members, "max_tokens"),
            choices=1,
            whole_context=whole or bool(kept),
            features=tuple(features),
            cache_writes="cache_control" in document.text,
            server_tool_uses=tuple(_server_tools(tools)),
            service_tier=facts.text(members, "service_tier", default="") or None,
        ),
        needs=messages_needs(members),
        deterministic=facts.is_zero(members.get("temperature")) and not tools and not kept,
        cache_control=headers.get("x-securellm-cache", ""),
    )


def _blocks(messages: Iterable[Members]) -> Iterator[Members]:
    """The content blocks, and those inside them: in what a tool answered, and in documents."""
    for message in messages:
        yield from _inside(message.get("content"))


def _inside(content: Value) -> Iterator[Members]:
    for block in facts.parts(content):
        yield block
        yield from _inside(block.get("content"))
        source = block.get("source")
        if isinstance(source, dict):
            yield from _inside(source.get("content"))


def _edits(members: Members) -> list[Members]:
    managed = members.get("context_management")
    return facts.parts(managed.get("edits")) if isinstance(managed, dict) else []


def _server_tools(tools: Iterable[Members]) -> Iterator[tuple[str, int | None]]:
    """The tools that the provider itself runs, and how often at most."""
    for tool in tools:
        kind = tool.get("type")
        if kind is None or kind == "custom" or (isinstance(kind, str) and kind.startswith(_CALLED_BY_CALLER)):
            continue
        yield str(kind), facts.count(tool, "max_uses")


def _kept(members: Members, messages: Iterable[Members]) -> Iterator[str]:
    """The names of everything in a body that a provider keeps for those who know its name."""
    container = members.get("container")
    yield from facts.listed_names([container])
    yield from facts.names(container, "id")
    if isinstance(container, dict):
        for skill in facts.parts(container.get("skills")):
            if skill.get("type") == "custom":
                yield from facts.names(skill, "skill_id")
    for block in _blocks(messages):
        yield from facts.names(block.get("source"), "file_id")
        if block.get("type") == "container_upload":
            yield from facts.names(block, "file_id")


def _mentioned(messages: Iterable[Members]) -> Iterator[str]:
    """The names of the files that running code is said to have left behind."""
    for block in _blocks(messages):
        result = block.get("content")
        for file in facts.parts(result.get("content")) if isinstance(result, dict) else ():
            yield from facts.names(file, "file_id")
