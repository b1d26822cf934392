"""Who may run, and how a story whose caller may not any more is stopped."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from tests.unit.clocks import ManualClock

from securellm.core.errors import Code, GatewayError, Refusal
from securellm.core.surfaces import Surface
from securellm.gateway.case import Case
from securellm.gateway.model import Received
from securellm.gateway.running import Running
from securellm.gateway.snapshot import Snapshot, Snapshots, TenantFacts
from securellm.guard import GuardMode
from securellm.identity import Identity, KeyTable, ServiceIdentity, ServiceTable, VirtualKey
from securellm.limits import TenantRates

CLOCK_US = 1_800_000_000_000_000


def key(name: str = "key_1", *, tenant: str = "acme", expires_us: int | None = None) -> VirtualKey:
    return VirtualKey(
        id=name,
        tenant=tenant,
        name="",
        prefix="",
        digest=name.encode().ljust(32, b"."),
        models=("*",),
        created_us=0,
        expires_us=expires_us,
        managed_by="api",
    )


def tenant(name: str, *, fence: float | None = None) -> TenantFacts:
    return TenantFacts(
        id=name, models=frozenset(), budget=None, rates=TenantRates(), guard=GuardMode.STANDARD, fence=fence
    )


def snapshot(*keys: VirtualKey, fence: float | None = None, services: ServiceTable | None = None) -> Snapshot:
    return Snapshot(
        version="",
        keys=KeyTable.of(keys),
        tenants={"acme": tenant("acme", fence=fence), "other": tenant("other")},
        models={},
        default_model="",
        provider_rates={},
        policy_version="",
        services=services or ServiceTable({}),
    )


class Stage:
    """Snapshots, what runs, and a clock."""

    def __init__(self, first: Snapshot, *, fence: float = 60.0) -> None:
        self.clock = ManualClock(us=CLOCK_US)
        self.snapshots = Snapshots(first, clock=self.clock, fence=fence)
        self.running = Running(self.snapshots, self.clock)

    def case(self, credential: str = "key_1", *, tenant: str = "acme", principal: str = "") -> Case:
        case = Case(received(), self.clock)
        case.identity = Identity(
            tenant=tenant,
            key_id=credential,
            principal=principal or f"key:{credential}",
            models=("*",),
            surfaces=(),
        )
        return case

    def change(self, following: Snapshot, *keys: str) -> None:
        self.snapshots.put(following)
        self.running.review(keys or None)


def received() -> Received:
    async def read(_: Received) -> None:
        raise AssertionError

    return Received(
        request_id="req_1",
        trace_id="",
        traceparent="",
        surface=Surface.CHAT,
        credential=None,
        client_ip="",
        headers={},
        started=0.0,
        deadline=None,
        query="",
        pinned_provider=None,
        read=read,  # type: ignore[arg-type]
        left=lambda: False,
    )


async def held(stage: Stage, case: Case, story: Callable[[], Awaitable[object]], began: asyncio.Event) -> str:
    """How a story ends that runs inside a block: `done`, or the code it was cut with."""
    try:
        with stage.running.holding(case):
            began.set()
            await story()
    except GatewayError as error:
        return error.code.value
    return "done"


async def cut_by(stage: Stage, case: Case, act: Callable[[], None]) -> str:
    """How a story that waits for ever ends when `act` happens."""
    began = asyncio.Event()
    task = asyncio.create_task(held(stage, case, asyncio.Event().wait, began))
    await began.wait()
    assert len(stage.running) == 1
    act()
    async with asyncio.timeout(20):
        ending = await task
    assert len(stage.running) == 0
    assert task.cancelling() == 0
    return ending


def revoked(one: VirtualKey) -> VirtualKey:
    return msgspec.structs.replace(one, revoked_us=CLOCK_US)


@pytest.mark.parametrize("of_all", [False, True])
@pytest.mark.parametrize(
    ("following", "code"),
    [
        (snapshot(revoked(key())), "revoked_key"),
        (snapshot(), "revoked_key"),
        (snapshot(key(expires_us=CLOCK_US)), "expired_key"),
    ],
)
def test_a_key_that_is_revoked_deleted_or_expired_cuts_what_runs_for_it(
    following: Snapshot, code: str, of_all: bool
) -> None:
    async def scenario() -> None:
        stage = Stage(snapshot(key()))
        case = stage.case()
        assert await cut_by(stage, case, lambda: stage.change(following, *(() if of_all else ("key_1",)))) == code
        assert case.cut is not None

    asyncio.run(scenario())


def test_a_removed_tenant_and_a_disabled_service_cut_what_runs_for_them() -> None:
    def services(*, disabled: bool) -> ServiceTable:
        return ServiceTable.of(
            [ServiceIdentity(id="svc", tenant="acme", issuer="i", subject="s", disabled=disabled, created_us=0)]
        )

    async def scenario() -> None:
        stage = Stage(snapshot(key(tenant="gone"), services=services(disabled=False)))
        stage.snapshots.put(_with_tenant(stage.snapshots.current, "gone"))
        case = stage.case(tenant="gone")
        assert await cut_by(stage, case, lambda: stage.change(snapshot(key(tenant="gone")))) == "revoked_key"
        stage.snapshots.put(snapshot(services=services(disabled=False)))
        service = stage.case("svc", principal="service:svc")
        assert await cut_by(stage, service, lambda: stage.change(snapshot(services=services(disabled=True)))) == (
            "revoked_key"
        )

    asyncio.run(scenario())


def _with_tenant(one: Snapshot, name: str) -> Snapshot:
    return msgspec.structs.replace(one, tenants={**one.tenants, name: tenant(name)})


def test_a_key_that_expires_while_its_request_runs_cuts_it() -> None:
    async def scenario() -> None:
        stage = Stage(snapshot(key(expires_us=CLOCK_US + 1_000_000)))

        def pass_time() -> None:
            stage.clock.advance(0.999)
            stage.running.watch()
            assert len(stage.running) == 1
            stage.clock.advance(0.001)
            stage.running.watch()

        assert await cut_by(stage, stage.case(), pass_time) == "expired_key"

    asyncio.run(scenario())


def test_what_was_presented_cuts_its_request_when_it_ends_before_the_key_does() -> None:
    async def scenario() -> None:
        stage = Stage(snapshot(key(expires_us=CLOCK_US + 9_000_000)))
        case = stage.case()
        assert case.identity is not None
        case.identity = msgspec.structs.replace(case.identity, expires_us=CLOCK_US + 2_000_000)

        def pass_time() -> None:
            stage.clock.advance(1.999)
            stage.running.watch()
            assert len(stage.running) == 1
            stage.clock.advance(0.001)
            stage.running.watch()

        assert await cut_by(stage, case, pass_time) == "expired_key"

    asyncio.run(scenario())


@pytest.mark.parametrize(("own", "after"), [(None, 60.0), (2.0, 2.0)])
def test_what_runs_is_cut_at_the_fence_of_its_tenant(own: float | None, after: float) -> None:
    async def scenario() -> None:
        stage = Stage(snapshot(key(), fence=own))

        def pass_time() -> None:
            stage.clock.advance(after)
            stage.running.watch()
            assert len(stage.running) == 1
            stage.clock.advance(0.01)
            stage.running.watch()

        assert await cut_by(stage, stage.case(), pass_time) == "stale_policy"
        assert stage.running.ended(_identity(stage.case())) is not None
        stage.snapshots.confirm()
        assert stage.running.ended(_identity(stage.case())) is None

    asyncio.run(scenario())


def _identity(case: Case) -> Identity:
    assert case.identity is not None
    return case.identity


def test_a_block_is_not_entered_by_who_lost_the_right_before() -> None:
    async def scenario() -> None:
        stage = Stage(snapshot(key()))
        case = stage.case()
        stage.change(snapshot(revoked(key())), "key_1")
        assert await held(stage, case, asyncio.Event().wait, asyncio.Event()) == "revoked_key"
        assert len(stage.running) == 0

    asyncio.run(scenario())


def test_other_keys_and_tenants_run_on_and_nothing_is_cut_once_it_is_over() -> None:
    async def scenario() -> None:
        other = key("key_2", tenant="other")
        stage = Stage(snapshot(key(), other))
        go_on, began = asyncio.Event(), asyncio.Event()
        bystander = asyncio.create_task(held(stage, stage.case("key_2", tenant="other"), go_on.wait, began))
        case = stage.case()
        over = asyncio.create_task(held(stage, case, go_on.wait, asyncio.Event()))
        await began.wait()
        await asyncio.sleep(0)
        case.closed = True
        stage.change(snapshot(revoked(key()), other))
        go_on.set()
        assert (await bystander, await over) == ("done", "done")
        assert len(stage.running) == 0

    asyncio.run(scenario())


def test_a_cancellation_by_somebody_else_stays_one_even_when_the_right_ends_at_the_same_time() -> None:
    async def scenario() -> None:
        stage = Stage(snapshot(key()))
        began = asyncio.Event()
        task = asyncio.create_task(held(stage, stage.case(), asyncio.Event().wait, began))
        await began.wait()
        task.cancel()
        stage.change(snapshot(), "key_1")
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())


def test_an_error_of_the_storys_own_wins_over_a_cut_that_comes_too_late() -> None:
    async def scenario() -> None:
        stage = Stage(snapshot(key()))
        began = asyncio.Event()

        async def failing() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                raise Refusal(Code.GUARD_BLOCKED, "its own")

        task = asyncio.create_task(held(stage, stage.case(), failing, began))
        await began.wait()
        stage.change(snapshot(), "key_1")
        assert await task == "guard_blocked"
        assert task.cancelling() == 0

    asyncio.run(scenario())
