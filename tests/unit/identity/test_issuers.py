"""Issuers: their keys are kept at hand, rotated, and believed no longer than they may be."""

import asyncio
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.clocks import ManualClock
from tests.unit.identity.world import AUDIENCE, ISSUER, OTHER_RSA, PEPPER, RSA, Network, claims, run, settings, sign

from securellm.core.errors import Code, Fault, Refusal
from securellm.core.randomness import SystemRandomness
from securellm.core.surfaces import Surface
from securellm.identity import Identities, Issuers, KeyTable, ServiceIdentity, ServiceTable, Vouched
from securellm.identity.issuers import MOST_TOKENS, _Known
from securellm.identity.jwt import SignedToken, TokenRefused, UnknownKey
from securellm.identity.vouching import split_address


class Desk:
    def __init__(self, *issuers: Any, network: Network | None = None) -> None:
        self.clock = ManualClock()
        self.network = network or Network()
        self.issuers = Issuers(
            issuers or (settings(),),
            outbound=lambda _: self.network,
            clock=self.clock,
            randomness=SystemRandomness(),
        )

    def token(self, key: Any = RSA, **changes: Any) -> str:
        return sign(claims(self.clock.us, **changes), key)

    async def settle(self) -> None:
        """Let a reading in the background come to its end."""
        for _ in range(20):
            await asyncio.sleep(0)


def refused(awaitable: Any) -> str:
    with pytest.raises(TokenRefused) as refusal:
        run(awaitable)
    return refusal.value.reason


@pytest.mark.requirement("ID-3")
def test_keys_are_read_once_and_used_until_they_are_due() -> None:
    desk = Desk()

    async def story() -> None:
        for _ in range(3):
            assert (await desk.issuers.vouch(desk.token())).subject == "worker"
        assert desk.network.readings() == 1
        desk.clock.advance(600)
        await desk.issuers.vouch(desk.token())
        await desk.settle()
        assert desk.network.readings() == 2

    run(story())


@pytest.mark.requirement("ID-3")
def test_a_rotated_key_is_found_by_its_id_and_the_former_one_believed_no_more() -> None:
    desk = Desk()

    async def story() -> None:
        former = desk.token()
        await desk.issuers.vouch(former)
        desk.network.publish(OTHER_RSA)
        desk.clock.advance(30)
        assert (await desk.issuers.vouch(desk.token(OTHER_RSA))).subject == "worker"
        assert desk.network.readings() == 2
        with pytest.raises(UnknownKey):
            await desk.issuers.vouch(former)

    run(story())


@pytest.mark.requirement("ID-3")
def test_unknown_key_ids_make_nobody_read_the_keys_again_and_again() -> None:
    desk = Desk()

    async def story() -> None:
        await desk.issuers.vouch(desk.token())
        for number in range(50):
            with pytest.raises(UnknownKey):
                await desk.issuers.vouch(sign(claims(desk.clock.us), OTHER_RSA, kid=f"kid-{number}"))
        assert desk.network.readings() == 1
        desk.clock.advance(30)
        for number in range(50):
            with pytest.raises(UnknownKey):
                await desk.issuers.vouch(sign(claims(desk.clock.us), OTHER_RSA, kid=f"kid-{number}"))
        assert desk.network.readings() == 2

    run(story())


@pytest.mark.requirement("ID-3")
def test_in_an_outage_keys_are_believed_until_their_greatest_age_and_then_nothing_is() -> None:
    desk = Desk(settings(refresh=600.0, max_age=3600.0))

    async def story() -> None:
        await desk.issuers.vouch(desk.token())
        desk.network.down = True
        for _ in range(5):
            desk.clock.advance(719)
            assert (await desk.issuers.vouch(desk.token())).subject == "worker"
            await desk.settle()
        desk.clock.advance(5)
        remembered = desk.token()
        with pytest.raises(Fault) as fault:
            await desk.issuers.vouch(remembered)
        assert fault.value.code is Code.ISSUER_UNAVAILABLE
        desk.network.down = False
        desk.clock.advance(30)
        assert (await desk.issuers.vouch(remembered)).subject == "worker"

    run(story())


@pytest.mark.requirement("ID-3")
def test_an_issuer_that_was_never_reached_is_asked_at_most_every_half_minute() -> None:
    desk = Desk()
    desk.network.down = True

    async def story() -> None:
        for _ in range(10):
            with pytest.raises(Fault):
                await desk.issuers.vouch(desk.token())
        assert len(desk.network.asked) == 1
        desk.network.down = False
        desk.clock.advance(30)
        await desk.issuers.vouch(desk.token())

    run(story())


