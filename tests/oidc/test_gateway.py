"""The whole gateway as a process before a real OpenID provider: people at its admin listener, services at models."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.harness import GatewayProcess, Reply, Site, UpstreamProcess, request
from tests.oidc.provider import API, Browser, free_port, provider, services_token

CALLBACK = "/admin/v1/login/callback"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[GatewayProcess, str]]:
    folder: Path = tmp_path_factory.mktemp("oidc")
    with UpstreamProcess(folder / "upstream.jsonl") as upstream:
        site = Site(upstream.root)
        gateway = GatewayProcess(site, folder)
        port = free_port()
        redirect = f"{gateway.admin_url}{CALLBACK}"
        site.environ["CLIENT_SECRET"] = "a+secret/with:marks%25&signs"
        site.extra = f"""
[[identity.issuers]]
id = "corp"
issuer = "http://127.0.0.1:{port}"
audience = "{API}"
roles = [{{ group = "auditors", role = "auditor" }}]

[identity.issuers.login]
client_id = "bridge"
client_secret = "env:CLIENT_SECRET"
redirect_uri = "{redirect}"
scopes = ["openid", "profile", "email", "groups"]
"""
        with provider(port, redirect=redirect) as issuer, gateway:
            yield gateway, issuer


def admin(gateway: GatewayProcess, method: str, path: str, *, cookie: str = "", **more: object) -> Reply:
    """A browser's request to the admin listener, without any token."""
    headers = {"cookie": cookie} if cookie else {}
    for name in ("origin", "accept"):
        if name in more:
            headers[name] = str(more[name])
    return request(gateway.admin_url, method, path, headers=headers, body=more.get("body"))


def pair_of(reply: Reply, name: str) -> str:
    """The cookie of this name that an answer sets, as a browser sends it back."""
    found = [part for part in reply.headers["set-cookie"].split(", ") if part.startswith(f"{name}=")]
    assert len(found) == 1, reply.headers["set-cookie"]
    return found[0].partition(";")[0]


def log_in(gateway: GatewayProcess, issuer: str, person: str) -> Reply:
    begun = admin(gateway, "GET", "/admin/v1/login?issuer=corp&return_to=/console/audit")
    assert begun.status == 303, begun.body
    back = urlsplit(Browser(issuer).log_in(begun.headers["location"], person))
    assert back.path == CALLBACK
    query = f"{back.path}?{back.query}"
    return admin(gateway, "GET", query, cookie=pair_of(begun, "slb_login"), accept="text/html,*/*;q=0.8")


@pytest.mark.requirement("ID-3", "ZT-2")
def test_a_person_logs_in_works_in_a_session_and_logs_out(world: tuple[GatewayProcess, str]) -> None:
    gateway, issuer = world
    done = log_in(gateway, issuer, "ana")
    assert done.status == 200, done.body
    assert b'url=/console/audit"' in done.body
    assert "HttpOnly; SameSite=Strict" in done.headers["set-cookie"]
    cookie = pair_of(done, "slb_session")
    me = admin(gateway, "GET", "/admin/v1/me", cookie=cookie)
    assert me.status == 200, me.body
    assert (me.json()["method"], [grant["role"] for grant in me.json()["grants"]]) == ("session", ["auditor"])
    assert admin(gateway, "GET", "/admin/v1/audit/records", cookie=cookie).status == 200
    elsewhere = admin(gateway, "POST", "/admin/v1/logout", cookie=cookie, origin="https://evil.example")
    assert elsewhere.status == 403
    assert admin(gateway, "POST", "/admin/v1/logout", cookie=cookie, origin=gateway.admin_url).status == 204
    assert admin(gateway, "GET", "/admin/v1/me", cookie=cookie).status == 401
    logins = [record for record in gateway.records("ADMIN") if record["action"] == "log_in"]
    assert [record["actor"] for record in logins] == ["issuer:corp"]


@pytest.mark.requirement("ID-3")
def test_a_person_in_no_group_is_proven_and_not_let_in(world: tuple[GatewayProcess, str]) -> None:
    gateway, issuer = world
    refused = log_in(gateway, issuer, "bia")
    assert refused.status == 403
    assert "set-cookie" not in refused.headers
    assert refused.headers["content-type"] == "text/html; charset=utf-8"
    assert b"this person is not known here" in refused.body
    assert refused.request_id.encode() in refused.body


@pytest.mark.requirement("ID-3", "ZT-2")
def test_a_service_calls_models_and_the_admin_api_with_its_own_token(world: tuple[GatewayProcess, str]) -> None:
    gateway, issuer = world
    token = services_token(issuer)
    assert gateway.chat("hello", key=token).status == 401, "nobody here is its subject yet"
    made = request(
        gateway.admin_url,
        "POST",
        "/admin/v1/services",
        key=gateway.admin_token,
        body={"tenant": "acme", "name": "worker", "issuer": issuer, "subject": "worker", "models": ["chat"]},
    )
    assert made.status == 201, made.body
    answer = gateway.chat("hello", key=token)
    assert answer.status == 200, answer.body
    assert gateway.chat("hello", key=token, model="messages").status == 403
    intent = gateway.records("INTENT")[-1]
    assert (intent["request_id"], intent["tenant"]) == (answer.request_id, "acme")
    assert (intent["key_id"], intent["principal"]) == (made.json()["id"], made.json()["principal"])
    assert request(gateway.admin_url, "GET", "/admin/v1/me", key=token).json()["principal"] == made.json()["principal"]
    off = request(
        gateway.admin_url,
        "PATCH",
        f"/admin/v1/services/{made.json()['id']}",
        key=gateway.admin_token,
        body={"disabled": True},
        headers={"if-match": made.headers["etag"]},
    )
    assert off.status == 200, off.body
    assert gateway.chat("hello", key=token).status == 401
