"""Drive an endpoint with whatever openai and anthropic SDKs this interpreter finds; print what they saw as JSON.

A program, not a module of tests: it runs once with the newest majors and once with the ones before, and imports
nothing but them.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import openai

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
CHAT_TOOL: Any = {"type": "function", "function": {"name": "forecast", "description": "Weather.", "parameters": CITY}}
RESPONSES_TOOL: Any = {"type": "function", "name": "forecast", "parameters": CITY, "strict": True}
MESSAGES_TOOL: Any = {"name": "forecast", "description": "Weather.", "input_schema": CITY}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABh6FO1AAAAABJRU5ErkJggg=="
PROMPT = "Diga olá, por favor ✓"
SAID: Any = [{"role": "user", "content": PROMPT}]
SCENARIOS: dict[str, Callable[["Clients"], dict[str, Any]]] = {}


class Clients:
    """The SDKs' clients and the names of the models to ask for."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.openai = openai.OpenAI(
            base_url=options.openai_base, api_key=options.openai_key, max_retries=0, timeout=options.timeout
        )
        self.anthropic = anthropic.Anthropic(
            base_url=options.anthropic_base, api_key=options.anthropic_key, max_retries=0, timeout=options.timeout
        )
        self.chat: str = options.chat_model
        self.messages: str = options.messages_model
        self.embed: str = options.embed_model
        self.broken_chat: str = options.broken_chat_model
        self.broken_messages: str = options.broken_messages_model


def scenario(tell: Callable[[Clients], dict[str, Any]]) -> Callable[[Clients], dict[str, Any]]:
    SCENARIOS[tell.__name__] = tell
    return tell


@contextmanager
def failing(result: dict[str, Any]) -> Iterator[None]:
    """Write down how the SDK names the error that the block must raise."""
    try:
        yield
    except (openai.APIError, anthropic.APIError) as error:
        result["classes"] = [kind.__name__ for kind in type(error).__mro__]
        result["status"] = getattr(error, "status_code", None)
        result["message"] = str(error)
        result["code"] = getattr(error, "code", None)
        response = getattr(error, "response", None)
        result["headers"] = dict(response.headers) if response is not None else {}
    else:
        result["classes"] = []


@scenario
def chat(clients: Clients) -> dict[str, Any]:
    raw = clients.openai.chat.completions.with_raw_response.create(model=clients.chat, messages=SAID)
    answer = raw.parse()
    assert answer.usage is not None
    return {
        "text": answer.choices[0].message.content,
        "finish": answer.choices[0].finish_reason,
        "model": answer.model,
        "usage": answer.usage.model_dump(exclude_none=True),
        "request_id": raw.headers.get("x-request-id"),
    }


@scenario
def chat_choices(clients: Clients) -> dict[str, Any]:
    answer = clients.openai.chat.completions.create(model=clients.chat, messages=SAID, n=2, logprobs=True)
    return {
        "texts": [choice.message.content for choice in answer.choices],
        "logprobs": [bool(choice.logprobs and choice.logprobs.content) for choice in answer.choices],
    }


@scenario
def chat_structured(clients: Clients) -> dict[str, Any]:
    form: Any = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    answer = clients.openai.chat.completions.create(model=clients.chat, messages=SAID, response_format=form)
    return {"value": json.loads(answer.choices[0].message.content or "")}


@scenario
def chat_image(clients: Clients) -> dict[str, Any]:
    pixel = f"data:image/png;base64,{PIXEL}"
    parts: Any = [{"type": "text", "text": PROMPT}, {"type": "image_url", "image_url": {"url": pixel}}]
    answer = clients.openai.chat.completions.create(
        model=clients.chat, messages=[{"role": "user", "content": parts}], max_completion_tokens=50
    )
    return {"text": answer.choices[0].message.content}


def _streamed(clients: Clients, **options: Any) -> dict[str, Any]:
    text, finish, usages, choiceless = "", None, [], 0
    for chunk in clients.openai.chat.completions.create(model=clients.chat, messages=SAID, stream=True, **options):
        if chunk.usage is not None:
            usages.append(chunk.usage.model_dump(exclude_none=True))
        if not chunk.choices:
            choiceless += 1
            continue
        text += chunk.choices[0].delta.content or ""
        finish = chunk.choices[0].finish_reason or finish
    return {"text": text, "finish": finish, "usages": usages, "choiceless": choiceless}


