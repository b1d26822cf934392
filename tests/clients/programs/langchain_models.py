"""Drive a gateway with LangChain's models: ChatOpenAI, its embeddings, and ChatAnthropic."""

# mypy: disable-error-code="import-not-found"

from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from tests.clients.programs.telling import CITY, PIXEL, RESULT, TOOLS, Task, breaking, failing, read_task, run

DECLARED: list[Any] = [
    {"type": "function", "function": {"name": name, "description": about, "parameters": CITY}}
    for name, about in TOOLS.items()
]
SHAPE = {"title": "city", "description": "A city and some days", **CITY}


class Chat:
    """ChatOpenAI over chat completions."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def model(self, name: str = "plain", *, key: str | None = None, retries: int = 0, **options: Any) -> Any:
        return ChatOpenAI(
            model=self.task.models[name],
            base_url=self.task.v1,
            api_key=key or self.task.key,
            max_retries=retries,
            timeout=20,
            **options,
        )

    def flow(self, runnable: Any, said: Any = None) -> dict[str, Any]:
        whole: Any = None
        pieces = 0
        for chunk in runnable.stream(said or self.task.prompt):
            whole = chunk if whole is None else whole + chunk
            pieces += bool(chunk.text)
        return {**tell(whole), "pieces": pieces, "usage": whole.usage_metadata and counts(whole)}

    def answer(self) -> dict[str, Any]:
        return tell(self.model().invoke(self.task.prompt))

    def stream(self) -> dict[str, Any]:
        return self.flow(self.model())

    def usage(self) -> dict[str, Any]:
        return counts(self.model("counted").invoke(self.task.prompt))

    def stream_usage(self) -> dict[str, Any]:
        return dict(self.flow(self.model("counted", stream_usage=True))["usage"])

    def tools(self, count: int = 1) -> dict[str, Any]:
        model = self.model().bind_tools(DECLARED[:count])
        said = HumanMessage(self.task.prompt)
        answer = model.invoke([said])
        results = [ToolMessage(RESULT, tool_call_id=call["id"]) for call in answer.tool_calls]
        return {**tell(answer), "text": model.invoke([said, answer, *results]).text}

    def parallel_tools(self) -> dict[str, Any]:
        return self.tools(2)

    def tool_stream(self) -> dict[str, Any]:
        return self.flow(self.model().bind_tools(DECLARED))

    def structured(self) -> dict[str, Any]:
        return {
            "value": self.model("shaped").with_structured_output(SHAPE, method="json_schema").invoke(self.task.prompt)
        }

    def image(self) -> dict[str, Any]:
        parts = [
            {"type": "text", "text": self.task.prompt},
            {"type": "image", "base64": PIXEL, "mime_type": "image/png"},
        ]
        return tell(self.model().invoke([HumanMessage(content=parts)]))

    def embeddings(self) -> dict[str, Any]:
        model = OpenAIEmbeddings(
            model=self.task.models["embed"],
            base_url=self.task.v1,
            api_key=self.task.key,
            check_embedding_ctx_length=False,
        )
        vectors = model.embed_documents(["um", self.task.word])
        return {"vectors": len(vectors), "size": len(vectors[0])}

    def silence(self) -> dict[str, Any]:
        return self.flow(self.model("slow"))

    def bad_key(self) -> dict[str, Any]:
        return failing(lambda: self.model(key="no-such-key-000000").invoke(self.task.prompt))

    def bad_model(self) -> dict[str, Any]:
        return failing(lambda: self.model("absent").invoke(self.task.prompt))

    def no_money(self) -> dict[str, Any]:
        return failing(lambda: self.model(key=self.task.poor, retries=2).invoke(self.task.prompt))

    def rate(self) -> dict[str, Any]:
        hurried = self.model(key=self.task.hurried)
        hurried.invoke(self.task.prompt)
        refused = failing(lambda: hurried.invoke(self.task.prompt))
        patient = self.model(key=self.task.hurried, retries=2)
        return {**refused, "text": patient.invoke(self.task.prompt).text}

    def broken(self) -> dict[str, Any]:
        return breaking(lambda: self.model("broken").stream(self.task.prompt))

    def cut(self) -> dict[str, Any]:
        return breaking(lambda: self.model("cut").stream(self.task.prompt))


class Responses(Chat):
    """ChatOpenAI over responses."""

    def model(self, name: str = "plain", *, key: str | None = None, retries: int = 0, **options: Any) -> Any:
        return super().model(name, key=key, retries=retries, use_responses_api=True, **options)

    def thinking(self) -> dict[str, Any]:
        return self.flow(self.model("thinking", reasoning={"summary": "auto"}))


class Messages(Chat):
    """ChatAnthropic."""

    def model(self, name: str = "plain", *, key: str | None = None, retries: int = 0, **options: Any) -> Any:
        return ChatAnthropic(
            model=self.task.models[name],
            base_url=self.task.base,
            api_key=key or self.task.key,
            max_retries=retries,
            timeout=20,
            **{"max_tokens": 400, **options},
        )

    def thinking(self) -> dict[str, Any]:
        allowed = {"type": "enabled", "budget_tokens": 1024}
        return self.flow(self.model("thinking", max_tokens=2000, thinking=allowed))

    def count(self) -> dict[str, Any]:
        return {"tokens": self.model().get_num_tokens_from_messages([HumanMessage(self.task.prompt)])}


def tell(message: Any) -> dict[str, Any]:
    said = message.response_metadata
    thoughts = [block.get("reasoning", "") for block in message.content_blocks if block["type"] == "reasoning"]
    return {
        "text": message.text,
        "thought": "".join(thoughts),
        "finish": said.get("finish_reason") or said.get("stop_reason") or said.get("status"),
        "calls": [[call["name"], call["args"]] for call in message.tool_calls],
    }


def counts(message: Any) -> dict[str, Any]:
    used = message.usage_metadata
    return {
        "input": used["input_tokens"],
        "output": used["output_tokens"],
        "cached": used["input_token_details"]["cache_read"],
    }


if __name__ == "__main__":
    task = read_task()
    faces = {"chat": Chat(task), "responses": Responses(task), "messages": Messages(task)}
    run(["langchain-openai", "langchain-anthropic", "langchain-core"], faces, task)
