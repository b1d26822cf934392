"""Drive a gateway with any-llm, which itself turns one way of asking into each provider's."""

# mypy: disable-error-code="import-not-found"

import json
from typing import Any

import any_llm
from tests.clients.programs.telling import CITY, RESULT, TOOLS, Task, breaking, failing, read_task, run

DECLARED: list[Any] = [
    {"type": "function", "function": {"name": name, "description": about, "parameters": CITY}}
    for name, about in TOOLS.items()
]


class Completion:
    """any-llm's completion, over one provider's dialect."""

    def __init__(self, task: Task, provider: str) -> None:
        self.task = task
        self.provider = provider
        self.bare = provider == "ollama"
        self.base = task.v1 if provider == "openai" else task.base

    def ask(self, model: str = "plain", *, key: str | None = None, **options: Any) -> Any:
        options.setdefault("messages", [{"role": "user", "content": self.task.prompt}])
        return any_llm.completion(
            self.task.models[model],
            provider=self.provider,
            api_base=self.base,
            api_key=key or self.task.key,
            max_tokens=400,
            # Its client for Ollama sends no key by itself.
            client_args={"headers": {"Authorization": f"Bearer {key or self.task.key}"}} if self.bare else None,
            **options,
        )

    def flow(self, model: str = "plain", **options: Any) -> dict[str, Any]:
        text, finish, usage, pieces = "", None, None, 0
        calls: dict[int, list[str]] = {}
        for chunk in self.ask(model, stream=True, **options):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                finish = choice.finish_reason or finish
                text += choice.delta.content or ""
                pieces += bool(choice.delta.content)
                for call in choice.delta.tool_calls or []:
                    known = calls.setdefault(call.index, ["", ""])
                    known[0] += call.function.name or ""
                    known[1] += call.function.arguments or ""
        told = [[name, json.loads(arguments)] for name, arguments in calls.values()]
        return {"text": text, "finish": finish, "pieces": pieces, "calls": told, "usage": usage and counts(usage)}

    def answer(self) -> dict[str, Any]:
        answer = self.ask()
        return {"text": answer.choices[0].message.content, "finish": answer.choices[0].finish_reason}

    def stream(self) -> dict[str, Any]:
        return self.flow()

    def usage(self) -> dict[str, Any]:
        return counts(self.ask("counted").usage)

    def tools(self, count: int = 1) -> dict[str, Any]:
        tools = DECLARED[:count]
        message = self.ask(tools=tools).choices[0].message
        turns = [
            {"role": "user", "content": self.task.prompt},
            {
                "role": "assistant",
                "content": message.content,
                "tool_calls": [call.model_dump(exclude_none=True) for call in message.tool_calls],
            },
            *({"role": "tool", "tool_call_id": call.id, "content": RESULT} for call in message.tool_calls),
        ]
        after = self.ask(messages=turns, tools=tools)
        calls = [[call.function.name, json.loads(call.function.arguments)] for call in message.tool_calls]
        return {"calls": calls, "text": after.choices[0].message.content}

    def parallel_tools(self) -> dict[str, Any]:
        return self.tools(2)

    def tool_stream(self) -> dict[str, Any]:
        return self.flow(tools=DECLARED)

    def embeddings(self) -> dict[str, Any]:
        answer = any_llm.embedding(
            self.task.models["embed"],
            ["um", self.task.word],
            provider=self.provider,
            api_base=self.base,
            api_key=self.task.key,
        )
        return {"vectors": len(answer.data), "size": len(answer.data[0].embedding)}

    def models(self) -> dict[str, Any]:
        found = any_llm.list_models(provider=self.provider, api_base=self.base, api_key=self.task.key)
        return {"names": [model.id for model in found]}

    def bad_key(self) -> dict[str, Any]:
        return failing(lambda: self.ask(key="no-such-key-000000"))

    def bad_model(self) -> dict[str, Any]:
        return failing(lambda: self.ask("absent"))

    def no_money(self) -> dict[str, Any]:
        return failing(lambda: self.ask(key=self.task.poor))

    def silence(self) -> dict[str, Any]:
        return self.flow("slow")

    def broken(self) -> dict[str, Any]:
        return breaking(lambda: self.ask("broken", stream=True))

    def cut(self) -> dict[str, Any]:
        return breaking(lambda: self.ask("cut", stream=True))


def counts(usage: Any) -> dict[str, Any]:
    return {"input": usage.prompt_tokens, "output": usage.completion_tokens}


if __name__ == "__main__":
    task = read_task()
    faces = {
        "chat": Completion(task, "openai"),
        "messages": Completion(task, "anthropic"),
        "generate": Completion(task, "gemini"),
        "ollama": Completion(task, "ollama"),
    }
    run(["any-llm-sdk"], faces, task)
