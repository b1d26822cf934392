"""No member of a request for generated content is overlooked: each is said, dropped by name, or refused by name."""

import json
from typing import Any

import pytest

from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.providers.translation import DIRECTIONS, Direction, Translated, table, translate_ask
from securellm.providers.translation.generate_content import GENERATE_CONTENT
from securellm.providers.translation.model import File, Format, Text, Thinking, Tool, ToolChoice, Turn

TO_EACH = [direction for direction in DIRECTIONS.values() if direction.source is GENERATE_CONTENT]
of_each = pytest.mark.parametrize("direction", TO_EACH, ids=lambda direction: str(direction.target.surface))

DOCUMENTED: dict[str, str] = {
    "": "model contents tools toolConfig safetySettings systemInstruction generationConfig cachedContent serviceTier"
    " store labels continuationToken",
    "systemInstruction.": "role parts",
    "systemInstruction.parts.*.": "text",
    "contents.*.": "role parts",
    "contents.*.parts.*.": "mediaResolution codeExecutionResult executableCode fileData functionCall functionResponse"
    " inlineData text thought thoughtSignature videoMetadata toolCall toolResponse partMetadata audioTranscription"
    " mediaProcessing speechMetadata documentMetadata spreadsheetMetadata audioMetadata",
    "contents.*.parts.*.inlineData.": "mimeType data displayName",
    "contents.*.parts.*.fileData.": "mimeType fileUri displayName",
    "contents.*.parts.*.functionCall.": "id args name partialArgs willContinue",
    "contents.*.parts.*.functionResponse.": "willContinue scheduling parts id name response",
    "contents.*.parts.*.functionResponse.parts.*.": "inlineData fileData mediaProcessing mediaResolution videoMetadata"
    " documentMetadata spreadsheetMetadata audioMetadata",
    "contents.*.parts.*.functionResponse.parts.*.inlineData.": "mimeType data displayName",
    "contents.*.parts.*.functionResponse.parts.*.fileData.": "mimeType fileUri displayName",
    "tools.*.": "computerUse fileSearch googleSearch googleMaps codeExecution functionDeclarations urlContext"
    " googleSearchRetrieval mcpServers",
    "tools.*.functionDeclarations.*.": "description name parameters parametersJsonSchema response responseJsonSchema"
    " behavior",
    "toolConfig.": "retrievalConfig functionCallingConfig includeServerSideToolInvocations",
    "toolConfig.functionCallingConfig.": "allowedFunctionNames mode streamFunctionCallArguments",
    "safetySettings.*.": "category method threshold",
    "generationConfig.": "modelSelectionConfig responseJsonSchema _responseJsonSchema audioTimestamp candidateCount"
    " enableAffectiveDialog frequencyPenalty logprobs maxOutputTokens mediaResolution presencePenalty responseLogprobs"
    " responseMimeType responseModalities responseSchema routingConfig seed speechConfig stopSequences temperature"
    " thinkingConfig topK topP enableEnhancedCivicAnswers imageConfig responseFormat translationConfig"
    " audioTranscriptionConfig",
    "generationConfig.thinkingConfig.": "includeThoughts thinkingBudget thinkingLevel",
}
"""What Google documents of a GenerateContentRequest and its SDK 3.4.0 can send, by where it stands."""
SENDABLE = {f"{place}{name}" for place, names in DOCUMENTED.items() for name in names.split()}
BY_VALUE = {
    "generationConfig.responseSchema.enforced",
    "safetySettings.off",
    "toolConfig.functionCallingConfig.validated",
}
"""What becomes of these depends on their value: so they are called where it is a hint."""

