"""The lossless lane over ten thousand random streams: what the client gets is what the upstream sent, byte for byte."""

import asyncio
import json
import os
import random

import pytest
from tests.unit.gateway.wild_streams import SURFACES, Wild, pieces, wild

from securellm.core.messages import Leaf
from securellm.core.surfaces import Surface
from securellm.gateway.echoes import Echoes
from securellm.gateway.relay import StreamRelay
from securellm.guard import Guard, GuardMode, Screening
from securellm.providers import DIALECTS
from securellm.secrets import SecretValue

STREAMS = 10_000


async def relayed(surface: Surface, stream: Wild, cut: list[bytes]) -> bytes:
    guard = Guard()

    async def screen_whole(leaves: object) -> Screening:
        assert isinstance(leaves, list)
        assert all(isinstance(leaf, Leaf) for leaf in leaves)
        return await guard.screen_reply(GuardMode.STANDARD, leaves, decision_id="dec_1")

    dialect = DIALECTS[surface]
    assert dialect.open_stream is not None
    assert dialect.framing is not None
    relay = StreamRelay(
        reader=dialect.open_stream(injected_usage=stream.injected_usage),
        framing=dialect.framing,
        screen=guard.open_stream(GuardMode.STANDARD, decision_id="dec_1"),
        screen_whole=screen_whole,
        echoes=Echoes(SecretValue("a-credential-of-a-provider")),
        upstream_model="up",
        model="up",
    )
    out: list[bytes] = []
    for piece in cut:
        out.append(await relay.feed(piece))
        assert relay.failure is None, relay.failure
        if relay.terminal:
            break
    else:
        await relay.end()
    relay.conclude()
    return b"".join([*out, relay.rest()])


@pytest.mark.requirement("GW-7", "GW-2")
@pytest.mark.parametrize("surface", SURFACES, ids=str)
def test_no_byte_of_a_random_stream_is_lost_or_altered(surface: Surface) -> None:
    """STREAMS of all dialects together; each is cut anywhere on its way in."""

    async def scenario() -> None:
        rng = random.Random(f"{surface}/{os.environ.get('WILD_SEED', '1')}")
        for number in range(STREAMS // len(SURFACES) + 1):
            stream = wild(surface, rng)
            cut = pieces(rng, stream.sent)
            assert await relayed(surface, stream, cut) == stream.due, (number, stream.sent)

    asyncio.run(scenario())


def test_the_last_event_does_not_spell_again_what_was_redacted_before() -> None:
    head = {"model": "up", "created_at": "2026-11-21T10:00:00Z"}
    lines = (
        {**head, "response": "Your CPF is 529.982.247-25.", "done": False},
        {**head, "response": "", "done": True, "done_reason": "stop", "context": [5, 2, 9], "eval_count": 3},
    )
    sent = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    got = asyncio.run(relayed(Surface.OLLAMA_GENERATE, Wild(sent, sent, injected_usage=False), [sent]))
    first, last = map(json.loads, got.splitlines())
    assert first["response"] == "Your CPF is [CPF]."
    assert last["context"] == []
