"""The lossless lane: what leaves is what arrived, differing only by a closed, named list of edits (GW-7)."""

from collections.abc import Iterable, Sequence
from functools import partial

from securellm.core import encoded
from securellm.core.document import Document, Patch
from securellm.core.errors import Code, Refusal
from securellm.core.messages import Kind, Leaf, Path, Replacement
from securellm.core.surfaces import Surface
from securellm.providers import UNSIGNED, Mirror, Run, foreign_proofs, may_stray, strays

REDACTION = "redaction"
"""The name of the guard's replacements in the closed list."""
FOREIGN_REASONING = "foreign_reasoning"
"""The name of taking out what another provider thought."""


def redact(
    patch: Patch,
    leaves: Sequence[Leaf],
    replacements: Iterable[Replacement],
    mirrors: Sequence[Mirror] = (),
    runs: Sequence[Run] = (),
) -> None:
    """Make the guard's replacements on the original text: only the found characters change.

    What was found in a mirror (a text spelled again in pieces) has no string to change: `blank` empties it.
    """
    spread = {run.path: run for run in runs}
    done: set[int] = set()
    encodings: dict[int, list[tuple[int, int, str]]] = {}
    for replacement in replacements:
        leaf = leaves[replacement.leaf]
        if any(mirror.holds(leaf.path) for mirror in mirrors):
            continue
        if leaf.path in spread:
            for place, start, end, text in spread[leaf.path].cuts(replacement.start, replacement.end, replacement.text):
                patch.replace_in_string(place, start, end, text)
            continue
        if leaf.kind is Kind.ENCODED:
            encodings.setdefault(replacement.leaf, []).append((replacement.start, replacement.end, replacement.text))
        elif leaf.kind is Kind.NUMBER:
            # A number has no part to replace: it becomes a string once.
            if replacement.leaf not in done:
                patch.set(leaf.path, replacement.text)
        else:
            patch.replace_in_string(
                leaf.path, replacement.start, replacement.end, replacement.text, key=leaf.kind is Kind.KEY
            )
        done.add(replacement.leaf)
    for index, cuts in encodings.items():
        patch.rewrite(leaves[index].path, partial(encoded.cut, cuts=cuts))


def without_strays(patch: Patch, document: Document, surface: Surface) -> tuple[Path, ...]:
    """Take out thoughts that we marked as another provider's: this one did not sign them, and would refuse them.

    A marked proof of a tool call becomes the documented word for one that has none. What was changed, by its place.
    """
    if not may_stray(document.text):
        return ()
    found = strays(surface, document.members())
    proofs = foreign_proofs(surface, document.members())
    for path in proofs:
        if not any(path[: len(gone)] == gone for gone in found):
            patch.set(path, UNSIGNED)
    arrays: dict[Path, list[int]] = {}
    for path in found:
        index = path[-1]
        assert isinstance(index, int)
        arrays.setdefault(path[:-1], []).append(index)
    for path, indexes in arrays.items():
        patch.remove_elements(path, indexes)
    return (*found, *proofs)


def mended(body: bytes, leaves: Sequence[Leaf], replacements: Iterable[Replacement], runs: Sequence[Run] = ()) -> bytes:
    """The guard's replacements in a body that is no JSON: each leaf is all of its text, or a run through it."""
    spread = {run.path: run for run in runs}
    cuts: list[tuple[int, int, str]] = []
    for replacement in replacements:
        run = spread.get(leaves[replacement.leaf].path)
        found = (replacement.start, replacement.end, replacement.text)
        cuts += [found] if run is None else [cut[1:] for cut in run.cuts(*found)]
    if not cuts:
        return body
    text = body.decode("utf-8")
    parts: list[str] = []
    at = 0
    for start, end, instead in sorted(cuts):
        parts += (text[at:start], instead)
        at = end
    return "".join((*parts, text[at:])).encode("utf-8")


def refuse_colliding_keys(document: Document, leaves: Sequence[Leaf], replacements: Sequence[Replacement]) -> None:
    """Raises Refusal(GUARD_BLOCKED) when redacted member names would make two members one."""
    if not any(leaves[replacement.leaf].kind is Kind.KEY for replacement in replacements):
        return
    patch = Patch(document)
    redact(patch, leaves, replacements)
    try:
        Document(patch.apply(), max_depth=10_000)
    except Refusal as error:
        if error.code is not Code.DUPLICATE_KEY:
            raise
        raise Refusal(Code.GUARD_BLOCKED, "two member names would be the same once redacted") from None


def blank(patch: Patch, mirrors: Iterable[Mirror]) -> None:
    """Empty the members that would spell a redacted text again."""
    for mirror in mirrors:
        patch.set(mirror.path, mirror.blank)
