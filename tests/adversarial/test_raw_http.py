"""Hostile bytes on the data-plane port: a clear error, a living process, and an audit that says what happened."""

import contextlib
import gzip
import json
import re
import resource
import socket
import time
import zlib
from collections.abc import Iterator

import msgspec
import pytest
from tests.harness import GatewayProcess, Reply, Site, UpstreamProcess, governed, raw_exchange
from tests.upstream import marked

PATHS = {
    "chat": "/v1/chat/completions",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "embeddings": "/v1/embeddings",
}
CPF = "529.982.247-25"
REQUEST_TIMEOUT = 1.0


class House(msgspec.Struct, frozen=True):
    gateway: GatewayProcess
    upstream: UpstreamProcess
    keys: dict[str, str]

    def lives(self) -> None:
        """The same process answers a good request."""
        assert self.gateway.running, self.gateway.errors()
        reply = self.gateway.chat("olá", key=self.keys["good"])
        assert reply.status == 200, reply.body

    def raw(self, data: bytes) -> bytes:
        """What the gateway answers to these bytes."""
        return raw_exchange(self.gateway.port, data, quiet=0.3, seconds=5)

    def denied(self, reply: Reply, code: str) -> None:
        """The audit has the DENY of this answer."""
        record = self.gateway.record_of(reply)
        assert (record["type"], record["code"]) == ("DENY", code)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    keys: dict[str, str] = {}

    def prepare(site: Site) -> None:
        site.server["request_timeout"] = f"{REQUEST_TIMEOUT:g}s"
        site.tenant("acme", guard="standard")
        site.tenant("other", models=["embed"])
        site.model("echo", "openai", upstream=marked("fake", echo=True))
        keys["good"] = site.key()
        keys["expired"] = site.key(expires="2020-01-01T00:00:00Z")
        keys["narrow"] = site.key(models=["embed"])
        keys["surface"] = site.key(surfaces=["embeddings"])
        keys["other"] = site.key("other")

    with governed(tmp_path_factory.mktemp("raw"), prepare) as (gateway, upstream):
        yield House(gateway, upstream, keys)
        gateway.stop()
        gateway.verify()


def chat_body(text: str = "olá", *, extra: str = "", model: str = "chat") -> bytes:
    return f'{{"model": "{model}", "messages": [{{"role": "user", "content": {json.dumps(text)}}}]{extra}}}'.encode()


def head(key: str, *lines: str, path: str = "/v1/chat/completions", host: str = "Host: gateway") -> bytes:
    every = [
        f"POST {path} HTTP/1.1",
        *([host] if host else []),
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        *lines,
    ]
    return ("\r\n".join(every) + "\r\n\r\n").encode("latin-1")


def error_of(reply: Reply, surface: str) -> dict[str, object]:
    """The error member, after checking that the envelope is the surface's own."""
    answer = reply.json()
    assert reply.headers["x-request-id"].startswith("req_")
    if surface == "messages":
        assert answer["type"] == "error"
        assert answer["request_id"] == reply.request_id
        assert reply.headers["request-id"] == reply.request_id
    else:
        assert answer.keys() == {"error"}
        assert answer["error"].keys() == {"message", "type", "param", "code"}
    error: dict[str, object] = answer["error"]
    return error