FULL: dict[str, Any] = {
    "systemInstruction": {"parts": [{"text": "be kind"}]},
    "contents": [
        {"role": "user", "parts": [{"text": "go"}]},
        {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {"a": 1}}, "thoughtSignature": "c2ln"}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": "done"}, "parts": [
            {"inlineData": {"mimeType": "image/png", "data": "aGk="}}
        ]}}]},
        {"role": "user", "parts": [{"text": "and this"}]},
    ],
    "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT"}}]}],
    "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
    "generationConfig": {"maxOutputTokens": 100},
}  # fmt: skip
LEAN: dict[str, Any] = {**FULL, "contents": [FULL["contents"][0], FULL["contents"][3]]}
"""Without what not every dialect can hold."""

ABOUT_MEDIA = (
    "audioMetadata",
    "documentMetadata",
    "mediaProcessing",
    "mediaResolution",
    "spreadsheetMetadata",
    "videoMetadata",
)
ABOUT_PARTS = (
    *ABOUT_MEDIA,
    "audioTranscription",
    "codeExecutionResult",
    "executableCode",
    "partMetadata",
    "speechMetadata",
    "toolCall",
    "toolResponse",
)
GOOGLES_TOOLS = (
    "codeExecution",
    "computerUse",
    "fileSearch",
    "googleMaps",
    "googleSearch",
    "googleSearchRetrieval",
    "urlContext",
)
SAMPLES: dict[str, Any] = {
    "cachedContent": "cachedContents/1",
    "continuationToken": "dG9rZW4=",
    "labels": {"team": "a"},
    "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_LOW_AND_ABOVE"}],
    "safetySettings.off": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
    "serviceTier": "flex",
    "store": True,
    "toolConfig.functionCallingConfig.validated": "VALIDATED",
    "toolConfig.functionCallingConfig.streamFunctionCallArguments": True,
    "toolConfig.includeServerSideToolInvocations": True,
    "toolConfig.retrievalConfig": {"languageCode": "pt"},
    "tools.*.functionDeclarations.*.behavior": "NON_BLOCKING",
    "tools.*.functionDeclarations.*.response": {"type": "STRING"},
    "tools.*.functionDeclarations.*.responseJsonSchema": {"type": "string"},
    "generationConfig.audioTimestamp": True,
    "generationConfig.audioTranscriptionConfig": {"languageCodes": ["pt"]},
    "generationConfig.enableAffectiveDialog": True,
    "generationConfig.enableEnhancedCivicAnswers": True,
    "generationConfig.imageConfig": {"aspectRatio": "1:1"},
    "generationConfig.logprobs": 3,
    "generationConfig.mediaResolution": "MEDIA_RESOLUTION_LOW",
    "generationConfig.modelSelectionConfig": {"featureSelectionPreference": "BALANCED"},
    "generationConfig.responseLogprobs": True,
    "generationConfig.responseModalities": ["TEXT", "IMAGE"],
    "generationConfig.responseSchema.enforced": {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}},
    "generationConfig.routingConfig": {"autoMode": {}},
    "generationConfig.speechConfig": {"languageCode": "pt-BR"},
    "generationConfig.topK": 64,
    "generationConfig.translationConfig": {"targetLanguageCode": "pt"},
    **{f"contents.*.parts.*.{name}": {"x": 1} for name in ABOUT_PARTS},
    "contents.*.parts.*.functionCall.partialArgs": [{"jsonPath": "$.a", "stringValue": "x"}],
    "contents.*.parts.*.functionCall.willContinue": True,
    "contents.*.parts.*.functionResponse.scheduling": "SILENT",
    "contents.*.parts.*.functionResponse.willContinue": True,
    **{f"contents.*.parts.*.functionResponse.parts.*.{name}": {"x": 1} for name in ABOUT_MEDIA},
    **{f"tools.*.{name}": {} for name in GOOGLES_TOOLS},
    "tools.*.mcpServers": [{"name": "m"}],
}
HINTED = {
    "generationConfig.responseSchema.enforced",
    "contents.*.parts.*.functionResponse.parts.*.mediaResolution",
    "contents.*.parts.*.mediaResolution",
    "contents.*.parts.*.partMetadata",
    "generationConfig.enableEnhancedCivicAnswers",
    "generationConfig.mediaResolution",
    "labels",
    "safetySettings.off",
    "serviceTier",
    "store",
    "toolConfig.functionCallingConfig.validated",
    "tools.*.functionDeclarations.*.response",
    "tools.*.functionDeclarations.*.responseJsonSchema",
}
"""What only hints; all else that no dialect shares is refused, but for `topK`."""


