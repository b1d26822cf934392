"""Projects, people, services and grants: kept, changed by revision, and out of reach of who holds less."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from tests.unit.identity.conftest import Make
from tests.unit.identity.world import ISSUER, OWNER, World, actor, granted, settings

from securellm.core.errors import Code, Refusal
from securellm.core.surfaces import Surface
from securellm.identity import Actor, Role, ServiceIdentity, ServiceTable, User, stored_services
from securellm.storage import OutOfScope, Session

Change = Callable[[Session], Any]


def refused(world: World, change: Change, *, tenant: str | None = None) -> Code:
    with pytest.raises(Refusal) as refusal:
        world.write(change, tenant=tenant)
    return refusal.value.code


def service(world: World, **changes: Any) -> ServiceIdentity:
    fields = {"tenant": "acme", "name": "batch", **changes}
    return world.write(lambda session: world.directory.create_service(session, **fields))


def replaced_user(by: Actor, user: User, **changes: Any) -> Callable[[World], Change]:
    after = replace(user, **changes)
    return lambda world: lambda session: world.directory.replace_user(session, by, user, after)


def replaced_service(by: Actor, found: ServiceIdentity, **changes: Any) -> Callable[[World], Change]:
    after = replace(found, **changes)
    return lambda world: lambda session: world.directory.replace_service(session, by, found, after)


@pytest.mark.requirement("ID-1")
def test_a_project_lives_within_its_tenant(world: World) -> None:
    directory = world.directory
    made = world.write(lambda s: directory.create_project(s, tenant="acme", id="web", name="Web"))
    world.write(lambda s: directory.create_project(s, tenant="beta", id="web"))
    assert refused(world, lambda s: directory.create_project(s, tenant="acme", id="web")) is Code.CONFLICT
    for bad in ("", "../x", "a b", "x" * 65, "é"):
        assert (
            refused(world, lambda s, bad=bad: directory.create_project(s, tenant="acme", id=bad))  # type: ignore[misc]
            is Code.INVALID_REQUEST
        )
    assert world.read(lambda s: directory.projects.page(s, tenant="acme")) == (made,)
    renamed = world.write(lambda s: directory.rename_project(s, made, "New"))
    assert (renamed.name, renamed.etag) == ("New", 2)
    assert refused(world, lambda s: directory.rename_project(s, made, "")) is Code.PRECONDITION_FAILED
    assert refused(world, lambda s: directory.delete_project(s, made)) is Code.PRECONDITION_FAILED
    world.write(lambda s: directory.delete_project(s, renamed))
    assert refused(world, lambda s: directory.delete_project(s, renamed)) is Code.PRECONDITION_FAILED, "it is gone"
    assert refused(world, lambda s: directory.projects.get(s, "web", tenant="acme")) is Code.NOT_FOUND
    assert world.read(lambda s: directory.projects.get(s, "web", tenant="beta")).name == ""


def test_a_project_somebody_is_bound_to_stays(world: World) -> None:
    directory = world.directory
    web = world.write(lambda s: directory.create_project(s, tenant="acme", id="web"))
    bound = service(world, project="web")
    assert refused(world, lambda s: directory.delete_project(s, web)) is Code.CONFLICT
    world.write(lambda s: directory.delete_service(s, OWNER, bound))
    other = service(world)
    grant = world.write(
        lambda s: directory.add_grant(
            s, OWNER, principal=other.principal, role=Role.DEVELOPER, tenant="acme", project="web"
        )
    )
    assert refused(world, lambda s: directory.delete_project(s, web)) is Code.CONFLICT
    world.write(lambda s: directory.drop_grant(s, OWNER, grant))
    world.write(lambda s: directory.delete_project(s, web))
    assert refused(world, lambda s: directory.create_service(s, tenant="acme", project="web")) is Code.NOT_FOUND


@pytest.mark.requirement("ID-4")
def test_people_services_and_grants_of_another_tenant_do_not_exist(world: World) -> None:
    directory = world.directory
    ana = world.person(Role.AUDITOR, tenant="beta", home="beta")
    theirs = service(world, tenant="beta")
    grant = world.read(lambda s: directory.grants_of(s, ana.principal))[0]
    user_id = ana.principal.removeprefix("user:")
    user = world.read(lambda s: directory.users.get(s, user_id))
    for ask in (
        lambda s: directory.users.get(s, user_id),
        lambda s: directory.services.get(s, theirs.id),
        lambda s: directory.grants.get(s, grant.id),
        lambda s: directory.add_grant(s, OWNER, principal=ana.principal, role=Role.AUDITOR, tenant="acme"),
    ):
        assert refused(world, ask, tenant="acme") is Code.NOT_FOUND
    for change in (
        lambda s: directory.drop_grant(s, OWNER, grant),
        lambda s: directory.delete_user(s, OWNER, user),
        lambda s: directory.delete_service(s, OWNER, theirs),
    ):
        assert refused(world, change, tenant="acme") is Code.PRECONDITION_FAILED, "no such row, whoever hands it over"
    for change in (replaced_user(OWNER, user, name="x")(world), replaced_service(OWNER, theirs, name="x")(world)):
        with pytest.raises(OutOfScope):
            world.write(change, tenant="acme")
    for lists in (directory.users.page, directory.services.page, directory.grants.page):
        assert world.read(lambda s, lists=lists: lists(s), tenant="acme") == ()  # type: ignore[misc]
        assert world.read(lambda s, lists=lists: lists(s, tenant="acme")) == ()  # type: ignore[misc]
        assert len(world.read(lambda s, lists=lists: lists(s), tenant="beta")) == 1  # type: ignore[misc]
    assert refused(world, lambda s: directory.users.get(s, user_id, tenant="")) is Code.NOT_FOUND


@pytest.mark.requirement("ID-1")
def test_a_grant_is_given_once_within_reach_and_never_above_the_giver(world: World) -> None:
    directory = world.directory
    admin = world.person(Role.ADMIN, tenant="acme")
    held = service(world)

    def add(role: Role, by: Actor = admin, **scope: Any) -> Change:
        place = {"tenant": "acme", **scope}
        return lambda s: directory.add_grant(s, by, principal=held.principal, role=role, **place)

    given = world.write(add(Role.DEVELOPER))
    assert given.created_by == admin.principal
    assert refused(world, add(Role.DEVELOPER)) is Code.CONFLICT
    assert refused(world, add(Role.OWNER)) is Code.FORBIDDEN
    assert refused(world, add(Role.SECURITY_OFFICER)) is Code.FORBIDDEN
    assert refused(world, add(Role.DEVELOPER, project="unknown")) is Code.NOT_FOUND
    assert refused(world, add(Role.DEVELOPER, by=OWNER, tenant="beta")) is Code.FORBIDDEN, "the service is acme's"
    assert refused(world, add(Role.DEVELOPER, by=OWNER, tenant=None)) is Code.FORBIDDEN
    unknown = lambda s: directory.add_grant(s, OWNER, principal="service:host", role=Role.OWNER, tenant=None)  # noqa: E731
    assert refused(world, unknown) is Code.NOT_FOUND
    owners = world.person(Role.OWNER, tenant="acme")
    top = world.read(lambda s: directory.grants_of(s, owners.principal))[0]
    assert refused(world, lambda s: directory.drop_grant(s, admin, top)) is Code.FORBIDDEN
    world.write(lambda s: directory.drop_grant(s, admin, given))
    assert world.read(lambda s: directory.grants_of(s, held.principal)) == ()


@pytest.mark.requirement("ID-1")
def test_a_role_is_given_only_to_a_person_who_has_come_in(world: World) -> None:
    user = world.write(lambda s: world.directory.create_user(s, tenant=None, name="Ana"))
    add: Change = lambda s: world.directory.add_grant(  # noqa: E731
        s, OWNER, principal=user.principal, role=Role.AUDITOR, tenant=None
    )
    assert refused(world, add) is Code.CONFLICT
    world.write(lambda s: world.tokens.accept(s, world.tokens.invite(s, user.id)))
    world.write(add)


@pytest.mark.requirement("ID-1")
def test_nobody_is_shut_out_or_deleted_by_who_holds_less(world: World) -> None:
    owner = world.person(Role.OWNER, tenant="acme")
    admin = world.person(Role.ADMIN, tenant="acme")
    user = world.read(lambda s: world.directory.users.get(s, owner.principal.removeprefix("user:")))
    assert refused(world, replaced_user(admin, user, disabled=True)(world)) is Code.FORBIDDEN
    assert refused(world, lambda s: world.directory.delete_user(s, admin, user)) is Code.FORBIDDEN
    named = world.write(replaced_user(admin, user, name="Ana Maria")(world))
    assert (named.name, named.etag) == ("Ana Maria", 2)
    world.write(lambda s: world.directory.delete_user(s, OWNER, named))
    assert world.read(lambda s: world.directory.grants_of(s, user.principal)) == ()
    assert world.read(lambda s: world.tokens.page(s, user.principal)) == ()


@pytest.mark.requirement("ID-3", "ID-4")
def test_a_tenant_links_its_own_issuers_subjects_only(make: Make) -> None:
    theirs = "https://login.acme.example"
    world = make(settings(), settings(id="acme", issuer=theirs, tenant="acme"))
    admin = world.person(Role.ADMIN, tenant="acme")

    def linked(issuer: str | None, subject: str | None, tenant: str = "acme", by: Actor = admin) -> Change:
        return lambda s: world.directory.create_service(s, tenant=tenant, issuer=issuer, subject=subject, by=by)

    assert refused(world, linked(ISSUER, "worker")) is Code.FORBIDDEN, "this issuer vouches for everyone"
    assert refused(world, linked(theirs, "worker", tenant="beta", by=OWNER)) is Code.INVALID_REQUEST
    assert refused(world, linked("https://elsewhere.example", "worker", by=OWNER)) is Code.INVALID_REQUEST
    for issuer, subject in [(theirs, None), (None, "worker"), (theirs, ""), (theirs, "a\0b"), (theirs, "é")]:
        assert refused(world, linked(issuer, subject)) is Code.INVALID_REQUEST
    made = world.write(linked(theirs, "worker"))
    assert refused(world, linked(theirs, "worker")) is Code.CONFLICT
    person: Change = lambda s: world.directory.create_user(  # noqa: E731
        s, tenant="acme", issuer=theirs, subject="worker", by=admin
    )
    assert refused(world, person) is Code.CONFLICT, "a subject is one principal, person or program"
    assert world.read(lambda s: world.directory.service_of(s, theirs, "worker")) == made
    world.write(linked(ISSUER, "worker", by=OWNER))


@pytest.mark.requirement("ID-1")
def test_how_a_powerful_principal_signs_in_is_not_for_the_less_powerful_to_say(make: Make) -> None:
    world = make(settings(tenant="acme"))
    admin = world.person(Role.ADMIN, tenant="acme")
    robot = service(world)
    world.write(
        lambda s: world.directory.add_grant(s, OWNER, principal=robot.principal, role=Role.OWNER, tenant="acme")
    )
    for changes in ({"issuer": ISSUER, "subject": "mine"}, {"disabled": True}):
        assert refused(world, replaced_service(admin, robot, **changes)(world)) is Code.FORBIDDEN
    assert refused(world, lambda s: world.directory.delete_service(s, admin, robot)) is Code.FORBIDDEN
    named = world.write(replaced_service(admin, robot, name="robot", models=("*",))(world))
    world.write(replaced_service(OWNER, named, issuer=ISSUER, subject="robot")(world))

    person = world.person(Role.AUDITOR, tenant="acme", home="acme")
    user = world.read(lambda s: world.directory.users.get(s, person.principal.removeprefix("user:")))
    moved = replaced_user(OWNER, user, issuer=ISSUER, subject="somebody")(world)
    assert refused(world, moved) is Code.CONFLICT, "else whoever links it becomes the second person"


@pytest.mark.requirement("ID-3")
def test_a_login_is_given_once_and_never_exchanged_or_taken_away(make: Make) -> None:
    """Else one human logs in again as a person unknown so far, and is the second of two."""
    world = make(settings())
    user = world.write(lambda s: world.directory.create_user(s, tenant=None, name="Ana"))
    linked = world.write(replaced_user(OWNER, user, issuer=ISSUER, subject="ana")(world))
    for changes in ({"issuer": None, "subject": None}, {"subject": "another"}, {"issuer": "https://elsewhere.example"}):
        assert refused(world, replaced_user(OWNER, linked, **changes)(world)) is Code.CONFLICT
    assert world.write(replaced_user(OWNER, linked, name="Ana Maria")(world)).subject == "ana"


@pytest.mark.requirement("ID-3")
def test_services_that_call_models_are_found_by_who_vouches_for_them(make: Make) -> None:
    world = make(settings())
    made = service(
        world,
        issuer=ISSUER,
        subject="worker",
        models=["gpt"],
        surfaces=[Surface.CHAT],
        ip_ranges=["10.0.0.0/8"],
        by=OWNER,
    )
    service(world, name="without a link")
    service(world, tenant=None, issuer=ISSUER, subject="the installation's own", by=OWNER)
    table = ServiceTable.of(world.read(stored_services))
    assert table.by_subject == {(ISSUER, "worker"): made}
    assert table.find(ISSUER, "worker") == made
    assert table.find(ISSUER, "WORKER") is None
    assert (made.models, made.surfaces) == (("gpt",), (Surface.CHAT,))


def test_every_change_is_noted_for_those_who_follow(world: World) -> None:
    before = world.control.version
    made = service(world)
    world.write(
        lambda s: world.directory.add_grant(s, OWNER, principal=made.principal, role=Role.AUDITOR, tenant="acme")
    )
    world.write(lambda s: world.directory.delete_service(s, OWNER, made))
    changes = world.control.changes(before)
    assert changes.complete
    assert [(change.kind, change.tenant) for change in changes.items] == [
        ("service", "acme"),
        ("grant", "acme"),
        ("grant", "acme"),
        ("service", "acme"),
    ]


HOSTILE = ["' OR '1'='1", "x'; DROP TABLE users; --", "%", "_", '"', "\\", "user:%", "service:' OR 1=1 --"]


@pytest.mark.requirement("ID-4")
@pytest.mark.parametrize("text", HOSTILE)
def test_cve_2026_42208_no_text_reaches_sql_as_sql(world: World, text: str) -> None:
    """CVE-2026-42208: a credential was pasted into the query that looked it up."""
    world.person(Role.OWNER)
    directory = world.directory
    for ask in (directory.users.get, directory.services.get, directory.grants.get):
        assert refused(world, lambda s, ask=ask: ask(s, text)) is Code.NOT_FOUND  # type: ignore[misc]
    for kind in ("user:", "service:", ""):
        assert refused(world, lambda s, kind=kind: directory.holder(s, kind + text)) is Code.NOT_FOUND  # type: ignore[misc]
    assert world.read(lambda s: directory.user_of(s, text, text)) is None
    assert world.read(lambda s: directory.grants_of(s, text)) == ()
    assert world.read(lambda s: directory.users.page(s, tenant=text)) == ()
    assert len(world.read(lambda s: directory.users.page(s, after=""))) == 1
    assert actor(granted(Role.OWNER, tenant="acme")).sees(text) is False
