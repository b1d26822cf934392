"""Secrets in Vault: read with a token that is obtained and renewed; every refusal named, no value shown."""

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.http_fake import Request, Said, said
from tests.unit.clocks import ManualClock
from tests.vault_fake import Token, VaultFake

from securellm.secrets import SecretResolver, SecretUnavailable
from securellm.secrets.settings import SecretsSettings, VaultSettings
from securellm.settings import Seconds, SecretRef

CANARY = "sk-canary-5f2e9a71"
REF = SecretRef("vault", "secret/data/openai#api_key")


@pytest.fixture
def vault() -> Iterator[VaultFake]:
    with VaultFake() as fake:
        fake.write("openai", api_key=CANARY, other="x")
        yield fake


class World:
    """A resolver that asks a fake, on a clock that moves when it is told to."""

    def __init__(self, fake: VaultFake, folder: Path, **settings: Any) -> None:
        self.clock = ManualClock()
        (folder / "token").write_text("hvs.root\n")
        (folder / "role-id").write_text(fake.ROLE_ID)
        (folder / "secret-id").write_text(fake.SECRET_ID)
        (folder / "jwt").write_text(fake.JWT)
        given = {
            "address": fake.url,
            "token": SecretRef("file", "token"),
            "role_id": SecretRef("file", "role-id"),
            "secret_id": SecretRef("file", "secret-id"),
            "role": fake.ROLE,
            "jwt": SecretRef("file", "jwt"),
            "timeout": Seconds(2.0),
            **settings,
        }
        self.resolver = SecretResolver(
            folder, {}, settings=SecretsSettings(vault=VaultSettings(**given)), clock=self.clock
        )

    def read(self, ref: SecretRef = REF) -> str:
        return self.resolver.resolve(ref, newer_than=self.clock.monotonic()).reveal()

    def refused(self, ref: SecretRef = REF) -> SecretUnavailable:
        with pytest.raises(SecretUnavailable) as error:
            self.read(ref)
        assert CANARY not in "".join(traceback.format_exception(error.value)) + error.value.remedy
        assert str(ref) in str(error.value), "the reference is named"
        return error.value


@pytest.mark.requirement("SC-1")
@pytest.mark.parametrize("auth", ["token", "approle", "kubernetes"])
def test_a_secret_is_read_whichever_way_the_gateway_shows_who_it_is(
    tmp_path: Path, vault: VaultFake, auth: str
) -> None:
    world = World(vault, tmp_path, auth=auth)
    assert world.read() == CANARY
    assert world.read() == CANARY
    assert vault.logins == (0 if auth == "token" else 1), "a token is obtained once"


@pytest.mark.requirement("SC-1")
def test_a_version_can_be_named_and_the_newest_is_meant_otherwise(tmp_path: Path, vault: VaultFake) -> None:
    vault.write("openai", api_key="sk-newer-5f2e9a71")
    world = World(vault, tmp_path)
    assert world.read() == "sk-newer-5f2e9a71"
    assert world.read(SecretRef("vault", "secret/data/openai#api_key@1")) == CANARY


@pytest.mark.requirement("SC-1")
def test_a_store_without_versions_is_read_by_its_own_path(tmp_path: Path, vault: VaultFake) -> None:
    vault.plain["openai"] = {"api_key": CANARY}
    assert World(vault, tmp_path).read(SecretRef("vault", "kv/openai#api_key")) == CANARY


def test_members_of_one_secret_are_one_reading(tmp_path: Path, vault: VaultFake) -> None:
    world = World(vault, tmp_path)
    assert world.resolver.resolve(REF).reveal() == CANARY
    assert world.resolver.resolve(SecretRef("vault", "secret/data/openai#other")).reveal() == "x"
    assert vault.reads == 1
    world.clock.advance(6)
    assert world.resolver.resolve(REF).reveal() == CANARY
    assert vault.reads == 2, "what was said a while ago is asked again"


