"""The translation lane: the same request in another dialect, for the places that do not speak the caller's."""

from collections.abc import Mapping
from typing import NamedTuple

from securellm.core.clock import Clock
from securellm.core.document import Document, Patch
from securellm.core.errors import Code, Fault, Refusal
from securellm.core.surfaces import Surface
from securellm.gateway.lossless import redact
from securellm.gateway.snapshot import ServedModel
from securellm.gateway.stages import Funded, Screened
from securellm.providers import DIRECTIONS, Direction, Occasion, Translated, translate_ask
from securellm.routing import PlannedAttempt

PREFERENCE = (Surface.CHAT, Surface.RESPONSES, Surface.MESSAGES, Surface.GENERATE_CONTENT)
"""Of the dialects a place speaks, the one that is spoken to it when the caller's is not among them."""


class Translations(NamedTuple):
    said: Mapping[Surface, Translated]
    """The request, in the dialects that some place of the model needs, in order of preference."""
    refused: Refusal | None
    """Why the first dialect that cannot say the request cannot."""


_NONE = Translations({}, None)


def translate_for(screened: Screened, model: ServedModel) -> Translations:
    """Say the request, as the guard left it, in every dialect that some place of `model` needs."""
    permitted = screened.admitted.permitted
    spoken, request = permitted.identified.received.surface, permitted.request
    if all(spoken in place.surfaces for place in model.candidates):
        return _NONE
    needed = [
        surface
        for surface in PREFERENCE
        if (spoken, surface) in DIRECTIONS
        and any(spoken not in place.surfaces and surface in place.surfaces for place in model.candidates)
    ]
    said: dict[Surface, Translated] = {}
    refused: Refusal | None = None
    if needed:
        document = request.document
        if screened.screening.replacements:
            patch = Patch(document)
            redact(patch, request.leaves, screened.screening.replacements)
            document = Document(patch.apply(), max_depth=10_000)
        for surface in needed:
            try:
                said[surface] = translate_ask(
                    DIRECTIONS[spoken, surface],
                    document.members(),
                    model=model.name,
                    stream=request.stream,
                    default_max_output=model.default_max_output,
                )
            except Refusal as refusal:
                refused = refused or _naming(refusal)
    return Translations(said, refused)


def _naming(refusal: Refusal) -> Refusal:
    """The refusal with the name of what it refuses in its reason: not every dialect's errors have a place for it."""
    name = refusal.param
    if name is None or name in refusal.reason:
        return refusal
    return Refusal(refusal.code, f"{name}: {refusal.reason}", param=name)


def direction_of(funded: Funded, target: PlannedAttempt) -> Direction | None:
    """How to say the answer of `target` to the caller; None in the lossless lane."""
    spoken = funded.received.surface
    if target.surface is spoken:
        return None
    try:
        return DIRECTIONS[spoken, target.surface]
    except KeyError:
        raise Fault(Code.INTERNAL, f"there is no way from {spoken} to {target.surface}") from None


def occasion_of(funded: Funded, target: PlannedAttempt, model: str, clock: Clock) -> Occasion:
    """What the wording of a translated answer depends on."""
    translated = funded.routed.translations[target.surface]
    return Occasion(
        request_id=funded.received.request_id,
        model=model,
        created=clock.now_us() // 1_000_000,
        ask=translated.ask,
        asked=funded.request.document.members(),
    )
