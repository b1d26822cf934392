"""The fake provider itself: what it says is what the providers document, and it goes wrong exactly as asked."""

import asyncio
import base64
import json
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import anthropic
import msgspec
import openai
import pytest
from tests.harness import Reply, UpstreamProcess, raw_exchange, request
from tests.upstream import CREDENTIALS, Behaviour, FakeUpstream, marked, read_journal

SAID = [{"role": "user", "content": "olá"}]


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream().in_thread() as running:
        yield running


def chat(upstream: FakeUpstream, model: str = "fake", *, face: str = "openai", **members: object) -> Reply:
    body = {"model": model, "messages": SAID, **members}
    path = upstream.url(face).removeprefix(upstream.root) + "/chat/completions"
    return request(upstream.root, "POST", path, key=CREDENTIALS[face], body=body)


def messages(upstream: FakeUpstream, headers: dict[str, str], **members: object) -> Reply:
    body = {"model": "fake", "max_tokens": 50, "messages": SAID, **members}
    return request(upstream.root, "POST", "/anthropic/v1/messages", body=body, headers=headers)


def wire(upstream: FakeUpstream, body: dict[str, object], *, path: str = "/openai/v1/chat/completions") -> bytes:
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: fake\r\nAuthorization: Bearer {CREDENTIALS['openai']}\r\n"
        f"Content-Type: application/json\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
    )
    return raw_exchange(upstream.port, head.encode() + data)


def answers(upstream: FakeUpstream, count: int = 1) -> list[object]:
    end = time.monotonic() + 5
    while len(upstream.journal.entries("answer")) < count and time.monotonic() < end:
        time.sleep(0.01)
    return list(upstream.journal.entries("answer"))


def test_the_newest_openai_sdk_is_content_with_it(upstream: FakeUpstream) -> None:
    with openai.OpenAI(base_url=upstream.url(), api_key=CREDENTIALS["openai"], max_retries=0) as client:
        whole = client.chat.completions.create(model="fake", messages=[{"role": "user", "content": "olá"}])
        assert whole.choices[0].message.content == "Olá! The fake provider answers: ação ✓ 🎉."
        chunks = list(
            client.chat.completions.create(
                model=marked("fake", write_size=1),
                messages=[{"role": "user", "content": "olá"}],
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
        assert text == whole.choices[0].message.content
        assert chunks[-1].choices == []
        assert chunks[-1].usage == whole.usage
        vectors = client.embeddings.create(model="fake-embed", input=["um", "dois"]).data
        assert len(vectors[0].embedding) == 16


def test_the_newest_anthropic_sdk_is_content_with_it(upstream: FakeUpstream) -> None:
    with anthropic.Anthropic(
        base_url=f"{upstream.root}/anthropic", api_key=CREDENTIALS["anthropic"], max_retries=0
    ) as client:
        model = marked("fake", thinking=True, cached=4, cache_write_1h=3, input_tokens=20)
        with client.messages.stream(
            model=model, max_tokens=50, messages=[{"role": "user", "content": "olá"}]
        ) as stream:
            message = stream.get_final_message()
        assert [block.type for block in message.content] == ["thinking", "text"]
        assert message.usage.input_tokens == 13
        assert message.usage.cache_read_input_tokens == 4
        assert message.usage.cache_creation_input_tokens == 3


@pytest.mark.parametrize("escape", [False, True])
def test_both_spellings_of_an_answer_say_the_same(upstream: FakeUpstream, escape: bool) -> None:
    reply = chat(upstream, marked("fake", reply=("CPF 529.982.", "247-25"), escape=escape))
    assert reply.json()["choices"][0]["message"]["content"] == "CPF 529.982.247-25"
    assert (b"529.982" in reply.body) is not escape


def test_a_reply_keeps_its_pieces_as_events(upstream: FakeUpstream) -> None:
    reply = chat(upstream, marked("fake", reply=("529.", "982|", "247")), stream=True)
    said = [json.loads(data)["choices"][0]["delta"].get("content") for data in reply.events[1:-2]]
    assert said == ["529.", "982|", "247"]
    assert reply.events[-1] == "[DONE]"


@pytest.mark.parametrize(
    ("headers", "status", "kind"),
    [
        ({}, 401, "authentication_error"),
        ({"x-api-key": "wrong", "anthropic-version": "2023-06-01"}, 401, "authentication_error"),
        ({"x-api-key": CREDENTIALS["anthropic"]}, 400, "invalid_request_error"),
        ({"x-api-key": CREDENTIALS["anthropic"], "anthropic-version": "2020-01-01"}, 400, "invalid_request_error"),
        ({"x-api-key": CREDENTIALS["anthropic"], "anthropic-version": "2023-06-01"}, 200, None),
        ({"authorization": f"Bearer {CREDENTIALS['anthropic']}", "anthropic-version": "2026-10-21"}, 200, None),
    ],
)
def test_messages_want_a_credential_and_a_version(
    upstream: FakeUpstream, headers: dict[str, str], status: int, kind: str | None
) -> None:
    reply = messages(upstream, headers)
    assert reply.status == status
    assert reply.json().get("error", {}).get("type") == kind
    assert reply.headers["request-id"].startswith("req_")


def test_the_newer_version_of_messages_refuses_a_temperature(upstream: FakeUpstream) -> None:
    old, new = (
        messages(
            upstream, {"x-api-key": CREDENTIALS["anthropic"], "anthropic-version": version}, temperature=1.0
        ).status
        for version in ("2023-06-01", "2026-10-21")
    )
    assert (old, new) == (200, 400)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"model": "fake", "model": "other", "messages": []}', 400),
        (b'{"model": "fake", "messages": [{"role": "user", "content": "\xff"}]}', 400),
        (b'{"messages": [{"role": "user", "content": "hi"}]}', 400),
        (b'{"model": "fake", "messages": []}', 400),
        (b'{"model": "fake", "messages": [{"role": "robot", "content": "hi"}]}', 400),
        (b'{"model": "fake", "messages": [{"role": "user", "content": "hi"}], "n": 0}', 400),
        (b'{"model": "fake", "messages": [{"role": "user", "content": "hi"}], "stream_options": {}}', 400),
        (b'{"model": "no-such-model", "messages": [{"role": "user", "content": "hi"}]}', 404),
        (b'{"model": "fake~nonsense=1", "messages": [{"role": "user", "content": "hi"}]}', 400),
        (b'{"model": "fake", "messages": [{"role": "user", "content": "hi"}], "future_field": {"kept": 1}}', 200),
    ],
)
def test_chat_is_as_strict_as_the_provider(upstream: FakeUpstream, body: bytes, status: int) -> None:
    reply = request(upstream.root, "POST", "/openai/v1/chat/completions", key=CREDENTIALS["openai"], body=body)
    assert reply.status == status
    assert ("error" in reply.json()) is (status != 200)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/openai/v1/chat/completions", 405),
        ("POST", "/openai/v1/nothing", 404),
        ("POST", "/openai/v2/chat/completions", 404),
        ("POST", "/deepseek/v1/responses", 404),
        ("POST", "/deepseek/chat/completions", 200),
        ("POST", "/v1/chat/completions", 200),
    ],
)
def test_only_documented_paths_are_served(upstream: FakeUpstream, method: str, path: str, status: int) -> None:
    key = CREDENTIALS["deepseek" if path.startswith("/deepseek") else "openai"]
    body = {"model": "fake", "messages": SAID}
    assert request(upstream.root, method, path, key=key, body=body).status == status


