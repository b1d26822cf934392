"""Anthropic's prompt cache: what stands before a breakpoint is written once, then read."""

import hashlib
import json

import msgspec
from tests.upstream.answer import Ask
from tests.upstream.behaviour import Behaviour
from tests.upstream.messages_check import blocks
from tests.upstream.speech import texts, tokens

LEAST = 1024
"""Tokens below which a prefix is not worth caching, and is silently not cached."""


def cached(ask: Ask) -> Behaviour:
    """The behaviour with the cache figures that this request's breakpoints earn, unless the test gave its own."""
    how, body = ask.behaviour, ask.body
    if how.cached or how.cache_write_5m or how.cache_write_1h or how.input_tokens is not None:
        return how
    digest, read, so_far = hashlib.sha256(str(body["model"]).encode()), 0, 0
    written = {"5m": 0, "1h": 0}
    counted = 0
    rows = list(blocks(body))
    for number, block in enumerate(rows):
        mark = block.get("cache_control")
        if mark is None and number == len(rows) - 1:
            mark = body.get("cache_control")
        plain = {name: value for name, value in block.items() if name != "cache_control"}
        digest.update(json.dumps(plain, sort_keys=True).encode())
        so_far += sum(tokens(text) for text in texts(plain))
        if mark is None or so_far < LEAST:
            continue
        if digest.hexdigest() in ask.memory.prefixes:
            read, written = so_far, {"5m": 0, "1h": 0}
        else:
            ask.memory.prefixes.add(digest.hexdigest())
            written[mark.get("ttl", "5m")] += so_far - counted
        counted = so_far
    return msgspec.structs.replace(how, cached=read, cache_write_5m=written["5m"], cache_write_1h=written["1h"])
