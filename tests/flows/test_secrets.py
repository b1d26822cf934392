"""Credentials from a secret manager through the whole gateway: rotated without a restart, shown nowhere."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.flows.front import CHAT, MESSAGES, World, asking, world
from tests.harness import GatewayProcess, Site, UpstreamProcess, request
from tests.upstream import CREDENTIALS, Behaviour
from tests.vault_fake import VaultFake

REFERENCE = "vault:secret/data/openai#api_key"
CANARY = "sk-canary-2e6b91d7f0"
NEXT = "sk-canary-next-84ac13"


@pytest.fixture
def vault() -> Iterator[VaultFake]:
    with VaultFake() as fake:
        fake.write("openai", api_key=CANARY)
        yield fake


def kept_in(vault: VaultFake, folder: Path, site: Site, **secrets: str) -> None:
    """OpenAI's credential is in Vault."""
    (folder / "vault-token").write_text("hvs.root")
    site.provider("openai", credential=REFERENCE)
    site.model("chat", "openai", retries=0)
    given = {"refresh": "1h", "max_age": "2h", **secrets}
    site.extra = "\n".join(
        [
            "[secrets]",
            *(f'{name} = "{value}"' for name, value in given.items()),
            "[secrets.vault]",
            f'address = "{vault.url}"',
            'token = "file:vault-token"',
            'timeout = "1s"',
        ]
    )


@pytest.mark.requirement("SC-1")
def test_a_credential_that_is_rotated_at_the_provider_too_costs_no_request(tmp_path: Path, vault: VaultFake) -> None:
    async def scenario() -> None:
        async with world(tmp_path, lambda site: kept_in(vault, tmp_path, site)) as opened:
            opened.upstream.credentials["openai"] = CANARY
            assert (await opened.ask(CHAT, asking(CHAT))).status == 200
            moved_on(opened)
            # Both at once: the old value is refused from here on, and nobody told the gateway.
            vault.write("openai", api_key=NEXT)
            opened.upstream.credentials["openai"] = NEXT
            calls = await asyncio.gather(*(opened.ask(CHAT, asking(CHAT, stream=n % 2 == 0)) for n in range(8)))
            assert [call.status for call in calls] == [200] * 8
            assert all(opened.record_of(call)["status"] == "ok" for call in calls)
            before = len(opened.reached())
            assert (await opened.ask(CHAT, asking(CHAT))).status == 200
            assert len(opened.reached()) == before + 1, "from now on the new one is shown first"

    asyncio.run(scenario())


@pytest.mark.requirement("SC-1")
def test_a_credential_that_is_not_in_force_yet_is_overlapped(tmp_path: Path, vault: VaultFake) -> None:
    async def scenario() -> None:
        async with world(tmp_path, lambda site: kept_in(vault, tmp_path, site)) as opened:
            opened.upstream.credentials["openai"] = CANARY
            vault.write("openai", api_key=NEXT)
            opened.app.credentials.follow(opened.app.loaded.resolver, settings=opened.app.loaded.config.secrets)
            moved_on(opened)
            await opened.app.credentials.refresh()
            assert (await opened.ask(CHAT, asking(CHAT))).status == 200
            assert len(opened.reached()) == 2, "first the new one, then the one before"

    asyncio.run(scenario())


@pytest.mark.requirement("SC-1")
def test_a_credential_that_is_simply_wrong_is_tried_once(tmp_path: Path, vault: VaultFake) -> None:
    async def scenario() -> None:
        async with world(tmp_path, lambda site: kept_in(vault, tmp_path, site)) as opened:
            moved_on(opened)
            for _ in range(3):
                call = await opened.ask(CHAT, asking(CHAT))
                assert (call.status, call.code) == (502, "auth_error")
            assert len(opened.reached()) == 3
            assert vault.reads <= 3, "a refused credential is not read again for each who is refused"

    asyncio.run(scenario())


