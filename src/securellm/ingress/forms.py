"""A multipart form read as the JSON object its fields would make, its files beside it (RFC 7578)."""

import hashlib
import json
import string

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser, parse_options_header

from securellm.core.document import Document
from securellm.core.errors import Code, Refusal
from securellm.core.messages import Attachment

MOST_PARTS = 256
_LONGEST_HEADER = 4_224
_LONGEST_NAME = 255
_BOUNDARY = frozenset(string.ascii_letters + string.digits + "'()+_,-./:=?")
"""What a boundary is made of (RFC 2046 section 5.1.1), but for the space."""
_TOKEN = frozenset(string.ascii_letters + string.digits + "!#$&^_.+-")
"""What the two names of a media type are made of (RFC 6838 section 4.2)."""
_PLAIN = frozenset({"binary", "8bit", "7bit"})
"""Transfer encodings under which bytes stand for themselves."""
_UTF8 = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
_UNNAMED_TYPE = "application/octet-stream"


def read_form(body: bytes, content_type: str) -> tuple[Document, tuple[Attachment, ...]]:
    """The form's fields as a document, and its files in the order in which they stand there.

    A file stands in the document as its name, type, size and digest, so that the document differs when it does. A
    field whose name ends in `[]` is a list. What two readers could read differently is refused.

    Raises Refusal (MALFORMED_FORM, INVALID_UTF8, DUPLICATE_KEY).
    """
    boundary = _boundary(content_type)
    _refuse_surroundings(body, boundary)
    fields: dict[str, object] = {}
    files: dict[str, list[Attachment]] = {}
    for segment, data in _parts(body, boundary):
        name = _name(segment)
        _refuse_encodings(segment, name)
        value: object
        if segment.filename is None:
            value = _text(segment, name, data)
        else:
            file = _file(segment, name, data)
            files.setdefault(name, []).append(file)
            value = {
                "filename": file.filename,
                "content_type": file.content_type,
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
        _add(fields, name, value)
    document = Document(json.dumps(fields, ensure_ascii=False).encode("utf-8"))
    return document, tuple(file for name in fields for file in files.get(name, ()))


def _boundary(content_type: str) -> str:
    kind, options = parse_options_header(content_type)
    boundary: str = options.get("boundary", "")
    if kind != "multipart/form-data" or not boundary:
        raise Refusal(Code.MALFORMED_FORM, "the body must be multipart/form-data with a boundary", param="content-type")
    if len(boundary) > 70 or not _BOUNDARY.issuperset(boundary) or content_type.lower().count("boundary=") > 1:
        raise Refusal(Code.MALFORMED_FORM, "the boundary is not one (RFC 2046)", param="content-type")
    return boundary


def _refuse_surroundings(body: bytes, boundary: str) -> None:
    """What stands before the first part or after the last is read by some, and by us by nobody."""
    mark = b"--" + boundary.encode("ascii")
    if not body.startswith((mark, b"\r\n" + mark)):
        raise Refusal(Code.MALFORMED_FORM, "the form does not begin with its boundary")
    last = mark + b"--"
    end = -2 if body.startswith(last) else body.find(b"\r\n" + last)
    if end == -1:
        raise Refusal(Code.MALFORMED_FORM, "the form ends early")
    if body[end + 2 + len(last) :].strip():
        raise Refusal(Code.MALFORMED_FORM, "data follows the end of the form")


def _parts(body: bytes, boundary: str) -> list[tuple[MultipartSegment, bytes]]:
    parts: list[tuple[MultipartSegment, list[bytes]]] = []
    try:
        with PushMultipartParser(
            boundary, strict=True, max_segment_count=MOST_PARTS, max_header_size=_LONGEST_HEADER
        ) as parser:
            for event in parser.parse(body):
                if isinstance(event, MultipartSegment):
                    parts.append((event, []))
                elif event:
                    parts[-1][1].append(event)
    except ParserLimitReached:
        raise Refusal(
            Code.MALFORMED_FORM,
            f"the form has more than {MOST_PARTS} parts, or the headers of one are too many or too long",
        ) from None
    except MultipartError:
        raise Refusal(Code.MALFORMED_FORM, "the form is damaged") from None
    return [(segment, b"".join(pieces)) for segment, pieces in parts]


def _name(segment: MultipartSegment) -> str:
    name: str | None = segment.name
    if not name:
        raise Refusal(Code.MALFORMED_FORM, "a part of the form has no name")
    if len(name) > _LONGEST_NAME or _is_unsafe(name):
        raise Refusal(Code.MALFORMED_FORM, "the name of a field is too long, or holds a backslash or control character")
    return name


def _is_unsafe(name: str) -> bool:
    """Whether readers disagree where such a name ends: some take a backslash for an escape, or a bare line feed."""
    return "\\" in name or any(ord(character) < 32 or ord(character) == 127 for character in name)


def _refuse_encodings(segment: MultipartSegment, name: str) -> None:
    """Whatever would make the bytes of a part mean something else to another reader."""
    headers = [header for header, _ in segment.headerlist]
    if len(set(headers)) != len(headers):
        raise Refusal(Code.MALFORMED_FORM, "a part names a header twice", param=name[:64])
    if segment.header("Content-Transfer-Encoding", "binary").strip().lower() not in _PLAIN:
        raise Refusal(Code.MALFORMED_FORM, "a part is in a transfer encoding (RFC 7578 section 4.7)", param=name[:64])
    if (segment.content_type or "").startswith(("multipart/", "message/")):
        raise Refusal(Code.MALFORMED_FORM, "a part is a form or message of its own", param=name[:64])
    if segment.filename is None and "filename*" in segment.header("Content-Disposition", ""):
        raise Refusal(Code.MALFORMED_FORM, "a file is named by filename* only (RFC 7578 section 4.2)", param=name[:64])


def _text(segment: MultipartSegment, name: str, data: bytes) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refusal(Code.INVALID_UTF8, f"byte {error.start} of the field is not UTF-8", param=name[:64]) from None
    charset = text if name == "_charset_" else segment.charset or "utf-8"
    if charset.lower() not in _UTF8:
        raise Refusal(Code.INVALID_UTF8, "the field says that it is not in UTF-8", param=name[:64])
    return text


def _file(segment: MultipartSegment, name: str, data: bytes) -> Attachment:
    filename = segment.filename or ""
    if not filename or len(filename) > _LONGEST_NAME or _is_unsafe(filename) or "/" in filename:
        raise Refusal(
            Code.MALFORMED_FORM, "the name of a file is missing, too long, a path, or unprintable", param=name[:64]
        )
    content_type = segment.header("Content-Type", _UNNAMED_TYPE).strip()
    halves = (segment.content_type or _UNNAMED_TYPE).split("/")
    if len(halves) != 2 or not all(halves) or not _TOKEN.issuperset("".join(halves)):
        raise Refusal(Code.MALFORMED_FORM, "the type of a file is not one (RFC 6838)", param=name[:64])
    if not (content_type.isascii() and content_type.isprintable()):
        raise Refusal(Code.MALFORMED_FORM, "the type of a file holds what no header may", param=name[:64])
    return Attachment(field=name, filename=filename, content_type=content_type, data=data)


def _add(fields: dict[str, object], name: str, value: object) -> None:
    if not name.endswith("[]"):
        if name in fields:
            raise Refusal(Code.DUPLICATE_KEY, "the form names a field twice: a list's name ends in []", param=name[:64])
        fields[name] = value
        return
    held = fields.setdefault(name, [])
    assert isinstance(held, list)
    held.append(value)
