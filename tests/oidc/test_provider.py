"""People log in and services are recognised through a real, certified OpenID provider."""

from pathlib import Path

import pytest
from tests.oidc.provider import API, Browser, free_port, provider, services_token
from tests.oidc.site import Site

from securellm.core.errors import Code, Fault, Refusal
from securellm.core.surfaces import Surface
from securellm.identity import KeyTable, Permission, ServiceTable, stored_services


@pytest.mark.requirement("ID-3")
def test_a_person_logs_in_with_the_role_of_their_group(site: Site, issuer: str) -> None:
    begun = site.run(site.login.begin("corp", return_to="/console/audit"))
    back = Browser(issuer).log_in(begun.location, "ana")
    proven = site.finish(back, begun.cookie)
    assert (proven.subject, proven.name, proven.email) == ("ana", "Ana Silva", "ana@example.com")
    assert (proven.groups, proven.return_to) == (("auditors",), "/console/audit")
    entered = site.enter(proven)
    assert entered.made
    actor = site.recognise(session=entered.secret)
    assert actor.principal == entered.user.principal
    assert actor.may(Permission.AUDIT_READ, tenant="acme")
    assert not actor.may(Permission.KEYS_WRITE, tenant="acme")
    with pytest.raises(Refusal) as refusal:
        site.finish(back, begun.cookie)
    assert refusal.value.reason == "this login was finished already"


@pytest.mark.requirement("ID-3")
def test_a_public_client_logs_people_in_without_a_secret(tmp_path: Path, issuer: str) -> None:
    with Site(tmp_path, issuer, client="open") as site:
        begun = site.run(site.login.begin("corp"))
        assert site.finish(Browser(issuer).log_in(begun.location, "ana"), begun.cookie).subject == "ana"


@pytest.mark.requirement("ID-3")
def test_a_person_in_no_mapped_group_is_proven_and_not_let_in(site: Site, issuer: str) -> None:
    begun = site.run(site.login.begin("corp"))
    proven = site.finish(Browser(issuer).log_in(begun.location, "bia"), begun.cookie)
    with pytest.raises(Refusal) as refusal:
        site.enter(proven)
    assert refusal.value.code is Code.FORBIDDEN


@pytest.mark.requirement("ID-3")
def test_who_turns_back_at_the_provider_is_not_logged_in(site: Site, issuer: str) -> None:
    begun = site.run(site.login.begin("corp"))
    with pytest.raises(Refusal) as refusal:
        site.finish(Browser(issuer).deny(begun.location), begun.cookie)
    assert refusal.value.reason == "the issuer did not log them in: access_denied"


@pytest.mark.requirement("ID-3")
def test_a_code_is_worth_nothing_to_another_login(site: Site, issuer: str) -> None:
    victim, thief = site.run(site.login.begin("corp")), site.run(site.login.begin("corp"))
    back = Browser(issuer).log_in(victim.location, "ana")
    with pytest.raises(Refusal) as refusal:
        site.finish(back, thief.cookie)
    assert refusal.value.reason == "the answer belongs to another login"
    # Even with the thief's own state, the provider asks for the victim's verifier.
    code = back.partition("code=")[2].partition("&")[0]
    own = Browser(issuer).log_in(thief.location, "ana")
    swapped = own.replace(own.partition("code=")[2].partition("&")[0], code)
    with pytest.raises(Refusal) as refusal:
        site.finish(swapped, thief.cookie)
    assert refusal.value.reason == "the issuer did not take the code"


@pytest.mark.requirement("ID-3", "ZT-2")
def test_a_service_calls_with_the_token_it_got_for_its_own_credentials(site: Site, issuer: str) -> None:
    service = site.control.write(
        lambda session: site.directory.create_service(
            session, tenant="acme", issuer=issuer, subject="worker", models=["gpt"]
        )
    )
    token = services_token(issuer)
    assert site.recognise(bearer=token).principal == service.principal
    services = ServiceTable.of(site.control.read(stored_services))
    identity = site.run(
        site.identities.identify(KeyTable.of([]), token, surface=Surface.CHAT, client_ip="", services=services)
    )
    assert (identity.tenant, identity.principal, identity.models) == ("acme", service.principal, ("gpt",))
    with pytest.raises(Refusal) as refusal:
        site.recognise(bearer=services_token(issuer, resource=f"{API}/other"))
    assert refusal.value.reason == "the token is for another audience"


@pytest.mark.requirement("ID-3")
def test_rotated_keys_are_found_and_an_outage_is_lived_through_until_they_are_too_old(tmp_path: Path) -> None:
    port = free_port()
    with Site(tmp_path, f"http://127.0.0.1:{port}") as site:
        issuer = site.settings.issuer
        site.control.write(
            lambda session: site.directory.create_service(session, tenant="acme", issuer=issuer, subject="worker")
        )
        with provider(port, key="first"):
            former = services_token(issuer)
            assert site.recognise(bearer=former).method == "jwt"
        with provider(port, key="second"):
            site.clock.ahead += 31
            rotated = services_token(issuer)
            assert site.recognise(bearer=rotated).method == "jwt"
        with pytest.raises(Refusal):
            site.recognise(bearer=former)
        site.clock.ahead += 700
        assert site.recognise(bearer=rotated).method == "jwt"
        site.clock.ahead += 86_400
        with pytest.raises(Fault) as fault:
            site.recognise(bearer=rotated)
        assert fault.value.code is Code.ISSUER_UNAVAILABLE
