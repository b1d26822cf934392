"""The translation lane: one Speaker a dialect, one Direction a pair."""

from securellm.providers.translation.directions import DIRECTIONS
from securellm.providers.translation.engine import (
    StreamTranslation,
    Translated,
    table,
    translate_answer,
    translate_ask,
)
from securellm.providers.translation.generate_content.asking import UNSIGNED
from securellm.providers.translation.model import Direction, Occasion
from securellm.providers.translation.strays import foreign_proofs, may_stray, strays

__all__ = [
    "DIRECTIONS",
    "UNSIGNED",
    "Direction",
    "Occasion",
    "StreamTranslation",
    "Translated",
    "foreign_proofs",
    "may_stray",
    "strays",
    "table",
    "translate_answer",
    "translate_ask",
]
