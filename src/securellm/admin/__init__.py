"""What operators call: the control-plane API with health and metrics, on a listener of its own.

The application itself is in `app`, which is imported only where there is such a listener.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securellm.admin.cursors import Cursors
    from securellm.admin.declared import Declared, Document, Found, Kind, Refused
    from securellm.admin.digests import digest_of
    from securellm.admin.ports import Changed, ControlPlane, Part, Ports, Recogniser
    from securellm.admin.repeats import Claim, Repeats
    from securellm.admin.store import CHANGED, KEPT_US, fingerprint_of, made_among, note_made
else:
    from securellm.core.doors import room_by_room

    __getattr__ = room_by_room(__name__)

__all__ = [
    "CHANGED",
    "KEPT_US",
    "Changed",
    "Claim",
    "ControlPlane",
    "Cursors",
    "Declared",
    "Document",
    "Found",
    "Kind",
    "Part",
    "Ports",
    "Recogniser",
    "Refused",
    "Repeats",
    "digest_of",
    "fingerprint_of",
    "made_among",
    "note_made",
]
