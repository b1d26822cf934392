"""Provider credentials over time: fresh without a restart, kept through an outage, ended by it in the end."""

import asyncio
import gc
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.clocks import ManualClock

from securellm.core.errors import Code, Fault
from securellm.secrets import CredentialKeeper, SecretResolver, SecretsSettings, SecretUnavailable, SecretValue
from securellm.settings import Seconds, SecretRef

REF = SecretRef("vault", "secret/data/openai#api_key")
OTHER = SecretRef("vault", "secret/data/anthropic#api_key")


class Source(SecretResolver):
    """A resolver whose answers a test decides."""

    def __init__(self) -> None:
        super().__init__(Path("/nonexistent"), {})
        self.now: str | SecretUnavailable = "sk-one"
        self.asked = 0
        self.waiting: threading.Event | None = None

    def resolve(self, ref: SecretRef, *, newer_than: float = 0.0) -> SecretValue:
        self.asked += 1
        if self.waiting is not None:
            assert self.waiting.wait(10)
        if isinstance(self.now, SecretUnavailable):
            raise self.now
        return SecretValue(self.now)


def unreachable() -> SecretUnavailable:
    return SecretUnavailable(str(REF), "Vault is sealed", "unseal it")


def gone() -> SecretUnavailable:
    return SecretUnavailable(str(REF), "no such secret", "write it", withdrawn=True)


class World:
    def __init__(self, *, refresh: float = 60, max_age: float = 3600, overlap: float = 300) -> None:
        self.clock, self.source = ManualClock(), Source()
        settings = SecretsSettings(refresh=Seconds(refresh), max_age=Seconds(max_age), overlap=Seconds(overlap))
        self.keeper = CredentialKeeper(self.source, settings=settings, clock=self.clock)
        self.held = self.keeper.hold(REF)

    def later(self, seconds: float) -> None:
        """Time passes, and the keeper does what is due."""
        self.clock.advance(seconds)
        asyncio.run(self.keeper.refresh())

    def shown(self) -> str:
        return self.held.current().reveal()

    def refused(self) -> str:
        with pytest.raises(Fault) as fault:
            self.held.current()
        assert fault.value.code is Code.CREDENTIAL_UNAVAILABLE
        assert "vault" not in fault.value.reason, "callers learn nothing of where secrets are"
        return fault.value.reason

    def other(self, refused: str) -> str | None:
        found = asyncio.run(self.held.other(SecretValue(refused)))
        return None if found is None else found.reveal()


@pytest.mark.requirement("SC-1")
def test_a_rotation_is_in_force_after_the_next_reading() -> None:
    world = World(refresh=60)
    world.source.now = "sk-two"
    world.later(30)
    assert world.shown() == "sk-one"
    world.later(31)
    assert world.shown() == "sk-two"
    assert world.source.asked == 2


@pytest.mark.requirement("SC-1")
def test_while_the_source_is_silent_the_old_one_serves_until_its_age_says_no() -> None:
    world = World(refresh=60, max_age=600)
    world.source.now = unreachable()
    for _ in range(10):
        world.later(60)
        assert world.shown() == "sk-one"
    world.later(60)
    assert "not been confirmed for too long" in world.refused()
    world.source.now = "sk-two"
    world.later(60)
    assert world.shown() == "sk-two", "it recovers alone"


@pytest.mark.requirement("SC-1")
def test_what_its_source_has_withdrawn_is_used_no_more() -> None:
    world = World(refresh=60)
    world.source.now = gone()
    world.later(61)
    assert "withdrawn" in world.refused()
    assert world.other("sk-one") is None
    world.source.now = "sk-one"
    world.later(61)
    assert world.shown() == "sk-one"


@pytest.mark.requirement("SC-1")
def test_a_value_that_no_header_can_carry_does_not_replace_one_that_can() -> None:
    world = World(refresh=60)
    world.source.now = "sk two\nlines"
    world.later(61)
    assert world.shown() == "sk-one"
    with pytest.raises(SecretUnavailable, match="no header can carry"):
        world.keeper.hold(OTHER)


@pytest.mark.requirement("SC-1")
def test_at_start_what_cannot_be_had_is_refused_by_its_reference() -> None:
    world = World()
    world.source.now = unreachable()
    with pytest.raises(SecretUnavailable, match="Vault is sealed"):
        world.keeper.hold(OTHER)
    assert world.keeper.hold(REF) is world.held, "what is held already needs no source"


