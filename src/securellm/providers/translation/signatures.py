"""Where a signature came from: no provider is shown what another one signed."""

from securellm.core.surfaces import Surface

MARK = "SLB1"
"""How every mark begins."""
_CODES = {
    Surface.CHAT: "CHAT",
    Surface.RESPONSES: "RESP",
    Surface.MESSAGES: "MESG",
    Surface.GENERATE_CONTENT: "GENC",
}
"""Four letters each: with the mark a whole number of Base64 groups, so that clients which decode keep it."""
_SURFACES = {code: surface for surface, code in _CODES.items()}


def marked(surface: Surface, signature: str | None) -> str:
    """A signature of `surface` as clients of other dialects are given it.

    What was not signed is marked all the same, and what a provider has marked is marked again: it vouches for none
    but itself.
    """
    return f"{MARK}{_CODES[surface]}{signature or ''}"


NOBODYS = f"{MARK}NONE"
"""Stands where clients must find a proof, and no provider made one."""


def origin(signature: str) -> tuple[Surface | None, str]:
    """The surface a signature is marked with, and the signature as that provider made it. None: it is not marked."""
    if not signature.startswith(MARK):
        return None, signature
    surface = _SURFACES.get(signature[len(MARK) : len(MARK) + 4])
    return surface, signature if surface is None else signature[len(MARK) + 4 :]


def is_empty(signature: str | None) -> bool:
    """Whether nothing was signed."""
    return not signature or not origin(signature)[1]


def is_marked(signature: str) -> bool:
    """Whether it was made by a provider of another dialect than the client's, or carries what one made."""
    return signature.startswith(MARK)
