"""Media inline in a request: data addresses, formats and names of files."""

import base64

from securellm.core.document import Value
from securellm.providers.translation.members import Fields, unsayable

AUDIO = {"wav": "audio/wav", "mp3": "audio/mpeg"}
"""Media types, by the name of their format."""
FORMATS = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}
_EXTENSIONS = {"pdf": "application/pdf", "txt": "text/plain"}


def inline(url: str, fields: Fields, name: str) -> tuple[str, str]:
    """The media type and the Base64 of a data address (RFC 2397)."""
    head, comma, data = url.removeprefix("data:").partition(",")
    media_type, *parameters = head.split(";")
    if not comma or not media_type or "base64" not in parameters:
        raise fields.wrong(name, "a data address with a media type, in Base64")
    return media_type, data


def by_name(name: str | None) -> str | None:
    """The media type that a file's name tells."""
    return None if name is None else _EXTENSIONS.get(name.rpartition(".")[2].lower())


def named(media_type: str | None) -> str:
    """A name for a file that has none, where one must be given."""
    extensions = {kind: extension for extension, kind in _EXTENSIONS.items()}
    extension = extensions.get(media_type or "")
    return "document" if extension is None else f"document.{extension}"


def url_of(url: str | None, media_type: str | None, data: str | None) -> Value:
    """An address: the remote one, or a data address."""
    if url is not None:
        return url
    if data is None:
        raise unsayable("a part without its data")
    if media_type is None:
        raise unsayable("data whose media type is not told")
    return f"data:{media_type};base64,{data}"


def encoded(text: str) -> str:
    """Text in Base64."""
    return base64.b64encode(text.encode("utf-8")).decode("ascii")


def decoded(data: str) -> str | None:
    """The text in Base64. None when it is none."""
    try:
        return base64.b64decode(data, validate=True).decode("utf-8")
    except ValueError:
        return None