@pytest.mark.requirement("SC-1")
def test_a_refused_credential_is_read_again_at_once_and_tried_with_its_successor() -> None:
    world = World(refresh=3600, overlap=300)
    world.clock.advance(10)
    world.source.now = "sk-two"
    assert world.other("sk-one") == "sk-two"
    assert world.shown() == "sk-two"


@pytest.mark.requirement("SC-1")
def test_a_successor_that_is_not_in_force_yet_is_overlapped_by_the_one_before() -> None:
    world = World(refresh=60, overlap=300)
    world.source.now = "sk-two"
    world.later(61)
    assert world.other("sk-two") == "sk-one"
    world.clock.advance(301)
    assert world.other("sk-two") is None


def test_a_refused_credential_that_is_still_the_one_has_no_other_and_is_not_asked_for_without_end() -> None:
    world = World(refresh=3600)
    world.clock.advance(10)
    for _ in range(100):
        assert world.other("sk-one") is None
    assert world.source.asked == 2


def test_all_who_are_refused_at_once_share_one_reading_and_one_who_leaves_does_not_end_it() -> None:
    async def scenario() -> None:
        world = World(refresh=3600)
        world.clock.advance(10)
        world.source.waiting = threading.Event()
        world.source.now = "sk-two"
        asking = [asyncio.create_task(world.held.other(SecretValue("sk-one"))) for _ in range(20)]
        await asyncio.sleep(0)
        asking[0].cancel()
        world.source.waiting.set()
        found = await asyncio.gather(*asking[1:])
        assert all(value is not None and value.reveal() == "sk-two" for value in found)
        assert world.source.asked == 2

    asyncio.run(scenario())


def test_what_nothing_uses_is_read_no_more() -> None:
    world = World(refresh=60)
    other = world.keeper.hold(OTHER)
    del world.held
    gc.collect()
    world.later(61)
    assert world.source.asked == 3, "two at the start, one of the two later"
    assert other.current().reveal() == "sk-one"
    del other
    gc.collect()
    world.later(61)
    assert world.source.asked == 3
    assert world.keeper.oldest == 0


def test_another_configuration_makes_everything_due() -> None:
    world = World(refresh=3600)
    other = Source()
    other.now = "sk-elsewhere"
    world.keeper.follow(other, settings=SecretsSettings(max_age=Seconds(60)))
    world.later(0)
    assert world.shown() == "sk-elsewhere"
    world.clock.advance(61)
    assert world.keeper.oldest == 61
    world.refused()


def test_a_credential_shows_nothing_of_itself() -> None:
    world = World()
    assert "sk-one" not in repr(world.held.state) + repr(world.held) + str(world.keeper)


class Life(RuleBasedStateMachine):
    """Any history of rotations, outages, withdrawals, refusals and time."""

    @initialize()
    def begin(self) -> None:
        self.world = World(refresh=60, max_age=600, overlap=300)
        self.confirmed: tuple[str | None, float] = ("sk-one", self.world.clock.monotonic())
        self.count = 1

    @rule()
    def rotate(self) -> None:
        self.count += 1
        self.world.source.now = f"sk-{self.count}"

    @rule(failure=st.sampled_from([unreachable, gone]))
    def fail(self, failure: Callable[[], SecretUnavailable]) -> None:
        self.world.source.now = failure()

    @rule(seconds=st.integers(60, 400))
    def wait(self, seconds: int) -> None:
        self.world.later(seconds)
        now = self.world.source.now
        if isinstance(now, str):
            self.confirmed = (now, self.world.clock.monotonic())
        elif now.withdrawn:
            self.confirmed = (None, self.confirmed[1])

    @precondition(lambda self: isinstance(self.world.source.now, str))
    @rule()
    def be_refused(self) -> None:
        self.world.clock.advance(6)
        now = self.world.source.now
        assert isinstance(now, str)
        self.world.other("sk-none")
        self.confirmed = (now, self.world.clock.monotonic())

    @invariant()
    def only_what_is_confirmed_is_shown(self) -> None:
        value, at = self.confirmed
        if value is None or self.world.clock.monotonic() - at > 600:
            self.world.refused()
        else:
            assert self.world.shown() == value

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.keeper.close()


TestLife = Life.TestCase
TestLife.settings = hypothesis_settings(max_examples=40, stateful_step_count=20, deadline=None)
