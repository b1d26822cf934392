"""Opaque cursors of lists: where a page ended, under a MAC, and good for the very query that made them."""

import base64
import hashlib
import hmac
from collections.abc import Mapping

import msgspec

from securellm.core.errors import Code, Refusal

LONGEST = 1024
"""Characters of the longest cursor that is looked at."""

_MAC = 16
"""Bytes: a guess is right once in 2^128."""


class Cursors:
    """Makes and reads cursors. Every replica that has the same secret reads those of the others."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def make(self, after: str, *, query: Mapping[str, str | None]) -> str:
        """The cursor that continues beyond `after`. `query` is all that decides what the list holds."""
        payload = after.encode("utf-8")
        return base64.urlsafe_b64encode(self._mac(payload, query) + payload).rstrip(b"=").decode("ascii")

    def read(self, cursor: str | None, *, query: Mapping[str, str | None]) -> str | None:
        """Where the page before ended; None without a cursor. Raises `Refusal` (INVALID_REQUEST)."""
        if cursor is None:
            return None
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            again = base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
        except ValueError:
            raw, again = b"", ""
        mac, payload = raw[:_MAC], raw[_MAC:]
        # One cursor has one spelling: stray bits of the last character are tampering too.
        if not payload or again != cursor or not hmac.compare_digest(mac, self._mac(payload, query)):
            raise Refusal(Code.INVALID_REQUEST, "this cursor was not given for this list", param="cursor")
        return payload.decode("utf-8")

    def _mac(self, payload: bytes, query: Mapping[str, str | None]) -> bytes:
        bound = msgspec.json.encode([sorted(query.items()), payload.decode("utf-8", "replace")])
        return hmac.digest(self._secret, bound + b"\0" + payload, hashlib.sha256)[:_MAC]