BAD_BODIES: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 400, "malformed_json"),
    "cut": (b'{"model": "chat", "messages": [', 400, "malformed_json"),
    "trailing": (b'{"model": "chat"} {}', 400, "malformed_json"),
    "single quotes": (b"{'model': 'chat'}", 400, "malformed_json"),
    "NaN": (b'{"model": "chat", "temperature": NaN}', 400, "malformed_json"),
    "infinity": (b'{"model": "chat", "temperature": -Infinity}', 400, "malformed_json"),
    "many digits": (b'{"model": "chat", "n": ' + b"9" * 5000 + b"}", 400, "malformed_json"),
    "byte order mark": (b'\xef\xbb\xbf{"model": "chat"}', 400, "malformed_json"),
    "a list": (b"[1, 2]", 400, "invalid_request"),
    "a string": (b'"model"', 400, "invalid_request"),
    "null": (b"null", 400, "invalid_request"),
    "twice": (b'{"model": "chat", "model": "echo"}', 400, "duplicate_key"),
    "twice, escaped": (b'{"model": "chat", "\\u006dodel": "echo"}', 400, "duplicate_key"),
    "twice, nested": (b'{"model": "chat", "future": {"a": 1, "b": {"c": 1, "c": 2}}}', 400, "duplicate_key"),
    "bad UTF-8": (b'{"model": "chat", "user": "\xff\xfe"}', 400, "invalid_utf8"),
    "overlong UTF-8": (b'{"model": "chat", "user": "\xc0\xaf"}', 400, "invalid_utf8"),
    "UTF-16": ('{"model": "chat"}'.encode("utf-16"), 400, "invalid_utf8"),
    "lone surrogate": (b'{"model": "chat", "user": "\\ud83d"}', 400, "invalid_utf8"),
    "lone surrogate in a name": (b'{"model": "chat", "\\udc00": 1}', 400, "invalid_utf8"),
    "65 deep": (b'{"a":' * 65 + b"1" + b"}" * 65, 400, "too_deep"),
    "100 000 deep": (b"[" * 100_000, 400, "too_deep"),
    "100 000 deep and closed": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400, "too_deep"),
    "11 MB": (b'{"model": "' + b"a" * 11_000_000 + b'"}', 413, "body_too_large"),
}


@pytest.mark.requirement("GW-12", "GW-9")
@pytest.mark.parametrize("surface", PATHS)
@pytest.mark.parametrize("case", BAD_BODIES)
def test_a_bad_body_is_refused_in_the_callers_dialect(house: House, surface: str, case: str) -> None:
    body, status, code = BAD_BODIES[case]
    reply = house.gateway.request("POST", PATHS[surface], key=house.keys["good"], body=body)
    assert (reply.status, error_of(reply, surface).get("code")) == (status, code)
    assert reply.headers["x-should-retry"] == "false"
    house.lives()


@pytest.mark.requirement("AU-1")
def test_every_bad_body_of_a_known_caller_is_in_the_audit(house: House) -> None:
    expected: dict[str, str] = {}
    for body, _, code in BAD_BODIES.values():
        reply = house.gateway.request("POST", PATHS["responses"], key=house.keys["good"], body=body)
        expected[reply.request_id] = code
    recorded = {
        record["request_id"]: record["code"] for record in house.gateway.records("DENY") if "count" not in record
    }
    assert expected.items() <= recorded.items()


WRONG_TYPES: dict[str, tuple[str, dict[str, object]]] = {
    "model is a number": ("chat", {"model": 7, "messages": [{"role": "user", "content": "a"}]}),
    "model is a list": ("messages", {"model": ["m"], "max_tokens": 5, "messages": []}),
    "messages is a string": ("chat", {"model": "chat", "messages": "hello"}),
    "messages is missing": ("chat", {"model": "chat"}),
    "a message is a number": ("chat", {"model": "chat", "messages": [1]}),
    "stream is a string": (
        "chat",
        {"model": "chat", "messages": [{"role": "user", "content": "a"}], "stream": "yes"},
    ),
    "the cap is negative": (
        "chat",
        {"model": "chat", "messages": [{"role": "user", "content": "a"}], "max_tokens": -5},
    ),
    "the cap is a float": (
        "messages",
        {"model": "messages", "max_tokens": 5.5, "messages": [{"role": "user", "content": "a"}]},
    ),
    "the cap is true": (
        "responses",
        {"model": "chat", "input": "a", "max_output_tokens": True},
    ),
    "n is enormous": (
        "chat",
        {"model": "chat", "messages": [{"role": "user", "content": "a"}], "n": 10**30},
    ),
    "tools is an object": (
        "chat",
        {"model": "chat", "messages": [{"role": "user", "content": "a"}], "tools": {"type": "function"}},
    ),
}


