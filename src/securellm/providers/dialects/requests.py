"""The edits that any dialect's request may need."""

from securellm.core.document import Document, Patch


def set_model(patch: Patch, document: Document, upstream_model: str | None) -> tuple[str, ...]:
    """Name the model as the upstream knows it. None keeps what the client wrote."""
    if upstream_model is None or document.members().get("model") == upstream_model:
        return ()
    patch.set(("model",), upstream_model)
    return ("model_alias",)


def cap_output(patch: Patch, document: Document, cap: int | None, fields: tuple[str, ...]) -> tuple[str, ...]:
    """See to it that the upstream stops at `cap` tokens: clamp every cap that is higher, add one where none counts.

    `fields` are the members this upstream obeys. A cap written in a member that it does not obey is repeated in
    one that it does; a cap that is no number of tokens is replaced.
    """
    if cap is None:
        return ()
    members = document.members()
    obeyed = False
    lowest = cap
    edited = False
    for name in dict.fromkeys((*fields, *_CAPS)):
        value = members.get(name)
        if value is None:
            continue
        obeyed = obeyed or name in fields
        if type(value) is int and 0 <= value <= cap:
            lowest = min(lowest, value)
        else:
            patch.set((name,), cap)
            edited = True
    if not obeyed and fields:
        patch.set((fields[0],), lowest)
        edited = True
    return ("output_cap",) if edited else ()


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


_CAPS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
"""The members by which any dialect bounds output."""