def test_a_login_is_renewed_before_it_ends_and_made_again_when_it_cannot_be(tmp_path: Path, vault: VaultFake) -> None:
    world = World(vault, tmp_path, auth="approle")
    world.read()
    world.clock.advance(0.6 * vault.login_ttl)
    world.read()
    assert (vault.logins, vault.renewals) == (1, 1)
    vault.renews = False
    world.clock.advance(0.6 * vault.login_ttl)
    world.read()
    assert (vault.logins, vault.renewals) == (2, 1)
    world.clock.advance(2 * vault.login_ttl)
    world.read()
    assert vault.logins == 3


def test_a_login_that_was_revoked_before_its_time_is_made_again(tmp_path: Path, vault: VaultFake) -> None:
    world = World(vault, tmp_path, auth="kubernetes")
    world.read()
    vault.tokens.clear()
    assert world.read() == CANARY
    assert vault.logins == 2


def test_a_token_of_the_operator_is_renewed_while_it_can_be_and_read_again_when_it_was_replaced(
    tmp_path: Path, vault: VaultFake
) -> None:
    vault.tokens["hvs.root"] = Token(ttl=1000)
    world = World(vault, tmp_path)
    world.read()
    world.clock.advance(600)
    world.read()
    assert vault.renewals == 1
    del vault.tokens["hvs.root"]
    assert "denies" in world.refused().reason
    vault.tokens["hvs.next"] = Token(ttl=0, looks_at_itself=False)
    (tmp_path / "token").write_text("hvs.next")
    assert world.read() == CANARY


def test_a_namespace_goes_with_every_call(tmp_path: Path) -> None:
    with VaultFake(namespace="teams/ai") as fake:
        fake.write("openai", api_key=CANARY)
        assert World(fake, tmp_path, namespace="teams/ai", auth="approle").read() == CANARY
        assert "no such secret" in World(fake, tmp_path, namespace="teams/other").refused().reason


@pytest.mark.requirement("SC-1")
@pytest.mark.parametrize(
    ("prepare", "reason", "withdrawn"),
    [
        (lambda fake: setattr(fake, "sealed", True), "Vault is sealed", False),
        (lambda fake: setattr(fake, "limited", True), "limits the rate", False),
        (lambda fake: fake.denied.add("secret/data/openai"), "Vault denies secret/data/openai", False),
        (lambda fake: fake.versions.clear(), "no such secret", True),
        (lambda fake: setattr(fake.versions["openai"][0], "deleted", True), "no such secret", True),
        (lambda fake: setattr(fake.versions["openai"][0], "destroyed", True), "no such secret", True),
        (lambda fake: fake.write("openai", another="x"), "has no member api_key", False),
        (lambda fake: fake.write("openai", api_key={"a": CANARY}), "is not a string", False),
        (lambda fake: fake.write("openai", api_key=""), "is empty", False),
        (lambda fake: fake.write("openai", api_key=f"{CANARY}\0"), "NUL", False),
        (lambda fake: fake.write("openai", api_key=CANARY * 4000), "more than 65536 bytes", False),
        (lambda fake: fake.tokens.clear(), "Vault denies", False),
    ],
)
def test_what_vault_refuses_is_refused_by_name(
    tmp_path: Path, vault: VaultFake, prepare: Callable[[VaultFake], None], reason: str, withdrawn: bool
) -> None:
    prepare(vault)
    refusal = World(vault, tmp_path).refused()
    assert reason in refusal.reason
    assert refusal.withdrawn is withdrawn


def answer(status: int, body: bytes) -> Callable[[Request], Said]:
    return lambda _: Said(status, body, {"content-type": "application/json"})


