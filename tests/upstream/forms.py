"""Multipart bodies, read as strictly as a provider reads them."""

from email.message import Message

from tests.upstream.answer import Form
from tests.upstream.faces import Refused

_PROBLEM = "Could not parse multipart form."


def read_form(content_type: str, body: bytes) -> Form:
    """The fields and files of a multipart/form-data body. Raises `Refused` 400."""
    kind, words = _header(content_type)
    boundary = words.get("boundary")
    if kind != "multipart/form-data" or not boundary:
        raise Refused(400, "The content type must be multipart/form-data with a boundary.")
    mark = b"\r\n--" + boundary.encode("latin-1")
    first, *parts = (b"\r\n" + body).split(mark)
    if first.strip() or not parts or parts[-1].strip() != b"--":
        raise Refused(400, _PROBLEM)
    fields: list[tuple[str, str]] = []
    files: dict[str, tuple[str, bytes]] = {}
    types: list[tuple[str, str]] = []
    for part in parts[:-1]:
        head, gap, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        described: dict[str, str] = {}
        content_type = ""
        for line in head.decode("utf-8", "replace").split("\r\n"):
            name, _, value = line.partition(":")
            if name.strip().lower() == "content-disposition":
                _, described = _header(value)
            elif name.strip().lower() == "content-type":
                content_type = value.strip()
        if not gap or not described.get("name"):
            raise Refused(400, _PROBLEM)
        name = described["name"]
        if "filename" not in described:
            fields.append((name, content.decode("utf-8", "replace")))
        elif name in files and not name.endswith("[]"):
            raise Refused(400, f"Only one file is accepted as '{name}'.", param=name)
        else:
            files[name] = (described["filename"], content)
            types.append((name, content_type))
    return Form(tuple(fields), files, tuple(types))


def _header(value: str) -> tuple[str, dict[str, str]]:
    """A header's first word and its parameters."""
    message = Message()
    message["content-type"] = value.strip()
    pairs = message.get_params(failobj=[])
    kind = pairs[0][0].lower() if pairs else ""
    return kind, {name.lower(): given for name, given in pairs[1:]}