@pytest.mark.requirement("GW-12", "GW-9")
@pytest.mark.parametrize("case", WRONG_TYPES)
def test_a_wrong_type_is_refused_before_the_provider(house: House, case: str) -> None:
    surface, body = WRONG_TYPES[case]
    before = len(house.upstream.requests())
    reply = house.gateway.post(PATHS[surface], body, key=house.keys["good"])
    assert reply.status == 400
    error = error_of(reply, surface)
    assert error["code"] == "invalid_request"
    assert len(house.upstream.requests()) == before
    house.denied(reply, "invalid_request")


@pytest.mark.requirement("GW-1", "GW-7")
def test_unknown_fields_are_kept_byte_for_byte(house: House) -> None:
    extra = ', "future_field" : {"kept":  1.50, "text": "a\\u00e7\\u00e3o", "big": 12345678901234567890}'
    reply = house.gateway.post(PATHS["chat"], chat_body(extra=extra), key=house.keys["good"])
    assert reply.status == 200
    (sent,) = [entry for entry in house.upstream.requests() if entry.header("x-client-request-id") == reply.request_id]
    assert extra in sent.text


@pytest.mark.requirement("GW-12", "GD-6")
@pytest.mark.parametrize("spelling", [CPF, "".join(f"\\u{ord(each):04x}" for each in CPF), "529\\u002e982.247-25"])
def test_unknown_fields_are_screened(house: House, spelling: str) -> None:
    extra = f', "future_field": {{"note": ["CPF {spelling}"]}}'
    reply = house.gateway.post(PATHS["chat"], chat_body(extra=extra), key=house.keys["good"])
    assert reply.status in (200, 403)
    for entry in house.upstream.requests():
        with contextlib.suppress(ValueError):
            assert CPF not in json.dumps(json.loads(entry.body))


@pytest.mark.requirement("ID-2", "GW-9", "AU-1")
@pytest.mark.parametrize("surface", PATHS)
def test_a_missing_or_unknown_key_is_refused_and_counted(house: House, surface: str) -> None:
    missing = house.gateway.post(PATHS[surface], chat_body())
    foreign = house.gateway.post(PATHS[surface], chat_body(), key="slb-some-other-deployment-0123456789")
    assert (missing.status, error_of(missing, surface).get("code")) == (401, "missing_key")
    assert (foreign.status, error_of(foreign, surface).get("code")) == (401, "invalid_key")
    end = time.monotonic() + 5
    while time.monotonic() < end:
        counted = {record["code"] for record in house.gateway.records("DENY") if "count" in record}
        if {"missing_key", "invalid_key"} <= counted:
            return
        time.sleep(0.2)
    pytest.fail("the refusals of the unauthenticated were not recorded")


@pytest.mark.requirement("ID-2", "GW-9")
def test_an_expired_key_is_refused(house: House) -> None:
    reply = house.gateway.chat("olá", key=house.keys["expired"])
    assert (reply.status, error_of(reply, "chat")["code"]) == (401, "expired_key")


@pytest.mark.requirement("ID-2", "GW-9", "CL-1")
def test_a_revoked_key_is_refused_within_two_seconds(house: House) -> None:
    created = house.gateway.create_key("acme")
    end = time.monotonic() + 20
    while (first := house.gateway.chat("olá", key=created["token"])).status != 200:
        assert time.monotonic() < end, first.body
        time.sleep(0.05)
    done = house.gateway.cli("key", "revoke", "--data-dir", str(house.gateway.data_dir), created["id"])
    assert done.returncode == 0, done.stderr
    end = time.monotonic() + 2
    while True:
        reply = house.gateway.chat("olá", key=created["token"])
        if reply.status == 401 or time.monotonic() > end:
            break
        time.sleep(0.05)
    assert (reply.status, error_of(reply, "chat")["code"]) == (401, "revoked_key")


