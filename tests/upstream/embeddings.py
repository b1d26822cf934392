"""OpenAI's embeddings: vectors that depend on nothing but the text."""

import base64
import hashlib
import struct
from typing import Any

from tests.upstream.answer import Answer, Ask, check, count, need
from tests.upstream.faces import Refused
from tests.upstream.speech import tokens, write

_DIMENSIONS = 16


def answer(ask: Ask) -> Answer:
    """Validate as a strict provider does, then one vector for each input."""
    body = ask.body
    model = need(body, "model", str)
    inputs = _inputs(body.get("input"))
    form = check(body, "encoding_format", str) or "float"
    if form not in ("float", "base64"):
        raise Refused(400, "Invalid value for 'encoding_format'.", param="encoding_format", code="invalid_value")
    size = count(body, "dimensions", most=4096) or _DIMENSIONS
    used = sum(len(item) if isinstance(item, list) else tokens(item) for item in inputs)
    if ask.behaviour.input_tokens is not None:
        used = ask.behaviour.input_tokens
    whole: dict[str, object] = {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _formed(vector(item, size), form)}
            for index, item in enumerate(inputs)
        ],
        "model": model,
    }
    if ask.behaviour.usage != "none":
        whole["usage"] = {"prompt_tokens": used, "total_tokens": used}
    return Answer(body=write(whole), bill={"input": used})


def _inputs(given: Any) -> list[str | list[int]]:
    """Raises `Refused` unless the input is a text, texts, tokens or lists of tokens, none of them empty."""
    problem = Refused(400, "'$.input' is invalid.", param="input", code="invalid_type")
    if isinstance(given, str) and given:
        return [given]
    if not isinstance(given, list) or not given or len(given) > 2048:
        raise problem
    if all(isinstance(item, str) and item for item in given):
        return given
    if all(type(item) is int for item in given):
        return [given]
    if all(isinstance(item, list) and item and all(type(token) is int for token in item) for item in given):
        return given
    raise problem


def vector(item: str | list[int], size: int) -> list[float]:
    """So many numbers between -1 and 1, made from the text alone; each is exact in 32 bits."""
    seed = hashlib.shake_256(repr(item).encode()).digest(size)
    return [(byte - 127.5) / 128 for byte in seed]


def _formed(values: list[float], form: str) -> list[float] | str:
    if form == "base64":
        return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()
    return values
