"""Tools as OpenAI's responses know them, and the plain functions they are to providers of other dialects.

A tool that takes free text becomes a function with one string; a function in a namespace has the namespace's name
before its own. What the model calls is told to the client by its own names again.
"""

import msgspec

from securellm.core.document import Value
from securellm.providers.translation.members import Fields, arguments_in, broken
from securellm.providers.translation.model import Members, Tool
from securellm.providers.translation.writing import text_of

_INPUT = "input"
_BETWEEN = "__"
"""Stands between a namespace and the name of a function in it."""
_SEARCHES = frozenset({"web_search", "web_search_2025_08_26"})
_FREE_TEXT: Members = {
    "type": "object",
    "properties": {_INPUT: {"type": "string", "description": "The whole input of the tool, as plain text."}},
    "required": [_INPUT],
    "additionalProperties": False,
}


PLACES = ("tools.*.", "tools.*.tools.*.", "input.*.tools.*.", "input.*.tools.*.tools.*.")
"""Where tools stand: among the others, in a namespace, and either of it in an item that adds them."""
HOLDS = {
    "type": "tools",
    "name": "tools",
    "description": "tools",
    "parameters": "tools",
    "strict": "tool.strict",
    "format": "tools",
    "format.type": "tools",
    "format.syntax": "tools",
    "format.definition": "tools",
    "tools": "tools",
}
MERE_HINTS = frozenset(
    {
        "defer_loading",
        "external_web_access",
        "filters",
        "output_schema",
        "search_content_types",
        "search_context_size",
        "user_location",
    }
)
KNOWS = MERE_HINTS | {"allowed_callers", "async"}


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What the client calls a tool."""

    name: str
    namespace: str | None = None
    custom: bool = False
    """It takes free text."""


def flat(name: str, namespace: str | None) -> str:
    """The name of a tool in dialects without namespaces."""
    return name if namespace is None else f"{namespace}{_BETWEEN}{name}"


def wrapped(text: str) -> str:
    """Free text as the arguments of a function."""
    return text_of({_INPUT: text})


def unwrapped(arguments: str) -> str:
    """The free text in the arguments of a function. Raises UpstreamFailure(BAD_REPLY) when there is none."""
    found = arguments_in(arguments)
    text = None if found is None or len(found) != 1 else found.get(_INPUT)
    if not isinstance(text, str):
        raise broken("the input of a tool that takes free text is none")
    return text


def read_tools(fields: Fields, rest: dict[str, Value], *, place: str = "tools.*.") -> list[Tool]:
    """The tools of a request, at `place`. Raises Refusal for one that only OpenAI can run.

    A search of what is stored, which reads nothing from the network, is left in `rest`: a model may do without it.
    """
    tools: list[Tool] = []
    for tool in fields.objects("tools"):
        kind = tool.needed("type")
        if kind == "namespace":
            namespace = tool.needed("name")
            tool.text("description")
            tools += (_tool(inner, inner.needed("type"), namespace) for inner in tool.objects("tools"))
        elif kind in _SEARCHES and tool.flag("external_web_access") is False:
            rest[f"{place}external_web_access"] = False
        else:
            tools.append(_tool(tool, kind, None))
        tool.leave()
    return tools


def _tool(tool: Fields, kind: str, namespace: str | None) -> Tool:
    name = flat(tool.needed("name") if kind in {"function", "custom"} else "", namespace)
    tool.skip("async", False)
    tool.skip("defer_loading", False)
    tool.skip("allowed_callers", ["direct"], [])
    match kind:
        case "function":
            found = Tool(
                name=name,
                description=tool.text("description"),
                parameters=tool.members("parameters"),
                strict=tool.flag("strict"),
            )
        case "custom":
            found = Tool(name=name, description=_described(tool), parameters=_FREE_TEXT)
        case _:
            raise tool.unsaid("type", f"a tool of type {kind[:64]}")
    tool.leave()
    return found


def _described(tool: Fields) -> str | None:
    """The description of a tool that takes free text, the grammar of that text included."""
    description = tool.text("description")
    form = tool.object("format")
    if form is None:
        return description
    kind = form.needed("type")
    if kind == "text":
        form.leave()
        return description
    if kind != "grammar":
        raise form.unsaid("type", f"an input format of type {kind[:64]}")
    grammar = f"The input follows this {form.needed('syntax')} grammar:\n{form.needed('definition')}"
    form.leave()
    return grammar if description is None else f"{description}\n\n{grammar}"


def known_tools(asked: Members) -> dict[str, Known]:
    """What the client calls its tools, by their names for other dialects; of a body that `read_tools` has read."""
    known: dict[str, Known] = {}
    given = asked.get("input")
    added = [item.get("tools") for item in given if isinstance(item, dict)] if isinstance(given, list) else []
    for tools in (asked.get("tools"), *added):
        for tool in tools if isinstance(tools, list) else ():
            if isinstance(tool, dict):
                _know(tool, None, known)
    return known


def _know(tool: Members, namespace: str | None, known: dict[str, Known]) -> None:
    name, inner = tool.get("name"), tool.get("tools")
    if not isinstance(name, str):
        return
    if tool.get("type") == "namespace":
        for below in inner if isinstance(inner, list) else ():
            if isinstance(below, dict):
                _know(below, name, known)
        return
    known[flat(name, namespace)] = Known(name=name, namespace=namespace, custom=tool.get("type") == "custom")
