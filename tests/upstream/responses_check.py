"""What OpenAI demands of a request for a response: known parameters, items that fit, ids it remembers."""

from collections.abc import Mapping
from typing import Any

from tests.upstream.answer import Ask, check
from tests.upstream.faces import Refused
from tests.upstream.memory import Memory
from tests.upstream.responses_items import SEALED

_ROLES = {"system", "developer", "user", "assistant"}
_FOREIGN = ("messages", "max_tokens", "max_completion_tokens", "n", "response_format", "stop", "functions")


def check_request(ask: Ask) -> None:
    """Raises `Refused` 400 or 404."""
    body = ask.body
    given = body.get("input")
    if given is None and not any(body.get(name) for name in ("previous_response_id", "prompt", "conversation")):
        raise Refused(400, "Missing required parameter: 'input'.", param="input", code="missing_required_parameter")
    for name in _FOREIGN:
        if name in body:
            raise Refused(400, f"Unsupported parameter: '{name}'.", param=name, code="unsupported_parameter")
    _check_input(given)
    stored = check(body, "store", bool)
    if body.get("background") and stored is False:
        raise Refused(400, "Background mode requires store to be true.", param="store", code="invalid_value")
    if body.get("previous_response_id") and body.get("conversation"):
        raise Refused(
            400,
            "Mutually exclusive parameters. Ensure you are only providing one of: 'previous_response_id' or "
            "'conversation'.",
            code="mutually_exclusive_parameters",
        )
    if isinstance(given, list):
        _check_reasoning(given, body, ask.memory)


def history(ask: Ask) -> list[Any]:
    """The items that come before the request's own. Raises `Refused` on an id that nobody knows."""
    earlier = check(ask.body, "previous_response_id", str)
    if earlier is not None:
        stored = ask.memory.responses.get(earlier)
        if stored is None:
            message = f"Previous response with id '{earlier}' not found."
            raise Refused(400, message, param="previous_response_id", code="previous_response_not_found")
        return [*stored.history, *stored.value["output"]]
    name = conversation_of(ask.body)
    if name is not None:
        if name not in ask.memory.conversations:
            raise Refused(404, f"Conversation with id '{name}' not found.")
        return list(ask.memory.items[name])
    return []


def conversation_of(body: Mapping[str, Any]) -> str | None:
    """The id of the conversation a request belongs to."""
    given = check(body, "conversation", (str, dict))
    return given.get("id") if isinstance(given, dict) else given


def _check_input(given: object) -> None:
    if given is None or isinstance(given, str):
        return
    if not isinstance(given, list):
        raise Refused(400, "Invalid type for 'input'.", param="input", code="invalid_type")
    for at, item in enumerate(given):
        if not isinstance(item, dict):
            raise Refused(400, f"Invalid type for 'input[{at}]'.", param=f"input[{at}]", code="invalid_type")
        kind = item.get("type", "message")
        if kind == "message" and (item.get("role") not in _ROLES or "content" not in item):
            raise Refused(400, f"Invalid value for 'input[{at}]'.", param=f"input[{at}]", code="invalid_value")
        for wanted, name in (
            ("function_call_output", "call_id"),
            ("custom_tool_call_output", "call_id"),
            ("function_call", "arguments"),
            ("custom_tool_call", "input"),
            ("item_reference", "id"),
        ):
            if kind == wanted and not isinstance(item.get(name), str):
                place = f"input[{at}].{name}"
                raise Refused(400, f"Missing required parameter: '{place}'.", param=place)


def _check_reasoning(given: list[dict[str, Any]], body: Mapping[str, Any], memory: Memory) -> None:
    """What was thought comes back as it was, before the call it led to."""
    seen: set[str] = set()
    for item in given:
        name = str(item.get("id", ""))
        if item.get("type") == "reasoning":
            seen.add(name)
            sealed = item.get("encrypted_content")
            if sealed is not None and sealed != SEALED:
                message = f"The encrypted content {str(sealed)[:4]}... could not be verified."
                raise Refused(400, message, code="invalid_encrypted_content")
            if sealed is None and name not in memory.reasoned:
                raise Refused(
                    404,
                    f"Item with id '{name}' not found. Items are not persisted when `store` is set to false. Try again "
                    "with `store` set to true, or remove this item from your input.",
                    param="input",
                )
        if item.get("type") == "item_reference" and name not in memory.known():
            raise Refused(404, f"Item with id '{name}' not found.", param="input")
        before = "rs_" + name.removeprefix("fc_").partition("x")[0]
        if item.get("type") == "function_call" and before in memory.reasoned - seen:
            if body.get("previous_response_id") or body.get("conversation"):
                continue
            raise Refused(
                400,
                f"Item '{name}' of type 'function_call' was provided without its required 'reasoning' item: "
                f"'{before}'.",
                param="input",
            )