@pytest.mark.requirement("GW-9", "AU-1")
@pytest.mark.parametrize(
    ("key", "surface", "status", "code"),
    [
        ("narrow", "chat", 403, "model_not_allowed"),
        ("other", "chat", 404, "unknown_model"),
        ("surface", "chat", 403, "surface_not_allowed"),
        ("surface", "messages", 403, "surface_not_allowed"),
    ],
)
def test_what_a_key_may_not_is_refused_with_a_decision(
    house: House, key: str, surface: str, status: int, code: str
) -> None:
    before = len(house.upstream.requests())
    body = {"model": "chat", "max_tokens": 5, "messages": [{"role": "user", "content": "olá"}]}
    reply = house.gateway.post(PATHS[surface], body, key=house.keys[key])
    assert (reply.status, error_of(reply, surface).get("code")) == (status, code)
    assert reply.headers["x-should-retry"] == "false"
    assert reply.headers["x-securellm-decision-id"].startswith("dec_")
    assert len(house.upstream.requests()) == before
    house.denied(reply, code)


BODY = chat_body()
LENGTH = f"Content-Length: {len(BODY)}"
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


def raw_cases(key: str) -> dict[str, bytes]:
    """Requests that no reader may take in two ways, by what is wrong with them."""
    return {
        "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100,
        "zeros": b"\x00" * 1000,
        "no HTTP": b"hello there\r\n\r\n",
        "an unknown version": b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
        "HTTP/2 without asking": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "no Host": head(key, LENGTH, host="") + BODY,
        "Host twice": head(key, "Host: other", LENGTH) + BODY,
        "Content-Length twice, the same": head(key, LENGTH, LENGTH) + BODY,
        "Content-Length twice, differing": head(key, LENGTH, "Content-Length: 5") + BODY,
        "Content-Length as a list": head(key, f"{LENGTH}, {len(BODY)}") + BODY,
        "Content-Length negative": head(key, "Content-Length: -1") + BODY,
        "Content-Length with a sign": head(key, f"Content-Length: +{len(BODY)}") + BODY,
        "Content-Length in hex": head(key, f"Content-Length: {len(BODY):#x}") + BODY,
        "Content-Length with an underscore": head(key, "Content-Length: 1_0") + BODY,
        "Content-Length beyond 64 bits": head(key, "Content-Length: 99999999999999999999999") + BODY,
        "Content-Length and Transfer-Encoding": head(key, LENGTH, "Transfer-Encoding: chunked") + CHUNKED,
        "Transfer-Encoding and Content-Length": head(key, "Transfer-Encoding: chunked", LENGTH) + CHUNKED,
        "chunked twice, one line": head(key, "Transfer-Encoding: chunked, chunked") + CHUNKED,
        "chunked twice, two lines": head(key, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + CHUNKED,
        "identity": head(key, "Transfer-Encoding: identity") + BODY,
        "identity and chunked": head(key, "Transfer-Encoding: identity, chunked") + CHUNKED,
        "an unknown coding": head(key, "Transfer-Encoding: xchunked") + CHUNKED,
        "gzip as a transfer coding": head(key, "Transfer-Encoding: gzip, chunked") + CHUNKED,
        "a space before the colon": head(key, "Transfer-Encoding : chunked", LENGTH) + BODY,
        "a vertical tab in the value": head(key, "Transfer-Encoding: \x0bchunked", LENGTH) + BODY,
        "obs-fold": head(key, "X-Folded: one\r\n two", LENGTH) + BODY,
        "obs-fold of Transfer-Encoding": head(key, "Transfer-Encoding:\r\n chunked", LENGTH) + BODY,
        "a header line that begins with a space": head(key, " Folded: one", LENGTH) + BODY,
        "a header without a colon": head(key, "NoColonHere", LENGTH) + BODY,
        "a NUL in a header": head(key, "X-Nul: a\x00b", LENGTH) + BODY,
        "a bare CR in a header": head(key, "X-Cr: a\rb", LENGTH) + BODY,
        "bare LF line ends": head(key, LENGTH).replace(b"\r\n", b"\n") + BODY,
        "a chunk size beyond 64 bits": head(key, "Transfer-Encoding: chunked") + b"FFFFFFFFFFFFFFFFF\r\n" + BODY,
        "a chunk size of the last 64-bit number": head(key, "Transfer-Encoding: chunked")
        + b"FFFFFFFFFFFFFFFF\r\n"
        + BODY,
        "a negative chunk size": head(key, "Transfer-Encoding: chunked") + b"-1\r\n" + BODY,
        "a chunk size with 0x": head(key, "Transfer-Encoding: chunked") + b"0x10\r\n" + BODY,
        "no chunk size": head(key, "Transfer-Encoding: chunked") + b"\r\n" + BODY,
        "a chunk longer than it says": head(key, "Transfer-Encoding: chunked") + b"5\r\n" + BODY + b"\r\n0\r\n\r\n",
        "chunk lines ended by LF": head(key, "Transfer-Encoding: chunked") + CHUNKED.replace(b"\r\n", b"\n"),
        "a head of 70 KB": head(key, f"X-Long: {'a' * 70_000}", LENGTH) + BODY,
        "a head that never ends": head(key, f"X-Long: {'a' * 1_000_000}")[:-4],
        "ten thousand headers": head(key, *(f"X-{number}: a" for number in range(10_000)), LENGTH) + BODY,
        "a long request line": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    }


@pytest.mark.requirement("GW-12")
@pytest.mark.parametrize("case", raw_cases("key"))
def test_what_two_readers_could_read_differently_is_refused(house: House, case: str) -> None:
    before = len(house.upstream.requests())
    answer = house.raw(raw_cases(house.keys["good"])[case])
    statuses = [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3})", answer)]
    assert len(statuses) == 1, answer
    assert statuses[0] in (400, 408, 413, 431, 505), answer
    assert len(house.upstream.requests()) == before, "it reached the provider"
    house.lives()


