"""What Gemini demands of a conversation: roles, parts, calls with their responses, and signatures brought back."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from tests.upstream.faces import Refused

SIGNATURE = base64.b64encode(b"what the fake thought, sealed").decode()
DUMMIES = ("context_engineering_is_the_way_to_go", "skip_thought_signature_validator")
"""What stands for a signature in a history that this model did not write, by Google's documentation."""
_DATA = ("text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode", "codeExecutionResult",
         "toolCall", "toolResponse")  # fmt: skip


def check_contents(body: dict[str, Any], *, thinks: bool) -> None:
    """Raises `Refused` 400 as Google does."""
    contents = body.get("contents")
    if not contents:
        raise Refused(400, "* GenerateContentRequest.contents: contents is not specified\n")
    for at, content in enumerate(contents):
        if content.setdefault("role", "user") not in ("user", "model"):
            raise Refused(400, "Please use a valid role: user, model.")
        parts = content.get("parts")
        if not parts:
            raise Refused(400, f"* GenerateContentRequest.contents[{at}].parts: contents.parts must not be empty.\n")
        for number, part in enumerate(parts):
            _check_part(part, f"contents[{at}].parts[{number}]")
    for part in body.get("systemInstruction", {}).get("parts", ()):
        _check_part(part, "system_instruction.parts[0]")
    _check_turns(contents)
    _check_signatures(contents, thinks=thinks)


def _check_part(part: Mapping[str, Any], place: str) -> None:
    data = [name for name in _DATA if name in part]
    if len(data) > 1:
        raise Refused(400, f"Invalid value at '{place}' (oneof), oneof field 'data' is already set.")
    if not data and "thoughtSignature" not in part:
        raise Refused(400, f"* GenerateContentRequest.{place}.data: required oneof field 'data' must have one "
                      "initialized field\n")  # fmt: skip
    if not isinstance(part.get("text", ""), str):
        raise Refused(400, f"Invalid value at '{place}.text' (TYPE_STRING), {part['text']!r}")
    blob = part.get("inlineData")
    if blob is not None and not (blob.get("mimeType") and _is_base64(blob.get("data"))):
        raise Refused(400, f"Invalid value at '{place}.inline_data.data' (TYPE_BYTES), Base64 decoding failed")
    call = part.get("functionCall")
    if call is not None and not (call.get("name") and isinstance(call.get("args", {}), dict)):
        raise Refused(
            400, f"Invalid value at '{place}.function_call.args' (type.googleapis.com/google.protobuf.Struct)"
        )
    response = part.get("functionResponse")
    if response is not None and not (response.get("name") and isinstance(response.get("response"), dict)):
        problem = "name: Name cannot be empty." if not response.get("name") else "response: must be an object."
        raise Refused(400, f"* GenerateContentRequest.{place}.function_response.{problem}\n")


def _check_turns(contents: Sequence[Mapping[str, Any]]) -> None:
    calls: list[Mapping[str, Any]] = []
    for content in contents:
        responses = _of(content, "functionResponse")
        if len(responses) != len(calls) and (responses or calls):
            raise Refused(400, "Please ensure that the number of function response parts is equal to the number of "
                          "function call parts of the function call turn.")  # fmt: skip
        for response in responses:
            fits = [call for call in calls if call["name"] == response["name"]]
            if "id" in response:
                fits = [call for call in fits if call.get("id", response["id"]) == response["id"]]
            if not fits:
                raise Refused(400, "Please ensure that function response turn comes immediately after a function call "
                              "turn.")  # fmt: skip
        calls = _of(content, "functionCall")
        if calls and content["role"] != "model":
            raise Refused(400, "Please ensure that function call turn comes immediately after a user turn or after a "
                          "function response turn.")  # fmt: skip


def _check_signatures(contents: Sequence[Mapping[str, Any]], *, thinks: bool) -> None:
    """In the current turn, the first call of each step is signed; whatever is signed anywhere is signed by us."""
    asked = [at for at, content in enumerate(contents) if content["role"] == "user" and _is_prompt(content)]
    began = asked[-1] if asked else 0
    for at, content in enumerate(contents):
        parts = content["parts"]
        for part in parts:
            given = part.get("thoughtSignature")
            if given is not None and not _is_ours(given):
                raise Refused(400, "Corrupted thought signature.")
        called = [(number, part) for number, part in enumerate(parts) if "functionCall" in part]
        if thinks and at > began and called and "thoughtSignature" not in called[0][1]:
            number, part = called[0]
            raise Refused(
                400,
                "Function call is missing a thought_signature in functionCall parts. This is required for tools to "
                "work correctly, and missing thought_signature may lead to degraded model performance. Additional "
                f"data, function call `default_api:{part['functionCall']['name']}` , position {number + 1}.",
            )


def _of(content: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return [part[name] for part in content["parts"] if name in part]


def _is_prompt(content: Mapping[str, Any]) -> bool:
    return any("functionResponse" not in part for part in content["parts"])


def _is_ours(signature: object) -> bool:
    if not isinstance(signature, str):
        return False
    plain = signature.replace("-", "+").replace("_", "/")
    known = {SIGNATURE, *(base64.b64encode(text.encode()).decode() for text in DUMMIES)}
    return signature in DUMMIES or plain in known


def _is_base64(data: object) -> bool:
    if not isinstance(data, str):
        return False
    try:
        base64.b64decode(data.replace("-", "+").replace("_", "/") + "=" * (-len(data) % 4), validate=True)
    except binascii.Error:
        return False
    return True
