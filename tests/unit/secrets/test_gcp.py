"""Secrets in Google Cloud: read with a token that an assertion or the machine earns, and by their checksum."""

import json
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gcp_fake import GcpFake, Version, checksum
from tests.http_fake import Request, Said, said
from tests.unit.clocks import ManualClock

from securellm.secrets import SecretResolver, SecretUnavailable
from securellm.secrets.gcp import crc32c
from securellm.secrets.settings import GcpSettings, SecretsSettings
from securellm.settings import Seconds, SecretRef

CANARY = "sk-canary-c01dcafe"
SECRET = "projects/acme/secrets/openai"
REF = SecretRef("gcp", f"{SECRET}/versions/latest")


@pytest.fixture
def gcp() -> Iterator[GcpFake]:
    with GcpFake() as fake:
        fake.add(SECRET, f"{CANARY}\n")
        yield fake


class World:
    def __init__(
        self, fake: GcpFake, folder: Path, *, environ: dict[str, str] | None = None, key: str = "", **settings: Any
    ) -> None:
        self.clock = ManualClock()
        (folder / "key.json").write_text(key or fake.key_file())
        given = {
            "endpoint": fake.url,
            "auth": "service-account",
            "service_account": SecretRef("file", "key.json"),
            "token_endpoint": f"{fake.url}/token",
            "timeout": Seconds(2.0),
            **settings,
        }
        self.resolver = SecretResolver(
            folder, environ or {}, settings=SecretsSettings(gcp=GcpSettings(**given)), clock=self.clock
        )

    def read(self, ref: SecretRef = REF) -> str:
        return self.resolver.resolve(ref, newer_than=self.clock.monotonic()).reveal()

    def refused(self, ref: SecretRef = REF) -> SecretUnavailable:
        with pytest.raises(SecretUnavailable) as error:
            self.read(ref)
        assert CANARY not in "".join(traceback.format_exception(error.value)) + error.value.remedy
        return error.value


@pytest.mark.requirement("SC-1")
def test_a_secret_is_read_with_a_token_earned_by_a_signed_assertion(tmp_path: Path, gcp: GcpFake) -> None:
    world = World(gcp, tmp_path)
    assert world.read() == CANARY
    assert world.read() == CANARY
    assert gcp.granted == 1, "the token is kept while it lasts"
    world.clock.advance(3600)
    gcp.now += 3600
    assert world.read() == CANARY
    assert gcp.granted == 2


@pytest.mark.requirement("SC-1")
def test_a_machine_earns_its_token_by_being_it(tmp_path: Path, gcp: GcpFake) -> None:
    world = World(gcp, tmp_path, auth="metadata", environ={"GCE_METADATA_HOST": f"127.0.0.1:{gcp.port}"})
    assert world.read() == CANARY
    gcp.instead = lambda _: said(200, {"access_token": "x", "expires_in": 60})
    other = World(gcp, tmp_path, auth="metadata", environ={"GCE_METADATA_HOST": f"127.0.0.1:{gcp.port}"})
    assert "metadata server gave no token" in other.refused().reason, "what is not Google's does not say so"


@pytest.mark.requirement("SC-1")
def test_a_rotated_secret_is_seen_a_version_can_be_named_and_a_member_picked(tmp_path: Path, gcp: GcpFake) -> None:
    gcp.add(SECRET, json.dumps({"api_key": "sk-newer"}))
    world = World(gcp, tmp_path)
    assert world.read(SecretRef("gcp", f"{SECRET}/versions/latest#api_key")) == "sk-newer"
    assert world.read(SecretRef("gcp", f"{SECRET}/versions/1")) == CANARY


def test_a_regional_secret_is_asked_for_by_its_place(tmp_path: Path, gcp: GcpFake) -> None:
    gcp.add("projects/acme/locations/southamerica-east1/secrets/openai", CANARY)
    ref = SecretRef("gcp", "projects/acme/locations/southamerica-east1/secrets/openai/versions/latest")
    assert World(gcp, tmp_path).read(ref) == CANARY


def test_a_token_that_is_no_longer_good_is_earned_anew_once(tmp_path: Path, gcp: GcpFake) -> None:
    world = World(gcp, tmp_path)
    world.read()
    gcp.tokens.clear()
    assert world.read() == CANARY
    gcp.instead = lambda request: said(401, {}) if "secrets" in request.path else gcp.answer(request)
    assert "did not accept our token" in world.refused().reason


