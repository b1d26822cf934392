"""Drive a gateway with Instructor: typed answers by tool calls, by JSON mode and by JSON schema."""

# mypy: disable-error-code="import-not-found"

from typing import Any

import instructor
import openai
from pydantic import BaseModel
from tests.clients.programs.telling import Task, failing, read_task, run


class City(BaseModel):
    """A city and some days."""

    city: str
    days: int


class Chat:
    """Instructor over the OpenAI SDK's chat completions."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def model(self, mode: instructor.Mode = instructor.Mode.TOOLS, *, key: str | None = None) -> Any:
        client = openai.OpenAI(base_url=self.task.v1, api_key=key or self.task.key, timeout=20)
        return instructor.from_openai(client, mode=mode)

    def ask(self, model: str = "plain", **options: Any) -> Any:
        return self.model(**options).create(response_model=City, max_retries=0, **self._asking(model))

    def _asking(self, model: str) -> dict[str, Any]:
        return {"model": self.task.models[model], "messages": [{"role": "user", "content": self.task.prompt}]}

    def tools(self) -> dict[str, Any]:
        found, answer = self.model().create_with_completion(response_model=City, **self._asking("plain"))
        (call,) = answer.choices[0].message.tool_calls
        return {"calls": [["forecast", found.model_dump()]], "text": None, "named": call.function.name}

    def tool_stream(self) -> dict[str, Any]:
        *_, last = self.model().create_partial(response_model=City, **self._asking("plain"))
        return {"calls": [["forecast", last.model_dump()]]}

    def structured(self) -> dict[str, Any]:
        by_schema = self.ask("shaped", mode=instructor.Mode.JSON_SCHEMA).model_dump()
        by_word = self.ask("shaped", mode=instructor.Mode.JSON).model_dump()
        assert by_schema == by_word
        return {"value": by_schema}

    def usage(self) -> dict[str, Any]:
        asking = {**self._asking("counted"), "model": self.task.models["counted"]}
        _, answer = self.model().create_with_completion(response_model=City, **asking)
        cached = answer.usage.prompt_tokens_details.cached_tokens
        return {"input": answer.usage.prompt_tokens, "output": answer.usage.completion_tokens, "cached": cached}

    def bad_key(self) -> dict[str, Any]:
        return failing(lambda: self.ask(key="no-such-key-000000"))

    def bad_model(self) -> dict[str, Any]:
        return failing(lambda: self.ask("absent"))

    def no_money(self) -> dict[str, Any]:
        return failing(lambda: self.ask(key=self.task.poor))


if __name__ == "__main__":
    task = read_task()
    run(["instructor"], {"chat": Chat(task)}, task)
