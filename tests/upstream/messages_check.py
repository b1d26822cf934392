"""What Anthropic demands of a request: versions, betas, blocks, tool results, signatures, cache breakpoints."""

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.upstream.answer import Ask, check, need
from tests.upstream.faces import Refused

VERSIONS = ("2023-06-01", "2026-10-21")
SEALED = base64.b64encode(b"what the fake thought, encrypted").decode()
"""The data of a redacted thinking block."""
_BLOCKS = {
    "text",
    "image",
    "document",
    "tool_use",
    "tool_result",
    "thinking",
    "redacted_thinking",
    "search_result",
    "server_tool_use",
    "web_search_tool_result",
    "web_fetch_tool_result",
    "code_execution_tool_result",
    "bash_code_execution_tool_result",
    "text_editor_code_execution_tool_result",
    "tool_search_tool_result",
    "mcp_tool_use",
    "mcp_tool_result",
    "container_upload",
    "compaction",
}
_FOREIGN = ("max_completion_tokens", "stream_options", "n", "functions", "response_format", "stop", "reasoning_effort")
_UNCOUNTED = ("max_tokens", "stream", "temperature", "top_p", "top_k", "stop_sequences", "metadata", "service_tier")
_BETA = re.compile(r"[a-z0-9-]+-20\d\d-?\d\d-?\d\d")


def sign(thinking: str) -> str:
    """The signature of a thinking block, good for this text alone."""
    return base64.b64encode(hashlib.sha256(b"the fake thought: " + thinking.encode()).digest()).decode()


def check_request(ask: Ask, *, counting: bool = False) -> None:
    """Raises `Refused` 400 as Anthropic does."""
    body, version = ask.body, check_version(ask)
    need(body, "model", str)
    messages = need(body, "messages", list)
    if not messages:
        raise Refused(400, "messages: at least one message is required")
    for name in (*_FOREIGN, *(_UNCOUNTED if counting else ())):
        if name in body:
            raise Refused(400, f"{name}: Extra inputs are not permitted")
    if version == "2026-10-21":
        for name in ("temperature", "top_p", "top_k"):
            if name in body:
                raise Refused(400, f"{name}: Extra inputs are not permitted")
    temperature = check(body, "temperature", (int, float))
    if temperature is not None and not 0 <= temperature <= 1:
        raise Refused(400, "temperature: range: 0..1")
    if not isinstance(body.get("system", ""), str | list):
        raise Refused(400, "system: Input should be a valid string or list")
    stops = check(body, "stop_sequences", list) or []
    if not all(isinstance(stop, str) and stop.strip() for stop in stops):
        raise Refused(400, "stop_sequences: each stop sequence must contain non-whitespace")
    _check_output(body)
    if messages[0].get("role") != "user" if isinstance(messages[0], dict) else True:
        raise Refused(400, "messages.0.role: Input should be 'user': first message must use the \"user\" role")
    used: set[str] = set()
    for at, message in enumerate(messages):
        if isinstance(message, dict) and message.get("role") == "system":
            _check_aside(message, messages[at - 1] if at else None, f"messages.{at}")
        else:
            used = _check_message(message, used, f"messages.{at}", version)
    _check_thinking(body, messages)
    _check_breakpoints(body)


def check_version(ask: Ask) -> str:
    """The API version a request is written for. Raises `Refused` 400."""
    version = ask.header("anthropic-version")
    if version is None:
        raise Refused(400, "anthropic-version: header is required")
    if version not in VERSIONS:
        raise Refused(400, f'anthropic-version: "{version[:20]}" is not a valid version')
    for beta in (ask.header("anthropic-beta") or "").split(","):
        if beta.strip() and not _BETA.fullmatch(beta.strip()):
            raise Refused(400, f"Unexpected value(s) `{beta.strip()}` for the `anthropic-beta` header.")
    return version


def _check_output(body: Mapping[str, Any]) -> None:
    form = (check(body, "output_config", dict) or {}).get("format")
    if form is None:
        return
    if not isinstance(form, dict) or form.get("type") != "json_schema" or not isinstance(form.get("schema"), dict):
        raise Refused(400, "output_config.format: Input should be a valid json_schema format")
    if form["schema"].get("type") == "object" and form["schema"].get("additionalProperties") is not False:
        raise Refused(
            400,
            "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false",
        )


def _check_aside(message: Mapping[str, Any], before: Any, place: str) -> None:
    """An instruction in mid-conversation: text only, directly after a user's turn."""
    if not isinstance(before, dict) or before.get("role") != "user":
        raise Refused(400, f"{place}.role: a system message must follow a user message")
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    if not isinstance(content, str | list) or any(
        not isinstance(block, dict) or block.get("type") != "text" for block in blocks
    ):
        raise Refused(400, f"{place}.content: Input should be text")


