"""The translation lane: one Speaker a dialect, one Direction a pair."""

from securellm.providers.translation.directions import DIRECTIONS
from securellm.providers.translation.engine import (
    StreamTranslation,
    Translated,
    table,
    translate_answer,
    translate_ask,
)
from securellm.providers.translation.model import Direction, Occasion
from securellm.providers.translation.signatures import MARK
from securellm.providers.translation.strays import strays

__all__ = [
    "DIRECTIONS",
    "MARK",
    "Direction",
    "Occasion",
    "StreamTranslation",
    "Translated",
    "strays",
    "table",
    "translate_answer",
    "translate_ask",
]
