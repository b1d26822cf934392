"""Access tokens, invitations and the set-up token: shown once, used as often as they may be, ended for good."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from tests.unit.identity.test_directory import HOSTILE
from tests.unit.identity.world import OWNER, World, actor, granted

from securellm.core.errors import Code, Refusal
from securellm.identity import HOST, Actor, IssuedToken, Role
from securellm.storage import Session

DAY_US = 86_400_000_000


def refused(world: World, change: Callable[[Session], Any], *, tenant: str | None = None) -> Code:
    with pytest.raises(Refusal) as refusal:
        world.write(change, tenant=tenant)
    return refusal.value.code


def issue(world: World, by: Actor, **changes: Any) -> IssuedToken:
    fields = {"principal": by.principal, **changes}
    return world.write(lambda s: world.tokens.issue(s, by, **fields))


@pytest.mark.requirement("ID-1")
def test_an_access_token_is_shown_once_and_kept_as_a_keyed_digest(world: World) -> None:
    ana = world.person()
    issued = issue(world, ana, name="laptop")
    assert issued.secret.startswith("sla_")
    assert issued.secret not in repr(issued)
    assert world.read(lambda s: world.tokens.recognise(s, issued.secret)) == issued.token
    assert issued.token.prefix == issued.secret[:12]
    kept = world.read(lambda s: world.tokens.page(s, ana.principal))
    assert issued.token in kept
    assert issued.secret.encode() not in repr(kept).encode()


def test_an_access_token_ends_at_its_moment_and_when_it_is_revoked(world: World) -> None:
    ana = world.person()
    short = issue(world, ana, expires_us=world.clock.us + 1)
    other = issue(world, ana)
    world.clock.advance_us(1)
    assert refused(world, lambda s: world.tokens.recognise(s, short.secret)) is Code.CREDENTIAL_EXPIRED
    revoked = world.write(lambda s: world.tokens.revoke(s, other.token.id))
    world.clock.advance(1)
    assert world.write(lambda s: world.tokens.revoke(s, other.token.id)) == revoked
    assert refused(world, lambda s: world.tokens.recognise(s, other.secret)) is Code.CREDENTIAL_REVOKED


@pytest.mark.parametrize("life", [0, -1, 366 * DAY_US + 1])
def test_an_access_token_lives_a_bounded_time(world: World, life: int) -> None:
    ana = world.person()
    ends_us = world.clock.us + life
    issuing = lambda s: world.tokens.issue(s, ana, principal=ana.principal, expires_us=ends_us)  # noqa: E731
    assert refused(world, issuing) is Code.INVALID_REQUEST


@pytest.mark.requirement("ID-1")
def test_nobody_is_issued_another_persons_token(world: World) -> None:
    ana = world.person(Role.AUDITOR, tenant="acme")
    assert refused(world, lambda s: world.tokens.issue(s, OWNER, principal=ana.principal)) is Code.FORBIDDEN
    assert refused(world, lambda s: world.tokens.issue(s, OWNER, principal=HOST)) is Code.NOT_FOUND


@pytest.mark.requirement("ID-1", "ZT-2")
def test_a_services_token_is_issued_only_by_who_holds_all_that_it_holds(world: World) -> None:
    robot = world.write(lambda s: world.directory.create_service(s, tenant="acme"))
    admin = world.person(Role.ADMIN, tenant="acme")
    stranger = world.person(Role.ADMIN, tenant="beta")
    auditor = world.person(Role.AUDITOR, tenant="acme")
    assert issue(world, admin, principal=robot.principal).token.tenant == "acme"
    for other in (stranger, auditor):
        issuing = lambda s, by=other: world.tokens.issue(s, by, principal=robot.principal)  # noqa: E731
        assert refused(world, issuing) is Code.FORBIDDEN
    world.write(
        lambda s: world.directory.add_grant(s, OWNER, principal=robot.principal, role=Role.OWNER, tenant="acme")
    )
    assert refused(world, lambda s: world.tokens.issue(s, admin, principal=robot.principal)) is Code.FORBIDDEN
    issue(world, OWNER, principal=robot.principal)


@pytest.mark.requirement("ID-4")
def test_a_tenant_neither_lists_nor_revokes_anothers_tokens(world: World) -> None:
    theirs = world.person(home="beta")
    token = world.read(lambda s: world.tokens.page(s, theirs.principal))[0]
    assert world.read(lambda s: world.tokens.page(s, theirs.principal), tenant="acme") == ()
    assert refused(world, lambda s: world.tokens.revoke(s, token.id), tenant="acme") is Code.NOT_FOUND
    assert refused(world, lambda s: world.tokens.get(s, token.id), tenant="acme") is Code.NOT_FOUND


def test_an_invitation_is_used_once_and_in_time(world: World) -> None:
    user = world.write(lambda s: world.directory.create_user(s, tenant="acme", name="Ana"))
    former = world.write(lambda s: world.tokens.invite(s, user.id))
    secret = world.write(lambda s: world.tokens.invite(s, user.id))
    assert refused(world, lambda s: world.tokens.accept(s, former)) is Code.ADMIN_REQUIRED
    came, issued = world.write(lambda s: world.tokens.accept(s, secret))
    assert came == user
    assert world.read(lambda s: world.tokens.recognise(s, issued.secret)).principal == user.principal
    assert refused(world, lambda s: world.tokens.accept(s, secret)) is Code.ADMIN_REQUIRED
    late = world.write(lambda s: world.directory.create_user(s, tenant="acme"))
    secret = world.write(lambda s: world.tokens.invite(s, late.id))
    world.clock.advance(3 * 86_400)
    assert refused(world, lambda s: world.tokens.accept(s, secret)) is Code.CREDENTIAL_EXPIRED


@pytest.mark.requirement("ID-1")
def test_nobody_is_invited_into_the_place_of_a_person_who_already_counts(world: World) -> None:
    ana = world.person()
    user_id = ana.principal.removeprefix("user:")
    assert refused(world, lambda s: world.tokens.invite(s, user_id)) is Code.CONFLICT
    user = world.write(lambda s: world.directory.create_user(s, tenant=None))
    secret = world.write(lambda s: world.tokens.invite(s, user.id))
    world.write(lambda s: world.directory.replace_user(s, OWNER, user, replace(user, disabled=True)))
    assert refused(world, lambda s: world.tokens.accept(s, secret)) is Code.CONFLICT


@pytest.mark.requirement("ID-1")
def test_the_set_up_token_makes_the_first_owner_and_nobody_else(world: World) -> None:
    former = world.write(world.tokens.offer_setup)
    secret = world.write(world.tokens.offer_setup)
    assert former is not None
    assert secret is not None
    assert refused(world, lambda s: world.tokens.redeem_setup(s, former, name="", email="")) is Code.ADMIN_REQUIRED
    user, grant, issued = world.write(
        lambda s: world.tokens.redeem_setup(s, secret, name="Ana", email="ana@example.com")
    )
    assert (user.name, grant.principal, grant.role, grant.tenant) == ("Ana", user.principal, Role.OWNER, None)
    assert world.read(lambda s: world.tokens.recognise(s, issued.secret)).principal == user.principal
    assert refused(world, lambda s: world.tokens.redeem_setup(s, secret, name="", email="")) is Code.ADMIN_REQUIRED
    assert world.write(world.tokens.offer_setup) is None


def test_the_set_up_token_lives_a_day_and_ends_with_the_first_person(world: World) -> None:
    secret = world.write(world.tokens.offer_setup) or ""
    world.clock.advance(86_400)
    redeem = lambda s: world.tokens.redeem_setup(s, secret, name="", email="")  # noqa: E731
    assert refused(world, redeem) is Code.CREDENTIAL_EXPIRED
    secret = world.write(world.tokens.offer_setup) or ""
    world.write(lambda s: world.directory.create_user(s, tenant=None))
    assert refused(world, redeem) is Code.CONFLICT


@pytest.mark.requirement("ID-1")
def test_of_many_who_redeem_the_set_up_token_at_once_one_does(world: World) -> None:
    secret = world.write(world.tokens.offer_setup) or ""
    outcomes: list[str] = []
    start = threading.Barrier(6)

    def redeem() -> None:
        start.wait(10)
        try:
            world.write(lambda s: world.tokens.redeem_setup(s, secret, name="", email=""))
            outcomes.append("owner")
        except Refusal as refusal:
            outcomes.append(refusal.code.value)

    threads = [threading.Thread(target=redeem) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(outcomes) == ["admin_required"] * 5 + ["owner"]
    assert len(world.read(world.directory.users.page)) == 1


def test_one_time_secrets_serve_their_own_purpose_only(world: World) -> None:
    setup = world.write(world.tokens.offer_setup) or ""
    user = world.write(lambda s: world.directory.create_user(s, tenant=None))
    invitation = world.write(lambda s: world.tokens.invite(s, user.id))
    assert refused(world, lambda s: world.tokens.accept(s, setup)) is Code.ADMIN_REQUIRED
    assert refused(world, lambda s: world.tokens.redeem_setup(s, invitation, name="", email="")) is Code.ADMIN_REQUIRED
    for secret in (setup, invitation):
        assert refused(world, lambda s, secret=secret: world.tokens.recognise(s, secret)) is Code.ADMIN_REQUIRED  # type: ignore[misc]


@pytest.mark.requirement("ID-4")
@pytest.mark.parametrize("text", [*HOSTILE, "", "sla_", "\u0000" * 20, "sla_" + "'" * 60, "é" * 20, "\ud800" * 10])
def test_cve_2026_42208_a_hostile_credential_is_no_credential(world: World, text: str) -> None:
    """CVE-2026-42208: a credential was pasted into the query that looked it up."""
    world.person(Role.OWNER)
    world.write(world.tokens.offer_setup)
    for ask in (
        lambda s: world.tokens.recognise(s, text),
        lambda s: world.tokens.accept(s, text),
        lambda s: world.tokens.redeem_setup(s, text, name="", email=""),
        lambda s: world.sessions.recognise(s, text),
    ):
        assert refused(world, ask) is Code.ADMIN_REQUIRED
    assert world.write(lambda s: world.sessions.close(s, text)) is False


def test_what_an_actor_holds_by_a_group_does_not_outlive_the_login_in_a_token(world: World) -> None:
    ana = world.person()
    mapped = actor(granted(Role.OWNER), principal=ana.principal)
    issued = issue(world, mapped)
    assert world.actor(issued.token.principal).grants == ()