@pytest.mark.requirement("SC-1")
@pytest.mark.parametrize(
    ("prepare", "reason", "withdrawn"),
    [
        (lambda fake: fake.secrets.clear(), "no such secret", True),
        (lambda fake: fake.denied.add(SECRET), "Google denies this secret", False),
        (lambda fake: setattr(fake.secrets[SECRET][0], "state", "DISABLED"), "disabled or destroyed", True),
        (lambda fake: setattr(fake.secrets[SECRET][0], "state", "DESTROYED"), "disabled or destroyed", True),
        (lambda fake: setattr(fake, "damage", 1), "checksum is wrong", False),
        (lambda fake: fake.add(SECRET, ""), "is empty", False),
        (lambda fake: fake.add(SECRET, f"{CANARY}\0"), "NUL", False),
        (lambda fake: fake.secrets[SECRET].append(Version(b"\xff" + CANARY.encode())), "not UTF-8", False),
        (lambda fake: setattr(fake, "now", 0), "refused the service account's key", False),
    ],
)
def test_what_google_refuses_is_refused_by_name(
    tmp_path: Path, gcp: GcpFake, prepare: Callable[[GcpFake], None], reason: str, withdrawn: bool
) -> None:
    prepare(gcp)
    refusal = World(gcp, tmp_path).refused()
    assert reason in refusal.reason
    assert refusal.withdrawn is withdrawn


@pytest.mark.requirement("SC-1")
@pytest.mark.parametrize(
    ("instead", "reason"),
    [
        (lambda _: Said(302, b"", {"location": "https://example.com"}), "redirect, which is never followed"),
        (lambda _: Said(200, b"y" * (2 << 20)), "exceeds 1048576 bytes"),
        (lambda _: Said(200, CANARY.encode()), "not what Google Secret Manager's API says"),
        (lambda _: said(200, {"payload": {"data": "c2s="}}), "not what Google Secret Manager's API says"),
        (lambda _: said(200, {"payload": {"data": "c2s", "dataCrc32c": "1"}}), "not what Google Secret Manager's"),
        (lambda _: said(200, {"payload": {"data": "c2s=", "dataCrc32c": "x"}}), "not what Google Secret Manager's"),
        (lambda _: said(503, {"error": {"status": "UNAVAILABLE", "message": CANARY}}), "with status 503"),
        (lambda _: Said(429), "with status 429"),
    ],
)
def test_an_answer_that_is_not_googles_is_no_secret(
    tmp_path: Path, gcp: GcpFake, instead: Callable[[Request], Said], reason: str
) -> None:
    world = World(gcp, tmp_path)
    world.read()
    gcp.instead = instead
    assert reason in world.refused().reason


@pytest.mark.parametrize("answer", [{}, {"access_token": ""}, {"access_token": "x", "expires_in": "1"}, [1]])
def test_an_answer_that_is_no_token_is_none(tmp_path: Path, gcp: GcpFake, answer: Any) -> None:
    gcp.instead = lambda _: said(200, answer)
    assert "about a token is not what" in World(gcp, tmp_path).refused().reason


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"type": "external_account", "token_url": "http://127.0.0.1:1"}, "not the key of a service account"),
        ({"private_key": 5}, "is not whole"),
        ({"private_key": f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n"}, "private key cannot be used"),
    ],
)
def test_a_key_file_that_is_none_is_refused(tmp_path: Path, gcp: GcpFake, members: dict[str, Any], reason: str) -> None:
    assert reason in World(gcp, tmp_path, key=gcp.key_file(**members)).refused().reason
    assert not gcp.requests


def test_a_key_file_that_is_not_json_shows_nothing_of_itself(tmp_path: Path, gcp: GcpFake) -> None:
    assert "is not JSON" in World(gcp, tmp_path, key=f"{{{CANARY}").refused().reason


def test_a_service_that_is_slow_or_away_is_named(tmp_path: Path, gcp: GcpFake) -> None:
    gcp.silent = True
    assert "ran out" in World(gcp, tmp_path, timeout=Seconds(0.2)).refused().reason
    away = World(gcp, tmp_path, token_endpoint="http://127.0.0.1:1/token")
    assert "refused" in away.refused().reason


def test_the_metadata_server_is_this_machines_own(tmp_path: Path, gcp: GcpFake) -> None:
    world = World(gcp, tmp_path, auth="metadata", environ={"GCE_METADATA_HOST": "metadata.example.com"})
    assert "without TLS" in world.refused().reason


@given(st.binary(max_size=60))
def test_the_checksum_is_castagnolis(data: bytes) -> None:
    assert crc32c(data) == checksum(data)
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