def asked(path: str, value: Any) -> dict[str, Any]:
    """A request with `value` at `path`, in the last object there that can have it."""
    body: dict[str, Any] = json.loads(json.dumps(FULL if "function" in path and "contents" in path else LEAN))
    path = {
        "generationConfig.responseSchema.enforced": "generationConfig.responseSchema",
        "safetySettings.off": "safetySettings",
        "toolConfig.functionCallingConfig.validated": "toolConfig.functionCallingConfig.mode",
    }.get(path, path)
    *above, name = path.split(".")
    places: list[Any] = [body]
    for step in above:
        places = [below for place in places for below in _steps(place, step)]
    places[-1][name] = value
    if name == "responseSchema":
        places[-1]["responseMimeType"] = "application/json"
    return body


def _steps(place: Any, step: str) -> list[Any]:
    if step == "*":
        return list(place) if isinstance(place, list) else []
    return [place[step]] if isinstance(place, dict) and step in place else []


def translated(direction: Direction, body: dict[str, Any]) -> Translated:
    return translate_ask(direction, body, model="m", stream=False, default_max_output=100)


def refusal_of(body: dict[str, Any]) -> Refusal:
    with pytest.raises(Refusal) as refused:
        translated(TO_EACH[0], {**LEAN, **body})
    return refused.value


@pytest.mark.requirement("GW-5", "GW-7")
def test_every_documented_member_is_known_and_no_other() -> None:
    assert {*GENERATE_CONTENT.holds, *GENERATE_CONTENT.knows} - BY_VALUE == SENDABLE - {
        "safetySettings.*.category",
        "safetySettings.*.method",
        "safetySettings.*.threshold",
    }


def test_every_member_that_no_dialect_shares_has_a_sample() -> None:
    assert SAMPLES.keys() == GENERATE_CONTENT.knows


@pytest.mark.requirement("GW-7")
@of_each
def test_the_table_says_what_becomes_of_every_member(direction: Direction) -> None:
    rows = dict(table(direction))
    assert rows.keys() == {*GENERATE_CONTENT.holds, *GENERATE_CONTENT.knows}
    refused = {path for path in GENERATE_CONTENT.knows if rows[path].startswith("refused")}
    assert refused == GENERATE_CONTENT.knows - HINTED - {"generationConfig.topK"}


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("direction", "path"),
    [
        pytest.param(direction, path, id=f"{direction.target.surface}-{path}")
        for direction in TO_EACH
        for path in sorted(SAMPLES)
        # Chat completions have no media in tools' results at all.
        if direction.target.surface is not Surface.CHAT or "functionResponse.parts" not in path
    ],
)
def test_what_the_request_cannot_hold_is_dropped_or_refused_by_name(direction: Direction, path: str) -> None:
    fate = dict(table(direction))[path]
    body = asked(path, SAMPLES[path])
    if fate.startswith("refused"):
        with pytest.raises(Refusal) as refused:
            translated(direction, body)
        assert (refused.value.code, refused.value.param) == (Code.NOT_REPRESENTABLE, path)
    elif fate == "said as top_k":
        assert json.loads(translated(direction, body).body)["top_k"] == 64
    elif fate.startswith("overlooked"):
        assert translated(direction, body).dropped == ()
    else:
        assert path in translated(direction, body).dropped


