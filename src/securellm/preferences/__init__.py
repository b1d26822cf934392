"""What a person asked us to remember: explicit preferences, and nothing inferred."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securellm.preferences.model import Changed, Kept, Memory, Origin, Person, Preferences, Stated
    from securellm.preferences.rules import (
        instruction,
        read_memory,
        read_preferences,
        read_process,
        refuse_unknown,
        suggestions,
        unprocessable,
    )
    from securellm.preferences.service import Control, PreferenceBook, Work
    from securellm.preferences.store import erase, kept, people
else:
    from securellm.core.doors import room_by_room

    __getattr__ = room_by_room(__name__)

__all__ = [
    "Changed",
    "Control",
    "Kept",
    "Memory",
    "Origin",
    "Person",
    "PreferenceBook",
    "Preferences",
    "Stated",
    "Work",
    "erase",
    "instruction",
    "kept",
    "people",
    "read_memory",
    "read_preferences",
    "read_process",
    "refuse_unknown",
    "suggestions",
    "unprocessable",
]
