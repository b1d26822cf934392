"""A strict fake of the providers: speaks their documented bytes, misbehaves on demand, logs all that reaches it."""

from tests.upstream.behaviour import Behaviour, marked
from tests.upstream.faces import CREDENTIALS, Face
from tests.upstream.journal import Entry, Journal, read_journal
from tests.upstream.server import FakeUpstream

__all__ = ["CREDENTIALS", "Behaviour", "Entry", "Face", "FakeUpstream", "Journal", "marked", "read_journal"]
