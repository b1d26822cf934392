"""Drive a gateway with Ollama's own client: chat, generate, embed and tags."""

# mypy: disable-error-code="import-not-found"

import json
from typing import Any

import ollama
from tests.clients.programs.telling import CITY, PIXEL, RESULT, TOOLS, Task, breaking, failing, read_task, run

OLLAMA_TOOLS: list[Any] = [
    {"type": "function", "function": {"name": name, "description": about, "parameters": CITY}}
    for name, about in TOOLS.items()
]


class Face:
    """What chat and generate have in common."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.client = self.connect(task.key)

    def connect(self, key: str) -> ollama.Client:
        return ollama.Client(host=self.task.base, headers={"Authorization": f"Bearer {key}"}, timeout=20)

    def embeddings(self) -> dict[str, Any]:
        answer = self.client.embed(model=self.task.models["embed"], input=["um", self.task.word])
        return {"vectors": len(answer.embeddings), "size": len(answer.embeddings[0])}

    def models(self) -> dict[str, Any]:
        return {"names": [model.model for model in self.client.list().models]}


class Chat(Face):
    """/api/chat."""

    def ask(self, model: str = "plain", *, client: ollama.Client | None = None, **options: Any) -> Any:
        options.setdefault("messages", [{"role": "user", "content": self.task.prompt}])
        return (client or self.client).chat(model=self.task.models[model], **options)

    def flow(self, model: str = "plain", **options: Any) -> dict[str, Any]:
        text, thought, calls, pieces, last = "", "", [], 0, None
        for last in self.ask(model, stream=True, **options):
            text += last.message.content or ""
            thought += last.message.thinking or ""
            pieces += bool(last.message.content)
            calls += calls_of(last)
        return {
            "text": text,
            "thought": thought,
            "pieces": pieces,
            "calls": calls,
            "finish": last and last.done_reason,
            "usage": last and counts(last),
        }

    def answer(self) -> dict[str, Any]:
        answer = self.ask()
        return {"text": answer.message.content, "finish": answer.done_reason}

    def stream(self) -> dict[str, Any]:
        return self.flow()

    def usage(self) -> dict[str, Any]:
        return counts(self.ask("counted"))

    def stream_usage(self) -> dict[str, Any]:
        return dict(self.flow("counted")["usage"])

    def tools(self, count: int = 1) -> dict[str, Any]:
        tools = OLLAMA_TOOLS[:count]
        answer = self.ask(tools=tools)
        calls = calls_of(answer)
        turns = [
            {"role": "user", "content": self.task.prompt},
            answer.message,
            *({"role": "tool", "tool_name": name, "content": RESULT} for name, _ in calls),
        ]
        return {"calls": calls, "text": self.ask(messages=turns, tools=tools).message.content}

    def parallel_tools(self) -> dict[str, Any]:
        return self.tools(2)

    def tool_stream(self) -> dict[str, Any]:
        return self.flow(tools=OLLAMA_TOOLS)

    def structured(self) -> dict[str, Any]:
        return {"value": json.loads(self.ask("shaped", format=CITY).message.content)}

    def image(self) -> dict[str, Any]:
        message = {"role": "user", "content": self.task.prompt, "images": [PIXEL]}
        return {"text": self.ask(messages=[message]).message.content}

    def thinking(self) -> dict[str, Any]:
        return self.flow("thinking", think=True)

    def silence(self) -> dict[str, Any]:
        return self.flow("slow")

    def bad_key(self) -> dict[str, Any]:
        return failing(lambda: self.ask(client=self.connect("no-such-key-000000")))

    def bad_model(self) -> dict[str, Any]:
        return failing(lambda: self.ask("absent"))

    def no_money(self) -> dict[str, Any]:
        return failing(lambda: self.ask(client=self.connect(self.task.poor)))

    def broken(self) -> dict[str, Any]:
        return breaking(lambda: self.ask("broken", stream=True))

    def cut(self) -> dict[str, Any]:
        return breaking(lambda: self.ask("cut", stream=True))


class Generate(Face):
    """/api/generate."""

    def ask(self, model: str = "plain", **options: Any) -> Any:
        return self.client.generate(model=self.task.models[model], prompt=self.task.prompt, **options)

    def answer(self) -> dict[str, Any]:
        answer = self.ask()
        return {"text": answer.response, "finish": answer.done_reason}

    def stream(self) -> dict[str, Any]:
        chunks = list(self.ask(stream=True))
        text = "".join(chunk.response for chunk in chunks)
        return {"text": text, "pieces": len(chunks) - 1, "finish": chunks[-1].done_reason}

    def usage(self) -> dict[str, Any]:
        return counts(self.ask("counted"))

    def structured(self) -> dict[str, Any]:
        return {"value": json.loads(self.ask("shaped", format=CITY).response)}

    def image(self) -> dict[str, Any]:
        return {"text": self.ask(images=[PIXEL]).response}

    def broken(self) -> dict[str, Any]:
        return breaking(lambda: self.ask("broken", stream=True))


def calls_of(answer: Any) -> list[Any]:
    return [[call.function.name, dict(call.function.arguments)] for call in answer.message.tool_calls or []]


def counts(answer: Any) -> dict[str, Any]:
    return {"input": answer.prompt_eval_count, "output": answer.eval_count}


if __name__ == "__main__":
    task = read_task()
    run(["ollama"], {"chat": Chat(task), "generate": Generate(task)}, task)
