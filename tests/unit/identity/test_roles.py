"""Roles: what each may, where a grant holds, and that none is ever given above the giver's."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.harness import ROOT
from tests.unit.identity.world import OWNER, World, actor, granted

from securellm.core.errors import Code, Refusal
from securellm.identity import HOST, PERMISSIONS, Actor, Grant, Permission, Role, eligible, missing_eyes, refuse_above

ROLES_PAGE = ROOT / "docs" / "how-to" / "roles.md"
EVERYONES = {Permission.SELF, Permission.SCHEMA_READ}
SCOPES: list[tuple[str | None, str | None]] = [(None, None), ("acme", None), ("acme", "web"), ("beta", None)]


@pytest.mark.requirement("ID-1")
def test_there_are_eight_roles_and_every_permission_is_somebodys() -> None:
    assert [role.value for role in Role] == [
        "owner",
        "admin",
        "security_officer",
        "finops",
        "developer",
        "approver",
        "auditor",
        "dpo",
    ]
    assert PERMISSIONS.keys() == set(Role)
    assert frozenset().union(*PERMISSIONS.values()) == PERMISSIONS[Role.OWNER] == frozenset(Permission)
    assert all(held >= EVERYONES for held in PERMISSIONS.values())


@pytest.mark.requirement("ID-1")
def test_those_who_watch_change_nothing() -> None:
    writing = {permission for permission in Permission if not permission.value.endswith((":read", ":use"))}
    assert not PERMISSIONS[Role.AUDITOR] & writing
    assert PERMISSIONS[Role.DPO] & writing == {Permission.PREFERENCES_WRITE}
    assert PERMISSIONS[Role.FINOPS] & writing == {Permission.BUDGETS_WRITE}
    assert PERMISSIONS[Role.DEVELOPER] & writing == {Permission.KEYS_WRITE}


@pytest.mark.requirement("ID-1")
def test_who_runs_the_installation_is_not_the_second_person_and_places_no_credential() -> None:
    missing = PERMISSIONS[Role.OWNER] - PERMISSIONS[Role.ADMIN]
    assert missing == {
        Permission.GRANTS_APPROVE,
        Permission.POLICIES_APPROVE,
        Permission.POLICIES_WRITE,
        Permission.PROVIDERS_PLACE,
    }
    assert Permission.GRANTS_WRITE not in PERMISSIONS[Role.SECURITY_OFFICER]


@pytest.mark.requirement("ID-1", "ID-4")
def test_a_grant_holds_in_its_scope_and_nowhere_else() -> None:
    held = {scope: actor(granted(Role.ADMIN, tenant=scope[0], project=scope[1])) for scope in SCOPES}
    may = {
        (holder, asked): held[holder].may(Permission.KEYS_WRITE, tenant=asked[0], project=asked[1])
        for holder, asked in product(SCOPES, SCOPES)
    }
    installation, acme, web, beta = SCOPES
    assert [pair for pair, allowed in may.items() if allowed] == [
        (installation, installation),
        (installation, acme),
        (installation, web),
        (installation, beta),
        (acme, acme),
        (acme, web),
        (web, web),
        (beta, beta),
    ]


@pytest.mark.requirement("ID-4")
def test_who_belongs_to_a_tenant_never_leaves_it_whatever_their_grants_say() -> None:
    strayed = actor(granted(Role.OWNER), granted(Role.OWNER, tenant="beta"), tenant="acme")
    assert strayed.may(Permission.KEYS_READ, tenant="acme")
    for elsewhere in (None, "beta"):
        assert not strayed.may(Permission.KEYS_READ, tenant=elsewhere)
        assert not strayed.sees(elsewhere)
    assert strayed.reach(Permission.KEYS_READ) == frozenset()


def test_a_tenant_is_seen_through_any_grant_that_reaches_it() -> None:
    developer = actor(granted(Role.DEVELOPER, tenant="acme", project="web"))
    assert developer.sees("acme")
    assert developer.sees("acme", project="web")
    assert not developer.sees("acme", project="other")
    assert not developer.sees("beta")
    assert not developer.sees(None)
    assert developer.reach(Permission.KEYS_READ) == frozenset()
    assert developer.projects(Permission.KEYS_READ, tenant="acme") == frozenset({"web"})
    assert developer.projects(Permission.AUDIT_READ, tenant="acme") == frozenset()
    assert OWNER.projects(Permission.KEYS_READ, tenant="acme") is None
    assert OWNER.reach(Permission.KEYS_READ) is None
    assert actor(granted(Role.AUDITOR, tenant="acme")).reach(Permission.AUDIT_READ) == frozenset({"acme"})


def test_everyone_proven_may_know_who_they_are_and_nothing_more() -> None:
    nobody = actor()
    assert {permission for permission in Permission if nobody.may(permission, tenant=None)} == EVERYONES
    assert not nobody.sees("acme")


@pytest.mark.requirement("ID-1")
@pytest.mark.parametrize("role", [role for role in Role if role is not Role.OWNER])
def test_cve_2026_47102_no_role_is_given_above_the_givers_own(role: Role) -> None:
    """CVE-2026-47102: a caller who could write users gave themselves a higher role."""
    for wanted in Role:
        grantor = actor(granted(role, tenant="acme"))
        fits = Permission.GRANTS_WRITE in PERMISSIONS[role] and PERMISSIONS[wanted] <= PERMISSIONS[role]
        if fits:
            refuse_above(grantor, wanted, tenant="acme")
        else:
            with pytest.raises(Refusal) as refused:
                refuse_above(grantor, wanted, tenant="acme")
            assert refused.value.code is Code.FORBIDDEN
        for wider in ("beta", None):
            with pytest.raises(Refusal):
                refuse_above(grantor, wanted, tenant=wider)


grants = st.builds(
    Grant,
    id=st.just("g"),
    principal=st.sampled_from(["user:a", "user:b", "service:c", "user:d"]),
    role=st.sampled_from(Role),
    tenant=st.shared(st.just("acme")) | st.none() | st.just("beta"),
    project=st.none() | st.just("web"),
    created_us=st.just(0),
    created_by=st.just("test"),
)


def powers(held: list[Grant]) -> set[tuple[Permission, str | None, str | None]]:
    return {
        (permission, *scope)
        for grant in held
        for scope in SCOPES
        for permission in PERMISSIONS[grant.role] - EVERYONES
        if grant.permits(permission, tenant=scope[0], project=scope[1])
    }


@pytest.mark.requirement("ID-1")
@given(first=st.lists(grants, max_size=4), tries=st.lists(st.tuples(st.sampled_from("abcd"), grants), max_size=12))
def test_no_sequence_of_grants_makes_a_permission_that_nobody_held(
    first: list[Grant], tries: list[tuple[str, Grant]]
) -> None:
    held = list(first)
    before = powers(held)
    for name, wanted in tries:
        grantor = f"service:{name}" if name == "c" else f"user:{name}"
        own = tuple(grant for grant in held if grant.principal == grantor)
        try:
            refuse_above(
                Actor(principal=grantor, tenant=None, grants=own, method="token"),
                wanted.role,
                tenant=wanted.tenant,
                project=wanted.project,
            )
        except Refusal:
            continue
        assert powers([wanted]) <= powers(list(own))
        held.append(wanted)
    assert powers(held) <= before


@pytest.mark.requirement("ID-1")
def test_only_different_people_make_four_eyes() -> None:
    assert missing_eyes("user:a", []) == 1
    assert missing_eyes("user:a", ["user:a"]) == 1
    assert missing_eyes("user:a", ["user:b"]) == 0
    assert missing_eyes("user:a", [HOST, "service:c"]) == 1
    assert missing_eyes(HOST, []) == 2
    assert missing_eyes(HOST, ["user:a"]) == 1
    assert missing_eyes(HOST, ["user:a", "user:b"]) == 0
    assert missing_eyes("service:c", ["service:d", "user:a", "user:a"]) == 1


@pytest.mark.requirement("ID-1")
def test_a_second_person_is_enabled_has_a_way_in_and_holds_the_permission_there(world: World) -> None:
    officer = world.person(Role.SECURITY_OFFICER, tenant="acme")
    world.person(Role.SECURITY_OFFICER, tenant="beta")
    world.person(Role.AUDITOR, tenant="acme")
    owner = world.person(Role.OWNER)
    gone = world.person(Role.OWNER)

    def disable() -> None:
        user = world.read(lambda s: world.directory.users.get(s, gone.principal.removeprefix("user:")))
        world.write(lambda s: world.directory.replace_user(s, OWNER, user, replace(user, disabled=True)))

    disable()
    assert world.read(lambda s: world.directory.eligible(s, Permission.POLICIES_APPROVE, tenant="acme")) == {
        officer.principal,
        owner.principal,
    }
    assert world.read(lambda s: world.directory.eligible(s, Permission.GRANTS_APPROVE, tenant=None)) == {
        owner.principal
    }
    world.clock.advance(91 * 86_400)
    assert not world.read(lambda s: world.directory.eligible(s, Permission.GRANTS_APPROVE, tenant=None)), (
        "whose only token has expired cannot come and approve"
    )
    service = granted(Role.OWNER, to="service:c")
    assert not eligible([service], Permission.GRANTS_APPROVE, tenant=None, active={"service:c"})


@pytest.mark.requirement("ID-1", "DC-1")
def test_the_page_about_roles_says_what_they_hold() -> None:
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in ROLES_PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
    ]
    names = [name.replace(" ", "_") for name in rows[0][1:]]
    assert names == [role.value for role in Role]
    said = {
        Role(name): {Permission(f"{row[0]}:{verb}") for row in rows[1:] for verb in row[column].split()}
        for column, name in enumerate(names, start=1)
    }
    assert {role: held | EVERYONES for role, held in said.items()} == PERMISSIONS
