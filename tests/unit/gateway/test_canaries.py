"""A canary in every string, name and number of every golden answer: what the guard finds leaves from no place of it."""

import asyncio
import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.unit.providers import goldens

from securellm.core.document import Document, Patch
from securellm.core.errors import GatewayError
from securellm.core.messages import Leaf, Path
from securellm.gateway.echoes import Echoes
from securellm.gateway.lossless import blank, redact
from securellm.gateway.relay import StreamRelay
from securellm.guard import Guard, GuardMode, Screening
from securellm.providers import DIALECTS

CPF = "529.982.247-25"
EMAIL = "ana.silva@example.com"
_GUARD = Guard()


def places(value: Any, path: Path = ()) -> Iterator[tuple[Path, bool]]:
    """Every place where a canary can stand, and whether it is the name of a member."""
    if isinstance(value, dict):
        for name, child in value.items():
            yield (*path, name), True
            yield from places(child, (*path, name))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from places(child, (*path, index))
    else:
        yield path, False


def planted(root: Any, path: Path, canary: str, *, name: bool) -> bytes:
    """`root` with the canary in the place of a value, or as the name of one more member."""
    root = copy.deepcopy(root)
    *way, last = path
    at = root
    for step in way:
        at = at[step]
    at[canary if name else last] = copy.deepcopy(at[last]) if name else canary
    return json.dumps(root, ensure_ascii=False).encode()


def general(path: Path) -> Path:
    return tuple("*" if isinstance(step, int) else step for step in path)


async def screen(leaves: Any) -> Screening:
    assert all(isinstance(leaf, Leaf) for leaf in leaves)
    return await _GUARD.screen_reply(GuardMode.STRICT, leaves, decision_id="dec_1")


async def answered(name: str, body: bytes) -> bytes:
    """What a client is given of a whole answer; nothing where it is refused."""
    document = Document(body, max_depth=128)
    facts = DIALECTS[goldens.surface_of(name)].read_reply(document)
    if facts.failure is not None:
        return b""
    screening = await screen(facts.leaves)
    patch = Patch(document)
    redact(patch, facts.leaves, screening.replacements, facts.mirrors, facts.runs)
    if screening.replacements:
        blank(patch, facts.mirrors)
    return patch.apply()


async def relayed(name: str, stream: bytes) -> bytes:
    """What a client is given of a stream, up to where it is refused."""
    relay = StreamRelay(
        reader=goldens.opened(name),
        framing=goldens.framing_of(name),
        screen=_GUARD.open_stream(GuardMode.STRICT, decision_id="dec_1"),
        screen_whole=screen,
        echoes=Echoes(None),
        upstream_model="up",
        model="up",
    )
    given = await relay.feed(stream)
    if relay.failure is not None:
        return given
    try:
        if not relay.terminal:
            await relay.end()
        relay.conclude()
    except GatewayError:
        return given
    return given + relay.rest()


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize("name", sorted(goldens.REPLIES))
@pytest.mark.parametrize("canary", [CPF, EMAIL])
def test_no_place_of_a_whole_answer_lets_a_canary_out(name: str, canary: str) -> None:
    async def scenario() -> None:
        root = json.loads(goldens.REPLIES[name].read_bytes())
        tried: set[tuple[Path, bool]] = set()
        for path, named in places(root):
            if (general(path), named) not in tried:
                tried.add((general(path), named))
                given = await answered(name, planted(root, path, canary, name=named))
                assert canary.encode() not in given, (path, named)

    asyncio.run(scenario())


@pytest.mark.requirement("GW-7")
@pytest.mark.parametrize("name", sorted(goldens.STREAMS))
def test_no_place_of_any_event_lets_a_canary_out(name: str) -> None:
    async def scenario() -> None:
        framing, events = goldens.framing_of(name), goldens.events_of(name)
        tried: set[tuple[object, ...]] = set()
        for number, event in enumerate(events):
            if not event.data.startswith(b"{"):
                continue
            root = json.loads(event.data)
            for path, named in places(root):
                if (root.get("type"), general(path), named) in tried:
                    continue
                tried.add((root.get("type"), general(path), named))
                for canary in (CPF, f" {CPF} "):
                    data = framing.rewrite(event, planted(root, path, canary, name=named))
                    sent = [data if at == number else other.raw for at, other in enumerate(events)]
                    got_out = CPF.encode() in await relayed(name, b"".join(sent))
                    # Between pieces without a space it may be a part of another word, which is none of ours.
                    if not (got_out and canary == CPF and not named and _continues(name, data)):
                        break
                assert not got_out, (path, named)

    asyncio.run(scenario())


def _continues(name: str, event: bytes) -> bool:
    """Whether an event brings a piece of a text that others go on with."""
    view = goldens.opened(name).read(goldens.events_of(name, event)[0])
    return any(fragment.channel for fragment in view.fragments) or view.failure is not None
