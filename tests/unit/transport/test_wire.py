"""The bytes of HTTP/1.1, without a socket."""

import itertools
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from securellm.core.errors import Code, Fault, UpstreamFailure
from securellm.transport import OutboundRequest, parse_base_url
from securellm.transport.wire import ReplyReader, encode_head

TARGET = parse_base_url("https://api.example:8443/v1")


def read(
    *parts: bytes, head_only: bool = False, clean: bool = True, max_head: int = 65_536
) -> tuple[ReplyReader, bytes]:
    """Feed the parts as the connection would, then close, and return the reader and the body."""
    reader = ReplyReader(head_only=head_only, max_head=max_head)
    body = b""
    for part in parts:
        body += reader.feed(part)
        if reader.complete:
            return reader, body
    reader.end(clean=clean)
    return reader, body


def refusal(*parts: bytes, head_only: bool = False, clean: bool = True, max_head: int = 65_536) -> UpstreamFailure:
    with pytest.raises(UpstreamFailure) as failure:
        read(*parts, head_only=head_only, clean=clean, max_head=max_head)
    assert failure.value.sent
    return failure.value


def test_a_request_is_written_with_its_host_length_and_identity_encoding() -> None:
    request = OutboundRequest(method="POST", path="/v1/x?a=b", headers=((b"Authorization", b"Bearer k"),), body=b"{}")
    assert encode_head(request, TARGET) == (
        b"POST /v1/x?a=b HTTP/1.1\r\nhost: api.example:8443\r\nAuthorization: Bearer k\r\n"
        b"accept-encoding: identity\r\ncontent-length: 2\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://a.example:443", b"a.example"),
        ("http://a.example:80", b"a.example"),
        ("http://a.example:443", b"a.example:443"),
        ("http://[::1]:80", b"[::1]"),
        ("http://[::1]:81", b"[::1]:81"),
    ],
)
def test_the_host_header_names_the_port_only_when_the_scheme_does_not_imply_it(address: str, host: bytes) -> None:
    head = encode_head(OutboundRequest(method="GET", path="/"), parse_base_url(address))
    assert b"\r\nhost: " + host + b"\r\n" in head
    assert b"content-length: 0\r\n" in head


@pytest.mark.parametrize(
    "path", ["", "x", "*", "/a b", "/a\r\nx: y", "/a\nb", "/\x00", "/\x7f", "/é", "/a#b", "http://x/"]
)
def test_an_illegal_path_is_our_own_bug(path: str) -> None:
    with pytest.raises(Fault, match="path") as fault:
        encode_head(OutboundRequest(method="GET", path=path), TARGET)
    assert fault.value.code is Code.INTERNAL


@pytest.mark.parametrize("method", ["", "get", "GET ", "GET\r\n", "CONNECT", "G\x00T"])
def test_an_illegal_method_is_our_own_bug(method: str) -> None:
    with pytest.raises(Fault, match="method"):
        encode_head(OutboundRequest(method=method, path="/"), TARGET)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"", b"x"),
        (b"a b", b"x"),
        (b"a:", b"x"),
        (b"a\r\nb", b"x"),
        (b"a\x00", b"x"),
        (b"\xe9", b"x"),
        (b"a", b"x\r\nb: c"),
        (b"a", b"x\n"),
        (b"a", b"x\r"),
        (b"a", b"x\x00y"),
        (b"a", b"\x7f"),
        (b"a", b" x"),
        (b"a", b"x\t"),
    ],
)
def test_an_illegal_header_is_our_own_bug_and_is_not_quoted(name: bytes, value: bytes) -> None:
    with pytest.raises(Fault, match="an outgoing header holds an illegal character") as fault:
        encode_head(OutboundRequest(method="GET", path="/", headers=((name, value),)), TARGET)
    assert fault.value.code is Code.INTERNAL


@pytest.mark.parametrize(
    "name", [b"Host", b"content-length", b"Transfer-Encoding", b"CONNECTION", b"accept-encoding", b"expect", b"te"]
)
def test_headers_that_frame_the_message_belong_to_the_transport(name: bytes) -> None:
    with pytest.raises(Fault, match="belongs to the transport"):
        encode_head(OutboundRequest(method="GET", path="/", headers=((name, b"x"),)), TARGET)