@pytest.mark.requirement("GW-7")
@of_each
@pytest.mark.parametrize("place", ["", "contents.0.", "contents.0.parts.0.", "generationConfig.", "tools.0."])
def test_a_member_that_nobody_knows_is_refused_by_name(direction: Direction, place: str) -> None:
    body: dict[str, Any] = json.loads(json.dumps(LEAN))
    target: Any = body
    for step in place.split(".")[:-1]:
        target = target[int(step) if step.isdigit() else step]
    target["novelty"] = 1
    with pytest.raises(Refusal) as refused:
        translated(direction, body)
    general = ".".join("*" if step.isdigit() else step for step in place.split("."))
    assert (refused.value.code, refused.value.param) == (Code.NOT_REPRESENTABLE, f"{general}novelty")


@pytest.mark.requirement("GW-7")
@of_each
def test_a_null_and_a_default_say_nothing(direction: Direction) -> None:
    nothing = {path: None for path in SENDABLE if "." not in path and path not in LEAN}
    defaults = {
        "labels": {},
        "serviceTier": "standard",
        "store": False,
        "generationConfig": {
            "maxOutputTokens": 100,
            "responseLogprobs": False,
            "responseModalities": ["TEXT"],
            "mediaResolution": "MEDIA_RESOLUTION_UNSPECIFIED",
        },
    }
    assert translated(direction, {**LEAN, **nothing}) == translated(direction, LEAN)
    assert translated(direction, {**LEAN, **defaults}) == translated(direction, LEAN)


SNAKE: dict[str, Any] = {
    "system_instruction": {"parts": [{"text": "be kind"}]},
    "contents": [
        {"role": "user", "parts": [{"text": "go"}, {"inline_data": {"mime_type": "image/png", "data": "aGk="}}]},
        {"role": "model", "parts": [
            {"function_call": {"name": "f_g", "args": {"a_b": {"c_d": 1}}}, "thought_signature": "c2ln"}
        ]},
        {"role": "user", "parts": [{"function_response": {"name": "f_g", "response": {"x_y": 1}}}]},
    ],
    "tools": [{"function_declarations": [{"name": "f_g", "parameters": {
        "type": "OBJECT", "properties": {"a_b": {"any_of": [{"type": "STRING"}], "max_length": "3"}}
    }}]}],
    "tool_config": {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["f_g"]}},
    "generation_config": {"max_output_tokens": 9, "stop_sequences": ["x_y"], "thinking_config": {
        "include_thoughts": True, "thinking_level": "LOW"
    }},
}  # fmt: skip


@pytest.mark.requirement("GW-5", "GW-7")
def test_the_older_spelling_says_the_same_and_leaves_the_callers_own_names() -> None:
    ask = GENERATE_CONTENT.read_ask(SNAKE)
    assert ask.rest == {}
    assert ask.tools[0].parameters == {
        "type": "object",
        "properties": {"a_b": {"anyOf": [{"type": "string"}], "maxLength": 3}},
    }
    assert ask.tool_choice == ToolChoice(mode="named", names=("f_g",))
    assert (ask.max_output, ask.stop, ask.thinking) == (9, ("x_y",), Thinking(effort="low", show=True))
    call, result = ask.turns[2].parts[0], ask.turns[3].parts[0]
    assert '{"a_b":{"c_d":1}}' in str(call)
    assert '{"x_y":1}' in str(result)


