"""What Ollama's clients set, in a chat and in a completion alike."""

import base64
from typing import Literal

import msgspec

from securellm.core.document import Value
from securellm.providers.translation.generate_content.schemas import is_enforceable
from securellm.providers.translation.members import Fields
from securellm.providers.translation.model import Ask, Format, Image, Thinking
from securellm.providers.translation.ollama_chat.documented import ENFORCED

_LEVELS: dict[str, Literal["low", "medium", "high"]] = {"low": "low", "medium": "medium", "high": "high"}
_PICTURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)
"""How files of each media type begin."""


def with_settings(ask: Ask, fields: Fields, rest: dict[str, Value]) -> Ask:
    """The request with all that is set beside what is said. What is not taken is left in `rest`."""
    options = fields.object("options")
    set_by = Fields({}, rest) if options is None else options
    stop = set_by.needed("stop") if set_by.is_text("stop") else None
    seed, cap, top_k = set_by.whole("seed"), set_by.whole("num_predict"), set_by.whole("top_k")
    if top_k is not None and top_k > 0:
        rest["options.top_k"] = top_k
    found = msgspec.structs.replace(
        ask,
        # A negative one asks for any, and a bound below 1 is none.
        seed=None if seed is not None and seed < 0 else seed,
        max_output=None if cap is not None and cap < 1 else cap,
        temperature=set_by.number("temperature"),
        top_p=set_by.number("top_p"),
        stop=set_by.texts("stop") if stop is None else (stop,),
        presence_penalty=set_by.number("presence_penalty"),
        frequency_penalty=set_by.number("frequency_penalty"),
        format=_format(fields, rest),
        thinking=_thinking(fields),
        stream=fields.flag("stream") is not False,
        rest=rest,
    )
    set_by.leave()
    fields.skip("logprobs", False)
    fields.skip("top_logprobs", 0)
    fields.leave()
    return found


def _format(fields: Fields, rest: dict[str, Value]) -> Format | None:
    if fields.is_text("format"):
        match fields.needed("format"):
            case "":
                return None
            case "json":
                return Format(kind="json")
            case _:
                raise fields.wrong("format", "json or a JSON Schema")
    schema = fields.members("format")
    if schema is None:
        return None
    if is_enforceable(schema):
        return Format(kind="schema", schema=schema, strict=True)
    rest[ENFORCED] = True
    return Format(kind="schema", schema=schema)


def _thinking(fields: Fields) -> Thinking | None:
    if fields.is_text("think"):
        level = _LEVELS.get(fields.needed("think"))
        if level is None:
            raise fields.wrong("think", "true, false, low, medium or high")
        return Thinking(effort=level, show=True)
    match fields.flag("think"):
        case None:
            return None
        case True:
            return Thinking(show=True)
        case False:
            return Thinking(effort="none")


def pictures(fields: Fields) -> tuple[Image, ...]:
    """The images of a message or prompt, of which this dialect tells only the bytes. Raises Refusal."""
    return tuple(_picture(data, fields, f"images.{index}") for index, data in enumerate(fields.texts("images")))


def _picture(data: str, fields: Fields, name: str) -> Image:
    try:
        head = base64.b64decode(data[:16], validate=True)
    except ValueError:
        raise fields.wrong(name, "an image in Base64") from None
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return Image(media_type="image/webp", data=data)
    for beginning, media_type in _PICTURES:
        if head.startswith(beginning):
            return Image(media_type=media_type, data=data)
    raise fields.unsaid(name, "an image that is neither PNG, JPEG, GIF nor WebP")
