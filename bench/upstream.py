"""A provider that streams: fifty small chunks back to back, to whoever asks, as fast as one core can.

Run as `python -m bench.upstream PORT`. Answers that are not streamed come from an nginx of their own (`sides.py`).
"""

import asyncio
import json
import sys

import httptools

CHUNKS = 50
_HEAD: dict[str, object] = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1, "model": "sse"}
_USAGE = {"prompt_tokens": 300, "completion_tokens": CHUNKS, "total_tokens": 300 + CHUNKS}


def answer() -> bytes:
    """A chat completion with usage, about 1 KB."""
    text = " ".join(f"Sentence {number} says that the weather is fine." for number in range(18))
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    body = {**_HEAD, "object": "chat.completion", "model": "json", "choices": [choice], "usage": _USAGE}
    return json.dumps(body, separators=(",", ":")).encode("ascii")


def _events() -> list[bytes]:
    words: list[dict[str, object]] = [{"delta": {"content": f" word{n}"}, "finish_reason": None} for n in range(48)]
    words.append({"delta": {}, "finish_reason": "stop"})
    choices: list[list[dict[str, object]]] = [[{"index": 0, **word}] for word in words]
    chunks: list[dict[str, object]] = [{**_HEAD, "choices": choice, "usage": None} for choice in choices]
    chunks.append({**_HEAD, "choices": [], "usage": _USAGE})
    return [b"data: %s\n\n" % json.dumps(chunk).encode("ascii") for chunk in chunks] + [b"data: [DONE]\n\n"]


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


_FIRST = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-accel-buffering: no\r\ntransfer-encoding: chunked\r\n\r\n"
)
_WRITES = [_chunk(event) for event in _events()]
_WRITES[0] = _FIRST + _WRITES[0]
_WRITES[-1] += b"0\r\n\r\n"


class _Connection(asyncio.Protocol):
    """One write for each event: what a provider does, and what a relay must bear."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        for data in _WRITES:
            self._transport.write(data)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", port, backlog=512)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