@scenario
def chat_stream(clients: Clients) -> dict[str, Any]:
    return _streamed(clients)


@scenario
def chat_stream_usage(clients: Clients) -> dict[str, Any]:
    return _streamed(clients, stream_options={"include_usage": True})


@scenario
def chat_tools(clients: Clients) -> dict[str, Any]:
    answer = clients.openai.chat.completions.create(model=clients.chat, messages=SAID, tools=[CHAT_TOOL])
    message = answer.choices[0].message
    calls = message.tool_calls or []
    arguments = [json.loads(call.function.arguments) for call in calls if call.type == "function"]
    replies: Any = [{"role": "tool", "tool_call_id": call.id, "content": "25 graus"} for call in calls]
    turns: Any = [*SAID, message.model_dump(exclude_none=True), *replies]
    after = clients.openai.chat.completions.create(model=clients.chat, messages=turns, tools=[CHAT_TOOL])
    return {
        "finish": answer.choices[0].finish_reason,
        "arguments": arguments,
        "text": after.choices[0].message.content,
    }


@scenario
def chat_tools_stream(clients: Clients) -> dict[str, Any]:
    other: Any = {"type": "function", "function": {**CHAT_TOOL["function"], "name": "climate"}}
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    finish = None
    for chunk in clients.openai.chat.completions.create(
        model=clients.chat, messages=SAID, tools=[CHAT_TOOL, other], stream=True
    ):
        if not chunk.choices:
            continue
        finish = chunk.choices[0].finish_reason or finish
        for call in chunk.choices[0].delta.tool_calls or []:
            assert call.function is not None
            names[call.index] = names.get(call.index, "") + (call.function.name or "")
            arguments[call.index] = arguments.get(call.index, "") + (call.function.arguments or "")
    return {
        "finish": finish,
        "names": [names[index] for index in sorted(names)],
        "arguments": [json.loads(arguments[index]) for index in sorted(arguments)],
    }


@scenario
def responses(clients: Clients) -> dict[str, Any]:
    answer = clients.openai.responses.create(model=clients.chat, input=PROMPT)
    assert answer.usage is not None
    return {
        "text": answer.output_text,
        "status": answer.status,
        "model": answer.model,
        "usage": answer.usage.model_dump(exclude_none=True),
    }


@scenario
def responses_stream(clients: Clients) -> dict[str, Any]:
    kinds: list[str] = []
    numbers: list[int] = []
    text = ""
    final: Any = None
    for event in clients.openai.responses.create(model=clients.chat, input=PROMPT, stream=True):
        kinds.append(event.type)
        numbers.append(event.sequence_number)
        if event.type == "response.output_text.delta":
            text += event.delta
        if event.type == "response.completed":
            final = event.response
    return {
        "kinds": kinds,
        "numbers": numbers,
        "text": text,
        "final": final.output_text if final is not None else None,
        "model": final.model if final is not None else None,
    }


@scenario
def responses_tools(clients: Clients) -> dict[str, Any]:
    answer = clients.openai.responses.create(model=clients.chat, input=PROMPT, tools=[RESPONSES_TOOL])
    calls = [item for item in answer.output if item.type == "function_call"]
    replies: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "25 graus"} for call in calls]
    turns: Any = [*SAID, *(call.model_dump(exclude_none=True) for call in calls), *replies]
    after = clients.openai.responses.create(model=clients.chat, input=turns, tools=[RESPONSES_TOOL])
    return {"arguments": [json.loads(call.arguments) for call in calls], "text": after.output_text}


@scenario
def embeddings(clients: Clients) -> dict[str, Any]:
    answer = clients.openai.embeddings.create(model=clients.embed, input=["um", "dois"])
    plain = clients.openai.embeddings.create(model=clients.embed, input="um", encoding_format="float")
    near = all(abs(a - b) < 1e-6 for a, b in zip(answer.data[0].embedding, plain.data[0].embedding, strict=True))
    return {"vectors": len(answer.data), "same": near, "usage": answer.usage.model_dump(exclude_none=True)}


@scenario
def models(clients: Clients) -> dict[str, Any]:
    return {"openai": [model.id for model in clients.openai.models.list()]}


