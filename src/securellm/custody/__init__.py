"""What providers keep for whom: an id that one tenant was given is nothing to another, and leads to its provider."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securellm.custody.model import Deposit, Grant
    from securellm.custody.rules import MOST_AT_ONCE, keepable, keeper, not_found, places
    from securellm.custody.service import Custody
    from securellm.custody.store import SCHEMA, CustodyReplay, grants, keeping
else:
    from securellm.core.doors import room_by_room

    __getattr__ = room_by_room(__name__)

__all__ = [
    "MOST_AT_ONCE",
    "SCHEMA",
    "Custody",
    "CustodyReplay",
    "Deposit",
    "Grant",
    "grants",
    "keepable",
    "keeper",
    "keeping",
    "not_found",
    "places",
]
