"""Logging in: every answer that is not exactly the one that was asked for lets nobody in."""

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.unit.identity.conftest import Make
from tests.unit.identity.world import (
    AUDIENCE,
    EC,
    ISSUER,
    OTHER_RSA,
    OWNER,
    RSA,
    World,
    b64,
    claims,
    run,
    settings,
    sign,
)

from securellm.core.errors import Code, Fault, Refusal
from securellm.identity import Credential, Permission, Proven, Role
from securellm.identity.jwt import TokenRefused
from securellm.identity.oidc import _answer, challenge_of, check_id_token
from securellm.identity.settings import LoginSettings, RoleMapping

REDIRECT = "https://console.example.com/admin/v1/login/callback"
CLIENT = LoginSettings(client_id="bridge", redirect_uri=REDIRECT)
ROLES = (RoleMapping(group="auditors", role=Role.AUDITOR),)


class Browser:
    """A login in one browser: what it was sent to the issuer with, and the cookie it holds."""

    def __init__(self, world: World, *, return_to: str = "/console/keys") -> None:
        self.world = world
        begun = run(world.login.begin("corp", return_to=return_to))
        self.location = begun.location
        self.cookie: str | None = begun.cookie
        self.asked = {name: values[0] for name, values in parse_qs(urlsplit(begun.location).query).items()}

    def issue(self, key: Any = RSA, **changes: Any) -> str:
        told = {"aud": "bridge", "sub": "ana", "nonce": self.asked["nonce"], "groups": ["auditors"], **changes}
        return sign(claims(self.world.clock.us, **told), key)

    def answers(self, **tokens: Any) -> None:
        """What the issuer gives for the code."""
        whole = {"token_type": "Bearer", "access_token": "opaque", "id_token": self.issue(), **tokens}
        body = {name: value for name, value in whole.items() if value is not None}
        self.world.network.documents[f"{ISSUER}/token"] = json.dumps(body).encode()

    def query(self, **changes: Any) -> str:
        told = {"code": "the-code", "state": self.asked["state"], "iss": ISSUER, **changes}
        return urlencode({name: value for name, value in told.items() if value is not None})

    def finish(self, query: str | None = None) -> Proven:
        proven: Proven = run(self.world.login.finish(self.query() if query is None else query, self.cookie))
        return proven

    def refused(self, query: str | None = None) -> str:
        with pytest.raises(Refusal) as refusal:
            self.finish(query)
        assert refusal.value.code is Code.ADMIN_REQUIRED
        return refusal.value.reason


@pytest.fixture
def corp(make: Make) -> World:
    return make(settings(login=CLIENT, roles=ROLES))


@pytest.fixture
def browser(corp: World) -> Browser:
    begun = Browser(corp)
    begun.answers()
    return begun


@pytest.mark.requirement("ID-3")
def test_a_login_asks_for_a_code_under_pkce_with_state_and_nonce(browser: Browser) -> None:
    assert browser.location.startswith(f"{ISSUER}/auth?")
    assert {name: browser.asked[name] for name in ("response_type", "client_id", "redirect_uri", "scope")} == {
        "response_type": "code",
        "client_id": "bridge",
        "redirect_uri": REDIRECT,
        "scope": "openid profile email",
    }
    assert browser.asked["code_challenge_method"] == "S256"
    assert len({browser.asked[name] for name in ("state", "nonce", "code_challenge")}) == 3
    other = Browser(browser.world)
    assert not set(other.asked.values()) & {browser.asked[name] for name in ("state", "nonce", "code_challenge")}


