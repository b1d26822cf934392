"""Drive a gateway with LlamaIndex's models: OpenAILike, and OpenAIResponses."""

# mypy: disable-error-code="import-not-found"

from typing import Any

from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai import OpenAI, OpenAIResponses
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel
from tests.clients.programs.telling import PIXEL, RESULT, TOOLS, Task, breaking, failing, read_task, run


class City(BaseModel):
    """A city and some days."""

    city: str
    days: int


def forecast(city: str, days: int) -> str:
    """The weather of the days to come."""
    return RESULT


def climate(city: str, days: int) -> str:
    """The weather of most years."""
    return RESULT


DECLARED = [FunctionTool.from_defaults(fn=forecast), FunctionTool.from_defaults(fn=climate)]
assert [tool.metadata.name for tool in DECLARED] == list(TOOLS)


class Chat:
    """OpenAILike over chat completions."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def model(self, name: str = "plain", *, key: str | None = None, retries: int = 0, **options: Any) -> Any:
        return OpenAILike(
            model=self.task.models[name],
            api_base=self.task.v1,
            api_key=key or self.task.key,
            max_retries=retries,
            timeout=20,
            is_chat_model=True,
            is_function_calling_model=True,
            should_use_structured_outputs=True,
            context_window=8000,
            **options,
        )

    @property
    def said(self) -> ChatMessage:
        return ChatMessage(role="user", content=self.task.prompt)

    def flow(self, chunks: Any, model: Any) -> dict[str, Any]:
        pieces, last = 0, None
        for last in chunks:
            pieces += bool(last.delta)
        return {**tell(last, model), "pieces": pieces}

    def answer(self) -> dict[str, Any]:
        model = self.model()
        return tell(model.chat([self.said]), model)

    def stream(self) -> dict[str, Any]:
        model = self.model()
        return self.flow(model.stream_chat([self.said]), model)

    def usage(self) -> dict[str, Any]:
        return counts(self.model("counted").chat([self.said]).raw.usage)

    def stream_usage(self) -> dict[str, Any]:
        model = self.model("counted", additional_kwargs={"stream_options": {"include_usage": True}})
        used = [chunk.raw.usage for chunk in model.stream_chat([self.said]) if chunk.raw.usage]
        return counts(used[-1])

    def tools(self, count: int = 1) -> dict[str, Any]:
        model = self.model()
        tools: Any = DECLARED[:count]
        answer = model.chat_with_tools(tools, user_msg=self.said, allow_parallel_tool_calls=count > 1)
        calls = model.get_tool_calls_from_response(answer)
        results = [
            ChatMessage(role="tool", content=RESULT, additional_kwargs={"tool_call_id": call.tool_id}) for call in calls
        ]
        after = model.chat_with_tools(tools, chat_history=[self.said, answer.message, *results])
        return {**tell(answer, model), "text": after.message.content}

    def parallel_tools(self) -> dict[str, Any]:
        return self.tools(2)

    def tool_stream(self) -> dict[str, Any]:
        model = self.model()
        return self.flow(
            model.stream_chat_with_tools(DECLARED, user_msg=self.said, allow_parallel_tool_calls=True), model
        )

    def structured(self) -> dict[str, Any]:
        return {"value": self.model("shaped").as_structured_llm(City).chat([self.said]).raw.model_dump()}

    def image(self) -> dict[str, Any]:
        model = self.model()
        blocks = [TextBlock(text=self.task.prompt), ImageBlock(image=PIXEL.encode(), image_mimetype="image/png")]
        return tell(model.chat([ChatMessage(role="user", blocks=blocks)]), model)

    def silence(self) -> dict[str, Any]:
        model = self.model("slow")
        return self.flow(model.stream_chat([self.said]), model)

    def bad_key(self) -> dict[str, Any]:
        return failing(lambda: self.model(key="no-such-key-000000").chat([self.said]))

    def bad_model(self) -> dict[str, Any]:
        return failing(lambda: self.model("absent").chat([self.said]))

    def no_money(self) -> dict[str, Any]:
        return failing(lambda: self.model(key=self.task.poor, retries=2).chat([self.said]))

    def rate(self) -> dict[str, Any]:
        hurried = self.model(key=self.task.hurried)
        hurried.chat([self.said])
        refused = failing(lambda: hurried.chat([self.said]))
        patient = self.model(key=self.task.hurried, retries=3)
        return {**refused, "text": patient.chat([self.said]).message.content}

    def broken(self) -> dict[str, Any]:
        return breaking(lambda: self.model("broken").stream_chat([self.said]))

    def cut(self) -> dict[str, Any]:
        return breaking(lambda: self.model("cut").stream_chat([self.said]))


class Responses(Chat):
    """OpenAIResponses, which takes any model's name."""

    def model(self, name: str = "plain", *, key: str | None = None, retries: int = 0, **options: Any) -> Any:
        return OpenAIResponses(
            model=self.task.models[name],
            api_base=self.task.v1,
            api_key=key or self.task.key,
            max_retries=retries,
            timeout=20,
            context_window=8000,
            **options,
        )

    def stream_usage(self) -> dict[str, Any]:
        *_, last = self.model("counted").stream_chat([self.said])
        return counts(last.raw.response.usage)

    def thinking(self) -> dict[str, Any]:
        model = self.model("thinking", reasoning_options={"summary": "auto"})
        *_, last = model.stream_chat([self.said])
        thoughts = [block.content or "" for block in last.message.blocks if block.block_type == "thinking"]
        return {**tell(last, model), "thought": "".join(thoughts)}


class Known(Chat):
    """OpenAI, which takes only names it knows."""

    def model(self, name: str = "plain", *, key: str | None = None, retries: int = 0, **options: Any) -> Any:
        return OpenAI(
            model="gpt-4o-mini",
            api_base=self.task.v1,
            api_key=key or self.task.key,
            max_retries=retries,
            timeout=20,
            **options,
        )


def tell(answer: Any, model: Any) -> dict[str, Any]:
    calls = model.get_tool_calls_from_response(answer, error_on_no_tool_call=False)
    raw = getattr(answer.raw, "response", answer.raw)
    return {
        "text": answer.message.content,
        "finish": raw.choices[0].finish_reason if hasattr(raw, "choices") else raw.status,
        "calls": [[call.tool_name, call.tool_kwargs] for call in calls],
    }


def counts(usage: Any) -> dict[str, Any]:
    if hasattr(usage, "prompt_tokens"):
        cached = usage.prompt_tokens_details.cached_tokens
        return {"input": usage.prompt_tokens, "output": usage.completion_tokens, "cached": cached}
    return {"input": usage.input_tokens, "output": usage.output_tokens}


if __name__ == "__main__":
    task = read_task()
    faces = {"chat": Chat(task), "responses": Responses(task), "known": Known(task)}
    run(["llama-index-core", "llama-index-llms-openai", "llama-index-llms-openai-like"], faces, task)