def test_each_face_counts_tokens_in_its_own_way(upstream: FakeUpstream) -> None:
    model = marked("fake", input_tokens=100, cached=40, output_tokens=10, reasoning=5)
    usage = {
        face: chat(upstream, model, face=face).json()["usage"]
        for face in ("openai", "xai", "deepseek", "ollama", "compatible")
    }
    assert usage["openai"]["completion_tokens"] == 15
    assert usage["openai"]["prompt_tokens_details"]["cached_tokens"] == 40
    assert usage["xai"]["completion_tokens"] == 10
    assert usage["xai"]["total_tokens"] == 115
    assert (usage["deepseek"]["prompt_cache_hit_tokens"], usage["deepseek"]["prompt_cache_miss_tokens"]) == (40, 60)
    assert usage["ollama"] == {"prompt_tokens": 100, "completion_tokens": 15, "total_tokens": 115}
    bills = {json.dumps(entry.usage) for entry in upstream.journal.entries("answer")}
    assert len(bills) == 1


def test_deepseek_comments_while_it_works_and_reports_usage_beside_the_finish_reason(upstream: FakeUpstream) -> None:
    reply = chat(upstream, marked("fake", queued=0.12), face="deepseek", stream=True)
    assert reply.body.count(b": keep-alive\n\n") >= 3
    assert json.loads(reply.events[-2])["choices"][0]["finish_reason"] == "stop"
    assert "usage" in json.loads(reply.events[-2])
    whole = chat(upstream, marked("fake", queued=0.12), face="deepseek")
    assert whole.body.startswith(b"\n\n")
    assert whole.json()["usage"]