@pytest.mark.requirement("GW-7")
def test_a_member_in_both_spellings_is_refused() -> None:
    refusal = refusal_of({"system_instruction": {"parts": [{"text": "be cruel"}]}})
    assert (refusal.code, refusal.param) == (Code.NOT_REPRESENTABLE, "system_instruction")
    refusal = refusal_of({"generationConfig": {"max_output_tokens": 1, "maxOutput_tokens": 2}})
    assert (refusal.code, refusal.param) == (Code.NOT_REPRESENTABLE, "generationConfig.maxOutput_tokens")


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"contents": "hello"}, "contents"),
        ({"contents": []}, "contents"),
        ({"contents": [{"role": "robot", "parts": []}]}, "contents.0.role"),
        ({"contents": [{"parts": [{"text": 3}]}]}, "contents.0.parts.0.text"),
        ({"contents": [{"parts": [{"functionCall": {"args": {}}}]}]}, "contents.0.parts.0.functionCall.name"),
        (
            {"contents": [{"parts": [{"functionCall": {"name": "f", "args": "{}"}}]}]},
            "contents.0.parts.0.functionCall.args",
        ),
        ({"contents": [{"parts": [{"functionResponse": {"name": "f"}}]}]}, "contents.0.parts.0.functionResponse"),
        ({"generationConfig": {"temperature": True}}, "generationConfig.temperature"),
        ({"generationConfig": {"candidateCount": 0}}, "generationConfig.candidateCount"),
        (
            {"generationConfig": {"thinkingConfig": {"thinkingLevel": "MUCH"}}},
            "generationConfig.thinkingConfig.thinkingLevel",
        ),
        ({"toolConfig": {"functionCallingConfig": {"mode": "SOME"}}}, "toolConfig.functionCallingConfig.mode"),
    ],
)  # fmt: skip
def test_what_the_dialect_itself_does_not_allow_is_refused_with_its_place(body: dict[str, Any], param: str) -> None:
    refusal = refusal_of(body)
    assert (refusal.code, refusal.param) == (Code.INVALID_REQUEST, param)


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    "uri", ["https://google.example/v1beta/files/abc", "https://google.example/v1/files/a", "files/abc", "gs://b/a.pdf"]
)
def test_a_file_that_google_keeps_is_refused(uri: str) -> None:
    refusal = refusal_of({"contents": [{"parts": [{"fileData": {"fileUri": uri}}]}]})
    assert (refusal.code, refusal.param) == (Code.NOT_REPRESENTABLE, "contents.0.parts.0.fileData.fileUri")


def test_a_file_of_anyones_own_is_not() -> None:
    body: dict[str, Any] = {"contents": [{"parts": [{"fileData": {"fileUri": "https://a.example/files/v1/b.pdf"}}]}]}
    assert GENERATE_CONTENT.read_ask(body).turns[0].parts == (File(url="https://a.example/files/v1/b.pdf"),)


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("config", "form"),
    [
        ({"responseMimeType": "text/plain"}, Format(kind="text")),
        ({"responseMimeType": "application/json"}, Format(kind="json")),
        (
            {"responseMimeType": "application/json", "responseSchema": {"type": "STRING", "nullable": True}},
            Format(kind="schema", schema={"type": ["string", "null"]}, strict=True),
        ),
        (
            {"responseMimeType": "application/json", "responseJsonSchema": {"type": "string"}},
            Format(kind="schema", schema={"type": "string"}, strict=True),
        ),
        (
            {
                "responseMimeType": "application/json",
                "responseSchema": {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}, "required": ["a"]},
            },
            Format(
                kind="schema",
                schema={
                    "type": "object",
                    "properties": {"a": {"type": "string"}},
                    "required": ["a"],
                    "additionalProperties": False,
                },
                strict=True,
            ),
        ),
        (
            {
                "responseMimeType": "application/json",
                "responseJsonSchema": {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
            },
            Format(
                kind="schema", schema={"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
            ),
        ),
        (
            {"responseFormat": {"text": {"mimeType": "application/json", "schema": {"type": "string"}}}},
            Format(kind="schema", schema={"type": "string"}, strict=True),
        ),
    ],
)
def test_every_way_to_ask_for_a_format_is_read(config: dict[str, Any], form: Format) -> None:
    assert GENERATE_CONTENT.read_ask({**LEAN, "generationConfig": config}).format == form


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("config", "param"),
    [
        (
            {"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING"}},
            "generationConfig.responseMimeType",
        ),
        ({"responseFormat": [{"image": {}}]}, "generationConfig.responseFormat"),
    ],
)
def test_a_format_that_no_other_dialect_has_is_refused(config: dict[str, Any], param: str) -> None:
    refusal = refusal_of({"generationConfig": config})
    assert (refusal.code, refusal.param) == (Code.NOT_REPRESENTABLE, param)


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize(
    ("calling", "choice", "left"),
    [
        ({}, ToolChoice(mode="auto"), ["f", "g"]),
        ({"mode": "MODE_UNSPECIFIED"}, ToolChoice(mode="auto"), ["f", "g"]),
        ({"mode": "NONE"}, ToolChoice(mode="none"), ["f", "g"]),
        ({"mode": "ANY"}, ToolChoice(mode="required"), ["f", "g"]),
        ({"mode": "ANY", "allowedFunctionNames": ["g"]}, ToolChoice(mode="named", names=("g",)), ["f", "g"]),
        ({"mode": "any", "allowedFunctionNames": ["f", "g"]}, ToolChoice(mode="required"), ["f", "g"]),
        ({"mode": "VALIDATED", "allowedFunctionNames": ["g"]}, ToolChoice(mode="auto"), ["g"]),
    ],
)
def test_every_mode_of_calling_is_read(calling: dict[str, Any], choice: ToolChoice, left: list[str]) -> None:
    body = {
        **LEAN,
        "tools": [{"functionDeclarations": [{"name": "f"}]}, {"functionDeclarations": [{"name": "g"}]}],
        "toolConfig": {"functionCallingConfig": calling},
    }
    ask = GENERATE_CONTENT.read_ask(body)
    assert ask.tool_choice == choice
    assert [tool.name for tool in ask.tools] == left