def test_many_who_wait_for_the_first_reading_share_it_and_survive_one_who_leaves() -> None:
    desk = Desk()

    async def story() -> None:
        waiting = [asyncio.create_task(desk.issuers.vouch(desk.token(jti=str(number)))) for number in range(10)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [isinstance(outcome, Vouched) for outcome in outcomes] == [False, *[True] * 9]
        assert desk.network.readings() == 1

    run(story())


@pytest.mark.requirement("ID-3")
@pytest.mark.parametrize(
    "document",
    [
        {"issuer": ISSUER + "/", "jwks_uri": f"{ISSUER}/keys"},
        {"issuer": "https://evil.example", "jwks_uri": f"{ISSUER}/keys"},
        {"jwks_uri": f"{ISSUER}/keys"},
        {"issuer": ISSUER, "jwks_uri": "http://login.example.com/keys"},
        {"issuer": ISSUER, "jwks_uri": "http://127.0.0.1/keys"},
        {"issuer": ISSUER, "jwks_uri": "file:///etc/passwd"},
        {"issuer": ISSUER, "jwks_uri": ["https://login.example.com/keys"]},
        {"issuer": ISSUER},
        [],
    ],
    ids=str,
)
def test_discovery_that_is_not_the_issuers_own_gives_no_keys(document: object) -> None:
    class Strict(Network):
        async def get(self, url: str, *, like: str) -> bytes:
            split_address(url, like=like)
            return await super().get(url, like=like)

    network = Strict()
    network.documents[f"{ISSUER}/.well-known/openid-configuration"] = json.dumps(document).encode()
    network.documents["http://127.0.0.1/keys"] = network.documents[f"{ISSUER}/keys"]
    desk = Desk(network=network)
    with pytest.raises(Fault) as fault:
        run(desk.issuers.vouch(desk.token()))
    assert fault.value.code is Code.ISSUER_UNAVAILABLE


def test_keys_whose_address_is_configured_need_no_discovery() -> None:
    desk = Desk(settings(jwks_uri=f"{ISSUER}/keys"))
    run(desk.issuers.vouch(desk.token()))
    assert desk.network.asked == [f"{ISSUER}/keys"]


@pytest.mark.requirement("ID-3")
def test_only_an_issuer_configured_for_bearers_has_its_tokens_looked_at() -> None:
    desk = Desk(settings(), settings(id="people", issuer="https://people.example", audience=None))
    assert desk.issuers.takes(desk.token())
    assert "nobody configured" in refused(desk.issuers.vouch(desk.token(iss="https://people.example")))
    assert "nobody configured" in refused(desk.issuers.vouch(desk.token(iss="https://evil.example")))
    assert "nobody configured" in refused(desk.issuers.vouch(desk.token(iss=["x"])))
    assert desk.network.asked == []
    assert not Desk(settings(audience=None)).issuers.takes(desk.token())


@pytest.mark.requirement("ID-3")
def test_a_token_is_remembered_but_never_beyond_its_end() -> None:
    desk = Desk(settings(clock_skew=0.0))

    async def story() -> None:
        token = desk.token(exp=desk.clock.us // 1_000_000 + 10)
        first = await desk.issuers.vouch(token)
        assert await desk.issuers.vouch(token) is first
        desk.clock.advance(10)
        with pytest.raises(TokenRefused) as refusal:
            await desk.issuers.vouch(token)
        assert refusal.value.expired

    run(story())


@pytest.mark.requirement("ID-3")
def test_memory_of_tokens_is_bounded() -> None:
    desk = Desk()

    async def story() -> None:
        await desk.issuers.vouch(desk.token())
        known = next(iter(desk.issuers._proven.values()))
        for number in range(MOST_TOKENS + 5):
            desk.issuers._proven[number.to_bytes(4, "big")] = known
        await desk.issuers.vouch(desk.token(jti="one more"))
        assert len(desk.issuers._proven) == MOST_TOKENS

    run(story())


@pytest.mark.requirement("ID-3", "ID-4")
def test_litellm_oidc_userinfo_cache_no_two_tokens_share_a_memory() -> None:
    """LiteLLM 1.80 to 1.86: proven tokens were remembered by their first characters, so two people became one."""
    desk = Desk()

    async def story() -> None:
        now = desk.clock.us
        one = sign(claims(now, sub="ana", pad="x" * 2000))
        two = sign(claims(now, sub="bia", pad="x" * 2000))
        assert one[:40] == two[:40]
        seen = [(await desk.issuers.vouch(token)).subject for token in (one, two, one, two)]
        assert seen == ["ana", "bia", "ana", "bia"]
        # The same head and claims under a signature that is nobody's: the memory must not answer for it.
        head, body, signature = one.split(".")
        for other in (f"{head}.{body}.{two.rpartition('.')[2]}", f"{head}.{body}.{'A' * len(signature)}"):
            with pytest.raises(TokenRefused):
                await desk.issuers.vouch(other)

    run(story())


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from(["t", "tt", ""]), st.sampled_from("xyz")),
        min_size=2,
        unique=True,
    )
)
def test_what_a_token_is_remembered_under_tells_issuer_tenant_and_token_apart(
    places: list[tuple[str, str, str]],
) -> None:
    desk = Desk()
    digests = [
        desk.issuers._digest(
            _Known(settings(issuer=issuer + tenant[:1], tenant=tenant or None), desk.network),
            SignedToken(text=text, algorithm="RS256", kid=None, claims={}),
        )
        for issuer, tenant, text in places
    ]
    assert len(set(digests)) == len(places)