@pytest.mark.parametrize(
    ("knob", "expected"),
    [
        ("documented", [(0, True)]),
        ("with_choices", [(1, True)]),
        ("none", []),
    ],
)
def test_usage_stands_in_the_stream_where_it_was_asked_for(
    upstream: FakeUpstream, knob: str, expected: list[tuple[int, bool]]
) -> None:
    reply = chat(upstream, marked("fake", usage=knob), stream=True, stream_options={"include_usage": True})
    chunks = [json.loads(data) for data in reply.events[:-1]]
    assert [(len(chunk["choices"]), True) for chunk in chunks if chunk.get("usage")] == expected


def test_a_stream_is_cut_at_its_event_and_the_log_bills_what_left(upstream: FakeUpstream) -> None:
    answer = wire(upstream, {"model": marked("fake", cut_event=3), "messages": SAID, "stream": True})
    assert answer.count(b"data: ") == 3
    assert not answer.endswith(b"0\r\n\r\n")
    (entry,) = upstream.journal.entries("answer")
    assert (entry.events, entry.whole, entry.gone_after) == (3, False, None)
    assert entry.usage is not None
    assert entry.usage["output"] == 3


def test_an_answer_is_cut_at_its_byte(upstream: FakeUpstream) -> None:
    answer = wire(upstream, {"model": marked("fake", cut_byte=100), "messages": SAID})
    assert len(answer) == 100


def test_a_reset_is_a_reset(upstream: FakeUpstream) -> None:
    data = json.dumps({"model": marked("fake", cut_byte=100, reset=True), "messages": SAID}).encode()
    head = (
        f"POST /openai/v1/chat/completions HTTP/1.1\r\nHost: fake\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {CREDENTIALS['openai']}\r\nContent-Length: {len(data)}\r\n\r\n"
    ).encode()
    received = b""
    with socket.create_connection(("127.0.0.1", upstream.port), timeout=5) as connection:
        connection.sendall(head + data)
        with pytest.raises(ConnectionResetError):  # noqa: PT012 - which of the reads fails is up to the kernel
            while piece := connection.recv(1000):
                received += piece
    assert len(received) == 100


def test_a_stream_without_its_end_still_looks_whole_to_http(upstream: FakeUpstream) -> None:
    cut = chat(upstream, marked("fake", cut_event=3, clean_cut=True), stream=True)
    unfinished = chat(upstream, marked("fake", no_done=True), stream=True)
    no_finish = chat(upstream, marked("fake", no_finish=True), stream=True)
    assert len(cut.events) == 3
    assert "[DONE]" not in unfinished.events
    assert no_finish.events[-1] == "[DONE]"
    assert b'"finish_reason":"stop"' not in no_finish.body


@pytest.mark.parametrize(
    ("path", "face", "first"),
    [
        ("/openai/v1/chat/completions", "openai", '{"error":'),
        ("/openai/v1/responses", "openai", '{"type":"error"'),
        ("/anthropic/v1/messages", "anthropic", '{"type":"error"'),
    ],
)
def test_a_stream_breaks_with_its_dialects_error_event(
    upstream: FakeUpstream, path: str, face: str, first: str
) -> None:
    model = marked("fake", error_event=2)
    body: dict[str, object] = {"model": model, "stream": True, "max_tokens": 50, "messages": SAID}
    if path.endswith("responses"):
        body = {"model": model, "stream": True, "input": "olá"}
    reply = request(
        upstream.root, "POST", path, key=CREDENTIALS[face], body=body, headers={"anthropic-version": "2023-06-01"}
    )
    assert len(reply.events) == 3
    assert reply.events[-1].startswith(first)


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503, 529])
def test_it_refuses_as_the_provider_would(upstream: FakeUpstream, status: int) -> None:
    reply = chat(upstream, marked("fake", status=status, retry_after="7", message="leaks sk-123"))
    assert reply.status == status
    assert reply.headers["retry-after"] == "7"
    assert reply.json()["error"]["message"] == "leaks sk-123"


def test_it_refuses_a_number_of_times_and_then_answers(upstream: FakeUpstream) -> None:
    model = marked("fake", status=503, failures=2)
    assert [chat(upstream, model).status for _ in range(4)] == [503, 503, 200, 200]


def test_html_redirects_and_garbage_come_as_asked(upstream: FakeUpstream) -> None:
    html = chat(upstream, marked("fake", html=True, status=502))
    assert html.headers["content-type"] == "text/html"
    redirect = chat(upstream, marked("fake", redirect="http://127.0.0.1:1/"))
    assert (redirect.status, redirect.headers["location"]) == (307, "http://127.0.0.1:1/")
    with pytest.raises(json.JSONDecodeError):
        chat(upstream, marked("fake", garbage=True)).json()


def test_an_event_can_be_ten_megabytes_on_one_line(upstream: FakeUpstream) -> None:
    reply = chat(upstream, marked("fake", huge_event=10_000_000), stream=True)
    assert max(map(len, reply.events)) > 10_000_000


