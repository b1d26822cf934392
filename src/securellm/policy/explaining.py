"""Why a bundle answers as it does: what each of its policies says to one question, alone."""

import msgspec

from securellm.policy.bundles import Bundle, BundleRefused, checked
from securellm.policy.comparing import Standing, shown
from securellm.policy.engine import CompiledBundle, Failed, PolicySet
from securellm.policy.model import Effect, Question
from securellm.policy.reports import Report


class Voice(msgspec.Struct, frozen=True, kw_only=True):
    """What one policy says."""

    id: str
    effect: Effect
    applies: bool | None
    """None: asked alone it failed."""
    note: str = ""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """A decision and everything that spoke for and against it."""

    standing: Standing
    voices: tuple[Voice, ...]


def compiled_of(bundle: Bundle, report: Report) -> CompiledBundle:
    """The bundle, ready to be asked, after its trial. Raises BundleRefused where that found a problem."""
    if not report.ok:
        raise BundleRefused(report.problems)
    return CompiledBundle(report.hash, [segment.text for segment in checked(bundle)], report.policies)


def explain(bundle: Bundle, report: Report, question: Question) -> Explanation:
    """The decision on `question`, and what each policy says to it. Raises BundleRefused as `compiled_of`."""
    compiled = compiled_of(bundle, report)
    try:
        standing = shown(compiled.ask(question))
    except Failed:
        standing = Standing(decision="error")
    voices = []
    for segment, row in zip(checked(bundle), report.policies, strict=True):
        try:
            # A permit that applies allows alone; a forbid that applies is named as what denies.
            told = PolicySet(segment.text).ask(question)
            applies: bool | None = told.allowed or bool(told.rules)
        except Failed:
            applies = None
        voices.append(Voice(id=row.id, effect=row.effect, applies=applies, note=row.note))
    return Explanation(standing=standing, voices=tuple(voices))