def test_a_schema_of_openapi_becomes_a_json_schema() -> None:
    given = {
        "type": "OBJECT",
        "propertyOrdering": ["kind", "many"],
        "required": ["kind"],
        "properties": {
            "kind": {"type": "STRING", "format": "enum", "enum": ["a", "b"], "nullable": True, "example": "a"},
            "many": {"type": "ARRAY", "items": {"type": "INTEGER", "format": "int64"}, "minItems": "1", "maxItems": 3},
            "either": {"anyOf": [{"type": "NUMBER"}, {"type": "BOOLEAN"}], "nullable": True, "title": "E"},
            "type": {"type": "STRING", "pattern": "^x"},
        },
    }
    body = {**LEAN, "tools": [{"functionDeclarations": [{"name": "f", "description": "F", "parameters": given}]}]}
    assert GENERATE_CONTENT.read_ask(body).tools == (
        Tool(
            name="f",
            description="F",
            parameters={
                "type": "object",
                "required": ["kind"],
                "properties": {
                    "kind": {"type": ["string", "null"], "enum": ["a", "b", None], "examples": ["a"]},
                    "many": {
                        "type": "array",
                        "items": {"type": "integer", "format": "int64"},
                        "minItems": 1,
                        "maxItems": 3,
                    },
                    "either": {"anyOf": [{"type": "number"}, {"type": "boolean"}, {"type": "null"}], "title": "E"},
                    "type": {"type": "string", "pattern": "^x"},
                },
            },
        ),
    )


def test_what_was_streamed_in_pieces_is_one_turn_again() -> None:
    pieces = [[{"text": "Hel"}], [{"text": "lo"}], [{"text": ""}]]
    body: dict[str, Any] = {
        "contents": [
            {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]},
            *({"role": "model", "parts": parts} for parts in pieces),
            {"role": "user", "parts": [{"text": "c"}]},
        ]
    }
    assert GENERATE_CONTENT.read_ask(body).turns == (
        Turn(role="user", parts=(Text(text="a"), Text(text="b"))),
        Turn(role="assistant", parts=(Text(text="Hello"),)),
        Turn(role="user", parts=(Text(text="c"),)),
    )
