"""OpenAI's images: GPT Image models by tokens and as a stream, drawn or edited; DALL-E by the piece and by URL."""

import base64
import time
from collections.abc import Mapping
from typing import Any

from tests.upstream.answer import Answer, Ask, Form, Stream, check, count, need
from tests.upstream.faces import Refused
from tests.upstream.speech import media, tokens, write

_SIZES = ("1024x1024", "1024x1536", "1536x1024", "256x256", "512x512", "1024x1792", "1792x1024", "auto")
_QUALITIES = ("auto", "low", "medium", "high", "xhigh", "max", "standard", "hd")
_FORMATS = ("png", "jpeg", "webp")
_PER_IMAGE = 272
"""Output tokens of a picture."""
_PER_FILE = 60
"""Input tokens of a picture that is looked at."""
_COUNTS = ("n", "partial_images", "output_compression")


def answer(ask: Ask) -> Answer:
    """Validate as OpenAI does, then draw the same picture each time."""
    return _drawn(ask, ask.body, "image_generation", ask.behaviour.image_input)


def edit(ask: Ask) -> Answer:
    """The same, of pictures that the form holds."""
    form = ask.form
    if not {"image", "image[]"} & set(form.files):
        raise Refused(400, "Missing required parameter: 'image'.", param="image")
    for name, kind in form.types:
        if name not in ("image", "image[]", "mask", "markup") or not kind.startswith("image/"):
            raise Refused(400, f"Invalid file '{name}': unsupported mimetype ('{kind}').", param=name)
    return _drawn(ask, _members(form), "image_edit", ask.behaviour.image_input or _PER_FILE * len(form.types))


def _members(form: Form) -> dict[str, Any]:
    """The form's fields as the JSON of the other path would have them. Raises `Refused` 400."""
    members: dict[str, Any] = dict(form.fields)
    for name in _COUNTS:
        if name in members:
            if not members[name].isdigit():
                raise Refused(400, f"Invalid type for '{name}'.", param=name, code="invalid_type")
            members[name] = int(members[name])
    if "stream" in members:
        members["stream"] = members["stream"] == "true"
    return members


def _drawn(ask: Ask, body: Mapping[str, Any], kind: str, seen: int) -> Answer:
    how = ask.behaviour
    prompt = need(body, "prompt", str)
    if not prompt:
        raise Refused(400, "You must provide a prompt.", param="prompt")
    number = count(body, "n", most=10) or 1
    for name, allowed in (("size", _SIZES), ("quality", _QUALITIES), ("output_format", _FORMATS)):
        if body.get(name) is not None and body[name] not in allowed:
            raise Refused(400, f"Invalid value: '{body[name]}'.", param=name, code="invalid_value")
    stream = bool(check(body, "stream", bool))
    partial = count(body, "partial_images", least=0, most=3) or 0
    if "dall-e" in ask.model or not ask.model:
        return _by_piece(ask, body, number)
    if "response_format" in body:
        raise Refused(400, "Unknown parameter: 'response_format'.", param="response_format", code="unknown_parameter")
    picture = base64.b64encode(media(f"image/{body.get('output_format') or 'png'}", how.media_bytes)).decode()
    entered = how.input_tokens if how.input_tokens is not None else tokens(prompt) + seen
    drawn = how.output_tokens if how.output_tokens is not None else _PER_IMAGE * number
    bill = {"input": entered - seen, "output": drawn} | ({"image_input": seen} if seen else {})
    about: dict[str, object] = {
        "background": "opaque",
        "output_format": body.get("output_format") or "png",
        "quality": body.get("quality") or "high",
        "size": body.get("size") or "1024x1024",
    }
    if not stream:
        row = {"b64_json": picture} | ({"revised_prompt": "".join(how.reply)} if how.reply is not None else {})
        whole: dict[str, object] = {"created": int(time.time()), **about, "data": [row] * number}
        if how.usage != "none":
            whole["usage"] = _usage(entered, seen, drawn)
        return Answer(body=write(whole), bill=bill)
    events = Stream(how, named=True)
    about["created_at"] = int(time.time())
    for index in range(number):
        for at in range(partial):
            half = {"b64_json": picture, "partial_image_index": at, **about}
            events.add({"type": f"{kind}.partial_image", **half}, billed=drawn // number // (partial + 1))
            if how.unknown_event and at == index == 0:
                events.add({"type": f"{kind}.future", "future": {"kept": True}})
        events.billed = drawn * (index + 1) // number
        last = index == number - 1
        if not (how.no_done and last):
            done: dict[str, object] = {"type": f"{kind}.completed", "b64_json": picture, **about}
            if how.usage != "none":
                # Each picture is billed by itself; the prompt stands in the first one's figures.
                rest = drawn - drawn * index // number if last else drawn // number
                done["usage"] = _usage(entered if index == 0 else 0, seen if index == 0 else 0, rest)
            events.add(done, last=last)
    error = {"type": "server_error", "code": how.code, "message": how.message or "An error occurred.", "param": None}
    return events.answer(bill, error={"type": "error", "error": error}, name="error")


def _usage(entered: int, seen: int, drawn: int) -> dict[str, object]:
    return {
        "total_tokens": entered + drawn,
        "input_tokens": entered,
        "output_tokens": drawn,
        "input_tokens_details": {"text_tokens": entered - seen, "image_tokens": seen},
        "output_tokens_details": {"text_tokens": 0, "image_tokens": drawn},
    }


def _by_piece(ask: Ask, body: Mapping[str, Any], number: int) -> Answer:
    form = body.get("response_format") or "url"
    if form not in ("url", "b64_json"):
        raise Refused(400, f"Invalid value: '{form}'.", param="response_format", code="invalid_value")
    picture = base64.b64encode(media("image/png", ask.behaviour.media_bytes)).decode()
    url = f"https://files.example.com/img-fake{ask.number:08d}.png"
    said = body["prompt"] if ask.behaviour.reply is None else "".join(ask.behaviour.reply)
    row = {"revised_prompt": said, form: picture if form == "b64_json" else url}
    whole = {"created": int(time.time()), "data": [row for _ in range(number)]}
    return Answer(body=write(whole), bill={"images": number})
