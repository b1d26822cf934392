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
    Run,
    StreamEvent,
    StreamReader,
)
from securellm.providers.ports import Sender, UpstreamReply
from securellm.providers.registry import DEMO_KIND, KINDS
from securellm.providers.service import Provider, Providers, build_request
from securellm.providers.sse import SseParser, rewrite, without_notes
from securellm.providers.translation import (
    DIRECTIONS,
    UNSIGNED,
    Direction,
    Occasion,
    StreamTranslation,
    Translated,
    foreign_proofs,
    may_stray,
    strays,
    translate_answer,
    translate_ask,
)

__all__ = [
    "DEMO_KIND",
    "DIALECTS",
    "DIRECTIONS",
    "KINDS",
    "UNSIGNED",
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
    "Run",
    "Sender",
    "SseParser",
    "StreamEvent",
    "StreamReader",
    "StreamTranslation",
    "Translated",
    "UpstreamReply",
    "build_request",
    "failure",
    "foreign_proofs",
    "may_stray",
    "rewrite",
    "strays",
    "translate_answer",
    "translate_ask",
    "without_notes",
]
