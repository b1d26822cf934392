"""Drive a gateway with the Codex command line: `codex exec` over responses."""

# mypy: disable-error-code="import-not-found"

import base64
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from tests.clients.programs.telling import PIXEL, Task, read_task, run, say_version

CONFIG = """
model_provider = "gateway"
check_for_update_on_startup = false
{search}
[analytics]
enabled = false
[otel]
exporter = "none"
[model_providers.gateway]
name = "gateway"
base_url = "{base}"
env_key = "GATEWAY_KEY"
wire_api = "responses"
request_max_retries = 1
stream_max_retries = 1
stream_idle_timeout_ms = 15000
"""


class Exec:
    """`codex exec`, its events as JSON lines."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.home = Path(os.environ["HOME"])
        (self.home / ".codex").mkdir()
        (self.home / "work").mkdir()
        search = "" if task.lane in ("own", "aimock") else 'web_search = "disabled"'
        (self.home / ".codex" / "config.toml").write_text(CONFIG.format(base=task.v1, search=search), encoding="utf-8")

    def ask(self, model: str, *options: str, key: str | None = None) -> list[dict[str, Any]]:
        """Every event of one run."""
        done = subprocess.run(
            [
                *(self.task.command, "exec", "--json", "--ephemeral", "--skip-git-repo-check"),
                # What it runs is what our own upstream tells it to.
                *("--sandbox", "danger-full-access", "--model", self.task.models[model]),
                *(*options, "--", self.task.prompt),
            ],
            env={**os.environ, "GATEWAY_KEY": key or self.task.key},
            cwd=self.home / "work",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
        )
        events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        assert events, done.stderr
        return events

    def tell(self, events: list[dict[str, Any]]) -> dict[str, Any]:
        items = [event["item"] for event in events if event["type"] == "item.completed"]
        ended = events[-1]
        used = ended.get("usage") or {}
        return {
            "text": "".join(item["text"] for item in items if item["type"] == "agent_message"),
            "finish": "completed" if ended["type"] == "turn.completed" else ended["type"],
            "pieces": 1,
            "ran": "".join(item["aggregated_output"] for item in items if item["type"] == "command_execution").strip(),
            "usage": {
                "input": used.get("input_tokens"),
                "cached": used.get("cached_input_tokens"),
                "output": used.get("output_tokens"),
                "reasoning": used.get("reasoning_output_tokens"),
            },
        }

    def fail(self, model: str, *options: str, key: str | None = None) -> dict[str, Any]:
        """How it names an error; it has no classes, so the kind of its last event stands for one."""
        events = self.ask(model, *options, key=key)
        message = next((str(event["message"]) for event in events if event["type"] == "error"), "")
        status = re.search(r"status (\d{3})", message)
        failed = events[-1]["type"] == "turn.failed"
        return {
            "classes": [events[-1]["type"]] if failed else [],
            "status": int(status[1]) if status else None,
            "message": message,
        }

    def stream(self) -> dict[str, Any]:
        return self.tell(self.ask("quiet"))

    def stream_usage(self) -> dict[str, Any]:
        return dict(self.tell(self.ask("spent"))["usage"])

    def tool_stream(self) -> dict[str, Any]:
        return self.tell(self.ask("cmd"))

    def image(self) -> dict[str, Any]:
        path = self.home / "pixel.png"
        path.write_bytes(base64.b64decode(PIXEL))
        return self.tell(self.ask("quiet", "--image", str(path)))

    def silence(self) -> dict[str, Any]:
        return self.tell(self.ask("slow"))

    def bad_key(self) -> dict[str, Any]:
        return self.fail("quiet", key="no-such-key-000000")

    def bad_model(self) -> dict[str, Any]:
        return self.fail("absent")

    def no_money(self) -> dict[str, Any]:
        return self.fail("quiet", key=self.task.poor)

    def broken(self) -> dict[str, Any]:
        return {**self.fail("broken"), "pieces": 0}

    def cut(self) -> dict[str, Any]:
        return {**self.fail("cut"), "pieces": 0}


if __name__ == "__main__":
    task = read_task()
    say_version("@openai/codex", task.command, "--version")
    run([], {"exec": Exec(task)}, task)
