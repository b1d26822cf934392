"""Drive a gateway with the Claude Code command line: `claude -p` over messages."""

# mypy: disable-error-code="import-not-found"

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests.clients.programs.telling import Task, read_task, run, say_version

QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_TELEMETRY": "1",
    # Its tools stand in the request itself, and a broken stream is not asked again without streaming.
    "ENABLE_TOOL_SEARCH": "false",
    "CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK": "1",
}


class Print:
    """`claude -p`, its messages as JSON lines."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.home = Path(os.environ["HOME"])
        (self.home / "work").mkdir()

    def ask(self, model: str, *, key: str | None = None, **environment: str) -> list[dict[str, Any]]:
        """Every message of one run."""
        name = self.task.models[model]
        done = subprocess.run(
            [
                *(self.task.command, "--print", "--output-format", "stream-json", "--verbose"),
                *("--include-partial-messages", "--tools=Bash", "--allowedTools=Bash(echo:*)"),
                *("--model", name, "--", self.task.prompt),
            ],
            env={
                **os.environ,
                **QUIET,
                "ANTHROPIC_BASE_URL": self.task.base,
                "ANTHROPIC_API_KEY": key or self.task.key,
                "ANTHROPIC_DEFAULT_HAIKU_MODEL": name,
                **environment,
            },
            cwd=self.home / "work",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
        )
        said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        assert said, done.stderr
        return said

    def tell(self, said: list[dict[str, Any]]) -> dict[str, Any]:
        result = said[-1]
        assert result["type"] == "result", result
        deltas = [
            line["event"]["delta"]["text"]
            for line in said
            if line["type"] == "stream_event" and line["event"].get("delta", {}).get("type") == "text_delta"
        ]
        answers = [
            block["content"]
            for line in said
            if line["type"] == "user"
            for block in line["message"]["content"]
            if block["type"] == "tool_result"
        ]
        used = result["usage"]
        cached = used["cache_read_input_tokens"]
        return {
            "text": result["result"],
            "finish": result["stop_reason"],
            "pieces": len(deltas),
            "ran": "".join(map(str, answers)).strip(),
            "usage": {
                "input": used["input_tokens"] + used["cache_creation_input_tokens"] + cached,
                "cached": cached,
                "output": used["output_tokens"],
            },
        }

    def fail(self, model: str, *, key: str | None = None, **environment: str) -> dict[str, Any]:
        """How it names an error; it has no classes, so the kind of its end stands for one."""
        result = self.ask(model, key=key, **environment)[-1]
        return {
            "classes": [result["terminal_reason"]] if result["is_error"] else [],
            "status": result.get("api_error_status"),
            "message": result["result"],
        }

    def stream(self) -> dict[str, Any]:
        return self.tell(self.ask("quiet"))

    def stream_usage(self) -> dict[str, Any]:
        return dict(self.tell(self.ask("spent"))["usage"])

    def tool_stream(self) -> dict[str, Any]:
        return self.tell(self.ask("command"))

    def silence(self) -> dict[str, Any]:
        return self.tell(self.ask("slow"))

    def bad_key(self) -> dict[str, Any]:
        return self.fail("quiet", key="no-such-key-000000")

    def bad_model(self) -> dict[str, Any]:
        return self.fail("absent")

    def no_money(self) -> dict[str, Any]:
        return self.fail("quiet", key=self.task.poor)

    def broken(self) -> dict[str, Any]:
        return {**self.fail("broken", CLAUDE_CODE_MAX_RETRIES="0"), "pieces": 0}

    def cut(self) -> dict[str, Any]:
        return {**self.fail("cut", CLAUDE_CODE_MAX_RETRIES="0"), "pieces": 0}


if __name__ == "__main__":
    task = read_task()
    say_version("@anthropic-ai/claude-code", task.command, "--version")
    run([], {"print": Print(task)}, task)