@pytest.mark.requirement("ID-3")
def test_a_finished_login_lets_the_person_in_with_the_roles_of_their_groups(corp: World, browser: Browser) -> None:
    browser.answers(id_token=browser.issue(name="Ana \u202eSilva\n", email="ana@example.com", groups=["auditors", "x"]))
    proven = browser.finish()
    assert (proven.subject, proven.name, proven.groups, proven.return_to) == (
        "ana",
        "Ana Silva",
        ("auditors",),
        "/console/keys",
    )
    form, authorization = corp.network.forms[0]
    assert challenge_of(form["code_verifier"]) == browser.asked["code_challenge"]
    assert (form["code"], form["redirect_uri"], form["grant_type"]) == ("the-code", REDIRECT, "authorization_code")
    assert authorization == f"Basic {base64.b64encode(b'bridge:client+secret').decode()}"
    entered = corp.write(lambda s: corp.login.enter(s, proven))
    assert entered.made
    assert entered.secret not in repr(entered)
    actor = run(corp.callers.recognise(Credential(session=entered.secret), client_ip=""))
    assert (actor.principal, actor.method) == (entered.user.principal, "session")
    assert actor.may(Permission.AUDIT_READ, tenant="acme")
    assert not actor.may(Permission.KEYS_WRITE, tenant="acme")


@pytest.mark.requirement("ID-3")
def test_every_login_makes_a_session_of_its_own_for_the_same_person(corp: World) -> None:
    entered = []
    for _ in range(2):
        browser = Browser(corp)
        browser.answers()
        proven = browser.finish()
        entered.append(corp.write(lambda s, proven=proven: corp.login.enter(s, proven)))  # type: ignore[misc]
    first, second = entered
    assert first.user == second.user
    assert (first.made, second.made) == (True, False)
    assert first.secret != second.secret


@pytest.mark.requirement("ID-3")
def test_a_login_is_finished_once_and_by_its_own_browser(corp: World, browser: Browser) -> None:
    other = Browser(corp)
    other.answers()
    query = browser.query()
    assert other.refused(query) == "the answer belongs to another login"
    browser.cookie, kept = None, browser.cookie
    assert browser.refused() == "no login was begun in this browser"
    browser.cookie = kept
    browser.answers()
    browser.finish()
    assert browser.refused() == "this login was finished already"
    assert len(corp.network.forms) == 1


@pytest.mark.requirement("ID-3")
def test_a_failed_answer_uses_the_login_up(browser: Browser) -> None:
    assert browser.refused(browser.query(error="access_denied")) == "the issuer did not log them in: access_denied"
    assert browser.refused() == "this login was finished already"


def test_what_the_issuer_says_went_wrong_is_not_repeated_as_it_is(browser: Browser) -> None:
    assert browser.refused(browser.query(error="<script>")) == "the issuer did not log them in: an error"


@pytest.mark.requirement("ID-3")
def test_a_login_takes_ten_minutes_at_most(corp: World, browser: Browser) -> None:
    corp.clock.advance(600)
    assert browser.refused() == "the login took too long"


@pytest.mark.requirement("ID-3")
@pytest.mark.parametrize("change", ["state", "cookie", "seal", "empty", "moved"])
def test_a_changed_cookie_or_state_is_nobodys_login(browser: Browser, change: str) -> None:
    content, _, seal = (browser.cookie or "").partition(".")
    told = json.loads(base64.urlsafe_b64decode(content + "=" * (-len(content) % 4)))
    match change:
        case "state":
            assert browser.refused(browser.query(state="x")) == "the answer belongs to another login"
            assert browser.refused(browser.query(state=None)) == "the answer belongs to another login"
            return
        case "cookie":
            told["return_to"] = "//evil.example"
            browser.cookie = f"{b64(json.dumps(told).encode())}.{seal}"
        case "seal":
            browser.cookie = f"{content}.{seal[:-1]}"
        case "empty":
            browser.cookie = "."
        case "moved":
            told["begun_us"] += 1
            browser.cookie = f"{b64(json.dumps(told, separators=(',', ':')).encode())}.{seal}"
    assert browser.refused() == "no login was begun in this browser"


@pytest.mark.requirement("ID-3")
@pytest.mark.parametrize("issuer", ["https://evil.example", ISSUER + "/", "", None])
def test_an_answer_of_another_issuer_is_refused(browser: Browser, issuer: str | None) -> None:
    """RFC 9207: mix-up attacks; this issuer says that it names itself in each answer."""
    assert browser.refused(browser.query(iss=issuer)) == "the answer is another issuer's"


