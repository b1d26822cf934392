"""How to talk to each upstream: one row a kind, one dialect a surface, and the calls themselves."""

from securellm.providers.dialects import DIALECTS
from securellm.providers.failures import failure
from securellm.providers.mock import MockSender
from securellm.providers.model import (
    Dialect,
    EventView,
    Fragment,
    Framing,
    Mirror,
    ProviderKind,
    Rate,
    ReplyFacts,
    StreamEvent,
    StreamReader,
)
from securellm.providers.ports import Sender, UpstreamReply
from securellm.providers.registry import DEMO_KIND, KINDS
from securellm.providers.service import Provider, Providers, build_request
from securellm.providers.sse import SseParser, rewrite, without_notes
from securellm.providers.translation import (
    DIRECTIONS,
    MARK,
    Direction,
    Occasion,
    StreamTranslation,
    Translated,
    strays,
    translate_answer,
    translate_ask,
)

__all__ = [
    "DEMO_KIND",
    "DIALECTS",
    "DIRECTIONS",
    "KINDS",
    "MARK",
    "Dialect",
    "Direction",
    "EventView",
    "Fragment",
    "Framing",
    "Mirror",
    "MockSender",
    "Occasion",
    "Provider",
    "ProviderKind",
    "Providers",
    "Rate",
    "ReplyFacts",
    "Sender",
    "SseParser",
    "StreamEvent",
    "StreamReader",
    "StreamTranslation",
    "Translated",
    "UpstreamReply",
    "build_request",
    "failure",
    "rewrite",
    "strays",
    "translate_answer",
    "translate_ask",
    "without_notes",
]
