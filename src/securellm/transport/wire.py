"""The bytes of HTTP/1.1 (RFC 9112): a request's head written, a reply read; no I/O.

The reader is strict where leniency would let a provider, or someone between, make us see another message than the
one that was sent: both framings at once, repeated lengths, bare line feeds and folded headers are refused by llhttp;
the rest is refused here.
"""

import re

import httptools

from securellm.core.errors import Code, Fault, UpstreamFailure
from securellm.transport.model import Headers, OutboundRequest, Target

_METHOD = re.compile(r"[A-Z]{3,16}")
_PATH = re.compile(r"/[!\"$-~]*")  # visible ASCII; "#" never travels
_NAME = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
_OURS = frozenset(
    {
        b"accept-encoding",
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_OPENINGS = (b"HTTP/1.1 ", b"HTTP/1.0 ")


def encode_head(request: OutboundRequest, target: Target) -> bytes:
    """The request line and all headers. A request that cannot be written safely is our bug: Fault(INTERNAL)."""
    if not _METHOD.fullmatch(request.method) or request.method == "CONNECT":
        raise Fault(Code.INTERNAL, "the outgoing method is not allowed")
    if not _PATH.fullmatch(request.path):
        raise Fault(Code.INTERNAL, "the outgoing path holds an illegal character")
    lines = [f"{request.method} {request.path} HTTP/1.1\r\nhost: {target.host_header}\r\n".encode("ascii")]
    for name, value in request.headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise Fault(Code.INTERNAL, "an outgoing header holds an illegal character")
        if name.lower() in _OURS:
            raise Fault(Code.INTERNAL, "an outgoing header belongs to the transport")
        lines.append(b"%b: %b\r\n" % (name, value))
    lines.append(b"accept-encoding: identity\r\ncontent-length: %d\r\n\r\n" % len(request.body))
    return b"".join(lines)


class ReplyReader:
    """One reply, fed in any pieces; the same bytes give the same reply however they were split."""

    __slots__ = (
        "_has_body",
        "_head_only",
        "_head_size",
        "_headers",
        "_interim",
        "_max_head",
        "_opening",
        "_parser",
        "_pieces",
        "_problem",
        "_quiet",
        "_received",
        "_until_close",
        "complete",
        "head_complete",
        "headers",
        "length",
        "reusable",
        "status",
    )

    def __init__(self, *, head_only: bool = False, max_head: int) -> None:
        """`head_only`: the request was HEAD. `max_head`: bytes of all headers, trailers and interim replies."""
        self.status = 0
        self.headers: Headers = ()
        self.length: int | None = None
        """The declared Content-Length of a body, in bytes."""
        self.head_complete = False
        self.complete = False
        self.reusable = False
        """True when the connection can carry another request after this reply."""
        self._head_only = head_only
        self._max_head = max_head
        self._head_size = 0
        self._quiet = 0
        self._received = False
        self._opening = b""
        self._interim = False
        self._has_body = True
        self._until_close = False
        self._problem: str | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._pieces: list[bytes] = []
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> bytes:
        """Take what arrived and return the body bytes in it; UpstreamFailure(BAD_REPLY) when it is not a reply."""
        parser = self._parser
        if parser is None:
            raise Fault(Code.INTERNAL, "a finished reply was fed")
        self._received = True
        if len(self._opening) < len(_OPENINGS[0]):
            self._opening += data[: len(_OPENINGS[0]) - len(self._opening)]
            # llhttp also speaks RTSP and ICE, and skips blank lines before a reply.
            if not any(opening.startswith(self._opening) for opening in _OPENINGS):
                raise self._refusal("not an HTTP/1.1 reply")
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                raise self._refusal(self._problem or str(error)) from None
            self.reusable = False
        pieces = self._pieces
        if pieces:
            self._quiet = 0
            self._pieces = []
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        else:
            body = b""
            self._quiet += len(data)
            if self._quiet > self._max_head and not self.complete:
                raise self._refusal("its headers or trailers are too large")
        if self.complete:
            self._parser = None  # the parser and its reader hold each other
        return body

    def end(self, *, clean: bool) -> None:
        """The provider closed. `clean`: in order, not by a reset nor, under TLS, without a close notice."""
        if self.complete:
            return
        self._parser = None
        if not self._received:
            raise UpstreamFailure(Code.PROVIDER_UNREACHABLE, "the provider closed the connection without a reply")
        if not (self._until_close and clean):
            raise UpstreamFailure(
                Code.TRUNCATED,
                "the provider closed the connection before the end of its reply",
                provider_status=self.status or None,
            )
        self.complete = True

    def _refusal(self, reason: str) -> UpstreamFailure:
        self._parser = None
        return UpstreamFailure(
            Code.BAD_REPLY, f"the provider's reply is malformed: {reason}", provider_status=self.status or None
        )

    def _refuse(self, problem: str) -> None:
        self._problem = problem
        raise ValueError(problem)

    # Called by httptools, which turns what they raise into its own error.

    def on_message_begin(self) -> None:
        if self.complete:
            self._refuse("bytes after the reply")

    def on_status(self, reason: bytes) -> None:
        self._count(len(reason))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        if not self.head_complete:
            self._headers.append((name.lower(), value.rstrip(b" \t")))

    def _count(self, size: int) -> None:
        self._head_size += size
        if self._head_size > self._max_head:
            self._refuse("its headers or trailers are too large")

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        status = parser.get_status_code()
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            self._refuse("not an HTTP/1.1 reply")
        if not 100 <= status <= 599:
            self._refuse("its status is not a number from 100 to 599")
        headers = self._headers
        lengths = [value for name, value in headers if name == b"content-length"]
        codings = [value.lower() for name, value in headers if name == b"transfer-encoding"]
        if status < 200:
            if status == 101:
                self._refuse("it switches protocols unasked")
            if lengths or codings:
                self._refuse("an interim reply declares a body")
            headers.clear()
            self._interim = True
            return
        if codings and codings != [b"chunked"]:
            self._refuse("its transfer encoding is not chunked alone")
        if codings and version == "1.0":
            self._refuse("an HTTP/1.0 reply has no transfer encoding")
        self.status = status
        self.headers = tuple(headers)
        self._has_body = not (self._head_only or status in {204, 304})
        if self._has_body:
            if any(name == b"content-encoding" and value.lower() not in {b"", b"identity"} for name, value in headers):
                self._refuse("it is compressed although identity was asked for")
            self.length = int(lengths[0]) if lengths else None
            self._until_close = not lengths and not codings
        # After a HEAD, llhttp would wait for a body, so bytes that follow could go unnoticed.
        self.reusable = parser.should_keep_alive() and not self._until_close and not self._head_only
        self.head_complete = True
        self.complete = not self._has_body

    def on_body(self, body: bytes) -> None:
        if self._has_body:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        else:
            self.complete = True
