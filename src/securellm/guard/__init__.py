"""Is it safe: personal data, secrets and attempts to take over the model, found in what is asked and answered."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securellm.guard.model import PACK, Blocked, Finding, FindingType, GuardMode, Screening, Verdict
    from securellm.guard.rules import apply
    from securellm.guard.service import Guard
    from securellm.guard.stream import StreamScreen
else:
    from securellm.core.doors import room_by_room

    __getattr__ = room_by_room(__name__)

__all__ = [
    "PACK",
    "Blocked",
    "Finding",
    "FindingType",
    "Guard",
    "GuardMode",
    "Screening",
    "StreamScreen",
    "Verdict",
    "apply",
]
