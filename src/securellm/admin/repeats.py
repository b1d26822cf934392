"""Requests with an `Idempotency-Key`: done once, answered again while the answer is at hand, never done twice.

Answers are kept in this process only, and none that shows a secret. That a key was used is written in the
transaction of the change itself, so a restart or another replica knows it too.
"""

import hashlib
import hmac
import re
from collections import OrderedDict
from typing import TYPE_CHECKING

import msgspec

from securellm.core.clock import Clock
from securellm.core.errors import Code, Refusal

if TYPE_CHECKING:
    from starlette.responses import Response

HEADER = "Idempotency-Key"
LIFETIME = 24 * 3600.0
"""Seconds for which a key means the request it was first sent with."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}", re.ASCII)
_MOST = 2_000
_MOST_BYTES = 8 * 1024 * 1024


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """One request under its key. Of the key and of what was asked stand keyed digests only."""

    digest: str
    fingerprint: str


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that may be given again."""

    fingerprint: str
    until: float
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def again(self) -> "Response":
        # Imported here, because claims are also told apart where no admin listener is.
        from starlette.responses import Response

        response = Response(self.body, status_code=self.status)
        response.raw_headers = [*self.headers, (b"idempotency-replayed", b"true")]
        return response


class Repeats:
    """The keys in flight and the answers at hand. For one event loop."""

    def __init__(self, secret: bytes, *, clock: Clock) -> None:
        self._secret = secret
        self._clock = clock
        self._running: dict[str, str] = {}
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._bytes = 0

    def claim(self, key: str, *, principal: str, method: str, target: str, body: bytes) -> Claim:
        """What tells this request from any other. Raises `Refusal` (INVALID_HEADER)."""
        if _KEY.fullmatch(key) is None:
            raise Refusal(Code.INVALID_HEADER, "Idempotency-Key is 1 to 255 printable characters", param=HEADER)
        return Claim(
            digest=self._mac("key", principal, key),
            fingerprint=self._mac("asked", method, target, hashlib.sha256(body).hexdigest()),
        )

    def begin(self, claim: Claim) -> "Response | None":
        """Take the key, or give the answer that was given. Raises `Refusal` (IDEMPOTENT_IN_FLIGHT, _MISMATCH)."""
        running = self._running.get(claim.digest)
        if running is not None:
            demand_same(running, claim)
            raise Refusal(Code.IDEMPOTENT_IN_FLIGHT, "the first request with this key still runs", retry_after=1.0)
        kept = self._kept.get(claim.digest)
        if kept is not None and self._clock.monotonic() < kept.until:
            demand_same(kept.fingerprint, claim)
            return kept.again()
        self._running[claim.digest] = claim.fingerprint
        return None

    def finish(self, claim: Claim, answer: "Response | None") -> None:
        """Give the key back, and keep `answer` where there is one that may be kept."""
        self._running.pop(claim.digest, None)
        if answer is None:
            return
        self._drop(claim.digest)
        self._kept[claim.digest] = Kept(
            fingerprint=claim.fingerprint,
            until=self._clock.monotonic() + LIFETIME,
            status=answer.status_code,
            headers=tuple(answer.raw_headers),
            body=bytes(answer.body),
        )
        self._bytes += len(answer.body)
        while len(self._kept) > _MOST or self._bytes > _MOST_BYTES:
            self._drop(next(iter(self._kept)))

    def _drop(self, digest: str) -> None:
        kept = self._kept.pop(digest, None)
        if kept is not None:
            self._bytes -= len(kept.body)

    def _mac(self, *parts: str) -> str:
        return hmac.digest(self._secret, msgspec.json.encode(parts), hashlib.sha256).hex()


def demand_same(fingerprint: str, claim: Claim) -> None:
    """Raises `Refusal` (IDEMPOTENT_MISMATCH) when the key was used for another request."""
    if not hmac.compare_digest(fingerprint, claim.fingerprint):
        raise Refusal(Code.IDEMPOTENT_MISMATCH, "this key was used for another request", param=HEADER)
