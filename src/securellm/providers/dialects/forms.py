"""Requests that are multipart forms: the fields of a JSON object and the files beside it (RFC 7578)."""

import hashlib
import json
from collections.abc import Iterator, Sequence

from securellm.core.document import Document, Value
from securellm.core.errors import Code, Fault
from securellm.core.messages import Attachment

_ESCAPES = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})
_CONTROLS = str.maketrans({"\r": " ", "\n": " "})


def encode(fields: bytes, attachments: Sequence[Attachment]) -> tuple[bytes, str]:
    """The form and its content type, the same for the same request.

    `attachments` stand in the order in which `fields` names them. Its boundary is made from what it bounds, and does
    not occur in it.
    """
    files = iter(attachments)
    members = Document(fields, max_depth=10_000).members()
    parts = [part for name, value in members.items() for part in _parts(name, value, files)]
    if next(files, None) is not None:
        raise Fault(Code.INTERNAL, "the form has a file that its fields do not name")
    boundary = _boundary(fields, parts)
    lines: list[bytes] = []
    for head, data in parts:
        lines += (b"--" + boundary, head, b"", data)
    lines += (b"--" + boundary + b"--", b"")
    return b"\r\n".join(lines), f"multipart/form-data; boundary={boundary.decode('ascii')}"


def _parts(name: str, value: Value, files: Iterator[Attachment]) -> list[tuple[bytes, bytes]]:
    if isinstance(value, list):
        return [part for item in value for part in _parts(name, item, files)]
    if isinstance(value, dict):
        # No other object stands among a form's fields: whatever a client wrote there is a text.
        file = next(files, None)
        if file is None or value.get("bytes") != len(file.data):
            raise Fault(Code.INTERNAL, "the form's fields name another file than it has")
        # As the fields name it, in which a guard may have replaced something.
        head = f'{_disposition(name)}; filename="{_escaped(str(value.get("filename")))}"'
        content_type = str(value.get("content_type")).translate(_CONTROLS)
        return [(f"{head}\r\nContent-Type: {content_type}".encode(), file.data)]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return [(_disposition(name).encode("utf-8"), text.encode("utf-8"))]


def _disposition(name: str) -> str:
    return f'Content-Disposition: form-data; name="{_escaped(name)}"'


def _escaped(text: str) -> str:
    """As browsers write it (WHATWG HTML, multipart/form-data encoding)."""
    return text.translate(_ESCAPES)


def _boundary(fields: bytes, parts: Sequence[tuple[bytes, bytes]]) -> bytes:
    # The fields hold the digest of every file: what they are made of differs when a file does.
    digest = hashlib.sha256(fields)
    while True:
        boundary = b"securellm-" + digest.hexdigest()[:40].encode("ascii")
        if not any(boundary in data or boundary in head for head, data in parts):
            return boundary
        digest.update(boundary)