def test_a_client_that_leaves_is_noted_with_what_it_is_billed(upstream: FakeUpstream) -> None:
    data = json.dumps({"model": marked("fake", words=1000, between=0.05), "messages": SAID, "stream": True}).encode()
    head = (
        f"POST /openai/v1/chat/completions HTTP/1.1\r\nHost: fake\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {CREDENTIALS['openai']}\r\nContent-Length: {len(data)}\r\n\r\n"
    ).encode()
    with socket.create_connection(("127.0.0.1", upstream.port), timeout=5) as connection:
        connection.sendall(head + data)
        while b"word1 " not in connection.recv(65536):
            pass
    answers(upstream)
    (entry,) = upstream.journal.entries("answer")
    assert entry.whole is False
    assert entry.gone_after is not None
    assert entry.usage is not None
    assert 0 < entry.usage["output"] < 1000


def test_empty_and_partial_connections_are_in_the_log(upstream: FakeUpstream) -> None:
    with socket.create_connection(("127.0.0.1", upstream.port)):
        pass
    with socket.create_connection(("127.0.0.1", upstream.port)) as connection:
        connection.sendall(b"POST /openai/v1/responses HTTP/1.1\r\nX-Client-Request-Id: req_7\r\nHo")
    end = time.monotonic() + 5
    while len(upstream.journal.entries("closed")) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    closed = sorted(entry.received for entry in upstream.journal.entries("closed"))
    assert closed == [0, 66]
    (partial,) = upstream.journal.entries("partial")
    assert partial.header("x-client-request-id") == "req_7"
    assert upstream.received == 66


def test_credentials_are_hashed_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    with FakeUpstream(log=log).in_thread() as upstream:
        chat(upstream)
    text = log.read_text()
    assert CREDENTIALS["openai"] not in text
    (entry,) = [entry for entry in read_journal(log) if entry.kind == "request"]
    assert (entry.header("authorization") or "").startswith("Bearer sha256:")
    assert json.loads(entry.body)["model"] == "fake"
    assert base64.b64encode(entry.body).decode() in text


def test_a_scripted_behaviour_is_used_so_many_times(upstream: FakeUpstream) -> None:
    upstream.script(Behaviour(status=500), model="fake", times=1)
    assert [chat(upstream, model).status for model in ("other", "fake", "fake")] == [200, 500, 200]


def test_gzip_is_sent_to_those_who_accept_it(upstream: FakeUpstream) -> None:
    body = {"model": "fake", "messages": SAID}
    path = "/openai/v1/chat/completions"
    for accepted, encoding in (("gzip", "gzip"), ("identity", None)):
        reply = request(
            upstream.root, "POST", path, key=CREDENTIALS["openai"], body=body, headers={"accept-encoding": accepted}
        )
        assert reply.headers.get("content-encoding") == encoding


def test_it_runs_on_the_loop_of_a_test() -> None:
    async def main() -> tuple[bytes, int]:
        async with FakeUpstream() as upstream:
            reader, writer = await asyncio.open_connection("127.0.0.1", upstream.port)
            writer.write(b"GET /openai/v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
            line = await reader.readline()
            writer.close()
            await writer.wait_closed()
            return line, upstream.received

    line, received = asyncio.run(main())
    assert line == b"HTTP/1.1 401 Unauthorized\r\n"
    assert received == 43


def test_it_runs_as_a_process_that_can_be_told_how_to_behave(tmp_path: Path) -> None:
    body = {"model": "fake", "messages": SAID}
    path = "/openai/v1/chat/completions"
    with UpstreamProcess(tmp_path / "log.jsonl") as upstream:
        upstream.script(Behaviour(status=529), times=1)
        statuses = [request(upstream.root, "POST", path, key=CREDENTIALS["openai"], body=body).status for _ in "ab"]
        upstream.quiet()
        assert statuses == [529, 200]
        assert [entry.status for entry in upstream.entries("answer")] == [529, 200]


def test_a_mark_that_means_nothing_is_refused_where_it_is_made() -> None:
    with pytest.raises(msgspec.ValidationError):
        marked("fake", cut_evnt=3)


def test_embeddings_in_base64_are_the_same_numbers(upstream: FakeUpstream) -> None:
    body = {"model": "fake-embed", "input": "um"}
    path = "/openai/v1/embeddings"
    plain = request(upstream.root, "POST", path, key=CREDENTIALS["openai"], body=body).json()
    body["encoding_format"] = "base64"
    packed = request(upstream.root, "POST", path, key=CREDENTIALS["openai"], body=body).json()
    values = struct.unpack("<16f", base64.b64decode(packed["data"][0]["embedding"]))
    assert values == pytest.approx(plain["data"][0]["embedding"])
