"""Who calls the control plane: each way of proving it, and that whoever lost theirs is refused at once."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from tests.unit.identity.conftest import Make
from tests.unit.identity.test_directory import HOSTILE
from tests.unit.identity.world import ISSUER, ORIGIN, OWNER, World, claims, run, settings, sign

from securellm.core.errors import Code, Refusal
from securellm.identity import HOST, Actor, Credential, Permission, Role, User, read_cookie, set_cookie
from securellm.identity.settings import LoginSettings, RoleMapping

LOGIN = LoginSettings(client_id="bridge", redirect_uri="https://console.example.com/admin/v1/login/callback")
MAPPED = (
    RoleMapping(group="auditors", role=Role.AUDITOR),
    RoleMapping(group="acme-admins", role=Role.ADMIN, tenant="acme"),
)


def recognise(world: World, *, client_ip: str = "192.0.2.7", **presented: Any) -> Actor:
    actor: Actor = run(world.callers.recognise(Credential(**presented), client_ip=client_ip))
    return actor


def refused(world: World, **presented: Any) -> Code:
    with pytest.raises(Refusal) as refusal:
        recognise(world, **presented)
    return refusal.value.code


def token_of(world: World, principal: str) -> str:
    by = world.actor(principal)
    return world.write(lambda s: world.tokens.issue(s, by, principal=principal)).secret


@pytest.fixture
def corp(make: Make) -> World:
    """A world whose issuer logs people in and gives them roles by their groups."""
    return make(settings(roles=MAPPED, login=LOGIN))


def logged_in(world: World, *groups: str, subject: str = "ana") -> tuple[User, str]:
    def enter(session: Any) -> tuple[User, str]:
        user = world.directory.user_of(session, ISSUER, subject) or world.directory.create_user(
            session, tenant=None, issuer=ISSUER, subject=subject
        )
        return user, world.sessions.open(session, user, issuer=ISSUER, groups=groups)

    return world.write(enter)


@pytest.mark.requirement("ZT-2")
def test_without_a_credential_nobody_calls(world: World) -> None:
    assert refused(world) is Code.ADMIN_REQUIRED


def test_the_hosts_token_is_an_owner_and_no_person(world: World) -> None:
    host = recognise(world, bearer="slb_admin_0123456789")
    assert (host.principal, host.method, host.person) == (HOST, "host", False)
    assert all(host.may(permission, tenant=tenant) for permission in Permission for tenant in (None, "acme"))


@pytest.mark.parametrize("bearer", [*HOSTILE, "", "slb_admin_012345678", "slb_admin_0123456789 ", "x" * 600, "\ud800"])
def test_any_other_bearer_is_nobody(world: World, bearer: str) -> None:
    assert refused(world, bearer=bearer) is Code.ADMIN_REQUIRED


@pytest.mark.requirement("ZT-2", "ID-1")
def test_a_token_proves_its_principal_with_the_roles_of_this_moment(world: World) -> None:
    ana = world.person(Role.AUDITOR, tenant="acme")
    bearer = token_of(world, ana.principal)
    assert recognise(world, bearer=bearer) == ana
    for grant in ana.grants:
        world.write(lambda s, grant=grant: world.directory.drop_grant(s, OWNER, grant))  # type: ignore[misc]
    assert recognise(world, bearer=bearer).grants == ()


@pytest.mark.requirement("ZT-2")
def test_a_disabled_or_deleted_principal_is_refused_at_once(world: World) -> None:
    directory = world.directory
    robot = world.write(lambda s: directory.create_service(s, tenant="acme"))
    bearer = world.write(lambda s: world.tokens.issue(s, OWNER, principal=robot.principal)).secret
    assert recognise(world, bearer=bearer).principal == robot.principal
    off = world.write(lambda s: directory.replace_service(s, OWNER, robot, replace(robot, disabled=True)))
    assert refused(world, bearer=bearer) is Code.CREDENTIAL_REVOKED
    world.write(lambda s: directory.delete_service(s, OWNER, off))
    assert refused(world, bearer=bearer) is Code.ADMIN_REQUIRED


@pytest.mark.requirement("ZT-2")
def test_a_service_bound_to_networks_calls_from_them_only(world: World) -> None:
    robot = world.write(lambda s: world.directory.create_service(s, tenant=None, ip_ranges=["10.0.0.0/8"]))
    bearer = world.write(lambda s: world.tokens.issue(s, OWNER, principal=robot.principal)).secret
    assert recognise(world, bearer=bearer, client_ip="10.1.2.3").principal == robot.principal
    assert refused(world, bearer=bearer, client_ip="192.0.2.7") is Code.IP_NOT_ALLOWED


@pytest.mark.requirement("ID-3", "ZT-2")
def test_an_issuers_token_proves_the_service_or_person_it_is_linked_to(corp: World) -> None:
    robot = corp.write(lambda s: corp.directory.create_service(s, tenant="acme", issuer=ISSUER, subject="worker"))
    corp.write(
        lambda s: corp.directory.add_grant(s, OWNER, principal=robot.principal, role=Role.AUDITOR, tenant="acme")
    )
    actor = recognise(corp, bearer=sign(claims(corp.clock.us)))
    assert (actor.principal, actor.method, actor.tenant) == (robot.principal, "jwt", "acme")
    assert actor.may(Permission.AUDIT_READ, tenant="acme")
    user, _ = logged_in(corp)
    assert recognise(corp, bearer=sign(claims(corp.clock.us, sub="ana"))).principal == user.principal
    assert refused(corp, bearer=sign(claims(corp.clock.us, sub="nobody"))) is Code.ADMIN_REQUIRED
    late = claims(corp.clock.us, exp=corp.clock.us // 1_000_000 - 31)
    assert refused(corp, bearer=sign(late)) is Code.CREDENTIAL_EXPIRED


@pytest.mark.requirement("ID-3")
def test_groups_give_what_the_configuration_lists_for_them_and_nothing_else(corp: World) -> None:
    logged_in(corp)
    listed = ["auditors", "OWNERS", "owner", "acme-admins ", "auditors", 7, None, {"group": "acme-admins"}]
    actor = recognise(corp, bearer=sign(claims(corp.clock.us, sub="ana", groups=listed, roles=["owner"], role="owner")))
    assert [(grant.role, grant.tenant) for grant in actor.grants] == [(Role.AUDITOR, None)]
    for odd in ("auditors", ["auditors"] * 2):
        assert len(recognise(corp, bearer=sign(claims(corp.clock.us, sub="ana", groups=odd))).grants) == 1
    nothings: list[Any] = [None, {}, 7, [["auditors"]], ["x"] * 500 + ["auditors"]]
    for nothing in nothings:
        assert not recognise(corp, bearer=sign(claims(corp.clock.us, sub="ana", groups=nothing))).grants


@pytest.mark.requirement("ID-3", "ID-4")
def test_an_issuer_of_one_tenant_vouches_for_nobody_else(make: Make) -> None:
    world = make(settings(tenant="acme", roles=(RoleMapping(group="all", role=Role.OWNER, tenant="beta"),)))
    world.write(lambda s: world.directory.create_user(s, tenant="acme", issuer=ISSUER, subject="ana"))
    actor = recognise(world, bearer=sign(claims(world.clock.us, sub="ana", groups=["all"])))
    assert not actor.sees("beta")
    assert not actor.may(Permission.KEYS_READ, tenant="beta")


@pytest.mark.requirement("ID-3")
def test_a_session_proves_who_logged_in_with_the_roles_of_their_groups(corp: World) -> None:
    user, secret = logged_in(corp, "acme-admins")
    actor = recognise(corp, session=secret)
    assert (actor.principal, actor.method) == (user.principal, "session")
    assert actor.may(Permission.KEYS_WRITE, tenant="acme")
    assert not actor.may(Permission.KEYS_WRITE, tenant="beta")
    assert refused(corp, bearer=secret) is Code.ADMIN_REQUIRED, "a session is no bearer credential"
    bearer = token_of(corp, user.principal)
    assert refused(corp, session=bearer) is Code.ADMIN_REQUIRED, "a token is no session"


@pytest.mark.requirement("ID-3")
@pytest.mark.parametrize(
    ("test", "pause", "times"), [("idle", 1800.0, 1), ("life", 1799.0, 25)], ids=["idle", "whole life"]
)
def test_cve_2026_12772_a_session_ends(corp: World, test: str, pause: float, times: int) -> None:
    """CVE-2026-12772, CVE-2026-12796: sessions went on after their time, or after their user was disabled."""
    _, secret = logged_in(corp)
    for number in range(times):
        corp.clock.advance(pause)
        if number == times - 1:
            assert refused(corp, session=secret) is Code.CREDENTIAL_EXPIRED
        else:
            recognise(corp, session=secret)
    corp.clock.advance(-1000)
    logged_in(corp, subject="other")
    corp.clock.advance(100_000)
    logged_in(corp, subject="third")
    assert refused(corp, session=secret) is Code.ADMIN_REQUIRED, "what has ended is cleared away"


@pytest.mark.requirement("ID-3")
def test_cve_2026_12796_a_session_ends_with_its_person_their_login_and_their_logout(corp: World) -> None:
    """CVE-2026-12772, CVE-2026-12796: sessions went on after their time, or after their user was disabled."""
    user, first = logged_in(corp)
    _, second = logged_in(corp)
    assert first != second
    assert corp.write(lambda s: corp.sessions.close(s, first))
    assert refused(corp, session=first) is Code.ADMIN_REQUIRED
    assert recognise(corp, session=second).principal == user.principal
    off = corp.write(lambda s: corp.directory.replace_user(s, OWNER, user, replace(user, disabled=True)))
    assert refused(corp, session=second) is Code.ADMIN_REQUIRED
    corp.write(lambda s: corp.directory.replace_user(s, OWNER, off, replace(off, disabled=False)))
    assert refused(corp, session=second) is Code.ADMIN_REQUIRED, "enabling them again brings no session back"
    _, third = logged_in(corp)
    assert corp.write(lambda s: corp.sessions.close_all(s, user.principal)) == 1
    assert refused(corp, session=third) is Code.ADMIN_REQUIRED


def test_a_session_of_an_issuer_that_was_taken_out_is_refused(make: Make, corp: World) -> None:
    _, secret = logged_in(corp)
    corp.callers._issuers = make().issuers
    assert refused(corp, session=secret) is Code.CREDENTIAL_REVOKED


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (ORIGIN, True),
        (None, False),
        ("null", False),
        ("https://evil.example", False),
        (ORIGIN + "/", False),
        (ORIGIN + ":443", False),
        (ORIGIN.upper(), False),
        (ORIGIN.replace("https", "http"), False),
        (ORIGIN + ".evil.example", False),
    ],
)
def test_only_our_own_pages_change_something_in_a_session(corp: World, origin: str | None, allowed: bool) -> None:
    _, secret = logged_in(corp)
    assert recognise(corp, session=secret, origin=origin).method == "session"
    if allowed:
        assert recognise(corp, session=secret, origin=origin, unsafe=True).method == "session"
    else:
        assert refused(corp, session=secret, origin=origin, unsafe=True) is Code.FORBIDDEN


def test_a_bearer_is_judged_alone_even_beside_a_good_session(corp: World) -> None:
    _, secret = logged_in(corp)
    assert refused(corp, bearer="x" * 30, session=secret) is Code.ADMIN_REQUIRED


def test_a_session_is_noted_as_seen_at_most_once_a_minute(corp: World) -> None:
    _, secret = logged_in(corp)
    before = corp.control.version
    for _ in range(5):
        recognise(corp, session=secret)
        corp.clock.advance(10)
    assert corp.control.version == before
    corp.clock.advance(10)
    recognise(corp, session=secret)
    recognise(corp, session=secret)
    assert corp.control.version == before + 1


def test_a_credential_does_not_print(corp: World) -> None:
    assert "secret" not in f"{Credential(bearer='secret', session='secret')!r}"


READ: Callable[[str | None], str | None] = lambda header: read_cookie(header, "__Host-slb_session")  # noqa: E731


def test_cookies_are_as_strict_as_browsers_allow() -> None:
    assert set_cookie("__Host-slb_session", "v", secure=True, seconds=60) == (
        "__Host-slb_session=v; Path=/; Max-Age=60; HttpOnly; SameSite=Strict; Secure"
    )
    assert set_cookie("slb_login", "v", secure=False, seconds=0, lax=True) == (
        "slb_login=v; Path=/; Max-Age=0; HttpOnly; SameSite=Lax"
    )


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("__Host-slb_session=a", "a"),
        ("x=1; __Host-slb_session=a; y=2", "a"),
        ("__Host-slb_session=a; __Host-slb_session=b", None),
        ("__host-slb_session=a", None),
        ("x__Host-slb_session=a", None),
        ("__Host-slb_session", None),
        ("__Host-slb_session=a b", None),
        ('__Host-slb_session="a"', None),
        ("", None),
        (None, None),
    ],
)
def test_a_cookie_is_read_exactly_and_never_chosen_among_two(header: str | None, value: str | None) -> None:
    assert READ(header) == value
