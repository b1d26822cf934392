"""One request asked twice: the second time its answer is given again, or none at all, but nothing is paid again.

Beside `service`, because nothing here is a matter of saving: an entry is never left out, whatever it costs to find.
"""

from collections import OrderedDict
from pathlib import Path

from securellm.cache import rules, store
from securellm.cache.model import Claim, Finished, KeyEvent
from securellm.cache.settings import LONGEST_MEMORY
from securellm.core.clock import Clock
from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.storage import Connection, looked_up, open_readonly

LARGEST_ANSWER = 4 * 1024 * 1024
"""Bytes of one answer that can be given again."""

OVERHEAD = 1024
"""Bytes that a kept answer costs beside its body, at most."""

_ASK_AGAIN = 1.0
"""Seconds that a caller is told to wait for the first request to end."""

_SWEPT = 64
"""Expired keys forgotten in one go, so that no request pays for many others'."""


class _Entry:
    """One key that is taken."""

    __slots__ = ("ended", "expires", "fingerprint", "left", "request_id", "tenant")

    def __init__(self, fingerprint: bytes, request_id: str, expires: float, *, over: bool, tenant: str = "") -> None:
        self.fingerprint = fingerprint
        self.request_id = request_id
        self.tenant = tenant
        """Empty for a key of a former process, which has no answer."""
        self.expires = expires
        """Monotonic seconds."""
        self.ended = over
        """Whether the record of its end is durable."""
        self.left = over
        """Whether its story is over, so that no answer will come any more."""


class _Share:
    """What one tenant's answers take of the memory for all."""

    __slots__ = ("keys", "size")

    def __init__(self) -> None:
        self.keys: OrderedDict[bytes, int] = OrderedDict()
        """Bytes of each, the oldest first."""
        self.size = 0