def _check_message(message: Any, asked: set[str], place: str, version: str) -> set[str]:
    """The tool uses this message leaves open. Raises `Refused` when it leaves an earlier one unanswered."""
    if not isinstance(message, dict) or message.get("role") not in ("user", "assistant"):
        raise Refused(400, f"{place}.role: Input should be 'user' or 'assistant'")
    content = message.get("content")
    if not isinstance(content, str | list):
        raise Refused(400, f"{place}.content: Field required")
    used: set[str] = set()
    answered: set[str] = set()
    for at, block in enumerate(content if isinstance(content, list) else ()):
        _check_block(block, f"{place}.content.{at}", message["role"], version)
        if block["type"] == "tool_use":
            used.add(block["id"])
        if block["type"] == "tool_result":
            answered.add(str(block.get("tool_use_id")))
    if answered - asked:
        raise Refused(400, f"{place}: unexpected `tool_use_id` found in `tool_result` blocks")
    if asked - answered:
        raise Refused(400, f"{place}: `tool_use` ids were found without `tool_result` blocks immediately after")
    return used


def _check_block(block: Any, place: str, role: str, version: str) -> None:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind not in _BLOCKS:
        raise Refused(400, f"{place}: Input tag not expected")
    if kind == "text" and not isinstance(block.get("text"), str):
        raise Refused(400, f"{place}.text: Field required")
    if kind == "text" and not block["text"]:
        raise Refused(400, "messages: text content blocks must be non-empty")
    if kind == "tool_use" and not (isinstance(block.get("input"), dict) and isinstance(block.get("id"), str)):
        raise Refused(400, f"{place}.tool_use.input: Input should be a valid dictionary")
    if kind in ("image", "document") and not isinstance(block.get("source"), dict):
        raise Refused(400, f"{place}.{kind}.source: Field required")
    if kind == "thinking" and not isinstance(block.get("thinking"), str):
        raise Refused(400, f"{place}.thinking.thinking: Input should be a valid string")
    if kind == "thinking" and block.get("signature") != sign(block["thinking"]):
        raise Refused(400, f"{place}: Invalid `signature` in `thinking` block")
    if kind == "redacted_thinking" and block.get("data") != SEALED:
        raise Refused(400, f"{place}: Invalid `data` in `redacted_thinking` block")
    if version == "2026-10-21" and (
        (role == "assistant" and kind == "document") or (role == "user" and kind == "text" and "citations" in block)
    ):
        raise Refused(400, f"{place}: Extra inputs are not permitted")


def _check_thinking(body: Mapping[str, Any], messages: Sequence[Mapping[str, Any]]) -> None:
    """With thinking on, a turn that used tools is brought back with what was thought before them."""
    wanted = check(body, "thinking", dict) or {}
    kind = wanted.get("type", "disabled")
    if kind not in ("enabled", "disabled", "adaptive", "between_tools"):
        raise Refused(400, "thinking.type: Input tag not expected")
    if kind != "enabled":
        return
    budget = wanted.get("budget_tokens")
    if type(budget) is not int or budget < 1024:
        raise Refused(400, "thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
    if "max_tokens" in body and body["max_tokens"] <= budget:
        raise Refused(400, "`max_tokens` must be greater than `thinking.budget_tokens`.")
    last = messages[-1]["content"]
    if len(messages) < 2 or isinstance(last, str) or not any(block["type"] == "tool_result" for block in last):
        return
    first = messages[-2]["content"][0]["type"]
    if first not in ("thinking", "redacted_thinking"):
        place = f"messages.{len(messages) - 2}.content.0.type"
        raise Refused(400, f"{place}: Expected `thinking` or `redacted_thinking`, but found `{first}`.")


def blocks(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Everything a cache breakpoint may stand on, in the order in which the prompt is read."""
    yield from (tool for tool in body.get("tools") or () if isinstance(tool, dict))
    system = body.get("system") or ()
    if isinstance(system, str):
        yield {"type": "text", "text": system}
    else:
        yield from system
    for message in body["messages"]:
        content = message["content"]
        if isinstance(content, str):
            yield {"type": "text", "text": content}
        else:
            yield from content


def _check_breakpoints(body: Mapping[str, Any]) -> None:
    marks = [block["cache_control"] for block in blocks(body) if block.get("cache_control") is not None]
    if body.get("cache_control") is not None:
        marks.append(body["cache_control"])
    if len(marks) > 4:
        raise Refused(400, f"A maximum of 4 blocks with cache_control may be provided. Found {len(marks)}.")
    if any(not isinstance(mark, dict) or mark.get("type") != "ephemeral" for mark in marks):
        raise Refused(400, "cache_control: Input tag not expected")
    lives = [str(mark.get("ttl", "5m")) for mark in marks]
    if any(life not in ("5m", "1h") for life in lives):
        raise Refused(400, "cache_control.ephemeral.ttl: Input should be '5m' or '1h'")
    if lives != sorted(lives):
        raise Refused(
            400, "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block. Note that blocks "
            "are processed in the following order: `tools`, `system`, `messages`."
        )  # fmt: skip
    if any(block.get("cache_control") and block.get("type") == "thinking" for block in blocks(body)):
        raise Refused(400, "cache_control cannot be set for thinking blocks")
