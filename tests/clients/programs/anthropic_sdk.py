"""Drive a gateway with the official Anthropic SDK: messages."""

# mypy: disable-error-code="import-not-found"

import json
from typing import Any

import anthropic
from tests.clients.programs.telling import CITY, PIXEL, RESULT, TOOLS, Task, breaking, failing, read_task, run

MESSAGES_TOOLS: list[Any] = [
    {"name": name, "description": about, "input_schema": CITY} for name, about in TOOLS.items()
]


class Messages:
    """Messages."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.client = anthropic.Anthropic(base_url=task.base, api_key=task.key, timeout=20)

    def asking(self, model: str, options: dict[str, Any]) -> dict[str, Any]:
        return {
            "model": self.task.models[model],
            "max_tokens": 400,
            "messages": [{"role": "user", "content": self.task.prompt}],
            **options,
        }

    def ask(self, model: str = "plain", *, client: anthropic.Anthropic | None = None, **options: Any) -> Any:
        return (client or self.client).messages.create(**self.asking(model, options))

    def flow(self, model: str = "plain", **options: Any) -> dict[str, Any]:
        with self.client.messages.stream(**self.asking(model, options)) as stream:
            pieces = list(stream.text_stream)
            answer = stream.get_final_message()
        return {**told(answer), "text": "".join(pieces), "pieces": len(pieces), "usage": counts(answer.usage)}

    def answer(self) -> dict[str, Any]:
        return told(self.ask())

    def batch(self) -> dict[str, Any]:
        batches = self.client.messages.batches
        requests: list[Any] = [{"custom_id": name, "params": self.asking("plain", {})} for name in "ab"]
        batch = batches.create(requests=requests)
        listed = batch.id in [each.id for each in batches.list()]
        while batch.processing_status != "ended":
            batch = batches.retrieve(batch.id)
        results: list[Any] = [each.result for each in batches.results(batch.id)]
        batches.delete(batch.id)
        hasty = self.client.with_options(max_retries=0)
        gone = failing(lambda: hasty.messages.batches.retrieve(batch.id))
        return {"texts": [told(each.message)["text"] for each in results], "listed": listed, "gone": gone["status"]}

    def stream(self) -> dict[str, Any]:
        return self.flow()

    def usage(self) -> dict[str, Any]:
        return counts(self.ask("counted").usage)

    def stream_usage(self) -> dict[str, Any]:
        return dict(self.flow("counted")["usage"])

    def tools(self, count: int = 1) -> dict[str, Any]:
        tools = MESSAGES_TOOLS[:count]
        answer = self.ask(tools=tools)
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": RESULT}
            for block in answer.content
            if block.type == "tool_use"
        ]
        turns = [
            {"role": "user", "content": self.task.prompt},
            {"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in answer.content]},
            {"role": "user", "content": results},
        ]
        return {**told(answer), "text": told(self.ask(messages=turns, tools=tools))["text"]}

    def parallel_tools(self) -> dict[str, Any]:
        return self.tools(2)

    def tool_stream(self) -> dict[str, Any]:
        return self.flow(tools=MESSAGES_TOOLS)

    def structured(self) -> dict[str, Any]:
        form = {"format": {"type": "json_schema", "schema": CITY}}
        return {"value": json.loads(told(self.ask("shaped", output_config=form))["text"])}

    def image(self) -> dict[str, Any]:
        source = {"type": "base64", "media_type": "image/png", "data": PIXEL}
        parts = [{"type": "image", "source": source}, {"type": "text", "text": self.task.prompt}]
        return told(self.ask(messages=[{"role": "user", "content": parts}]))

    def count(self) -> dict[str, Any]:
        asked = self.asking("plain", {})
        del asked["max_tokens"]
        return {"tokens": self.client.messages.count_tokens(**asked).input_tokens}

    def models(self) -> dict[str, Any]:
        return {"names": [model.id for model in self.client.models.list()]}

    def thinking(self) -> dict[str, Any]:
        return self.flow("thinking", max_tokens=2000, thinking={"type": "enabled", "budget_tokens": 1024})

    def silence(self) -> dict[str, Any]:
        return self.flow("slow")

    def unknown(self) -> dict[str, Any]:
        return self.flow("odd", extra_body={"x_future": self.task.word})

    def ids(self) -> dict[str, Any]:
        return {"request_id": self.ask()._request_id}

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
        return {**refused, "text": told(self.ask(client=hurried))["text"]}

    def broken(self) -> dict[str, Any]:
        return breaking(lambda: self.ask("broken", stream=True))

    def cut(self) -> dict[str, Any]:
        return breaking(lambda: self.ask("cut", stream=True))


def told(answer: Any) -> dict[str, Any]:
    return {
        "text": "".join(block.text for block in answer.content if block.type == "text"),
        "thought": "".join(block.thinking for block in answer.content if block.type == "thinking"),
        "finish": answer.stop_reason,
        "calls": [[block.name, block.input] for block in answer.content if block.type == "tool_use"],
    }


def counts(usage: Any) -> dict[str, Any]:
    """The figures in the matrix's words: Anthropic counts cached tokens beside the others, not among them."""
    cached = usage.cache_read_input_tokens or 0
    return {
        "input": usage.input_tokens + cached + (usage.cache_creation_input_tokens or 0),
        "output": usage.output_tokens,
        "cached": cached,
    }


if __name__ == "__main__":
    task = read_task()
    run(["anthropic"], {"messages": Messages(task)}, task)