@pytest.mark.requirement("ID-3")
def test_another_configuration_holds_for_tokens_that_were_proven_before() -> None:
    desk = Desk()
    other = settings(id="new", issuer="https://new.example", tenant="acme")

    async def story() -> None:
        token = desk.token()
        await desk.issuers.vouch(token)
        desk.issuers.follow([settings(), other])
        assert dict(desk.issuers.homes) == {ISSUER: None, "https://new.example": "acme"}
        await desk.issuers.vouch(token)
        assert desk.network.readings() == 1, "who stayed as they were keep their keys"
        desk.issuers.follow([settings(audience=AUDIENCE + "/v2"), other])
        with pytest.raises(TokenRefused):
            await desk.issuers.vouch(token)
        desk.issuers.follow([])
        with pytest.raises(TokenRefused):
            await desk.issuers.vouch(token)
        assert not desk.issuers.takes(token)
        await desk.settle()
        assert desk.network.asked.count("closed") == 3
        await desk.issuers.aclose()

    run(story())


def test_closing_ends_a_reading_that_hangs() -> None:
    class Hanging(Network):
        async def get(self, url: str, *, like: str) -> bytes:
            self.asked.append(url)
            await asyncio.Event().wait()
            raise AssertionError

    desk = Desk(network=Hanging())

    async def story() -> None:
        waiting = asyncio.create_task(desk.issuers.vouch(desk.token()))
        for _ in range(5):
            await asyncio.sleep(0)
        await desk.issuers.aclose()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert desk.network.asked[-1] == "closed"

    run(story())


# On the data plane

SERVICE = ServiceIdentity(
    id="svc_1",
    tenant="acme",
    project="web",
    issuer=ISSUER,
    subject="worker",
    models=("gpt",),
    surfaces=(Surface.CHAT,),
    ip_ranges=("10.0.0.0/8",),
    created_us=0,
)


def identify(desk: Desk, credential: str, *services: ServiceIdentity, client_ip: str = "10.0.0.1") -> Any:
    gate = Identities(PEPPER, desk.clock, issuers=desk.issuers)
    return run(
        gate.identify(
            KeyTable.of([]),
            credential,
            surface=Surface.CHAT,
            client_ip=client_ip,
            services=ServiceTable.of(services or [SERVICE]),
        )
    )


def code(desk: Desk, credential: str, *services: ServiceIdentity, client_ip: str = "10.0.0.1") -> Code:
    with pytest.raises(Refusal) as refusal:
        identify(desk, credential, *services, client_ip=client_ip)
    return refusal.value.code


@pytest.mark.requirement("ID-3", "ZT-2")
def test_a_services_own_token_calls_models_within_its_scopes() -> None:
    desk = Desk()
    identity = identify(desk, desk.token())
    assert (identity.tenant, identity.key_id, identity.principal) == ("acme", "svc_1", "service:svc_1")
    assert (identity.models, identity.surfaces, identity.project) == (("gpt",), (Surface.CHAT,), "web")


@pytest.mark.requirement("ID-3", "ZT-2")
def test_a_services_token_is_refused_where_the_service_is_not_let_in() -> None:
    desk = Desk()
    change = msgspec.structs.replace
    assert code(desk, desk.token(sub="other")) is Code.INVALID_KEY
    assert code(desk, desk.token(), change(SERVICE, disabled=True)) is Code.REVOKED_KEY
    assert code(desk, desk.token(), change(SERVICE, tenant=None)) is Code.INVALID_KEY
    assert code(desk, desk.token(), change(SERVICE, surfaces=(Surface.EMBEDDINGS,))) is Code.SURFACE_NOT_ALLOWED
    assert code(desk, desk.token(), client_ip="192.0.2.7") is Code.IP_NOT_ALLOWED
    assert code(desk, desk.token(aud=AUDIENCE + "x")) is Code.INVALID_KEY
    assert code(desk, desk.token(exp=desk.clock.us // 1_000_000 - 31)) is Code.EXPIRED_KEY
    elsewhere = Desk(settings(tenant="beta"))
    assert code(elsewhere, elsewhere.token()) is Code.INVALID_KEY


def test_where_no_issuer_is_configured_a_token_is_just_no_key() -> None:
    desk = Desk(settings(audience=None))
    assert code(desk, desk.token()) is Code.INVALID_KEY
    assert desk.network.asked == []
