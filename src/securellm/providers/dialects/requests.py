"""The edits that any dialect's request may need."""

from collections.abc import Iterable

from securellm.core.document import Document, Patch
from securellm.core.messages import Path
from securellm.providers.dialects import replies


def set_model(patch: Patch, document: Document, upstream_model: str | None) -> tuple[str, ...]:
    """Name the model as the upstream knows it. None keeps what the client wrote."""
    if upstream_model is None or document.members().get("model") == upstream_model:
        return ()
    patch.set(("model",), upstream_model)
    return ("model_alias",)


def name_where_named(
    patch: Patch, document: Document, upstream_model: str | None, *, places: Iterable[Path], prefix: str = ""
) -> tuple[str, ...]:
    """Name the model in those of `places` where the client names one; where it does not, the path does."""
    if upstream_model is None:
        return ()
    edited = False
    for place in places:
        named = replies.at(document.root, place)
        if named is not None and named != prefix + upstream_model:
            patch.set(place, prefix + upstream_model)
            edited = True
    return ("model_alias",) if edited else ()


def cap_output(patch: Patch, document: Document, cap: int | None, fields: tuple[str, ...]) -> tuple[str, ...]:
    """See to it that the upstream stops at `cap` tokens: clamp every cap that is higher, add one where none counts.

    `fields` are the members this upstream obeys, a dot between the names of one that stands in another. A cap
    written in a member that it does not obey is repeated in one that it does; a cap that is no number of tokens
    (nothing, or an upstream's word for "no end") is replaced.
    """
    if cap is None:
        return ()
    obeyed = False
    lowest = cap
    edited = False
    for name in dict.fromkeys((*fields, *_CAPS)):
        place: Path = tuple(name.split("."))
        value = replies.at(document.root, place)
        if value is None:
            continue
        obeyed = obeyed or name in fields
        if type(value) is int and 0 < value <= cap:
            lowest = min(lowest, value)
        else:
            patch.set(place, cap)
            edited = True
    if not obeyed and fields:
        _write_cap(patch, document, lowest, fields)
        edited = True
    return ("output_cap",) if edited else ()


def _write_cap(patch: Patch, document: Document, cap: int, fields: tuple[str, ...]) -> None:
    """Write the cap where the client has written the object it stands in, in whatever spelling; else make that."""
    places = [tuple(name.split(".")) for name in fields]
    standing = (place for place in places if isinstance(replies.at(document.root, place[:-1]), dict))
    place = next(standing, None)
    if place is not None:
        patch.set(place, cap)
        return
    parent, name = places[0]
    patch.set((parent,), {name: cap})


def name_and_cap(
    patch: Patch,
    document: Document,
    *,
    upstream_model: str | None,
    output_cap: int | None,
    cap_fields: tuple[str, ...],
    inject_usage: bool,  # noqa: ARG001 - for dialects in which usage always comes
) -> tuple[str, ...]:
    """All the edits a dialect needs whose upstreams tell their usage unasked; their names."""
    return set_model(patch, document, upstream_model) + cap_output(patch, document, output_cap, cap_fields)


def as_it_is(
    patch: Patch,  # noqa: ARG001 - as every dialect is asked
    document: Document,  # noqa: ARG001 - every one is called alike
    *,
    upstream_model: str | None,  # noqa: ARG001 - every one is called alike
    output_cap: int | None,  # noqa: ARG001 - every one is called alike
    cap_fields: tuple[str, ...],  # noqa: ARG001 - every one is called alike
    inject_usage: bool,  # noqa: ARG001 - every one is called alike
) -> tuple[str, ...]:
    """No edit at all: for what names no model and writes nothing."""
    return ()


_CAPS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
"""The members by which any dialect bounds output."""