@given(
    st.lists(st.tuples(st.binary(max_size=6), st.binary(max_size=6)), max_size=4),
    st.text(max_size=8).map(lambda text: "/" + text),
)
def test_whatever_is_asked_for_the_head_holds_only_the_lines_asked_for(
    headers: list[tuple[bytes, bytes]], path: str
) -> None:
    request = OutboundRequest(method="GET", path=path, headers=tuple(headers))
    try:
        head = encode_head(request, TARGET)
    except Fault:
        return
    lines = head.split(b"\r\n")
    assert lines[2:-4] == [name + b": " + value for name, value in headers]
    assert not re.search(rb"[\r\n\x00]", b"".join(lines))
    assert lines[0].split(b" ") == [b"GET", path.encode(), b"HTTP/1.1"]


def test_header_names_come_in_lower_case_and_values_without_blanks() -> None:
    reader, body = read(b"HTTP/1.1 200 OK\r\nX-A:  b \xff\t \r\nX-A: c\r\nEmpty:\r\nContent-Length: 0\r\n\r\n")
    assert reader.headers == ((b"x-a", b"b \xff"), (b"x-a", b"c"), (b"empty", b""), (b"content-length", b"0"))
    assert (reader.status, reader.reusable, body) == (200, True, b"")


@pytest.mark.parametrize(
    ("parts", "body", "reusable"),
    [
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"], b"hello", True),
        ([b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello"], b"hello", True),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"], b"hello", False),
        (
            [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\nT: x\r\n\r\n"],
            b"hello",
            True,
        ),
        ([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nConnection: close\r\n\r\n0\r\n\r\n"], b"", False),
        ([b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo"], b"hello", False),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], b"", True),
        ([b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n"], b"", True),
        ([b"HTTP/1.1 302 Found\r\nLocation: http://evil/\r\nContent-Length: 0\r\n\r\n"], b"", True),
        ([b"HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Length: 1\r\n\r\nx"], b"x", True),
        ([b"HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 1\r\n\r\nx"], b"x", True),
    ],
)
def test_every_framing_of_a_reply_gives_its_body(parts: list[bytes], body: bytes, reusable: bool) -> None:
    reader, got = read(*parts)
    assert (got, reader.reusable, reader.complete) == (body, reusable, True)


def test_a_reply_to_head_has_no_body_whatever_it_declares() -> None:
    reader, body = read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", head_only=True)
    assert (body, reader.complete, reader.reusable) == (b"", True, False)
    reader, body = read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", head_only=True)
    assert (body, reader.complete, reader.reusable) == (b"", True, False)


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nokx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n0\r\n\r\n",
    ],
)
def test_bytes_after_a_reply_are_dropped_and_cost_the_connection(reply: bytes) -> None:
    reader, body = read(reply)
    assert (reader.status, body, reader.complete, reader.reusable) == (200, b"ok", True, False)


def test_a_body_after_a_reply_that_has_none_is_dropped_and_costs_the_connection() -> None:
    reader, body = read(b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok")
    assert (body, reader.complete, reader.reusable) == (b"", True, False)


def test_interim_replies_are_skipped() -> None:
    reader, body = read(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\nA: b\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
    )
    assert (reader.status, reader.headers, body) == (200, ((b"content-length", b"1"),), b"x")


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 103 Hints\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/0.9 200 OK\r\n\r\n",
        b"RTSP/1.1 200 OK\r\n\r\n",
        b"ICE/1.1 200 OK\r\n\r\n",
        b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"hello\r\n",
        b"\x16\x03\x01\x02\x00",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\x00\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\n\r\n",
        b"HTTP/1.1 600 OK\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1  200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nok\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\nok\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nok\r\n",
    ],
)
@pytest.mark.requirement("PR-4")
def test_a_reply_that_is_not_exactly_one_http_message_is_refused_whole_or_byte_by_byte(reply: bytes) -> None:
    assert refusal(reply).code is Code.BAD_REPLY
    assert refusal(*(reply[i : i + 1] for i in range(len(reply)))).code is Code.BAD_REPLY


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"H",
    ],
)
@pytest.mark.requirement("GW-8", "PR-4")
def test_a_reply_that_ends_before_its_declared_end_is_truncated(reply: bytes) -> None:
    assert refusal(reply).code is Code.TRUNCATED


@pytest.mark.requirement("GW-8")
def test_a_body_delimited_by_the_close_ends_only_with_an_orderly_close() -> None:
    reply = b"HTTP/1.1 200 OK\r\n\r\npart"
    assert read(reply, clean=True)[1] == b"part"
    failure = refusal(reply, clean=False)
    assert (failure.code, failure.provider_status) == (Code.TRUNCATED, 200)


def test_a_close_without_a_byte_is_an_unreachable_provider_that_may_have_seen_the_request() -> None:
    failure = refusal()
    assert (failure.code, failure.sent) == (Code.PROVIDER_UNREACHABLE, True)


@pytest.mark.parametrize(
    "parts",
    [
        [b"HTTP/1.1 200 OK\r\nA: " + b"x" * 2_000 + b"\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nA: ", *[b"x" * 100] * 20],
        [b"HTTP/1.1 200 " + b"x" * 2_000 + b"\r\n\r\n"],
        [b"HTTP/1.1 200 ", *[b"x"] * 2_000],
        [b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 300 + b"\r\n"],
        [b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\n"] * 300,
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: " + b"x" * 2_000 + b"\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: ", *[b"x"] * 2_000],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", *[b"x"] * 2_000],
    ],
)
def test_headers_trailers_and_chunk_extensions_have_a_limit(parts: list[bytes]) -> None:
    failure = refusal(*parts, max_head=1_000)
    assert (failure.code, "too large" in failure.reason) == (Code.BAD_REPLY, True)


def test_a_reason_never_quotes_the_reply() -> None:
    for reply in (b"HTTP/1.1 200 OK\r\nsecret : b\r\n\r\n", b"secret", b"HTTP/1.1 200 OK\r\nsecret\r\n\r\n"):
        assert "secret" not in refusal(reply).reason


def test_a_finished_reader_takes_no_more() -> None:
    reader, _ = read(b"HTTP/1.1 204 No Content\r\n\r\n")
    with pytest.raises(Fault):
        reader.feed(b"x")


bodies = st.lists(st.binary(min_size=1, max_size=40), max_size=6)
trailers = st.sampled_from([b"", b"X-Checksum: 1\r\n"])


@st.composite
def valid_replies(draw: st.DrawFn) -> tuple[bytes, bytes, bool]:
    """A valid reply, its body, and whether it ends with the connection."""
    pieces = draw(bodies)
    body = b"".join(pieces)
    interim = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 x\r\nLink: <a>\r\n\r\n"]))
    head = interim + b"HTTP/1.1 200 OK\r\nX-A: b\r\n"
    framing = draw(st.sampled_from(["length", "chunked", "close"]))
    if framing == "length":
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body, body, False
    if framing == "close":
        return head + b"\r\n" + body, body, True
    extension = draw(st.sampled_from([b"", b";a=b", b';a="x;y"']))
    chunks = b"".join(b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces)
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n" + draw(trailers) + b"\r\n", body, False


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if a < b]


@given(valid_replies(), st.lists(st.integers(0, 10_000), max_size=12))
@pytest.mark.requirement("GW-7")
def test_any_splitting_of_a_valid_reply_gives_the_same_reply(valid: tuple[bytes, bytes, bool], cuts: list[int]) -> None:
    reply, body, until_close = valid
    for parts in ([reply], split(reply, cuts), [reply[i : i + 1] for i in range(len(reply))]):
        reader, got = read(*parts)
        assert (reader.status, dict(reader.headers)[b"x-a"], got) == (200, b"b", body)
        assert reader.reusable is not until_close


fragments = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 x\r\n\r\n",
        b"HTTP/1.1 204 x\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Upgrade: x\r\n",
        b"\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"hello",
    ]
)


@settings(max_examples=400)
@given(
    st.lists(fragments | st.binary(max_size=12), max_size=10).map(b"".join),
    st.lists(st.integers(0, 10_000), max_size=6),
    st.booleans(),
    st.booleans(),
)
@example(b"HTTP/1.1 101 x\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", [], False, True)
def test_arbitrary_bytes_are_a_reply_or_an_upstream_failure_and_never_anything_else(
    data: bytes, cuts: list[int], head_only: bool, clean: bool
) -> None:
    outcome: Code | None = None
    try:
        reader, body = read(*split(data, cuts), head_only=head_only, clean=clean)
    except UpstreamFailure as failure:
        outcome = failure.code
    else:
        assert len(body) <= len(data)
        assert 200 <= reader.status <= 599
    assert outcome in {None, Code.BAD_REPLY, Code.TRUNCATED, Code.PROVIDER_UNREACHABLE}
