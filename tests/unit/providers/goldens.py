"""The golden replies and streams, written from each provider's documentation, and what each of them says.

A file is called `<provider and API version>.<surface>.<case>`; what it must be read as stands beside it.
"""

from pathlib import Path

import msgspec

from securellm.core.surfaces import Surface
from securellm.core.usage import Usage
from securellm.providers import DIALECTS, EventView, Framing, StreamEvent, StreamReader

FOLDER = Path(__file__).parent / "golden"
_EXPECTED = ".expected.json"


class Expected(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a golden says."""

    usage: Usage | None
    finish: str | None = None
    model: str | None = None
    id: str | None = None
    service_tier: str | None = None
    tools: dict[str, int] = {}
    """How often the provider's own tools ran."""
    choices: int = 1
    """Asked for."""
    channels: dict[str, str] = {}
    """Of a stream: every text that comes in pieces."""
    whole: frozenset[str] = frozenset()
    """Of a stream: texts that must be reported complete in themselves."""
    text: str = ""
    """Of a reply: what the assistant says."""
    leaves: list[tuple[str, str]] | None = None
    """Of a reply: kind and text of everything in it that must be screened."""


def _found(*endings: str) -> dict[str, Path]:
    paths = (path for path in sorted(FOLDER.iterdir()) if path.suffix in endings and not path.name.endswith(_EXPECTED))
    return {path.name.removesuffix(path.suffix): path for path in paths}


STREAMS = _found(".sse", ".ndjson")
REPLIES = _found(".json")


def surface_of(name: str) -> Surface:
    return Surface(name.split(".")[-2])


def expected_of(name: str) -> Expected:
    return msgspec.json.decode((FOLDER / f"{name}{_EXPECTED}").read_bytes(), type=Expected)


def stream_bytes(name: str) -> bytes:
    return STREAMS[name].read_bytes()


def framing_of(name: str) -> Framing:
    framing = DIALECTS[surface_of(name)].framing
    assert framing is not None
    return framing


def opened(name: str, *, injected_usage: bool = False) -> StreamReader:
    """A reader for the golden's surface, asked for as many choices as it has."""
    open_stream = DIALECTS[surface_of(name)].open_stream
    assert open_stream is not None
    return open_stream(injected_usage=injected_usage, choices=expected_of(name).choices)


def events_of(name: str, data: bytes | None = None) -> list[StreamEvent]:
    """The golden's events, or those of `data` framed as they are, all of them complete."""
    parser = framing_of(name).parser()
    events = parser.feed(stream_bytes(name) if data is None else data) + parser.end()
    assert parser.pending == b""
    return events


def read_all(name: str, events: list[StreamEvent]) -> tuple[StreamReader, list[EventView]]:
    machine = opened(name)
    return machine, [machine.read(event) for event in events]
