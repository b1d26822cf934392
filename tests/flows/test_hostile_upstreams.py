"""A provider that lies: every answer that is none ends in an error of the caller's dialect, and nothing is made up."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.flows.front import CHAT, FINISHES, World, asking, eventually
from tests.flows.inprocess import application
from tests.harness import Site

STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
WHOLE: dict[str, Any] = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "fake-small",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}


def event(*choices: Any) -> bytes:
    return b"data: " + json.dumps({"id": "c", "model": "fake-small", "choices": choices}).encode() + b"\n\n"


def delta(text: str, finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"index": index, "delta": {"content": text}, "finish_reason": finish}


SAID, FINISH, DONE = event(delta("words")), event(delta("", "stop")), b"data: [DONE]\n\n"


def whole(body: object, *, status: str = "200 OK", head: bytes = b"") -> bytes:
    said = body if isinstance(body, bytes) else json.dumps(body).encode()
    line = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(said)}\r\n".encode()
    return line + head + b"\r\n" + said


def stream(*parts: bytes) -> bytes:
    return STREAM + b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def beside(text: str) -> bytes:
    """The good answer, and after its last member this."""
    return whole(f"{json.dumps(WHOLE)[:-1]},{text}}}".encode())


NO_ANSWERS = {
    "a member twice": beside('"usage":{"prompt_tokens":0}'),
    "too deep": beside('"x":' + "[" * 5_000 + "]" * 5_000),
    "a number that is none": beside('"x":NaN'),
    "a number without end": beside('"x":' + "9" * 100_000),
    "an array": whole([WHOLE]),
    "another encoding": whole(json.dumps(WHOLE).encode("utf-16")),
    "half a character": beside('"x":"\\ud800"'),
    "another dialect": whole({"type": "message", "role": "assistant", "content": [], "stop_reason": "end_turn"}),
    "choices that are none": whole({**WHOLE, "choices": {"0": WHOLE["choices"]}}),
    "another protocol": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    "interim answers without end": b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" * 5_000 + whole(WHOLE),
    "nothing": b"HTTP/1.1 204 No Content\r\n\r\n",
    "a part": whole(WHOLE, status="206 Partial Content"),
    "somewhere else": whole(b"", status="302 Found", head=b"location: http://169.254.169.254/latest/meta-data/\r\n"),
    "two lengths": whole(WHOLE, head=b"content-length: 2\r\n"),
    "a length and chunks": whole(WHOLE, head=b"transfer-encoding: chunked\r\n"),
    "a stream": stream(SAID, FINISH, DONE),
}
BROKEN_STREAMS = {
    "no words": stream(DONE),
    "an end before its finish": stream(SAID, DONE),
    "words after the finish": stream(SAID, FINISH, SAID, DONE),
    "an event that says it is an error": stream(b"event: error\n" + SAID, FINISH, DONE),
    "an end in two lines": stream(SAID, b"data: [DO\ndata: NE]\n\n", FINISH, DONE),
    "a byte order mark in the middle": stream(SAID, b"\xef\xbb\xbf" + FINISH, DONE),
    "a member twice": stream(b'data: {"choices":[],"choices":[]}\n\n', FINISH, DONE),
    "an error among the words": stream(SAID, b'data: {"error":{"message":"x"}}\n\n', FINISH, DONE),
    "more choices than anybody asked for": stream(*(event(delta("a", index=n)) for n in range(20_000)), FINISH, DONE),
    "more choices in one event": stream(event(*(delta("a", index=n) for n in range(5_000))), FINISH, DONE),
    "more texts than anybody reads": stream(event({"index": 0, "delta": {f"x{n}": "a" for n in range(5_000)}}), DONE),
    "comments without end": stream(b": x\n" * 300_000, SAID, FINISH, DONE),
    "an extension without end": STREAM + b"1;" + b"a" * 1_000_000 + b"\r\nx\r\n",
}


class Liar:
    """Says `answer` to every request; then it is for the gateway to close."""

    def __init__(self) -> None:
        self.answer = b""
        self.asked = self.closed = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))
                self.asked += 1
                writer.write(self.answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            self.closed += 1
        finally:
            writer.close()


@asynccontextmanager
async def lied_to(directory: Path) -> AsyncIterator[tuple[World, Liar]]:
    liar = Liar()
    server = await asyncio.start_server(liar.serve, "127.0.0.1", 0)
    site = Site(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    site.model("chat", "openai", retries=0)
    site.tenant("acme", budget="1000 USD")
    key = site.key()
    with application(directory, site) as app:
        try:
            opened = World(app, None, key)  # type: ignore[arg-type]
            yield opened, liar
        finally:
            await app.drain()
            server.close()
        opened.assert_balanced()


@pytest.mark.requirement("GW-9", "GW-8")
def test_an_answer_that_is_none_is_an_error_and_ends_its_connection(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lied_to(tmp_path) as (opened, liar):
            for name, answer in NO_ANSWERS.items():
                before = liar.asked
                liar.answer = answer
                call = await opened.ask(CHAT, asking(CHAT))
                assert (call.status, call.code) == (502, "bad_reply"), (name, call.body)
                assert b"169.254" not in call.body, name
                outcome = opened.record_of(call)
                assert (outcome["status"], outcome["code"], outcome["finish"]) == ("failed", "bad_reply", None), name
                assert liar.asked == before + 1, name
            # What is no HTTP message costs its connection; what is one, but no answer, need not.
            await eventually(lambda: liar.closed >= 4)

    asyncio.run(scenario())


@pytest.mark.requirement("GW-9", "GW-8")
def test_a_stream_that_lies_ends_in_an_error_and_never_in_a_finish(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with lied_to(tmp_path) as (opened, liar):
            for name, answer in BROKEN_STREAMS.items():
                closed, liar.answer = liar.closed, answer
                call = await opened.ask(CHAT, asking(CHAT, stream=True))
                assert call.status == 200, name
                assert b'"error"' in call.events[-1], (name, call.events[-1])
                assert not [mark for mark in (*FINISHES, b'"finish_reason": "stop"', b"[DONE]") if mark in call.body], (
                    name
                )
                outcome = opened.record_of(call)
                assert outcome["status"] in ("failed", "truncated"), name
                assert outcome["presumed"] > 0, name
                if "without end" in name:
                    await eventually(lambda closed=closed: liar.closed > closed)  # type: ignore[misc]

    asyncio.run(scenario())


@pytest.mark.requirement("FN-2")
@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -5, "completion_tokens": -1},
        {"prompt_tokens": 10**18, "completion_tokens": 10**18},
        {"prompt_tokens": 10**400, "completion_tokens": 1},
        {"prompt_tokens": 1.5, "completion_tokens": "7"},
        [1, 2],
    ],
    ids=["negative", "huge", "endless", "of another type", "a list"],
)
def test_figures_that_are_none_leave_the_hold_presumed_spent(tmp_path: Path, usage: object) -> None:
    async def scenario() -> None:
        async with lied_to(tmp_path) as (opened, liar):
            liar.answer = whole({**WHOLE, "usage": usage})
            call = await opened.ask(CHAT, asking(CHAT))
            assert call.status == 200, call.body
            outcome = opened.record_of(call)
            assert (outcome["settled"], outcome["cost_known"]) == (0, False)
            assert outcome["presumed"] > 0
            assert "x-securellm-cost-nanos" not in call.headers

    asyncio.run(scenario())


@pytest.mark.requirement("GW-7")
def test_no_header_of_a_provider_and_no_name_it_gives_itself_reaches_a_client_as_a_header(tmp_path: Path) -> None:
    head = (
        b"set-cookie: a=b\r\nlocation: http://evil.example/\r\naccess-control-allow-origin: *\r\n"
        b"strict-transport-security: max-age=1\r\nx-request-id: req_other\r\nx-securellm-cost-nanos: 0\r\n"
        b"x-securellm-cache: hit\r\nretry-after: 1\r\n"
    )

    async def scenario() -> None:
        async with lied_to(tmp_path) as (opened, liar):
            for model in ("fake-small", "a\r\nset-cookie: a=b", "ç\u202e", "m" * 10_000):
                liar.answer = whole({**WHOLE, "model": model}, head=head)
                call = await opened.ask(CHAT, asking(CHAT))
                assert call.status == 200, call.body
                names = [name.decode() for name, _ in call.raw_headers]
                assert sorted(names) == sorted(set(names))
                assert not {"set-cookie", "location", "access-control-allow-origin", "retry-after"} & set(names)
                assert "strict-transport-security" not in names
                assert call.headers["x-request-id"] != "req_other"
                assert call.headers["x-securellm-cost-nanos"] != "0"
                assert all(value.isascii() and len(value) < 1_100 for _, value in call.raw_headers)
                assert not any(b"\r" in value or b"\n" in value for _, value in call.raw_headers)

    asyncio.run(scenario())