@pytest.mark.requirement("SC-1")
@pytest.mark.parametrize(
    ("instead", "reason"),
    [
        (lambda _: Said(307, b"", {"location": "http://127.0.0.1:1/v1/secret"}), "redirect, which is never followed"),
        (lambda _: Said(302, CANARY.encode(), {"location": "https://example.com"}), "redirect"),
        (lambda _: Said(200, b"x" * (2 << 20)), "exceeds 1048576 bytes"),
        (lambda _: Said(200, b"{}", {"content-encoding": "gzip"}), "compressed"),
        (answer(200, b'{"data": {"data"'), "not what its API says"),
        (answer(200, b"[1]"), "not what its API says"),
        (answer(200, b'{"data": "' + CANARY.encode() + b'"}'), "not what its API says"),
        (answer(200, b"\0\xff" + CANARY.encode()), "not what its API says"),
        (answer(200, b"[" * 100_000), "not what its API says"),
        (answer(200, b'{"data": {"api_key": "' + CANARY.encode() + b'"}}'), "not one of a KV v2 store"),
        (answer(500, CANARY.encode()), "failed with status 500"),
        (answer(418, CANARY.encode()), "with status 418"),
    ],
)
def test_an_answer_that_is_not_vaults_is_no_secret(
    tmp_path: Path, vault: VaultFake, instead: Callable[[Request], Said], reason: str
) -> None:
    world = World(vault, tmp_path)
    world.read()

    vault.instead = instead
    assert reason in world.refused().reason
    assert not world.refused().withdrawn


@pytest.mark.requirement("SC-1")
def test_a_vault_that_does_not_answer_is_waited_for_once(tmp_path: Path, vault: VaultFake) -> None:
    vault.silent = True
    world = World(vault, tmp_path, timeout=Seconds(0.2))
    assert "ran out" in world.refused().reason
    assert "ran out" in world.refused(SecretRef("vault", "secret/data/another#x")).reason
    assert len(vault.requests) == 1, "the second reference did not wait again"
    vault.silent = False
    world.clock.advance(6)
    assert world.read() == CANARY


def test_a_vault_that_cannot_be_reached_is_named(tmp_path: Path, vault: VaultFake) -> None:
    world = World(vault, tmp_path, address="http://127.0.0.1:1")
    assert world.refused().reason == "Vault gave no usable answer: the connection was refused"


def test_a_login_that_is_refused_says_so(tmp_path: Path, vault: VaultFake) -> None:
    world = World(vault, tmp_path, auth="approle")
    (tmp_path / "secret-id").write_text("wrong")
    assert world.refused().reason == "Vault refused the login at auth/approle/login"
    (tmp_path / "secret-id").unlink()
    assert "file:secret-id" in world.refused().reason
    (tmp_path / "jwt").write_text("wrong")
    assert "refused the login" in World(vault, tmp_path, auth="kubernetes", role="other").refused().reason


@pytest.mark.parametrize("token", ["tab\there", "line\nbreak", "ünïcode", " "])
def test_a_token_that_no_header_can_carry_is_not_sent(tmp_path: Path, vault: VaultFake, token: str) -> None:
    world = World(vault, tmp_path)
    (tmp_path / "token").write_text(token)
    assert "no header can carry" in world.refused().reason
    assert not vault.requests


def test_a_login_answer_that_grants_nothing_is_no_login(tmp_path: Path, vault: VaultFake) -> None:
    for auth in (None, {}, {"client_token": ""}, {"client_token": "x", "lease_duration": "1h"}):
        vault.instead = lambda _, auth=auth: said(200, {"auth": auth})
        assert "not what its API says" in World(vault, tmp_path, auth="approle").refused().reason


def test_secrets_cross_no_network_without_tls(tmp_path: Path, vault: VaultFake) -> None:
    world = World(vault, tmp_path, address="http://vault.example.com:8200")
    assert "without TLS" in world.refused().reason


def test_without_a_table_for_vault_its_references_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SecretUnavailable, match=r"\[secrets.vault\] is not in the configuration"):
        SecretResolver(tmp_path, {}).resolve(REF)


def test_what_opens_vault_is_not_kept_in_it(tmp_path: Path, vault: VaultFake) -> None:
    assert "itself kept in one" in World(vault, tmp_path, token=REF).refused().reason
