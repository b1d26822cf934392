"""Files, as a client uploads them (POST /v1/files): what is inside is read, or the file is refused."""

from collections.abc import Mapping

import msgspec

from securellm.core.document import Document
from securellm.core.errors import Code, Refusal
from securellm.core.messages import Attachment, Leaf, Role
from securellm.core.surfaces import Surface
from securellm.gateway.model import Inner, Request
from securellm.ingress import chat, embeddings, facts, media, responses
from securellm.ingress.errands import Sent, asked
from securellm.ingress.inner import MOST, Extract, at_place, carrying, read_inner
from securellm.ingress.leaves import Shape, collect

FIELD = "file"
"""The form's field that holds the file."""

ENDPOINTS: Mapping[str, tuple[Surface, Extract]] = {
    "/v1/chat/completions": (Surface.CHAT, chat.extract),
    "/v1/responses": (Surface.RESPONSES, responses.extract),
    "/v1/embeddings": (Surface.EMBEDDINGS, embeddings.extract),
    "/v1/moderations": (Surface.MODERATIONS, media.extract_moderation),
}
"""What the requests of a batch can speak, by the path they name."""

_SHAPE = Shape(
    names=frozenset(
        {
            "file", "filename", "content_type", "bytes", "sha256", "purpose", "expires_after[anchor]",
            "expires_after[seconds]",
        }
    ),
    ids=frozenset({("file", "sha256")}),
    media=frozenset(),
    numbers=frozenset({"bytes"}),
    system=frozenset(),
)  # fmt: skip

_PICTURES: tuple[tuple[bytes, str | tuple[str, ...]], ...] = (
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"\xff\xd8\xff", (".jpg", ".jpeg")),
    (b"GIF87a", ".gif"),
    (b"GIF89a", ".gif"),
)
"""How a picture begins, and how its name ends."""
_NOT_SERVED = {
    "assistants": "the assistants API is",
    "fine-tune": "training is",
    "evals": "the evals API is",
}


def read_upload(sent: Sent) -> Request:
    """The facts of an upload: the requests of a batch, a text, or what a model looks at.

    Raises Refusal (INVALID_REQUEST, UNSUPPORTED_FIELD, and whatever a request of a batch is refused with).
    """
    members = sent.document.members()
    if len(sent.attachments) != 1 or sent.attachments[0].field != FIELD:
        raise Refusal(Code.INVALID_REQUEST, "file must be one file", param=FIELD)
    file = sent.attachments[0]
    purpose = facts.text(members, "purpose")
    fields = collect(members, _SHAPE).leaves
    request = msgspec.structs.replace(asked(sent), leaves=fields, message_count=1)
    if purpose == "batch":
        speaks, inner = read_lines(file.data, sent.headers, max_depth=sent.max_depth, first=len(fields))
        return carrying(request, inner, speaks=speaks)
    if purpose in _NOT_SERVED:
        raise Refusal(
            Code.UNSUPPORTED_FIELD,
            f"{_NOT_SERVED[purpose]} not served here, so nothing would screen or pay what is made of this file",
            param="purpose",
        )
    if purpose not in ("user_data", "vision"):
        raise Refusal(Code.INVALID_REQUEST, "purpose must be batch, user_data or vision", param="purpose")
    text = as_text(file.data) if purpose == "user_data" else None
    if text is not None:
        leaves = (*fields, Leaf((FIELD,), text, Role.DATA))
        return msgspec.structs.replace(request, leaves=leaves, text=len(fields))
    if not is_looked_at(file, pdf=purpose == "user_data"):
        kinds = "a picture" if purpose == "vision" else "text in UTF-8, a PDF or a picture"
        raise Refusal(
            Code.UNSUPPORTED_FIELD,
            f"a file for {purpose} must be {kinds}, and be named as one: no guard can read others",
            param=FIELD,
        )
    return request


def read_lines(
    data: bytes, headers: Mapping[str, str], *, max_depth: int, first: int
) -> tuple[Surface, tuple[Inner, ...]]:
    """The requests of a JSONL file, and the surface that all of them speak. Raises Refusal naming the line.

    Lines end in LF or CRLF. Another CR would be white space to us and the end of a line to others.
    """
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    if len(lines) > MOST:
        raise Refusal(Code.INVALID_REQUEST, f"the file has more than {MOST} lines", param=FIELD)
    inner: list[Inner] = []
    url = ""
    speaks, extract = ENDPOINTS["/v1/chat/completions"]
    for number, line in enumerate(lines, 1):
        place = f"line {number}"
        try:
            if b"\r" in line.removesuffix(b"\r"):
                raise Refusal(Code.MALFORMED_JSON, "a carriage return stands inside the line")
            document = Document(line, max_depth=max_depth)
            if not url:
                url = facts.text(document.members(), "url")
                if url not in ENDPOINTS:
                    raise Refusal(Code.UNSUPPORTED_FIELD, f"url must be one of {', '.join(ENDPOINTS)}")
                speaks, extract = ENDPOINTS[url]
        except Refusal as refusal:
            raise at_place(refusal, place) from None
        one = read_inner(
            document,
            "body",
            extract,
            headers,
            place=place,
            first=first,
            constants={"method": "POST", "url": url},
        )
        inner.append(one)
        first += 1 + len(one.request.leaves)
    return speaks, tuple(inner)


def is_looked_at(file: Attachment, *, pdf: bool) -> bool:
    """Whether it is a picture (or a PDF), by its first bytes and by its name: other readers go by the name."""
    name = file.filename.lower()
    webp = file.data[:4] == b"RIFF" and file.data[8:12] == b"WEBP"
    return (
        any(file.data.startswith(begins) and name.endswith(ends) for begins, ends in _PICTURES)
        or (webp and name.endswith(".webp"))
        or (pdf and file.data.startswith(b"%PDF-") and name.endswith(".pdf"))
    )


def as_text(data: bytes) -> str | None:
    """The text that a file is; None where it is none."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if "\x00" in text else text
