"""Drive a gateway with Pydantic AI's agents: OpenAI's two APIs and Anthropic's."""

# mypy: disable-error-code="import-not-found"

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, Embedder, NativeOutput
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider
from tests.clients.programs.telling import PIXEL, RESULT, TOOLS, Task, failing, read_task, run


class City(BaseModel):
    """A city and some days."""

    city: str
    days: int


class Chat:
    """OpenAIChatModel."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def model(self, name: str, key: str) -> Any:
        return OpenAIChatModel(self.task.models[name], provider=OpenAIProvider(base_url=self.task.v1, api_key=key))

    def agent(self, name: str = "plain", *, key: str | None = None, **options: Any) -> Any:
        return Agent(self.model(name, key or self.task.key), **options)

    def ask(self, name: str = "plain", **options: Any) -> Any:
        return self.agent(name, **options).run_sync(self.task.prompt)

    def flow(self, name: str = "plain", **options: Any) -> dict[str, Any]:
        return asyncio.run(self._flow(name, options))

    async def _flow(self, name: str, options: dict[str, Any]) -> dict[str, Any]:
        async with self.agent(name, **options).run_stream(self.task.prompt) as stream:
            pieces = [piece async for piece in stream.stream_text(delta=True, debounce_by=None)]
            return {
                "text": "".join(pieces),
                "pieces": len(pieces),
                "finish": stream.response.finish_reason,
                "thought": "".join(part.content for part in stream.response.parts if part.part_kind == "thinking"),
                "usage": counts(stream.response.usage),
            }

    def answer(self) -> dict[str, Any]:
        result = self.ask()
        return {"text": result.output, "finish": result.response.finish_reason}

    def stream(self) -> dict[str, Any]:
        return self.flow()

    def usage(self) -> dict[str, Any]:
        return counts(self.ask("counted").response.usage)

    def stream_usage(self) -> dict[str, Any]:
        return dict(self.flow("counted")["usage"])

    def tools(self, count: int = 1) -> dict[str, Any]:
        calls: list[Any] = []

        def forecast(city: str, days: int) -> str:
            """The weather of the days to come."""
            calls.append(["forecast", {"city": city, "days": days}])
            return RESULT

        def climate(city: str, days: int) -> str:
            """The weather of most years."""
            calls.append(["climate", {"city": city, "days": days}])
            return RESULT

        given = [forecast, climate][:count]
        assert [tool.__name__ for tool in given] == list(TOOLS)[:count]
        text = self.agent(tools=given).run_sync(self.task.prompt).output
        return {"calls": sorted(calls, key=lambda call: list(TOOLS).index(call[0])), "text": text}

    def parallel_tools(self) -> dict[str, Any]:
        return self.tools(2)

    def tool_stream(self) -> dict[str, Any]:
        return asyncio.run(self._tool_stream())

    async def _tool_stream(self) -> dict[str, Any]:
        calls: list[Any] = []

        def forecast(city: str, days: int) -> str:
            """The weather of the days to come."""
            calls.append(["forecast", {"city": city, "days": days}])
            return RESULT

        def climate(city: str, days: int) -> str:
            """The weather of most years."""
            calls.append(["climate", {"city": city, "days": days}])
            return RESULT

        async with self.agent(tools=[forecast, climate]).run_stream(self.task.prompt) as stream:
            text = await stream.get_output()
        return {"calls": sorted(calls, key=lambda call: list(TOOLS).index(call[0])), "text": text}

    def structured(self) -> dict[str, Any]:
        return {"value": self.ask("shaped", output_type=NativeOutput(City)).output.model_dump()}

    def image(self) -> dict[str, Any]:
        pixel = BinaryContent.from_data_uri(f"data:image/png;base64,{PIXEL}")
        return {"text": self.agent().run_sync([self.task.prompt, pixel]).output}

    def embeddings(self) -> dict[str, Any]:
        provider = OpenAIProvider(base_url=self.task.v1, api_key=self.task.key)
        model = OpenAIEmbeddingModel(self.task.models["embed"], provider=provider)
        vectors = Embedder(model).embed_documents_sync(["um", self.task.word]).embeddings
        return {"vectors": len(vectors), "size": len(vectors[0])}

    def thinking(self) -> dict[str, Any]:
        return self.flow("thinking")

    def silence(self) -> dict[str, Any]:
        return self.flow("slow")

    def bad_key(self) -> dict[str, Any]:
        return failing(lambda: self.ask(key="no-such-key-000000"))

    def bad_model(self) -> dict[str, Any]:
        return failing(lambda: self.ask("absent"))

    def no_money(self) -> dict[str, Any]:
        return failing(lambda: self.ask(key=self.task.poor))

    def broken(self) -> dict[str, Any]:
        return self._breaking("broken")

    def cut(self) -> dict[str, Any]:
        return self._breaking("cut")

    def _breaking(self, name: str) -> dict[str, Any]:
        seen: list[str] = []

        async def read() -> None:
            async for piece in self._pieces(name):
                seen.append(piece)  # noqa: PERF401 - what came before an error must be kept

        return {**failing(lambda: asyncio.run(read())), "pieces": len(seen)}

    async def _pieces(self, name: str) -> AsyncIterator[str]:
        async with self.agent(name).run_stream(self.task.prompt) as stream:
            async for piece in stream.stream_text(delta=True, debounce_by=None):
                yield piece


class Responses(Chat):
    """OpenAIResponsesModel."""

    def model(self, name: str, key: str) -> Any:
        return OpenAIResponsesModel(self.task.models[name], provider=OpenAIProvider(base_url=self.task.v1, api_key=key))


class Messages(Chat):
    """AnthropicModel."""

    def model(self, name: str, key: str) -> Any:
        return AnthropicModel(
            self.task.models[name],
            provider=AnthropicProvider(base_url=self.task.base, api_key=key),
            # It knows which of Anthropic's models can; ours have names of their own.
            profile={"supports_json_schema_output": True},
        )

    def thinking(self) -> dict[str, Any]:
        settings = {"max_tokens": 2000, "anthropic_thinking": {"type": "enabled", "budget_tokens": 1024}}
        return self.flow("thinking", model_settings=settings)


def counts(usage: Any) -> dict[str, Any]:
    return {"input": usage.input_tokens, "output": usage.output_tokens, "cached": usage.cache_read_tokens}


if __name__ == "__main__":
    task = read_task()
    faces = {"chat": Chat(task), "responses": Responses(task), "messages": Messages(task)}
    run(["pydantic-ai-slim"], faces, task)
