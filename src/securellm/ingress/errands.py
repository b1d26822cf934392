"""A request to things that a provider keeps, as its path and body say it."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from securellm.core.document import Document
from securellm.core.messages import Attachment
from securellm.finops import Estimate
from securellm.gateway.model import Request
from securellm.providers import Errand

Headers = Mapping[str, str]

_NOTHING = Document(b"{}")
_UNASKED = Estimate(input_tokens=0, output_cap=0)


class Sent(NamedTuple):
    """What a request to a kept thing says: the ids in its path, and its body."""

    errand: Errand
    names: tuple[str, ...]
    headers: Headers
    document: Document = _NOTHING
    attachments: tuple[Attachment, ...] = ()
    max_depth: int = 64
    """Of whatever else is JSON in it."""


Read = Callable[[Sent], Request]


def asked(sent: Sent) -> Request:
    """A request that says nothing but which thing is meant."""
    return Request(
        document=sent.document,
        model="",
        stream=False,
        wants_usage=True,
        leaves=(),
        attachments=sent.attachments,
        message_count=0,
        images=0,
        histories=sent.names,
        estimate=_UNASKED,
        deterministic=False,
        errand=sent.errand,
        names=sent.names,
    )


def look_at(errand: Errand, name: str, headers: Headers) -> Request:
    """The request that looks at one of the things which `errand` lists."""
    return asked(Sent(errand.lists or errand, (name,), headers))