@scenario
def models_anthropic(clients: Clients) -> dict[str, Any]:
    return {"anthropic": [model.id for model in clients.anthropic.models.list()]}


@scenario
def messages(clients: Clients) -> dict[str, Any]:
    raw = clients.anthropic.messages.with_raw_response.create(model=clients.messages, max_tokens=100, messages=SAID)
    answer = raw.parse()
    return {
        "text": "".join(block.text for block in answer.content if block.type == "text"),
        "stop": answer.stop_reason,
        "model": answer.model,
        "usage": answer.usage.model_dump(exclude_none=True),
        "request_id": raw.headers.get("request-id"),
    }


@scenario
def messages_stream(clients: Clients) -> dict[str, Any]:
    with clients.anthropic.messages.stream(model=clients.messages, max_tokens=100, messages=SAID) as stream:
        pieces = list(stream.text_stream)
        answer = stream.get_final_message()
    return {
        "text": "".join(pieces),
        "stop": answer.stop_reason,
        "model": answer.model,
        "usage": answer.usage.model_dump(exclude_none=True),
    }


@scenario
def messages_tools(clients: Clients) -> dict[str, Any]:
    answer = clients.anthropic.messages.create(
        model=clients.messages, max_tokens=100, messages=SAID, tools=[MESSAGES_TOOL]
    )
    uses = [block for block in answer.content if block.type == "tool_use"]
    results: Any = [{"type": "tool_result", "tool_use_id": use.id, "content": "25 graus"} for use in uses]
    turns: Any = [
        *SAID,
        {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in answer.content]},
        {"role": "user", "content": results},
    ]
    after = clients.anthropic.messages.create(
        model=clients.messages, max_tokens=100, messages=turns, tools=[MESSAGES_TOOL]
    )
    return {
        "stop": answer.stop_reason,
        "arguments": [use.input for use in uses],
        "text": "".join(block.text for block in after.content if block.type == "text"),
    }


@scenario
def messages_tools_stream(clients: Clients) -> dict[str, Any]:
    with clients.anthropic.messages.stream(
        model=clients.messages, max_tokens=100, messages=SAID, tools=[MESSAGES_TOOL]
    ) as stream:
        answer = stream.get_final_message()
    return {
        "stop": answer.stop_reason,
        "arguments": [block.input for block in answer.content if block.type == "tool_use"],
    }


@scenario
def bad_key_openai(clients: Clients) -> dict[str, Any]:
    result: dict[str, Any] = {}
    with failing(result):
        clients.openai.with_options(api_key="no-such-key-000000").chat.completions.create(
            model=clients.chat, messages=SAID
        )
    return result


@scenario
def bad_key_anthropic(clients: Clients) -> dict[str, Any]:
    result: dict[str, Any] = {}
    with failing(result):
        clients.anthropic.with_options(api_key="no-such-key-000000").messages.create(
            model=clients.messages, max_tokens=10, messages=SAID
        )
    return result


@scenario
def unknown_model_openai(clients: Clients) -> dict[str, Any]:
    result: dict[str, Any] = {}
    with failing(result):
        clients.openai.chat.completions.create(model="no-such-model", messages=SAID)
    return result


@scenario
def unknown_model_anthropic(clients: Clients) -> dict[str, Any]:
    result: dict[str, Any] = {}
    with failing(result):
        clients.anthropic.messages.create(model="no-such-model", max_tokens=10, messages=SAID)
    return result


@scenario
def broken_chat_stream(clients: Clients) -> dict[str, Any]:
    result: dict[str, Any] = {"pieces": 0}
    with failing(result):
        for _ in clients.openai.chat.completions.create(model=clients.broken_chat, messages=SAID, stream=True):
            result["pieces"] += 1
    return result


@scenario
def stored(clients: Clients) -> dict[str, Any]:
    """A stored response, from its making to its end."""
    made = clients.openai.responses.create(model=clients.chat, input=PROMPT)
    raw = clients.openai.responses.with_raw_response.retrieve(made.id)
    result: dict[str, Any] = {"same": raw.parse().model_dump() == made.model_dump()}
    result["request_id"] = raw.headers.get("x-request-id")
    result["said"] = [item.to_dict() for item in clients.openai.responses.input_items.list(made.id, order="asc")]
    cancelled: dict[str, Any] = {}
    with failing(cancelled):
        clients.openai.responses.cancel(made.id)
    clients.openai.responses.delete(made.id)
    gone: dict[str, Any] = {}
    with failing(gone):
        clients.openai.responses.retrieve(made.id)
    streamed: dict[str, Any] = {}
    with failing(streamed):
        for _ in clients.openai.responses.retrieve(made.id, stream=True):
            pass
    return {**result, "cancelled": cancelled, "gone": gone, "streamed": streamed}


