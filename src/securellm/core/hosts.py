"""Which `Host` a listener answers for: what stands between it and a name that somebody else made to resolve to it."""

import ipaddress
import re
from collections.abc import Iterable, Sequence

import msgspec

from securellm.core.errors import Code, Refusal

PATTERN = r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?){0,126}"
"""A name, or all names below one, as it stands in a list."""

_HEADER = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,254}))(?::[0-9]{0,5})?", re.ASCII)


class Hosts(msgspec.Struct, frozen=True):
    """The names that a listener answers for.

    An IP address always passes, and so does `localhost`: no name that a stranger owns resolves to what is an address
    already, and probes and scrapers know nothing else.
    """

    names: frozenset[str]
    """In lower case, without a dot at the end."""
    below: tuple[str, ...]
    """With a dot in front: every name that ends so."""

    @classmethod
    def of(cls, patterns: Iterable[str]) -> "Hosts":
        """From what `PATTERN` describes."""
        listed = frozenset(patterns)
        wild = sorted(pattern[1:] for pattern in listed if pattern.startswith("*."))
        return cls(frozenset(pattern for pattern in listed if not pattern.startswith("*.")), tuple(wild))

    def demand(self, values: Sequence[str]) -> None:
        """Raises `Refusal` unless `values`, every `Host` of a request, are one that is answered here.

        INVALID_HEADER for what names no host at all, MISDIRECTED for another's.
        """
        match = _HEADER.fullmatch(values[0]) if len(values) == 1 else None
        if match is None:
            raise Refusal(Code.INVALID_HEADER, "the request does not name one host", param="Host")
        address, name = match.groups()
        if not (_is_address(address) if name is None else self._knows(name)):
            raise Refusal(Code.MISDIRECTED, "this listener does not answer for that Host", param="Host")

    def _knows(self, name: str) -> bool:
        name = name.lower().removesuffix(".")
        return name in self.names or name == "localhost" or _is_address(name) or name.endswith(self.below)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
