"""Drive a gateway with the official OpenAI SDK: chat completions and responses."""

# mypy: disable-error-code="import-not-found"

import json
from collections.abc import Iterable
from typing import Any

import openai
from tests.clients.programs.telling import CITY, PIXEL, RESULT, TOOLS, Task, breaking, failing, read_task, run

CHAT_TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "description": about, "parameters": CITY}}
    for name, about in TOOLS.items()
]
RESPONSES_TOOLS: list[Any] = [
    {"type": "function", "name": name, "description": about, "parameters": CITY, "strict": True}
    for name, about in TOOLS.items()
]


class Face:
    """What chat and responses have in common."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.client = openai.OpenAI(base_url=task.v1, api_key=task.key, timeout=20)
        self.hasty = self.client.with_options(max_retries=0)

    def embeddings(self) -> dict[str, Any]:
        model = self.task.models["embed"]
        answer = self.client.embeddings.create(model=model, input=["um", self.task.word])
        plain = self.client.embeddings.create(model=model, input="um", encoding_format="float")
        near = all(abs(a - b) < 1e-6 for a, b in zip(answer.data[0].embedding, plain.data[0].embedding, strict=True))
        return {"vectors": len(answer.data), "size": len(answer.data[0].embedding), "same": near}

    def models(self) -> dict[str, Any]:
        return {"names": [model.id for model in self.client.models.list()]}

    def batched(self, url: Any, body: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
        """A batch of two such requests: what is told of it, and the bodies of its answers."""
        lines = [{"custom_id": name, "method": "POST", "url": url, "body": body} for name in "ab"]
        content = "\n".join(json.dumps(line) for line in lines).encode()
        file = self.client.files.create(file=("requests.jsonl", content), purpose="batch")
        batch = self.client.batches.create(input_file_id=file.id, endpoint=url, completion_window="24h")
        listed = batch.id in [each.id for each in self.client.batches.list()]
        listed = listed and file.id in [each.id for each in self.client.files.list(purpose="batch")]
        while batch.status not in ("completed", "failed"):
            batch = self.client.batches.retrieve(batch.id)
        answers = self.client.files.content(str(batch.output_file_id)).text.splitlines()
        self.client.files.delete(file.id)
        gone = failing(lambda: self.hasty.files.retrieve(file.id))
        return {"listed": listed, "gone": gone["status"]}, [json.loads(each)["response"]["body"] for each in answers]


class Chat(Face):
    """Chat completions."""

    def ask(self, model: str = "plain", *, client: openai.OpenAI | None = None, **options: Any) -> Any:
        options.setdefault("messages", [{"role": "user", "content": self.task.prompt}])
        return (client or self.client).chat.completions.create(model=self.task.models[model], **options)

    def flow(self, model: str = "plain", **options: Any) -> dict[str, Any]:
        text, thought, finish, usage, pieces = "", "", None, None, 0
        calls: dict[int, list[str]] = {}
        for chunk in self.ask(model, stream=True, **options):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                finish = choice.finish_reason or finish
                text += choice.delta.content or ""
                pieces += bool(choice.delta.content)
                thought += getattr(choice.delta, "reasoning_content", None) or ""
                for call in choice.delta.tool_calls or []:
                    known = calls.setdefault(call.index, ["", "", ""])
                    known[0] += call.id or ""
                    known[1] += call.function.name or ""
                    known[2] += call.function.arguments or ""
        return {
            "text": text,
            "pieces": pieces,
            "thought": thought,
            "finish": finish,
            "usage": usage and counts(usage),
            "calls": [[name, json.loads(arguments)] for _, name, arguments in calls.values()],
        }

    def batch(self) -> dict[str, Any]:
        body = {"model": self.task.models["plain"], "messages": [{"role": "user", "content": self.task.prompt}]}
        told, answers = self.batched("/v1/chat/completions", body)
        return {**told, "texts": [answer["choices"][0]["message"]["content"] for answer in answers]}

    def answer(self) -> dict[str, Any]:
        answer = self.ask()
        return {"text": answer.choices[0].message.content, "finish": answer.choices[0].finish_reason}

    def stream(self) -> dict[str, Any]:
        return self.flow()

    def usage(self) -> dict[str, Any]:
        return counts(self.ask("counted").usage)

    def stream_usage(self) -> dict[str, Any]:
        return dict(self.flow("counted", stream_options={"include_usage": True})["usage"])

    def tools(self, count: int = 1) -> dict[str, Any]:
        tools = CHAT_TOOLS[:count]
        message = self.ask(tools=tools).choices[0].message
        turns = [
            {"role": "user", "content": self.task.prompt},
            message.model_dump(exclude_none=True),
            *({"role": "tool", "tool_call_id": call.id, "content": RESULT} for call in message.tool_calls),
        ]
        after = self.ask(messages=turns, tools=tools)
        calls = [[call.function.name, json.loads(call.function.arguments)] for call in message.tool_calls]
        return {"calls": calls, "text": after.choices[0].message.content}

    def parallel_tools(self) -> dict[str, Any]:
        return self.tools(2)

    def tool_stream(self) -> dict[str, Any]:
        return self.flow(tools=CHAT_TOOLS)

    def structured(self) -> dict[str, Any]:
        form = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
        return {"value": json.loads(self.ask("shaped", response_format=form).choices[0].message.content)}

    def image(self) -> dict[str, Any]:
        parts = [
            {"type": "text", "text": self.task.prompt},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
        ]
        return {"text": self.ask(messages=[{"role": "user", "content": parts}]).choices[0].message.content}

    def choices(self) -> dict[str, Any]:
        choices = self.ask(n=2, logprobs=True).choices
        return {
            "texts": [choice.message.content for choice in choices],
            "logprobs": [bool(choice.logprobs and choice.logprobs.content) for choice in choices],
        }

    def thinking(self) -> dict[str, Any]:
        return self.flow("thinking")

    def silence(self) -> dict[str, Any]:
        return self.flow("slow")

    def unknown(self) -> dict[str, Any]:
        return self.flow("odd", extra_body={"x_future": self.task.word})

    def ids(self) -> dict[str, Any]:
        raw = self.client.chat.completions.with_raw_response.create(
            model=self.task.models["plain"], messages=[{"role": "user", "content": self.task.prompt}]
        )
        return {"request_id": raw.request_id}

    def repeat(self) -> dict[str, Any]:
        ids = [self.ask(extra_headers={"Idempotency-Key": f"again-{self.task.word}"}).id for _ in range(2)]
        return {"ids": ids}

    def bad_key(self) -> dict[str, Any]:
        return failing(lambda: self.ask(client=self.client.with_options(api_key="no-such-key-000000")))

    def bad_model(self) -> dict[str, Any]:
        return failing(lambda: self.ask("absent"))

    def no_money(self) -> dict[str, Any]:
        return failing(lambda: self.ask(client=self.client.with_options(api_key=self.task.poor)))

    def rate(self) -> dict[str, Any]:
        hurried = self.client.with_options(api_key=self.task.hurried)
        self.ask(client=hurried)
        refused = failing(lambda: self.ask(client=hurried.with_options(max_retries=0)))
        return {**refused, "text": self.ask(client=hurried).choices[0].message.content}

    def broken(self) -> dict[str, Any]:
        return breaking(lambda: self.ask("broken", stream=True))

    def cut(self) -> dict[str, Any]:
        return breaking(lambda: self.ask("cut", stream=True))


class Responses(Face):
    """Responses."""

    def ask(self, model: str = "plain", *, client: openai.OpenAI | None = None, **options: Any) -> Any:
        options.setdefault("input", self.task.prompt)
        return (client or self.client).responses.create(model=self.task.models[model], **options)

    def flow(self, model: str = "plain", **options: Any) -> dict[str, Any]:
        kinds, numbers, text, thought, final = [], [], "", "", None
        for event in self.ask(model, stream=True, **options):
            kinds.append(event.type)
            numbers.append(event.sequence_number)
            if event.type == "response.output_text.delta":
                text += event.delta
            if event.type.startswith("response.reasoning") and event.type.endswith(".delta"):
                thought += event.delta
            if event.type == "response.completed":
                final = event.response
        return {
            "text": text,
            "pieces": kinds.count("response.output_text.delta"),
            "thought": thought,
            "finish": final and final.status,
            "usage": final and final.usage and response_counts(final.usage),
            "calls": [[c.name, json.loads(c.arguments)] for c in calls_of(final)] if final else [],
            "rising": numbers == sorted(set(numbers)),
        }

    def answer(self) -> dict[str, Any]:
        answer = self.ask()
        return {"text": answer.output_text, "finish": answer.status}

    def stream(self) -> dict[str, Any]:
        return self.flow()

    def usage(self) -> dict[str, Any]:
        return response_counts(self.ask("counted").usage)

    def stream_usage(self) -> dict[str, Any]:
        return dict(self.flow("counted")["usage"])

    def tools(self, count: int = 1) -> dict[str, Any]:
        tools = RESPONSES_TOOLS[:count]
        answer = self.ask(tools=tools)
        calls = calls_of(answer)
        turns = [
            {"role": "user", "content": self.task.prompt},
            *(item.model_dump(exclude_none=True) for item in answer.output),
            *({"type": "function_call_output", "call_id": call.call_id, "output": RESULT} for call in calls),
        ]
        after = self.ask(input=turns, tools=tools)
        return {"calls": [[call.name, json.loads(call.arguments)] for call in calls], "text": after.output_text}

    def parallel_tools(self) -> dict[str, Any]:
        return self.tools(2)

    def tool_stream(self) -> dict[str, Any]:
        return self.flow(tools=RESPONSES_TOOLS)

    def structured(self) -> dict[str, Any]:
        form = {"format": {"type": "json_schema", "name": "city", "schema": CITY, "strict": True}}
        return {"value": json.loads(self.ask("shaped", text=form).output_text)}

    def image(self) -> dict[str, Any]:
        parts = [
            {"type": "input_text", "text": self.task.prompt},
            {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}"},
        ]
        return {"text": self.ask(input=[{"role": "user", "content": parts}]).output_text}

    def thinking(self) -> dict[str, Any]:
        return self.flow("thinking", reasoning={"summary": "auto"})

    def silence(self) -> dict[str, Any]:
        return self.flow("slow")

    def unknown(self) -> dict[str, Any]:
        return self.flow("odd", extra_body={"x_future": self.task.word})

    def chain(self) -> dict[str, Any]:
        first = self.ask()
        return {"text": self.ask(previous_response_id=first.id).output_text}

    def batch(self) -> dict[str, Any]:
        told, answers = self.batched("/v1/responses", {"model": self.task.models["plain"], "input": self.task.prompt})
        parts = [item["content"] for answer in answers for item in answer["output"] if item["type"] == "message"]
        return {**told, "texts": [part[0]["text"] for part in parts]}

    def stored(self) -> dict[str, Any]:
        first = self.ask()
        shown = self.client.responses.retrieve(first.id)
        inputs: Iterable[Any] = self.client.responses.input_items.list(first.id, limit=1)
        said = [item.role for item in inputs]
        unstoppable = failing(lambda: self.hasty.responses.cancel(first.id))
        self.client.responses.delete(first.id)
        gone = failing(lambda: self.hasty.responses.retrieve(first.id))
        return {
            "text": shown.output_text,
            # Several of the matrix's models stand for one of the provider's: which was asked is not kept.
            "same": shown.model_dump(exclude={"model"}) == first.model_dump(exclude={"model"}),
            "said": said,
            "unstoppable": unstoppable["status"],
            "gone": gone["status"],
        }

    def conversation(self) -> dict[str, Any]:
        conversations = self.client.conversations
        said: Any = {"type": "message", "role": "user", "content": self.task.prompt}
        talk = conversations.create(metadata={"word": self.task.word}, items=[said])
        text = self.ask(conversation=talk.id).output_text
        conversations.items.create(talk.id, items=[said])
        # A page of two, so that the SDK asks for the next.
        items: list[Any] = [item.id for item in conversations.items.list(talk.id, limit=2)]
        one: Any = conversations.items.retrieve(items[-1], conversation_id=talk.id)
        conversations.items.delete(one.id, conversation_id=talk.id)
        left = [item.id for item in conversations.items.list(talk.id)]
        renamed = conversations.update(talk.id, metadata={"word": "other"})
        known = conversations.retrieve(talk.id)
        conversations.delete(talk.id)
        gone = failing(lambda: self.client.with_options(max_retries=0).conversations.retrieve(talk.id))
        return {
            "text": text,
            "items": len(items),
            "left": left == items[:-1],
            "metadata": [talk.metadata, renamed.metadata, known.metadata],
            "gone": gone["status"],
        }

    def ids(self) -> dict[str, Any]:
        raw = self.client.responses.with_raw_response.create(model=self.task.models["plain"], input=self.task.prompt)
        return {"request_id": raw.request_id}

    def repeat(self) -> dict[str, Any]:
        ids = [self.ask(extra_headers={"Idempotency-Key": f"anew-{self.task.word}"}).id for _ in range(2)]
        return {"ids": ids}

    def bad_key(self) -> dict[str, Any]:
        return failing(lambda: self.ask(client=self.client.with_options(api_key="no-such-key-000000")))

    def bad_model(self) -> dict[str, Any]:
        return failing(lambda: self.ask("absent"))

    def no_money(self) -> dict[str, Any]:
        return failing(lambda: self.ask(client=self.client.with_options(api_key=self.task.poor)))

    def rate(self) -> dict[str, Any]:
        hurried = self.client.with_options(api_key=self.task.hurried)
        self.ask(client=hurried)
        refused = failing(lambda: self.ask(client=hurried.with_options(max_retries=0)))
        return {**refused, "text": self.ask(client=hurried).output_text}

    def broken(self) -> dict[str, Any]:
        return breaking(lambda: self.ask("broken", stream=True))

    def cut(self) -> dict[str, Any]:
        return breaking(lambda: self.ask("cut", stream=True))


def counts(usage: Any) -> dict[str, Any]:
    """The figures in the matrix's words: `input` is the whole prompt, `output` all that was generated."""
    prompt, done = usage.prompt_tokens_details, usage.completion_tokens_details
    return {
        "input": usage.prompt_tokens,
        "output": usage.completion_tokens,
        **({"cached": prompt.cached_tokens} if prompt else {}),
        **({"reasoning": done.reasoning_tokens} if done else {}),
    }


def response_counts(usage: Any) -> dict[str, Any]:
    prompt, done = usage.input_tokens_details, usage.output_tokens_details
    return {
        "input": usage.input_tokens,
        "output": usage.output_tokens,
        **({"cached": prompt.cached_tokens} if prompt else {}),
        **({"reasoning": done.reasoning_tokens} if done else {}),
    }


def calls_of(answer: Any) -> Iterable[Any]:
    return [item for item in answer.output if item.type == "function_call"]


if __name__ == "__main__":
    task = read_task()
    run(["openai"], {"chat": Chat(task), "responses": Responses(task)}, task)
