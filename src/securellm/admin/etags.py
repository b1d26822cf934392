"""Entity tags: which version of a thing a caller has read, and whether it is still that one."""

import hashlib
import re

import msgspec

from securellm.core.errors import Code, Refusal

_TAG = r'(?:W/)?"[\x21\x23-\x7e]*"'
_LIST = re.compile(rf"\s*{_TAG}(?:\s*,\s*{_TAG})*\s*", re.ASCII)
_ONE = re.compile(_TAG, re.ASCII)


def etag_of(kind: str, *, key: str, created_us: int, revision: int, content: object = None) -> str:
    """A strong entity tag (RFC 9110, 8.8.3). What was deleted and made anew under the same key has another."""
    bound = msgspec.json.encode([kind, key, created_us, revision, content])
    return f'"{hashlib.sha256(bound).hexdigest()[:24]}"'


class Precondition(msgspec.Struct, frozen=True):
    """What `If-Match` says; no tag at all stands for any version."""

    tags: frozenset[str]

    def demand(self, etag: str) -> None:
        """Raises `Refusal` (PRECONDITION_FAILED) unless `etag` is one that the caller has read."""
        if self.tags and etag not in self.tags:
            raise Refusal(Code.PRECONDITION_FAILED, "it has changed since it was read", param="If-Match")


ANY = Precondition(frozenset())


def precondition_of(header: str | None) -> Precondition:
    """Raises `Refusal`: PRECONDITION_REQUIRED without the header, INVALID_HEADER when it is no list of tags."""
    if header is None:
        raise Refusal(Code.PRECONDITION_REQUIRED, "the change does not say what it is based on", param="If-Match")
    if header.strip() == "*":
        return ANY
    if _LIST.fullmatch(header) is None:
        raise Refusal(Code.INVALID_HEADER, "If-Match is not a list of entity tags", param="If-Match")
    # A weak tag never matches strongly (RFC 9110, 8.8.3.2), and stays in the set for that.
    return Precondition(frozenset(_ONE.findall(header)))