@scenario
def background(clients: Clients) -> dict[str, Any]:
    """A response in the background, looked at until it is there; and one that is stopped."""
    responses = clients.openai.responses
    answer = responses.create(model=clients.chat, input=PROMPT, background=True)
    statuses: list[Any] = [answer.status]
    while answer.status in ("queued", "in_progress") and len(statuses) < 10:
        answer = responses.retrieve(answer.id)
        statuses.append(answer.status)
    stopped = responses.cancel(responses.create(model=clients.chat, input=PROMPT, background=True).id)
    return {"statuses": statuses, "text": answer.output_text, "stopped": stopped.status}


@scenario
def conversation(clients: Clients) -> dict[str, Any]:
    """A conversation, from its making to its end."""
    conversations = clients.openai.conversations
    said: Any = {"type": "message", "role": "user", "content": PROMPT}
    talk = conversations.create(metadata={"about": "weather"}, items=[said])
    answered = clients.openai.responses.create(model=clients.chat, input=PROMPT, conversation=talk.id)
    added: Any = conversations.items.create(talk.id, items=[said])
    listed = [item.id for item in conversations.items.list(talk.id, limit=2, order="asc")]
    one: Any = conversations.items.retrieve(added.data[0].id, conversation_id=talk.id)
    conversations.items.delete(added.data[0].id, conversation_id=talk.id)
    no_item: dict[str, Any] = {}
    with failing(no_item):
        conversations.items.retrieve(added.data[0].id, conversation_id=talk.id)
    renamed = conversations.update(talk.id, metadata={"about": "nothing"})
    deleted = conversations.delete(talk.id)
    gone: dict[str, Any] = {}
    with failing(gone):
        conversations.retrieve(talk.id)
    return {
        "metadata": [talk.metadata, renamed.metadata],
        "text": answered.output_text,
        "listed": len(listed),
        "last": listed[-1] == added.data[0].id,
        "role": one.role,
        "deleted": deleted.deleted,
        "no_item": no_item,
        "gone": gone,
    }


@scenario
def broken_responses_stream(clients: Clients) -> dict[str, Any]:
    result: dict[str, Any] = {"pieces": 0}
    with failing(result):
        for event in clients.openai.responses.create(model=clients.broken_chat, input=PROMPT, stream=True):
            result["pieces"] += 1
            result["last"] = event.type
    return result


@scenario
def broken_messages_stream(clients: Clients) -> dict[str, Any]:
    result: dict[str, Any] = {"pieces": 0}
    with failing(result):
        for _ in clients.anthropic.messages.create(
            model=clients.broken_messages, max_tokens=100, messages=SAID, stream=True
        ):
            result["pieces"] += 1
    return result


def main() -> None:
    """Run every scenario, or those named, and print one JSON object of their results."""
    parser = argparse.ArgumentParser()
    for name in ("openai", "anthropic"):
        parser.add_argument(f"--{name}-base", required=True)
        parser.add_argument(f"--{name}-key", required=True)
    parser.add_argument("--chat-model", default="chat")
    parser.add_argument("--messages-model", default="messages")
    parser.add_argument("--embed-model", default="embed")
    parser.add_argument("--broken-chat-model", default="broken-chat")
    parser.add_argument("--broken-messages-model", default="broken-messages")
    parser.add_argument("--timeout", type=float, default=20.0)
    parser.add_argument("scenarios", nargs="*")
    options = parser.parse_args()
    clients = Clients(options)
    results: dict[str, Any] = {"versions": {"openai": openai.__version__, "anthropic": anthropic.__version__}}
    for name, tell in SCENARIOS.items():
        if options.scenarios and name not in options.scenarios:
            continue
        try:
            results[name] = tell(clients)
        except (openai.APIError, anthropic.APIError) as error:
            results[name] = {"unexpected": f"{type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps(results, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