@pytest.mark.requirement("GW-12", "GW-9")
@pytest.mark.parametrize(
    ("lines", "status", "code"),
    [
        (("Authorization: Bearer second-key-000",), 400, "invalid_header"),
        (("x-api-key: another-key-0000",), 400, "invalid_header"),
        (("Content-Type: text/plain",), 400, "invalid_header"),
        (("Content-Encoding: br",), 415, "unsupported_encoding"),
        (("Content-Encoding: gzip, gzip",), 415, "unsupported_encoding"),
        (("x-request-deadline: soon",), 400, "invalid_header"),
    ],
)
def test_headers_that_disagree_are_refused_in_the_dialect(
    house: House, lines: tuple[str, ...], status: int, code: str
) -> None:
    answer = house.raw(head(house.keys["good"], *lines, LENGTH) + BODY)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert f'"code":"{code}"'.encode() in answer.replace(b'": "', b'":"')
    house.lives()


@pytest.mark.requirement("GW-12")
@pytest.mark.parametrize(
    "path",
    [
        "/v1/../v1/chat/completions",
        "/v1/./chat/completions",
        "//v1/chat/completions",
        "/v1%2fchat/completions",
        "/v1/chat/completions/",
        "/v1/chat%2Fcompletions",
        "/V1/chat/completions",
        "*",
    ],
)
def test_only_the_plain_spelling_of_a_path_is_served(house: House, path: str) -> None:
    before = len(house.upstream.requests())
    answer = house.raw(head(house.keys["good"], LENGTH, path=path) + BODY)
    assert re.match(rb"HTTP/1\.1 (400|404) ", answer), answer
    assert len(house.upstream.requests()) == before
    house.lives()


@pytest.mark.requirement("GW-12")
def test_garbage_behind_a_good_request_does_not_harm_it(house: House) -> None:
    good = head(house.keys["good"], LENGTH) + BODY
    answer = house.raw(good + b"\x00\x01garbage\r\n\r\n")
    assert answer.count(b"HTTP/1.1 ") <= 2
    assert b"HTTP/1.1 400" in answer or answer.startswith(b"HTTP/1.1 200")
    house.lives()


