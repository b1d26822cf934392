"""How to talk to each upstream: one row a kind, one dialect a surface, and the calls themselves."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securellm.providers.dialects import BATCHINGS, DIALECTS, ERRANDS, Batching, Progress, every_text, without
    from securellm.providers.failures import failure
    from securellm.providers.mock import MockSender
    from securellm.providers.model import (
        BatchPart,
        Dialect,
        Errand,
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
    from securellm.providers.store import PROVIDERS
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
else:
    from securellm.core.doors import room_by_room

    __getattr__ = room_by_room(__name__)

__all__ = [
    "BATCHINGS",
    "DEMO_KIND",
    "DIALECTS",
    "DIRECTIONS",
    "ERRANDS",
    "KINDS",
    "PROVIDERS",
    "UNSIGNED",
    "BatchPart",
    "Batching",
    "Dialect",
    "Direction",
    "Errand",
    "EventView",
    "Fragment",
    "Framing",
    "Mirror",
    "MockSender",
    "Occasion",
    "Progress",
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
    "every_text",
    "failure",
    "foreign_proofs",
    "may_stray",
    "rewrite",
    "strays",
    "translate_answer",
    "translate_ask",
    "without",
    "without_notes",
]
