"""Where secrets are kept, as the file says it: whole, safe, and resolved before anything starts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.bootstrap.test_config import SAMPLE, changed, loaded, problems
from tests.vault_fake import VaultFake

from securellm.settings import Problem

CANARY = "sk-canary-6d09fe21"


@pytest.fixture
def vault() -> Iterator[VaultFake]:
    with VaultFake() as fake:
        fake.write("openai", api_key=CANARY)
        yield fake


def tables(*lines: str, credential: str = "vault:secret/data/openai#api_key") -> str:
    text, _ = changed('credential = "env:OPENAI_API_KEY"', f'credential = "{credential}"')
    return "\n".join((text, *lines))


def told(folder: Path, text: str) -> Problem:
    [problem] = problems(folder, text)
    assert CANARY not in str(problem)
    return problem


@pytest.mark.requirement("SC-1")
def test_a_file_whose_secrets_are_in_vault_is_complete(tmp_path: Path, vault: VaultFake) -> None:
    (tmp_path / "token").write_text("hvs.root")
    text = tables("[secrets.vault]", f'address = "{vault.url}"', 'token = "file:token"')
    sample = loaded(tmp_path, text)
    ref = sample.config.providers[0].credential
    assert ref is not None
    assert sample.resolver.resolve(ref).reveal() == CANARY
    assert vault.reads == 1, "what was read for the check is not read again"


@pytest.mark.requirement("SC-1")
def test_every_reference_is_resolved_before_anything_starts(tmp_path: Path, vault: VaultFake) -> None:
    (tmp_path / "token").write_text("hvs.root")
    lines = ("[secrets.vault]", f'address = "{vault.url}"', 'token = "file:token"')
    problem = told(tmp_path, tables(*lines, credential="vault:secret/data/openai#none"))
    assert (problem.key, problem.line) == ("providers[0].credential", 12)
    assert "vault:secret/data/openai#none: the secret has no member none" in problem.reason
    vault.sealed = True
    assert "Vault is sealed" in told(tmp_path, tables(*lines)).reason
    assert "[secrets.vault] is not in the configuration" in told(tmp_path, tables()).reason
    missing = told(tmp_path, tables(credential="keyring:securellm/nobody"))
    assert "keyring" in missing.reason
    assert "no region is set" in told(tmp_path, tables(credential="aws:openai")).reason


@pytest.mark.requirement("SC-1")
@pytest.mark.parametrize(
    ("lines", "key", "reason"),
    [
        (["[secrets.vault]", 'address = "http://vault.acme:8200"', 'token = "file:token"'], "address", "without TLS"),
        (["[secrets.vault]", 'address = "vault.acme"', 'token = "file:token"'], "address", "must begin with http"),
        (["[secrets.vault]", 'address = "https://a:b@v"', 'token = "file:token"'], "address", "user or password"),
        (["[secrets.vault]", 'address = "https://v"'], "token", 'missing: auth = "token" needs it'),
        (["[secrets.vault]", 'address = "https://v"', 'auth = "approle"', 'role_id = "env:A"'], "secret_id", "missing"),
        (["[secrets.vault]", 'address = "https://v"', 'auth = "kubernetes"'], "role", "missing"),
        (["[secrets.vault]", 'address = "https://v"', 'token = "aws:vault-token"'], "token", "in a secret manager"),
        (["[secrets.vault]", 'address = "https://v"', 'token = "hvs.abc"'], "token", "a literal secret"),
        (["[secrets.vault]", 'address = "https://v"', 'token = "file:t"', 'mount = "../sys"'], "mount", "not allowed"),
        (["[secrets.vault]", 'address = "https://v"', 'token = "file:t"', 'ca_file = "x"'], "ca_file", "cannot be"),
        (["[secrets.aws]", 'endpoint = "http://aws.acme"'], "endpoint", "without TLS"),
        (["[secrets.aws]", 'region = "Brazil"'], "region", "not allowed"),
        (["[secrets.gcp]", 'endpoint = "http://gcp.acme"'], "endpoint", "without TLS"),
        (["[secrets.gcp]", 'token_endpoint = "http://gcp.acme"'], "token_endpoint", "without TLS"),
        (["[secrets.gcp]", 'auth = "service-account"'], "service_account", "missing"),
        (["[secrets]", 'refresh = "2h"', 'max_age = "1h"'], "max_age", "shorter than `refresh`"),
        (["[secrets]", 'refresh = "0s"'], "refresh", "below the least value"),
    ],
)  # fmt: skip
def test_what_is_not_whole_or_not_safe_is_refused_where_it_stands(
    tmp_path: Path, lines: list[str], key: str, reason: str
) -> None:
    found = problems(tmp_path, "\n".join((SAMPLE, *lines)))
    problem = next(each for each in found if each.key.split(".")[-1] == key)
    assert problem.key.startswith("secrets.")
    assert reason in problem.reason
    assert problem.remedy
