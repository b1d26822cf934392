"""Virtual keys: bound to networks, rotated with an overlap, changed by revision, kept apart by tenant."""

import asyncio
import ipaddress
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Executable
from tests.unit.identity.world import PEPPER, World

from securellm.core.errors import Code, Refusal
from securellm.core.randomness import SystemRandomness
from securellm.core.surfaces import Surface
from securellm.identity import (
    Identities,
    Identity,
    IssuedKey,
    Keyring,
    KeyScopes,
    KeyTable,
    VirtualKey,
    all_stored_keys,
    check_networks,
    declared_key,
)
from securellm.identity.rules import refuse_elsewhere
from securellm.storage import Session
from securellm.storage.session import AnyRow


def issue(world: World, **changes: Any) -> IssuedKey:
    fields = {"tenant": "acme", "name": "app", "models": ("gpt",), **changes}
    return world.write(lambda session: world.keyring.issue(session, **fields))


def identify(world: World, token: str, *, client_ip: str = "192.0.2.7") -> Identity:
    table = world.read(lambda session: KeyTable.of(all_stored_keys(session)))
    gate = Identities(PEPPER, world.clock)
    return asyncio.run(gate.identify(table, token, surface=Surface.CHAT, client_ip=client_ip))


def code_of(ask: Callable[[], object]) -> Code:
    with pytest.raises(Refusal) as refused:
        ask()
    return refused.value.code


@pytest.mark.requirement("ID-2")
def test_everything_a_key_is_bound_to_is_kept_and_comes_back(world: World) -> None:
    world.write(lambda session: world.directory.create_project(session, tenant="acme", id="web"))
    issued = issue(
        world, project="web", user="usr_1", ip_ranges=["192.0.2.0/24", "2001:db8::/32"], surfaces=(Surface.CHAT,)
    )
    assert world.read(lambda session: world.keyring.get(session, issued.key.id)) == issued.key
    identity = identify(world, issued.token)
    assert (identity.project, identity.user, identity.principal) == ("web", "usr_1", f"key:{issued.key.id}")
    assert code_of(lambda: issue(world, project="unknown")) is Code.NOT_FOUND
    assert code_of(lambda: issue(world, tenant="beta", project="web")) is Code.NOT_FOUND


@pytest.mark.requirement("ID-2")
@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("192.0.2.7", True),
        ("::ffff:192.0.2.7", True),
        ("192.0.3.7", False),
        ("2001:db8:1::9", True),
        ("2001:db9::9", False),
        ("::ffff:198.51.100.1", False),
        ("", False),
        ("unix", False),
        ("192.0.2.7 ", False),
        ("192.0.2.007", False),
        ("٣.0.2.7", False),
    ],
)
def test_a_key_bound_to_networks_is_refused_from_elsewhere(world: World, address: str, allowed: bool) -> None:
    issued = issue(world, ip_ranges=["192.0.2.0/24", "2001:db8::/32"])
    if allowed:
        assert identify(world, issued.token, client_ip=address).key_id == issued.key.id
    else:
        assert code_of(lambda: identify(world, issued.token, client_ip=address)) is Code.IP_NOT_ALLOWED


@pytest.mark.parametrize("text", ["192.0.2.1/24", "192.0.2.0/33", "example.com", "", "192.0.2.0/24;", "0x7f.1/8"])
def test_what_is_no_plain_network_is_refused(world: World, text: str) -> None:
    assert code_of(lambda: issue(world, ip_ranges=[text])) is Code.INVALID_REQUEST


def test_there_is_an_end_to_the_networks_of_one_key(world: World) -> None:
    many = [f"10.0.{number}.0/24" for number in range(65)]
    assert code_of(lambda: issue(world, ip_ranges=many)) is Code.INVALID_REQUEST
    assert check_networks(many[:3] * 40) == tuple(many[:3])