@pytest.mark.requirement("GW-12")
def test_two_good_requests_in_one_write_are_both_answered(house: House) -> None:
    good = head(house.keys["good"], LENGTH) + BODY
    last = head(house.keys["good"], LENGTH, "Connection: close") + BODY
    answer = raw_exchange(house.gateway.port, good + last)
    assert answer.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.requirement("GW-12")
def test_a_compressed_body_is_read_and_a_bomb_is_not(house: House) -> None:
    path, key = PATHS["chat"], house.keys["good"]
    for coding, packed in (("gzip", gzip.compress(BODY)), ("deflate", zlib.compress(BODY))):
        reply = house.gateway.post(path, packed, key=key, headers={"content-encoding": coding})
        assert reply.status == 200, reply.body
    bomb = gzip.compress(b'{"model": "' + b"a" * 400_000_000)
    before = _resident(house.gateway.pid)
    reply = house.gateway.post(path, bomb, key=key, headers={"content-encoding": "gzip"})
    assert (reply.status, error_of(reply, "chat")["code"]) == (413, "body_too_large")
    assert _peak(house.gateway.pid) - before < 150_000_000
    house.denied(reply, "body_too_large")
    for damaged in (b"no gzip at all", gzip.compress(BODY)[:-9], gzip.compress(BODY) + b"more"):
        reply = house.gateway.post(path, damaged, key=key, headers={"content-encoding": "gzip"})
        assert (reply.status, error_of(reply, "chat")["code"]) == (400, "malformed_json")
    house.lives()


def _resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _peak(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        return int(re.findall(r"VmHWM:\s+(\d+) kB", file.read())[0]) * 1024


@pytest.mark.requirement("GW-12")
def test_a_head_that_trickles_is_cut_off(house: House) -> None:
    whole = head(house.keys["good"], LENGTH)
    pieces = [whole[at : at + 1] for at in range(len(whole))]
    answer = raw_exchange(house.gateway.port, pieces, pause=0.05, seconds=20)
    assert answer.startswith(b"HTTP/1.1 408 ")
    house.lives()


@pytest.mark.requirement("GW-12", "GW-9", "AU-1")
def test_a_body_that_trickles_is_cut_off_in_the_dialect(house: House) -> None:
    pieces = [head(house.keys["good"], "Content-Length: 500", path=PATHS["messages"])] + [b" "] * 200
    answer = raw_exchange(house.gateway.port, pieces, pause=0.05, seconds=20)
    assert answer.startswith(b"HTTP/1.1 408 "), answer
    assert b'"type":"error"' in answer
    assert b"x-should-retry: true" in answer
    house.lives()
    assert any(record["code"] == "request_timeout" for record in house.gateway.records("DENY"))


@pytest.mark.requirement("GW-12")
def test_silent_connections_are_closed_and_cost_nobody_else_anything(house: House) -> None:
    with contextlib.ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", house.gateway.port), timeout=20))
            for _ in range(100)
        ]
        house.lives()
        for each in silent:
            with contextlib.suppress(ConnectionResetError):
                while each.recv(1000):
                    pass


@pytest.mark.requirement("GW-12")
def test_a_client_that_leaves_in_the_middle_of_its_body_is_forgotten(house: House) -> None:
    before = len(house.upstream.requests())
    unfinished = head(house.keys["good"], "Content-Length: 500") + b'{"model"'
    assert raw_exchange(house.gateway.port, unfinished, leave=True) == b""
    house.lives()
    assert len(house.upstream.requests()) == before + 1


@pytest.mark.requirement("OB-2", "GW-12")
def test_what_was_refused_below_the_dialects_is_counted(house: House) -> None:
    house.raw(b"hello there\r\n\r\n")
    metrics = house.gateway.request("GET", "/metrics").body.decode()
    counted = re.findall(r"^http_unparseable_requests_total\{[^}]*\} (\d+)", metrics, re.MULTILINE)
    assert sum(map(int, counted)) > 0
