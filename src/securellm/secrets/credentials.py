"""Provider credentials over time: read again at intervals and when they are refused, used no longer than confirmed."""

import asyncio
import math
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol
from weakref import WeakValueDictionary

from securellm.core.clock import Clock
from securellm.core.errors import Code, Fault
from securellm.secrets.model import SecretUnavailable
from securellm.secrets.resolver import SecretResolver
from securellm.secrets.settings import SecretsSettings
from securellm.secrets.value import SecretValue
from securellm.settings import SecretRef
from securellm.telemetry.logs import logger

_log = logger("secrets")

_HEADER_SAFE = re.compile(r"[!-~]+", re.ASCII)
_AGAIN = 5.0
"""Seconds after a reading for a refusal in which further refusals cause none: a wrong credential stays wrong."""
_PATIENCE = 10.0
"""Seconds that a refused request waits for that reading."""
_READERS = 4


class Credential(Protocol):
    """What a provider is shown, as it stands whenever somebody asks."""

    def current(self) -> SecretValue:
        """The value to use now. Raises Fault(CREDENTIAL_UNAVAILABLE) when none may be used."""
        ...

    async def other(self, refused: SecretValue) -> SecretValue | None:
        """Another value to try, once, after the provider has refused this one."""
        ...


class FixedCredential:
    """A credential that stays what it is."""

    def __init__(self, value: SecretValue) -> None:
        self._value = value

    def current(self) -> SecretValue:
        return self._value

    async def other(self, refused: SecretValue) -> SecretValue | None:  # noqa: ARG002 - there is no other
        return None


def header_safe(secret: SecretValue) -> bool:
    """Whether a header can carry it as it is: printable ASCII without blanks."""
    return _HEADER_SAFE.fullmatch(secret.reveal()) is not None


class _State(NamedTuple):
    """What is known of a credential; replaced whole. Times are of the clock's `monotonic`."""

    value: SecretValue | None
    """None = its source has said that it is no more."""
    confirmed_at: float
    checked_at: float
    """Of the last reading, whether or not it succeeded."""
    before: SecretValue | None = None
    changed_at: float = 0.0


class HeldCredential:
    """One reference in use. The keeper reads; whoever calls a provider asks."""

    def __init__(self, ref: SecretRef, keeper: "CredentialKeeper", state: _State) -> None:
        self.ref = ref
        self._keeper = keeper
        self.state = state
        self.reading: asyncio.Task[None] | None = None
        self.hurried_at = -math.inf
        """When it was last read because it had been refused."""

    def current(self) -> SecretValue:
        state = self.state
        if state.value is None:
            raise Fault(Code.CREDENTIAL_UNAVAILABLE, "the provider's credential was withdrawn at its source")
        if self._keeper.now() - state.confirmed_at > self._keeper.settings.max_age:
            raise Fault(Code.CREDENTIAL_UNAVAILABLE, "the provider's credential has not been confirmed for too long")
        return state.value

    async def other(self, refused: SecretValue) -> SecretValue | None:
        """The value at the source where that is another now, else, for a while after a rotation, the one before."""
        await self._keeper.read_again(self)
        state = self.state
        if state.value is not None and state.value != refused:
            return state.value
        overlapping = self._keeper.now() - state.changed_at <= self._keeper.settings.overlap
        if state.value is not None and overlapping and state.before is not None and state.before != refused:
            return state.before
        return None


class CredentialKeeper:
    """Every credential that somebody holds, by its reference. Readings block, so they have threads of their own."""

    def __init__(self, resolver: SecretResolver, *, settings: SecretsSettings, clock: Clock) -> None:
        self.settings = settings
        self._resolver = resolver
        self._clock = clock
        self._held: WeakValueDictionary[SecretRef, HeldCredential] = WeakValueDictionary()
        self._lock = threading.Lock()
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="credentials")

    def now(self) -> float:
        return self._clock.monotonic()

    @property
    def oldest(self) -> float:
        """Seconds since the least recently confirmed credential was confirmed; 0 without one."""
        now = self.now()
        return max((now - held.state.confirmed_at for held in self._all()), default=0.0)

    def hold(self, ref: SecretRef) -> HeldCredential:
        """The credential of `ref`, read now unless it is held already. Blocks. Raises SecretUnavailable."""
        with self._lock:
            held = self._held.get(ref)
            if held is None:
                now = self.now()
                state = _State(self._sound(ref, self._resolver.resolve(ref)), now, now)
                held = self._held[ref] = HeldCredential(ref, self, state)
            return held

    def follow(self, resolver: SecretResolver, *, settings: SecretsSettings) -> None:
        """Read by another configuration from now on: everything is due, and stays what it is until it is read."""
        self._resolver, self.settings = resolver, settings
        for held in self._all():
            held.state = held.state._replace(checked_at=-math.inf)

    async def refresh(self) -> None:
        """Read again every credential that is due. A failure is logged; what is known stays until its age says no."""
        due = self.now() - self.settings.refresh
        late = [held for held in self._all() if held.state.checked_at <= due]
        await asyncio.gather(*(self._single(held) for held in late))

    async def read_again(self, held: HeldCredential) -> None:
        """Read it now, unless that was done a moment ago. Waits a bounded time and raises nothing."""
        if held.reading is None:
            if self.now() - held.hurried_at < _AGAIN:
                return
            held.hurried_at = self.now()
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._single(held)
        except TimeoutError:
            _log.warning("credential_not_read_in_time", reference=str(held.ref))

    def close(self) -> None:
        """Begin no more readings."""
        self._readers.shutdown(wait=False, cancel_futures=True)

    def _all(self) -> list[HeldCredential]:
        with self._lock:
            return list(self._held.values())

    async def _single(self, held: HeldCredential) -> None:
        """One reading at a time; who comes meanwhile waits for that one, and may leave without ending it."""
        if held.reading is None:
            held.reading = asyncio.get_running_loop().create_task(self._reading(held))
        await asyncio.shield(held.reading)

    async def _reading(self, held: HeldCredential) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._readers, self._read, held)
        finally:
            held.reading = None

    def _read(self, held: HeldCredential) -> None:
        now, known = self.now(), held.state
        try:
            value = self._sound(held.ref, self._resolver.resolve(held.ref, newer_than=now))
        except SecretUnavailable as unavailable:
            withdrawn = unavailable.withdrawn
            gone = _State(None, known.confirmed_at, now)
            held.state = gone if withdrawn else known._replace(checked_at=now)
            _log.error(
                "credential_withdrawn" if withdrawn else "credential_not_confirmed",
                reference=str(held.ref),
                reason=unavailable.reason,
                age_seconds=round(now - known.confirmed_at),
            )
            return
        if value == known.value:
            held.state = known._replace(confirmed_at=now, checked_at=now)
        else:
            held.state = _State(value, now, now, known.value, now)
            _log.info("credential_rotated", reference=str(held.ref))

    def _sound(self, ref: SecretRef, value: SecretValue) -> SecretValue:
        if not header_safe(value):
            raise SecretUnavailable(
                str(ref),
                "holds spaces or characters that no header can carry",
                "store the provider's key alone, in one line",
            )
        return value
