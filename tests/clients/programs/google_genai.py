"""Drive a gateway with the official Google Gen AI SDK: Gemini's own methods."""

# mypy: disable-error-code="import-not-found"

import base64
import json
from typing import Any

from google import genai
from google.genai import types
from tests.clients.programs.telling import CITY, PIXEL, RESULT, TOOLS, Task, breaking, failing, read_task, run

DECLARED = [
    types.FunctionDeclaration(name=name, description=about, parameters_json_schema=CITY)
    for name, about in TOOLS.items()
]


class Generate:
    """generateContent and its neighbours."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.client = self.connect(task.key)

    def connect(self, key: str, *, attempts: int = 1) -> genai.Client:
        return genai.Client(
            api_key=key,
            http_options=types.HttpOptions(
                base_url=self.task.base, timeout=20_000, retry_options=types.HttpRetryOptions(attempts=attempts)
            ),
        )

    def ask(
        self, model: str = "plain", *, client: genai.Client | None = None, contents: Any = None, **config: Any
    ) -> Any:
        return (client or self.client).models.generate_content(
            model=self.task.models[model],
            contents=contents or self.task.prompt,
            config=types.GenerateContentConfig(**config),
        )

    def begin(self, model: str = "plain", **config: Any) -> Any:
        return self.client.models.generate_content_stream(
            model=self.task.models[model], contents=self.task.prompt, config=types.GenerateContentConfig(**config)
        )

    def flow(self, model: str = "plain", **config: Any) -> dict[str, Any]:
        told: dict[str, Any] = {"text": "", "thought": "", "finish": None, "usage": None, "calls": [], "pieces": 0}
        for chunk in self.begin(model, **config):
            piece = tell(chunk)
            told["text"] += piece["text"]
            told["thought"] += piece["thought"]
            told["calls"] += piece["calls"]
            told["finish"] = piece["finish"] or told["finish"]
            told["pieces"] += bool(piece["text"])
            told["usage"] = counts(chunk.usage_metadata) if chunk.usage_metadata else told["usage"]
        return told

    def answer(self) -> dict[str, Any]:
        return tell(self.ask())

    def stream(self) -> dict[str, Any]:
        return self.flow()

    def usage(self) -> dict[str, Any]:
        return counts(self.ask("counted").usage_metadata)

    def stream_usage(self) -> dict[str, Any]:
        return dict(self.flow("counted")["usage"])

    def tools(self, count: int = 1) -> dict[str, Any]:
        tools = [types.Tool(function_declarations=DECLARED[:count])]
        answer = self.ask(tools=tools)
        results = [
            types.Part(
                function_response=types.FunctionResponse(id=call.id, name=call.name, response={"result": RESULT})
            )
            for call in answer.function_calls or []
        ]
        turns = [
            types.Content(role="user", parts=[types.Part(text=self.task.prompt)]),
            answer.candidates[0].content,
            types.Content(role="user", parts=results),
        ]
        return {**tell(answer), "text": tell(self.ask(contents=turns, tools=tools))["text"]}

    def parallel_tools(self) -> dict[str, Any]:
        return self.tools(2)

    def tool_stream(self) -> dict[str, Any]:
        return self.flow(tools=[types.Tool(function_declarations=DECLARED)])

    def structured(self) -> dict[str, Any]:
        answer = self.ask("shaped", response_mime_type="application/json", response_json_schema=CITY)
        return {"value": json.loads(answer.text)}

    def image(self) -> dict[str, Any]:
        pixel = types.Part.from_bytes(data=base64.b64decode(PIXEL), mime_type="image/png")
        return tell(self.ask(contents=[pixel, self.task.prompt]))

    def embeddings(self) -> dict[str, Any]:
        # It takes a list of strings for one text, when the model's name has "gemini" in it.
        texts = [types.Content(parts=[types.Part(text=text)]) for text in ("um", self.task.word)]
        answer = self.client.models.embed_content(model=self.task.models["embed"], contents=texts)
        return {"vectors": len(answer.embeddings or []), "size": len((answer.embeddings or [])[0].values or [])}

    def count(self) -> dict[str, Any]:
        answer = self.client.models.count_tokens(model=self.task.models["plain"], contents=self.task.prompt)
        return {"tokens": answer.total_tokens}

    def models(self) -> dict[str, Any]:
        return {"names": [(model.name or "").removeprefix("models/") for model in self.client.models.list()]}

    def choices(self) -> dict[str, Any]:
        candidates = self.ask(candidate_count=2).candidates
        return {"texts": ["".join(part.text or "" for part in found.content.parts) for found in candidates]}

    def thinking(self) -> dict[str, Any]:
        return self.flow("thinking", thinking_config=types.ThinkingConfig(include_thoughts=True))

    def silence(self) -> dict[str, Any]:
        return self.flow("slow")

    def unknown(self) -> dict[str, Any]:
        return self.flow("odd")  # Google itself refuses members it does not know

    def ids(self) -> dict[str, Any]:
        headers = self.ask().sdk_http_response.headers or {}
        return {"request_id": {name.lower(): value for name, value in headers.items()}.get("x-request-id")}

    def repeat(self) -> dict[str, Any]:
        options = types.HttpOptions(headers={"Idempotency-Key": f"again-{self.task.word}"})
        return {"ids": [self.ask(http_options=options).response_id for _ in range(2)]}

    def bad_key(self) -> dict[str, Any]:
        return failing(lambda: self.ask(client=self.connect("no-such-key-000000")))

    def bad_model(self) -> dict[str, Any]:
        return failing(lambda: self.ask("absent"))

    def no_money(self) -> dict[str, Any]:
        return failing(lambda: self.ask(client=self.connect(self.task.poor, attempts=3)))

    def rate(self) -> dict[str, Any]:
        self.ask(client=self.connect(self.task.hurried))
        refused = failing(lambda: self.ask(client=self.connect(self.task.hurried)))
        return {**refused, "text": tell(self.ask(client=self.connect(self.task.hurried, attempts=3)))["text"]}

    def broken(self) -> dict[str, Any]:
        return breaking(lambda: self.begin("broken"))

    def cut(self) -> dict[str, Any]:
        return breaking(lambda: self.begin("cut"))


def tell(answer: Any) -> dict[str, Any]:
    """The first candidate, whole or one chunk of it."""
    found = answer.candidates[0] if answer.candidates else None
    parts = (found.content.parts if found and found.content else None) or []
    return {
        "text": "".join(part.text for part in parts if part.text and not part.thought),
        "thought": "".join(part.text for part in parts if part.text and part.thought),
        "finish": found.finish_reason.value if found and found.finish_reason else None,
        "calls": [[part.function_call.name, part.function_call.args] for part in parts if part.function_call],
    }


def counts(usage: Any) -> dict[str, Any]:
    """The figures in the matrix's words: Gemini counts thoughts beside the candidates, not among them."""
    thoughts = usage.thoughts_token_count or 0
    return {
        "input": usage.prompt_token_count,
        "output": (usage.candidates_token_count or 0) + thoughts,
        "cached": usage.cached_content_token_count or 0,
        "reasoning": thoughts,
    }


if __name__ == "__main__":
    task = read_task()
    run(["google-genai"], {"generate": Generate(task)}, task)
