"""The nouns of preferences: who asks, what they stated, what they agreed to have remembered."""

from typing import NamedTuple

import msgspec


class Person(NamedTuple):
    """Whom preferences belong to: within a tenant, a user, a service, or the key of nobody in particular."""

    tenant: str
    principal: str
    """`user:<id>`, `service:<id>` or `key:<id>`."""


class Preferences(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a person wants to be answered, in their own words. None was not stated, and nothing is guessed."""

    tone: str | None = None
    format: str | None = None
    language: str | None = None

    def __bool__(self) -> bool:
        return any((self.tone, self.format, self.language))


class Stated(msgspec.Struct, frozen=True, kw_only=True):
    """Preferences as they are kept."""

    preferences: Preferences = Preferences()
    etag: int = 0
    """The moment of the last change in microseconds, made to rise with each; 0 where nothing is kept."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Something a person agreed to have remembered."""

    id: str
    text: str
    created_us: int
    """The moment of the consent, without which there is no memory."""
    consented_in: str
    """The id of the request in which the person said yes."""
    offered_in: str | None = None
    """The id of the answer that offered it, where one did."""


class Kept(NamedTuple):
    """All that is kept of one person."""

    person: Person
    stated: Stated
    memories: int
    """How many."""


class Origin(NamedTuple):
    """The request that changes something, for the record."""

    actor: str
    """The principal whose key was presented."""
    request_id: str
    client_ip: str


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """What the record of a change says. Of what was and what is, only digests are kept; no memory's text is in them."""

    action: str
    """`replace`, `delete`, `remember` or `forget`."""
    resource: str
    """`preferences` or `memories`."""
    person: Person
    before: object = None
    after: object = None