@pytest.mark.requirement("SC-1")
def test_a_credential_that_was_withdrawn_reaches_no_provider(tmp_path: Path, vault: VaultFake) -> None:
    async def scenario() -> None:
        async with world(tmp_path, lambda site: kept_in(vault, tmp_path, site)) as opened:
            vault.versions.clear()
            opened.app.credentials.follow(opened.app.loaded.resolver, settings=opened.app.loaded.config.secrets)
            moved_on(opened)
            await opened.app.credentials.refresh()
            call = await opened.ask(CHAT, asking(CHAT))
            assert (call.status, call.code) == (503, "credential_unavailable")
            assert opened.reached() == []
            assert b"vault" not in call.body
            record = opened.record_of(call)
            assert (record["status"], record["settled"], record["presumed"]) == ("refused", 0, 0)
            assert (await opened.ask(MESSAGES, asking(MESSAGES))).status == 200, "other providers go on"

    asyncio.run(scenario())


def moved_on(opened: World) -> None:
    """What Vault said at the start was a while ago."""
    opened.app.loaded.resolver.forget()


# A process of its own


def start_refused(tmp_path: Path, site: Site) -> str:
    gateway = GatewayProcess(site, tmp_path)
    with pytest.raises(AssertionError, match="the gateway ended with"):
        gateway.start()
    return gateway.errors()


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[UpstreamProcess]:
    with UpstreamProcess(tmp_path / "upstream.jsonl") as process:
        yield process


@pytest.mark.requirement("SC-1")
def test_a_start_without_its_secrets_is_refused_and_names_the_reference(tmp_path: Path, vault: VaultFake) -> None:
    site = Site("http://127.0.0.1:1")
    kept_in(vault, tmp_path, site)
    vault.sealed = True
    errors = start_refused(tmp_path, site)
    assert f"providers[0].credential: {REFERENCE}: Vault is sealed" in errors
    assert "unseal it" in errors
    vault.sealed = False
    vault.write("openai", api_key=f"{CANARY} with a blank")
    errors = start_refused(tmp_path, site)
    assert "characters that no header can carry" in errors
    assert CANARY not in errors
    assert "hvs.root" not in errors


@pytest.mark.requirement("SC-1", "SC-2")
def test_a_rotation_reaches_a_running_gateway_and_no_value_is_left_anywhere(
    tmp_path: Path, vault: VaultFake, upstream: UpstreamProcess
) -> None:
    site = Site(upstream.root)
    key = site.key()
    kept_in(vault, tmp_path, site, refresh="1s", max_age="1h")
    real = CREDENTIALS["openai"]
    with GatewayProcess(site, tmp_path) as gateway:
        wrong = gateway.chat("hello", key=key)
        assert wrong.json()["error"]["code"] == "auth_error"
        vault.write("openai", api_key=real)
        end = time.monotonic() + 20
        while gateway.chat("hello", key=key).status != 200:
            assert time.monotonic() < end, "the rotation did not arrive"
            time.sleep(0.05)
        answers = []
        for secret in (real, CANARY, "hvs.root"):
            for knobs in (
                {"status": 400, "message": f"bad key {secret}"},
                {"status": 500, "message": secret, "code": secret},
                {"reply": (f"it is {real}, dear",)},
            ):
                upstream.script(Behaviour(**knobs), times=1)
                answers.append(gateway.chat("hello", key=key))
                if "reply" not in knobs:
                    upstream.script(Behaviour(error_event=0, message=secret, code=secret), times=1)
                    answers.append(gateway.chat("hello", key=key, stream=True))
        vault.sealed = True
        for _ in range(3):
            assert gateway.chat("hello", key=key).status == 200, "what is known serves through an outage"
        logged(gateway, "credential_not_confirmed")
        metrics = request(gateway.admin_url, "GET", "/metrics", key=gateway.admin_token)
        assert b"credential_age_seconds" in metrics.body
        errors = gateway.errors(size=1 << 24)
        assert '"credential_rotated"' in errors
        assert REFERENCE in errors
        exported = json.dumps(gateway.records())
    for secret in (real, CANARY, "hvs.root"):
        for answer in answers:
            assert secret.encode() not in answer.body
        assert secret.encode() not in metrics.body
        assert secret not in exported
        assert secret not in gateway.errors(size=1 << 24)
        for path in gateway.data_dir.rglob("*"):
            if path.is_file():
                assert secret.encode() not in path.read_bytes(), path


def logged(gateway: GatewayProcess, event: str) -> None:
    end = time.monotonic() + 20
    while f'"{event}"' not in gateway.errors(size=1 << 24):
        assert time.monotonic() < end, f"{event} was not logged"
        time.sleep(0.05)
