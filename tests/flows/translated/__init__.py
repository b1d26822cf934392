"""Four clients before four upstreams: a request as each client says it, and an answer as each client hears it."""

import base64
from collections.abc import Mapping

import pytest
from tests.flows.front import World
from tests.flows.translated import chat, content, messages, responses
from tests.flows.translated.model import JSON, Asked, Client, Heard, Said, data_of, events_in, figures
from tests.harness import PRICE, Site

from securellm.core.surfaces import Surface

__all__ = [
    "CHAT", "CLIENTS", "CONTENT", "JSON", "MESSAGES", "PAIRS", "PICTURE", "PRICE_OF_ALL", "PROVIDERS", "RESPONSES",
    "SCHEMA", "TOOLS", "Client", "Heard", "Said", "asked_of", "data_of", "events_in", "every_dialect", "figures",
    "model_of", "of_each", "route",
]  # fmt: skip

CHAT, RESPONSES, MESSAGES, CONTENT = Surface.CHAT, Surface.RESPONSES, Surface.MESSAGES, Surface.GENERATE_CONTENT
CLIENTS: Mapping[Surface, Client] = {
    each.surface: each for each in (chat.CLIENT, responses.CLIENT, messages.CLIENT, content.CLIENT)
}
PROVIDERS = {
    Surface.CHAT: "openai",
    Surface.RESPONSES: "openai",
    Surface.MESSAGES: "anthropic",
    Surface.GENERATE_CONTENT: "gemini",
}
"""Who speaks each dialect that is translated."""
PAIRS = tuple((source, target) for source in PROVIDERS for target in PROVIDERS if source is not target)
"""Every direction: the client's dialect and the upstream's."""
of_each = pytest.mark.parametrize(
    ("source", "target"), PAIRS, ids=[f"{source}-to-{target}" for source, target in PAIRS]
)
SCHEMA: JSON = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS: tuple[tuple[str, JSON], ...] = (("look_up", SCHEMA), ("note", SCHEMA))
PRICE_OF_ALL = {**PRICE, "audio_input_per_million": "4.00 USD", "image_input_per_million": "3.00 USD"}
PICTURE = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode("ascii")


def every_dialect(site: Site) -> None:
    """A model for each dialect an upstream may speak: `up-chat`, `up-responses`, `up-messages`, `up-gemini`."""
    site.tenant("acme", budget="100.00 USD")
    site.model("chat", "openai", price=PRICE_OF_ALL)
    site.model("messages", "anthropic", price=PRICE_OF_ALL)
    for surface, provider in PROVIDERS.items():
        site.model(model_of(surface), retries=0, route=[route(surface, provider)], price=PRICE_OF_ALL)


def route(surface: Surface, provider: str | None = None) -> JSON:
    """A place that speaks this one dialect."""
    return {"provider": provider or PROVIDERS[surface], "model": "fake-small", "surfaces": [str(surface)]}


def model_of(surface: Surface) -> str:
    """The client's name for a model whose upstream speaks this dialect."""
    return "up-gemini" if surface is Surface.GENERATE_CONTENT else f"up-{surface}"


def asked_of(opened: World, surface: Surface) -> Asked:
    """The last request that an upstream of `surface` received, which it accepted."""
    entry = opened.last()
    assert entry.refused is None, entry.refused
    return CLIENTS[surface].asked(dict(entry.json()))