@given(
    network=st.ip_addresses(v=4).flatmap(
        lambda address: st.integers(0, 32).map(lambda size: ipaddress.ip_network((address, size), strict=False))
    ),
    address=st.ip_addresses(),
)
def test_an_address_is_inside_exactly_when_its_first_bits_are_the_networks(
    network: ipaddress.IPv4Network, address: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> None:
    mapped = getattr(address, "ipv4_mapped", None)
    plain = mapped or address
    shift = 32 - network.prefixlen
    inside = plain.version == 4 and int(plain) >> shift == int(network.network_address) >> shift
    try:
        refuse_elsewhere((str(network),), str(address))
    except Refusal:
        assert not inside
    else:
        assert inside


@pytest.mark.requirement("ID-2")
def test_a_rotated_keys_former_token_goes_on_until_the_overlap_ends(world: World) -> None:
    first = issue(world)
    second = world.write(lambda session: world.keyring.rotate(session, first.key.id, overlap=60.0))
    assert second.key.id == first.key.id
    assert second.token != first.token
    assert second.key.prefix == second.token[:12]
    for token in (first.token, second.token):
        assert identify(world, token).key_id == first.key.id
    world.clock.advance(60)
    assert code_of(lambda: identify(world, first.token)) is Code.EXPIRED_KEY
    assert identify(world, second.token).key_id == first.key.id


@pytest.mark.requirement("ID-2")
def test_without_overlap_the_former_token_ends_at_once(world: World) -> None:
    first = issue(world)
    world.write(lambda session: world.keyring.rotate(session, first.key.id, overlap=0))
    assert code_of(lambda: identify(world, first.token)) is Code.INVALID_KEY


@pytest.mark.requirement("ID-2")
def test_of_three_tokens_two_are_valid_at_most(world: World) -> None:
    first = issue(world)
    second = world.write(lambda session: world.keyring.rotate(session, first.key.id, overlap=3600))
    third = world.write(lambda session: world.keyring.rotate(session, first.key.id, overlap=3600))
    assert code_of(lambda: identify(world, first.token)) is Code.INVALID_KEY
    former, present = identify(world, second.token), identify(world, third.token)
    assert (former.key_id, former.principal) == (present.key_id, present.principal)
    assert (former.expires_us, present.expires_us) == (world.clock.now_us() + 3600 * 1_000_000, None)


@pytest.mark.requirement("ID-2")
def test_revoking_ends_both_tokens_of_a_rotation(world: World) -> None:
    first = issue(world)
    second = world.write(lambda session: world.keyring.rotate(session, first.key.id, overlap=3600))
    revoked = world.write(lambda session: world.keyring.revoke(session, first.key.id))
    for token in (first.token, second.token):
        assert code_of(lambda token=token: identify(world, token)) is Code.REVOKED_KEY  # type: ignore[misc]
    assert world.write(lambda session: world.keyring.revoke(session, first.key.id)) == revoked
    assert code_of(lambda: world.write(lambda s: world.keyring.rotate(s, first.key.id, overlap=1))) is Code.CONFLICT


@pytest.mark.parametrize("overlap", [-1.0, 30 * 86_400 + 1.0, float("nan"), float("inf")])
def test_an_overlap_has_bounds(world: World, overlap: float) -> None:
    key = issue(world).key
    assert (
        code_of(lambda: world.write(lambda s: world.keyring.rotate(s, key.id, overlap=overlap))) is Code.INVALID_REQUEST
    )


@pytest.mark.requirement("ID-2")
def test_scopes_change_only_from_the_revision_that_was_read(world: World) -> None:
    issued = issue(world)
    scopes = KeyScopes(name="narrow", models=("small",), surfaces=(Surface.CHAT,), ip_ranges=("10.0.0.0/8",))
    changed = world.write(lambda session: world.keyring.update(session, issued.key.id, scopes, etag=1))
    assert (changed.models, changed.ip_ranges, changed.etag) == (("small",), ("10.0.0.0/8",), 2)
    assert changed.digest == issued.key.digest
    for verb in (
        lambda s: world.keyring.update(s, issued.key.id, scopes, etag=1),
        lambda s: world.keyring.rotate(s, issued.key.id, overlap=0, etag=1),
    ):
        assert code_of(lambda verb=verb: world.write(verb)) is Code.PRECONDITION_FAILED  # type: ignore[misc]


@pytest.mark.requirement("ID-4")
def test_a_tenant_neither_sees_nor_changes_anothers_key(world: World) -> None:
    issued = issue(world, tenant="beta")
    scopes = KeyScopes(name="", models=("*",))
    for verb in (
        lambda s: world.keyring.get(s, issued.key.id),
        lambda s: world.keyring.update(s, issued.key.id, scopes),
        lambda s: world.keyring.rotate(s, issued.key.id, overlap=0),
        lambda s: world.keyring.revoke(s, issued.key.id),
    ):
        assert code_of(lambda verb=verb: world.write(verb, tenant="acme")) is Code.NOT_FOUND  # type: ignore[misc]
    assert world.read(world.keyring.page, tenant="acme") == ()
    assert identify(world, issued.token).tenant == "beta"


def test_pages_hold_declared_and_stored_keys_in_one_order(world: World) -> None:
    declared = declared_key("sk-from-the-file", pepper=PEPPER, tenant="acme", models=("*",))
    ring = Keyring(PEPPER, world.clock, SystemRandomness(), declared=[declared])
    world.write(lambda session: world.directory.create_project(session, tenant="acme", id="web"))
    for tenant, project in [("acme", None), ("acme", "web"), ("beta", None)]:
        world.write(lambda s, t=tenant, p=project: ring.issue(s, tenant=t, name="", models=("*",), project=p))  # type: ignore[misc]
    whole = world.read(ring.page)
    assert [key.id for key in whole] == sorted(key.id for key in whole)
    assert len(whole) == 4
    walked: list[VirtualKey] = []
    after = None
    while page := world.read(lambda session, after=after: ring.page(session, after=after, limit=1)):  # type: ignore[misc]
        walked += page
        after = page[-1].id
    assert tuple(walked) == whole
    assert len(world.read(lambda session: ring.page(session, tenant="acme"))) == 3
    assert [key.project for key in world.read(lambda s: ring.page(s, tenant="acme", projects={"web"}))] == ["web"]
    for verb in (
        lambda s: ring.revoke(s, declared.id),
        lambda s: ring.rotate(s, declared.id, overlap=0),
        lambda s: ring.update(s, declared.id, KeyScopes(name="", models=("*",))),
    ):
        assert code_of(lambda verb=verb: world.write(verb)) is Code.MANAGED_BY_FILE  # type: ignore[misc]
    assert world.read(lambda session: ring.get(session, declared.id)) == declared


def test_a_page_reads_no_more_keys_than_it_shows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def make(session: Session) -> None:
        for number in range(120):
            world.keyring.issue(session, tenant="acme" if number % 2 else "beta", name="", models=("*",))

    world.write(make)
    read: list[int] = []
    plainly = Session.rows

    def counted(session: Session, statement: Executable) -> Sequence[AnyRow]:
        found = plainly(session, statement)
        read.append(len(found))
        return found

    def walk(session: Session, tenant: str | None) -> list[str]:
        seen: list[str] = []
        while page := world.keyring.page(session, after=seen[-1] if seen else None, limit=7, tenant=tenant):
            seen += [key.id for key in page]
        return seen

    monkeypatch.setattr(Session, "rows", counted)

    for tenant, count in ((None, 120), ("acme", 60)):
        walked = world.read(lambda session, tenant=tenant: walk(session, tenant))  # type: ignore[misc]
        assert walked == sorted(set(walked))
        assert len(walked) == count
    assert max(read) == 7
    assert sum(read) == 180


def test_cve_2026_47101_changing_scopes_changes_nothing_else(world: World) -> None:
    """CVE-2026-47101: an update took whatever members it was sent, routes and owners among them."""
    issued = issue(world)
    assert KeyScopes.__struct_fields__ == ("name", "models", "surfaces", "expires_us", "ip_ranges")
    scopes = KeyScopes(name="new", models=("*",), surfaces=(Surface.CHAT,), expires_us=1, ip_ranges=("10.0.0.0/8",))
    changed = world.write(lambda session: world.keyring.update(session, issued.key.id, scopes))
    told = {"name", "models", "surfaces", "expires_us", "ip_ranges", "etag"}
    for name in VirtualKey.__struct_fields__:
        assert (getattr(changed, name) != getattr(issued.key, name)) is (name in told), name
    with pytest.raises(TypeError):
        KeyScopes(name="", models=("*",), tenant="beta")  # type: ignore[call-arg]
