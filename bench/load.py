"""Thirty-two kept-alive connections asking as fast as they are answered: wrk, or a small generator without it."""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

CONNECTIONS = 32

_LUA = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer %(key)s"
local head, tail, n = [==[%(head)s]==], [==[%(tail)s]==], 0
request = function()
  n = n + 1
  return wrk.format(nil, nil, nil, head .. n .. tail)
end
done = function(summary)
  local e = summary.errors
  print("DONE " .. summary.requests .. " " .. (e.status + e.connect + e.read + e.write + e.timeout))
end
"""


class Job(NamedTuple):
    """What is asked, again and again; every request differs by a number, so that no cache answers it."""

    url: str
    key: str
    model: str
    text: str
    stream: bool

    def body(self, mark: str) -> tuple[str, str]:
        """What stands before and after the number. `mark` tells one run's requests from another's."""
        members: dict[str, object] = {
            "model": self.model,
            "temperature": 0,
            "max_tokens": 200,
            "messages": [
                {"role": "system", "content": f"Run {mark}, question @"},
                {"role": "user", "content": self.text},
            ],
        }
        if self.stream:
            members |= {"stream": True, "stream_options": {"include_usage": True}}
        head, _, tail = json.dumps(members).partition("@")
        return head, tail


def generator() -> str:
    return "wrk" if shutil.which("wrk") else "asyncio"


def drive(job: Job, *, seconds: float, mark: str, folder: Path) -> int:
    """How many answers came. Raises RuntimeError when one was not 200 or a connection broke."""
    head, tail = job.body(mark)
    if generator() == "asyncio":
        return asyncio.run(_drive(job, head, tail, seconds))
    script = folder / "job.lua"
    script.write_text(_LUA % {"key": job.key, "head": head, "tail": tail}, encoding="utf-8")
    # wrk takes whole seconds only; a shorter time is for the test that it runs at all.
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-s", str(script), job.url]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    words = next(line for line in output.splitlines() if line.startswith("DONE ")).split()
    answers, errors = int(words[1]), int(words[2])
    if errors or not answers:
        raise RuntimeError(f"{errors} of {answers} answers failed at {job.url}:\n{output}")
    return answers


async def _drive(job: Job, head: str, tail: str, seconds: float) -> int:
    parts, loop = urlsplit(job.url), asyncio.get_running_loop()
    end, count = loop.time() + seconds, 0

    async def ask() -> None:
        nonlocal count
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        while loop.time() < end:
            count += 1
            body = f"{head}{count}{tail}"
            writer.write(
                f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
                f"Authorization: Bearer {job.key}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode("ascii")
            )
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            if not answer.startswith(b"http/1.1 200"):
                raise RuntimeError(f"an answer at {job.url} began {answer[:60]!r}")
            if job.stream:
                await reader.readuntil(b"\r\n0\r\n\r\n")
            else:
                await reader.readexactly(int(answer.partition(b"content-length:")[2].partition(b"\r\n")[0]))
        writer.close()

    await asyncio.gather(*(ask() for _ in range(CONNECTIONS)))
    return count
