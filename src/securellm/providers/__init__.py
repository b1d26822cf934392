"""How to talk to each upstream: one row a kind, one dialect a surface, and the calls themselves."""

from securellm.providers.dialects import DIALECTS
from securellm.providers.failures import failure
from securellm.providers.mock import MockSender
from securellm.providers.model import (
    Dialect,
    EventView,
    Fragment,
    Mirror,
    ProviderKind,
    Rate,
    ReplyFacts,
    SseEvent,
    StreamReader,
)
from securellm.providers.ports import Sender, UpstreamReply
from securellm.providers.registry import DEMO_KIND, KINDS
from securellm.providers.service import Provider, Providers, build_request
from securellm.providers.sse import SseParser, rewrite, without_notes

__all__ = [
    "DEMO_KIND",
    "DIALECTS",
    "KINDS",
    "Dialect",
    "EventView",
    "Fragment",
    "Mirror",
    "MockSender",
    "Provider",
    "ProviderKind",
    "Providers",
    "Rate",
    "ReplyFacts",
    "Sender",
    "SseEvent",
    "SseParser",
    "StreamReader",
    "UpstreamReply",
    "build_request",
    "failure",
    "rewrite",
    "without_notes",
]