@pytest.mark.requirement("ID-3")
@pytest.mark.parametrize(
    "extra", ["&state=x", "&code=other", "&iss=https://login.example.com", "&a" * 20, "&x=%ff", "&" + "x" * 9000]
)
def test_an_answer_says_everything_once(browser: Browser, extra: str) -> None:
    assert "answer" in browser.refused(browser.query() + extra)
    browser.finish()


@pytest.mark.parametrize("code", ["", None, "a b", "x" * 5000, "\u00e9"])
def test_a_code_is_plain(browser: Browser, code: str | None) -> None:
    assert browser.refused(browser.query(code=code)) == "the issuer's answer holds no code"


@pytest.mark.requirement("ID-3")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"nonce": None}, "the ID token answers another login"),
        ({"nonce": "other"}, "the ID token answers another login"),
        ({"nonce": ["x"]}, "the ID token answers another login"),
        ({"aud": "other"}, "the token is for another audience"),
        ({"aud": AUDIENCE}, "the token is for another audience"),
        ({"aud": ["bridge", "other"]}, "the ID token has several audiences and does not say for whom it was made"),
        ({"aud": ["bridge", "other"], "azp": "other"}, "the ID token was made for another client"),
        ({"azp": "other"}, "the ID token was made for another client"),
        ({"iss": "https://evil.example"}, "the token is from another issuer"),
        ({"iat": None}, "the ID token does not say when it was made"),
        ({"exp": 1}, "the token has expired"),
        ({"sub": None}, "the token names no subject"),
        ({"at_hash": b64(bytes(16))}, "the ID token speaks of another access token"),
        ({"at_hash": 7}, "the ID token speaks of another access token"),
    ],
)
def test_an_id_token_is_for_this_login_and_this_client(
    browser: Browser, changes: Mapping[str, Any], reason: str
) -> None:
    browser.answers(id_token=browser.issue(**changes))
    assert browser.refused() == reason


@pytest.mark.requirement("ID-3")
def test_an_id_token_of_several_audiences_names_us_as_the_one_it_was_made_for(browser: Browser) -> None:
    browser.answers(id_token=browser.issue(aud=["other", "bridge"], azp="bridge"))
    assert browser.finish().subject == "ana"


