"""Requests for a chat, as Ollama's clients send them."""

from itertools import chain

from securellm.core.document import Value
from securellm.core.errors import Code, Refusal
from securellm.providers.translation.members import Fields
from securellm.providers.translation.model import (
    Ask,
    Image,
    Members,
    Part,
    Reasoning,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    Turn,
)
from securellm.providers.translation.ollama_chat.settings import pictures, with_settings
from securellm.providers.translation.writing import text_of


def read_ask(members: Members) -> Ask:
    """A client's request."""
    rest: dict[str, Value] = {}
    fields = Fields(members, rest)
    model, turns = fields.needed("model"), _turns(fields)
    if not turns:
        raise fields.unsaid("messages", "the loading of a model, which a chat without messages asks for,")
    tools = tuple(_tool(tool) for tool in fields.objects("tools"))
    return with_settings(Ask(model=model, turns=turns, tools=tools), fields, rest)


class _Calls:
    """The calls of a conversation, to which its results belong by id, or else by name and order, or by order alone."""

    def __init__(self) -> None:
        self._count = 0
        self._open: list[tuple[str, str]] = []
        """Ids and names of those without a result."""

    def forget(self) -> None:
        """What follows answers none of the calls so far."""
        self._open.clear()

    def add(self, given: str | None, name: str) -> str:
        """The call's id: its own, or one made from its place."""
        call = given or f"call_{self._count}"
        self._count += 1
        self._open.append((call, name))
        return call

    def answer(self, given: str | None, name: str | None) -> tuple[str, str] | None:
        """The id and name of the call that a result answers. None: there is none."""
        by_id = (index for index, (call, _) in enumerate(self._open) if given and call == given)
        by_name = (index for index, (_, called) in enumerate(self._open) if name and called == name)
        index = next(chain(by_id, by_name), None)
        if index is None and self._open and not given and not name:
            index = 0
        return None if index is None else self._open.pop(index)


def _turns(fields: Fields) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    calls = _Calls()
    before = ""
    for message in fields.objects("messages"):
        role = message.needed("role")
        match role:
            case "system" | "user":
                turns.append(Turn(role=role, parts=_content(message)))
            case "assistant":
                if before != role:
                    calls.forget()
                said = _spoken(message, calls)
                last = turns[-1].parts if before == role else ()
                if last and isinstance(last[-1], ToolCall) and said and isinstance(said[0], ToolCall):
                    # Calls made together, told in several pieces of a stream.
                    turns[-1] = Turn(role="assistant", parts=last + said)
                else:
                    turns.append(Turn(role="assistant", parts=said))
            case "tool":
                result = _result(message, calls)
                # The results of calls that were made together are one turn.
                last = turns.pop().parts if before == role else ()
                turns.append(Turn(role="user", parts=(*last, result)))
            case _:
                raise message.wrong("role", "system, user, assistant or tool")
        message.leave()
        before = role
    return tuple(turns)


def _content(message: Fields) -> tuple[Text | Image, ...]:
    """What a message says: its images come first, as Ollama itself puts them."""
    images, text = pictures(message), message.text("content")
    return (*images, Text(text=text)) if text else images


def _spoken(message: Fields, calls: _Calls) -> tuple[Part, ...]:
    thought = message.text("thinking")
    return (
        *((Reasoning(text=thought),) if thought else ()),
        *_content(message),
        *(_call(call, calls) for call in message.objects("tool_calls")),
    )


def _call(call: Fields, calls: _Calls) -> ToolCall:
    call.skip("type", "function")
    said = call.object("function")
    if said is None:
        raise call.wrong("function", "an object")
    name, arguments = said.needed("name"), said.members("arguments")
    said.whole("index")
    said.leave()
    given = calls.add(call.text("id"), name)
    call.leave()
    # An object that is not there has no members.
    return ToolCall(id=given, name=name, arguments=text_of({} if arguments is None else arguments))


def _result(message: Fields, calls: _Calls) -> ToolResult:
    found = calls.answer(message.text("tool_call_id"), message.text("tool_name"))
    if found is None:
        place = message.path.rstrip(".")
        raise Refusal(Code.INVALID_REQUEST, "a tool's result comes without its call", param=place)
    return ToolResult(call_id=found[0], name=found[1], parts=_content(message))


def _tool(tool: Fields) -> Tool:
    kind = tool.text("type") or "function"
    function = tool.object("function")
    if kind != "function":
        raise tool.unsaid("type", f"a tool of type {kind[:64]}")
    if function is None:
        raise tool.wrong("function", "an object")
    found = Tool(
        name=function.needed("name"),
        description=function.text("description"),
        parameters=function.members("parameters"),
        strict=function.flag("strict"),
    )
    function.leave()
    tool.leave()
    return found