class Idempotency:
    """The keys of requests that run, or have run within the time a key is remembered, and the answers still at hand.

    Runs on the one event loop. Answers are content: they are in memory only, and bounded. Keys are in the journal
    too, so that after a restart a key that was used is known, and its request is not made a second time.
    """

    def __init__(
        self, path: Path, *, secret: bytes, ttl: float, max_bytes: int, clock: Clock, most: int = 100_000
    ) -> None:
        """`path` is the journal, `ttl` in seconds, `most` the number of keys in memory: others are read when asked."""
        self.ttl = ttl
        self.max_bytes = max_bytes
        self._path = path
        self._secret = secret
        self._clock = clock
        self._most = most
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._answers: dict[bytes, Finished] = {}
        self._shares: dict[str, _Share] = {}
        """By tenant, of those who have answers here."""
        self._bytes = 0
        self._complete = True
        """Whether every key that is remembered is in memory."""

    def restore(self, connection: Connection) -> None:
        """Take over the keys of former processes. No answer of theirs is left. Blocking: at start."""
        rows = store.newest(connection, self._most)
        self._complete = len(rows) < self._most
        for row in rows:
            self._entries.pop(row.key, None)
            expires = self._expiry(row)
            if expires is not None:
                self._entries[row.key] = _Entry(row.fingerprint, row.request_id, expires, over=True)

    async def claim(
        self,
        name: str,
        *,
        tenant: str,
        principal: str,
        surface: Surface,
        model: str,
        stream: bool,
        asked: bytes,
        request_id: str,
    ) -> Claim | Finished:
        """The right to answer this request, or the answer that was given before.

        Of requests with one key exactly one gets the claim, and no other while it is held: `left` must follow, and
        `ended` once its end is recorded.

        Raises:
            Refusal: IDEMPOTENT_MISMATCH when the key names another request; IDEMPOTENT_IN_FLIGHT while the first
                one runs; IDEMPOTENT_RESULT_EXPIRED when it may have been billed and its answer is not at hand;
                INVALID_HEADER for what no key can be.
        """
        key = rules.idempotency_key(name, secret=self._secret, tenant=tenant, principal=principal)
        fingerprint = rules.fingerprint(secret=self._secret, surface=surface, model=model, stream=stream, asked=asked)
        self.sweep()
        entry = self._entries.get(key)
        if entry is not None and self._is_over(key, entry) and entry.expires <= self._clock.monotonic():
            self._forget(key)
            entry = None
        if entry is not None:
            return self._repeated(key, entry, fingerprint)
        self._make_room()
        # From here on, before anything is waited for, the key is taken.
        mine = _Entry(fingerprint, request_id, self._clock.monotonic() + self.ttl, over=False, tenant=tenant)
        self._entries[key] = mine
        if not self._complete:
            try:
                found = await looked_up(lambda: self._read(key))
            except BaseException:
                self._forget(key)
                raise
            expires = None if found is None else self._expiry(found)
            if found is not None and expires is not None:
                former = _Entry(found.fingerprint, found.request_id, expires, over=True)
                self._entries[key] = former
                return self._repeated(key, former, fingerprint)
        return Claim(
            key=key,
            fingerprint=fingerprint,
            expires_us=self._clock.now_us() + round(self.ttl * 1_000_000),
            request_id=request_id,
        )

    def answered(self, claim: Claim, finished: Finished) -> None:
        """The whole answer, as it leaves or has left. One that is too large is not kept.

        Where there is no room, it is made by whoever has the most: nobody loses an answer to a flood of another's.
        """
        size = _size(finished)
        entry = self._held_by(claim)
        if len(finished.body) > LARGEST_ANSWER or size > self.max_bytes or entry is None:
            return
        if claim.key in self._answers:
            self._drop_answer(claim.key)
        while self._bytes + size > self.max_bytes:
            self._drop_answer(self._least_missed(entry.tenant, size))
        self._answers[claim.key] = finished
        share = self._shares.setdefault(entry.tenant, _Share())
        share.keys[claim.key] = size
        share.size += size
        self._bytes += size

    def ended(self, claim: Claim, *, freed: bool) -> None:
        """The record of the request's end is durable. `freed`: it says that nothing can have been billed."""
        entry = self._held_by(claim)
        if entry is None:
            return
        if freed:
            self._forget(claim.key)
        else:
            entry.ended = True

    def left(self, claim: Claim, *, recorded: bool) -> None:
        """The request's story is over. Not `recorded`: it was refused before it could cost anything."""
        entry = self._held_by(claim)
        if entry is None:
            return
        if recorded:
            entry.left = True
        else:
            self._forget(claim.key)

    def sweep(self) -> None:
        """Forget keys, and with them answers, whose time is over."""
        now = self._clock.monotonic()
        for _ in range(_SWEPT):
            key = next(iter(self._entries), None)
            if key is None or self._entries[key].expires > now or not self._is_over(key, self._entries[key]):
                return
            self._forget(key)

    @property
    def kept_bytes(self) -> int:
        """Memory that the answers at hand are accounted with."""
        return self._bytes

    def _repeated(self, key: bytes, entry: _Entry, fingerprint: bytes) -> Finished:
        if entry.fingerprint != fingerprint:
            raise Refusal(
                Code.IDEMPOTENT_MISMATCH, "this idempotency-key was used for another request", param="idempotency-key"
            )
        if not self._is_over(key, entry):
            raise Refusal(
                Code.IDEMPOTENT_IN_FLIGHT, "the first request of this idempotency-key runs", retry_after=_ASK_AGAIN
            )
        answer = self._answers.get(key)
        if answer is None:
            raise Refusal(
                Code.IDEMPOTENT_RESULT_EXPIRED,
                f"{entry.request_id} was made under this idempotency-key and may have been billed; "
                "its answer is not at hand",
            )
        return answer

    def _is_over(self, key: bytes, entry: _Entry) -> bool:
        return entry.ended and (entry.left or key in self._answers)

    def _held_by(self, claim: Claim) -> _Entry | None:
        entry = self._entries.get(claim.key)
        return entry if entry is not None and entry.request_id == claim.request_id else None

    def _make_room(self) -> None:
        if len(self._entries) < self._most:
            return
        for key, entry in self._entries.items():
            if self._is_over(key, entry):
                self._complete = self._complete and entry.expires <= self._clock.monotonic()
                self._forget(key)
                return

    def _forget(self, key: bytes) -> None:
        if key in self._answers:
            self._drop_answer(key)
        del self._entries[key]

    def _least_missed(self, tenant: str, size: int) -> bytes:
        """The oldest answer of whoever would have the most once `tenant` had so much more."""
        most = max(self._shares, key=lambda name: self._shares[name].size + (size if name == tenant else 0))
        return next(iter(self._shares[most].keys))

    def _drop_answer(self, key: bytes) -> None:
        del self._answers[key]
        tenant = self._entries[key].tenant
        share = self._shares[tenant]
        size = share.keys.pop(key)
        share.size -= size
        self._bytes -= size
        if not share.keys:
            del self._shares[tenant]

    def _expiry(self, row: KeyEvent) -> float | None:
        """When the key of a stored row is forgotten, in monotonic seconds; None when it is free."""
        left = min((row.expires_us - self._clock.now_us()) / 1_000_000, LONGEST_MEMORY)
        return self._clock.monotonic() + left if row.event == store.TAKEN and left > 0 else None

    def _read(self, key: bytes) -> KeyEvent | None:
        with open_readonly(self._path) as connection:
            return store.latest(connection, key)


def _size(finished: Finished) -> int:
    return OVERHEAD + len(finished.body) + sum(len(name) + len(value) for name, value in finished.headers)