@pytest.mark.requirement("ID-3")
@pytest.mark.parametrize(
    ("alg", "hashed"), [("RS256", hashlib.sha256), ("PS512", hashlib.sha512), ("EdDSA", hashlib.sha512)]
)
def test_an_id_token_speaks_of_the_access_token_beside_it(alg: str, hashed: Any) -> None:
    digest = hashed(b"opaque").digest()
    told: dict[str, Any] = {"nonce": "n", "iat": 1, "aud": "bridge", "at_hash": b64(digest[: len(digest) // 2])}
    check_id_token(told, algorithm=alg, client_id="bridge", nonce="n", access_token="opaque")
    for token in ("other", None, "\u00e9"):
        with pytest.raises(TokenRefused):
            check_id_token(told, algorithm=alg, client_id="bridge", nonce="n", access_token=token)


@pytest.mark.requirement("ID-3")
@pytest.mark.parametrize(
    "tokens",
    [
        {"id_token": None},
        {"id_token": ["x"]},
        {"id_token": "x"},
        {"token_type": "mac"},
        {"token_type": None},
        {"token_type": ["Bearer"]},
    ],
    ids=str,
)
def test_an_exchange_that_gives_no_proof_lets_nobody_in(browser: Browser, tokens: Mapping[str, Any]) -> None:
    browser.answers(**tokens)
    assert browser.refused()


@pytest.mark.requirement("ID-3")
def test_an_id_token_of_somebody_elses_key_lets_nobody_in(browser: Browser) -> None:
    for key, alg in ((OTHER_RSA, "RS256"), (EC, "ES256")):
        browser.world.clock.advance(31)
        told = claims(browser.world.clock.us, aud="bridge", sub="ana", nonce=browser.asked["nonce"])
        fresh = Browser(browser.world)
        fresh.answers(id_token=sign({**told, "nonce": fresh.asked["nonce"]}, key, alg=alg, kid="one"))
        assert fresh.refused()


def test_an_issuer_that_is_down_or_talks_nonsense_is_a_fault_of_ours_to_wait_for(browser: Browser) -> None:
    browser.world.network.documents[f"{ISSUER}/token"] = b"<html>"
    with pytest.raises(Fault) as fault:
        browser.finish()
    assert fault.value.code is Code.ISSUER_UNAVAILABLE
    again = Browser(browser.world)
    browser.world.network.documents.pop(f"{ISSUER}/token")
    with pytest.raises(Fault):
        again.finish()


@pytest.mark.parametrize(
    ("wanted", "given"),
    [
        ("/console/keys?x=1#y", "/console/keys?x=1#y"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("", "/"),
        ("/a\r\nset-cookie: x", "/"),
        ("/a b", "/"),
        ("/\t/evil.example", "/"),
        ("/" + "x" * 600, "/"),
        ("/é", "/"),
    ],
)
def test_after_a_login_one_is_led_to_a_page_of_ours(corp: World, wanted: str, given: str) -> None:
    browser = Browser(corp, return_to=wanted)
    browser.answers()
    assert browser.finish().return_to == given


@pytest.mark.requirement("ID-3")
def test_who_is_unknown_and_in_no_group_is_not_let_in(make: Make) -> None:
    for world, groups in (
        (make(settings(login=CLIENT, roles=ROLES)), []),
        (make(settings(login=CLIENT, roles=ROLES, provision=False)), ["auditors"]),
    ):
        browser = Browser(world)
        browser.answers(id_token=browser.issue(groups=groups))
        proven = browser.finish()
        with pytest.raises(Refusal) as refusal:
            world.write(lambda s, world=world, proven=proven: world.login.enter(s, proven))  # type: ignore[misc]
        assert refusal.value.code is Code.FORBIDDEN
        linked = {"tenant": None, "issuer": ISSUER, "subject": "ana"}
        known = world.write(lambda s, world=world, linked=linked: world.directory.create_user(s, **linked))  # type: ignore[misc]
        entered = world.write(lambda s, world=world, proven=proven: world.login.enter(s, proven))  # type: ignore[misc]
        assert (entered.user, entered.made) == (known, False)


@pytest.mark.requirement("ID-3")
def test_nobody_is_recognised_by_an_e_mail_address(corp: World, browser: Browser) -> None:
    first = corp.write(lambda s: corp.directory.create_user(s, tenant=None, email="ana@example.com"))
    browser.answers(id_token=browser.issue(email="ana@example.com", email_verified=True))
    proven = browser.finish()
    entered = corp.write(lambda s: corp.login.enter(s, proven))
    assert entered.user.id != first.id


@pytest.mark.requirement("ID-3")
def test_a_disabled_person_does_not_get_in_again(corp: World, browser: Browser) -> None:
    user = corp.write(lambda s: corp.directory.create_user(s, tenant=None, issuer=ISSUER, subject="ana"))
    corp.write(lambda s: corp.directory.replace_user(s, OWNER, user, replace(user, disabled=True)))
    proven = browser.finish()
    with pytest.raises(Refusal) as refusal:
        corp.write(lambda s: corp.login.enter(s, proven))
    assert refusal.value.code is Code.CREDENTIAL_REVOKED


@pytest.mark.requirement("ID-3")
def test_the_id_token_of_a_login_is_no_credential_of_the_api(corp: World, browser: Browser) -> None:
    with pytest.raises(Refusal) as refusal:
        run(corp.callers.recognise(Credential(bearer=browser.issue()), client_ip=""))
    assert refusal.value.code is Code.ADMIN_REQUIRED


def test_nobody_logs_in_through_an_issuer_that_is_for_services_only(make: Make) -> None:
    world = make(settings())
    for name in ("corp", "other"):
        with pytest.raises(Refusal) as refusal:
            run(world.login.begin(name))
        assert refusal.value.code is Code.NOT_FOUND


@given(st.text(max_size=300), st.text(max_size=300) | st.none())
def test_no_query_or_cookie_breaks_the_reader(query: str, cookie: str | None) -> None:
    try:
        answer = _answer(query)
    except Refusal:
        return
    assert len(answer) == len(parse_qsl(query, keep_blank_values=True))
