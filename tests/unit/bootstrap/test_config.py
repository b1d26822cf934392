"""The configuration as a whole: what may start, and every reason why something may not, with its line."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from securellm.bootstrap.config import Loaded, config_digest, data_dir_of, load_config
from securellm.bootstrap.places import control_location
from securellm.core.errors import Code, Fault
from securellm.core.surfaces import Surface
from securellm.guard.model import GuardMode
from securellm.limits import Rate, TenantRates
from securellm.limits.settings import ProviderLimits, TenantLimits
from securellm.providers.registry import KINDS
from securellm.providers.settings import Timeouts
from securellm.settings import ConfigError, Listen, Problem, Seconds

PLAIN = "hunter2-hunter2-hunter2-hunter2"
ENVIRON = {
    "OPENAI_API_KEY": "sk-provider-credential",
    "ACME_KEY": PLAIN,
    "SHORT_KEY": "abc1234",
    "MEDIUM_KEY": "x" * 20,
}


class Kind(NamedTuple):
    default_base_url: str | None = "https://api.example.com/v1"
    credential_required: bool = True
    demo_only: bool = False
    default_rate: object | None = 60
    surfaces: Mapping[Surface, str] = {Surface.CHAT: "/chat/completions", Surface.RESPONSES: "/responses"}


TABLE: Mapping[str, Kind] = {
    "openai": Kind(),
    "compatible": Kind(default_base_url=None, credential_required=False, default_rate=None),
    "mock": Kind(credential_required=False, demo_only=True),
}

SAMPLE = """\
[server]
listen = "127.0.0.1:8080"
admin_listen = "127.0.0.1:8081"

[storage]
url = "sqlite:///var/securellm"

[[providers]]
id = "openai"
kind = "openai"
base_url = "https://api.openai.com/v1"
credential = "env:OPENAI_API_KEY"
timeouts = { connect = "2s", first_byte = "30s", idle = "30s", total = "10m" }

[[models]]
name = "gpt-4o-mini"
route = [{ provider = "openai", model = "gpt-4o-mini" }]
price = { input_per_million = "0.15 USD", output_per_million = "0.60 USD" }

[[tenants]]
id = "acme"
budget = { month = "200.00 USD", hard = true }
limits = { requests_per_minute = 600, tokens_per_minute = 200000, parallel = 50 }
guard = "strict"

[[keys]]
tenant = "acme"
secret = "env:ACME_KEY"
models = ["gpt-4o-mini"]
"""


def loaded(folder: Path, text: str, *, environ: Mapping[str, str] = ENVIRON) -> Loaded:
    path = folder / "securellm.toml"
    path.write_text(text)
    return load_config(path, environ=environ, provider_kinds=TABLE)


def problems(folder: Path, text: str) -> list[Problem]:
    with pytest.raises(ConfigError) as refused:
        loaded(folder, text)
    for secret in ENVIRON.values():
        assert secret not in str(refused.value)
    return list(refused.value.problems)


def only(found: list[Problem] | tuple[Problem, ...]) -> Problem:
    [problem] = found
    return problem


def changed(old: str, new: str) -> tuple[str, int]:
    """The sample with one line changed, and the number of that line."""
    lines = SAMPLE.split("\n")
    index = lines.index(old)
    lines[index] = new
    return "\n".join(lines), index + 1


def test_the_sample_of_the_design_is_complete(tmp_path: Path) -> None:
    sample = loaded(tmp_path, SAMPLE)
    config = sample.config
    assert sample.warnings == ()
    assert config.server.listen == Listen("127.0.0.1", 8080)
    assert config.providers[0].timeouts.total == Seconds(600.0)
    assert config.models[0].route[0].provider == "openai"
    assert config.tenants[0].limits.parallel == 50
    assert config.tenants[0].guard is GuardMode.STRICT
    assert config.tenants[0].budget is not None
    assert config.keys[0].models == ("gpt-4o-mini",)
    assert sample.data_dir == tmp_path / "var" / "securellm"
    assert sample.resolver.resolve(config.keys[0].secret).reveal() == PLAIN


def test_the_real_registry_describes_kinds_as_the_checks_need_them(tmp_path: Path) -> None:
    path = tmp_path / "securellm.toml"
    path.write_text(SAMPLE)
    assert load_config(path, environ=ENVIRON, provider_kinds=KINDS).warnings == ()


@pytest.mark.requirement("PR-2")
def test_there_is_exactly_one_default_provider_and_model(tmp_path: Path) -> None:
    second = '[[models]]\nname = "big"\nroute = [{ provider = "openai", model = "gpt-4o" }]\n'
    config = loaded(tmp_path, SAMPLE + second).config
    assert (config.default_provider, config.default_model) == ("openai", "gpt-4o-mini")
    config = loaded(tmp_path, '[default]\nmodel = "big"\n' + SAMPLE + second).config
    assert config.default_model == "big"


@pytest.mark.requirement("PR-2")
def test_a_default_outside_the_allow_list_is_refused(tmp_path: Path) -> None:
    found = problems(tmp_path, '[default]\nprovider = "opena"\nmodel = "gpt-4o"\n' + SAMPLE)
    assert [(each.line, each.key, each.suggestion) for each in found] == [
        (2, "default.provider", "openai"),
        (3, "default.model", "gpt-4o-mini"),
    ]


def test_a_default_model_that_the_default_provider_does_not_serve_is_refused(tmp_path: Path) -> None:
    text = (
        '[default]\nprovider = "local"\nmodel = "gpt-4o-mini"\n'
        + SAMPLE
        + '[[providers]]\nid = "local"\nkind = "compatible"\nbase_url = "http://127.0.0.1:1"\n'
        + "limits = { requests_per_minute = 5 }\n"
    )
    problem = only(problems(tmp_path, text))
    assert (problem.line, problem.key) == (3, "default.model")


@pytest.mark.requirement("PR-2")
def test_all_problems_of_grammar_and_of_meaning_are_reported_at_once(tmp_path: Path) -> None:
    text = """\
[server]
listn = "127.0.0.1:8080"
listen = "0.0.0.0:8080"
[storage]
url = "mysql://x"
[[providers]]
id = "openai"
kind = "opnai"
[[providers]]
id = "second"
kind = "openai"
credential = "sk-literal-secret"
[[models]]
name = "m"
route = [{ provider = "openia", model = "x" }]
[[keys]]
tenant = "nobody"
secret = "env:ABSENT"
models = ["mm", "*"]
"""
    found = problems(tmp_path, text)
    assert [(each.line, each.key, each.suggestion) for each in found] == [
        (2, "server.listn", "listen"),
        (3, "server.listen", None),
        (5, "storage.url", None),
        (8, "providers[0].kind", "openai"),
        (12, "providers[1].credential", None),
        (15, "models[0].route[0].provider", "openai"),
        (17, "keys[0].tenant", None),
        (18, "keys[0].secret", None),
        (19, "keys[0].models[0]", "m"),
    ]


@pytest.mark.requirement("PR-2")
@pytest.mark.parametrize(
    ("old", "new", "key", "reason", "suggestion"),
    [
        ('kind = "openai"', 'kind = "opeanai"', "providers[0].kind", "no such kind", "openai"),
        ('credential = "env:OPENAI_API_KEY"', "", "providers[0].credential", '"openai" cannot be called', None),
        (
            'credential = "env:OPENAI_API_KEY"',
            'credential = "env:OTHER_API_KEY"',
            "providers[0].credential",
            "env:OTHER_API_KEY: the variable is not set",
            None,
        ),
        (
            'credential = "env:OPENAI_API_KEY"',
            'credential = "file:secret/openai"',
            "providers[0].credential",
            "file:secret/openai: no such file",
            None,
        ),
        (
            'route = [{ provider = "openai", model = "gpt-4o-mini" }]',
            'route = [{ provider = "opnai", model = "gpt-4o-mini" }]',
            "models[0].route[0].provider",
            "no [[providers]] has this id",
            "openai",
        ),
        (
            'route = [{ provider = "openai", model = "gpt-4o-mini" }]',
            'route = [{ provider = "openai", model = ".." }]',
            "models[0].route[0].model",
            "not allowed",
            None,
        ),
        (
            'route = [{ provider = "openai", model = "gpt-4o-mini" }]',
            'route = [{ provider = "openai", model = "../files" }]',
            "models[0].route[0].model",
            "not allowed",
            None,
        ),
        (
            'route = [{ provider = "openai", model = "gpt-4o-mini" }]',
            'route = [{ provider = "openai", model = "a/../b" }]',
            "models[0].route[0].model",
            "not allowed",
            None,
        ),
        (
            'name = "gpt-4o-mini"',
            'name = "gpt-4o-mini"\ncapabilities = ["tools", "visions"]',
            "models[0].capabilities[1]",
            "not one of the known words",
            "vision",
        ),
        (
            'route = [{ provider = "openai", model = "gpt-4o-mini" }]',
            'route = [{ provider = "openai", model = "gpt-4o-mini", capabilities = ["json_shema"] }]',
            "models[0].route[0].capabilities[0]",
            "not one of the known words",
            "json_schema",
        ),
        ('name = "gpt-4o-mini"', 'name = "gpt-4o-mini"\nmax_output = 0', "models[0].max_output", "least value", None),
        ('tenant = "acme"', 'tenant = "acne"', "keys[0].tenant", "no [[tenants]] has this id", "acme"),
        ('models = ["gpt-4o-mini"]', 'models = ["gpt-4o"]', "keys[0].models[0]", "no [[models]]", "gpt-4o-mini"),
        ('id = "acme"', 'id = "acme"\nmodels = ["gpt4o-mini"]', "tenants[0].models[0]", "no [[models]]", "gpt-4o-mini"),
        ('guard = "strict"', 'guard = "stric"', "tenants[0].guard", "not one of the known words", "strict"),
        ('secret = "env:ACME_KEY"', 'secret = "env:SHORT_KEY"', "keys[0].secret", "fewer than 8 characters", None),
        ('secret = "env:ACME_KEY"', 'secret = "hunter2"', "keys[0].secret", "a literal secret", None),
        (
            'base_url = "https://api.openai.com/v1"',
            'base_url = "https://user:hunter2@api.openai.com/v1"',
            "providers[0].base_url",
            "user or password",
            None,
        ),
        ('base_url = "https://api.openai.com/v1"', 'base_url = "api.openai.com"', "providers[0].base_url", "", None),
        (
            'base_url = "https://api.openai.com/v1"',
            'proxy = "https://p:3128"',
            "providers[0].proxy",
            "HTTP proxy",
            None,
        ),
        (
            'base_url = "https://api.openai.com/v1"',
            'proxy = "http://u:hunter2@p:3128"',
            "providers[0].proxy",
            "user or password",
            None,
        ),
        (
            'base_url = "https://api.openai.com/v1"',
            'ca_file = "absent.pem"',
            "providers[0].ca_file",
            "no such file",
            None,
        ),
        (
            'price = { input_per_million = "0.15 USD", output_per_million = "0.60 USD" }',
            'price = { input_per_million = "0.15 USD", output_per_million = "0.60 EUR" }',
            "models[0].price",
            "EUR and USD",
            None,
        ),
        (
            'budget = { month = "200.00 USD", hard = true }',
            'budget = { month = "200.00 BRL" }',
            "tenants[0].budget",
            'is in BRL, but model "gpt-4o-mini" is priced in USD',
            None,
        ),
        ('admin_listen = "127.0.0.1:8081"', 'admin_listen = "127.0.0.1:8080"', "server.admin_listen", "`listen`", None),
        ('listen = "127.0.0.1:8080"', 'listen = "0.0.0.0:8080"', "server.listen", "without TLS", None),
        ('admin_listen = "127.0.0.1:8081"', 'admin_listen = "[::]:1"', "server.admin_listen", "without TLS", None),
        (
            'url = "sqlite:///var/securellm"',
            'url = "postgresql://u:hunter2@db/x"',
            "storage.url",
            "a literal secret",
            None,
        ),
    ],
)
def test_what_cannot_work_is_refused_with_its_line_and_key(
    tmp_path: Path, old: str, new: str, key: str, reason: str, suggestion: str | None
) -> None:
    text, line = changed(old, new)
    problem = only(problems(tmp_path, text))
    assert problem.key == key
    assert reason in problem.reason
    assert problem.suggestion == suggestion
    assert problem.remedy
    assert "hunter2" not in str(problem)
    if new:
        assert problem.line == line + new.count("\n")
    else:
        assert problem.line == 8  # its [[providers]] header


@pytest.mark.requirement("PR-2")
def test_a_name_declared_twice_is_refused_where_it_stands_again(tmp_path: Path) -> None:
    provider = '[[providers]]\nid = "openai"\nkind = "openai"\ncredential = "env:OPENAI_API_KEY"\n'
    model = '[[models]]\nname = "gpt-4o-mini"\nroute = [{ provider = "openai", model = "x" }]\n'
    tenant = '[[tenants]]\nid = "acme"\n'
    found = problems(tmp_path, SAMPLE + provider + model + tenant)
    start = SAMPLE.count("\n")
    assert [(each.line, each.key) for each in found] == [
        (start + 2, "providers[1].id"),
        (start + 6, "models[1].name"),
        (start + 9, "tenants[1].id"),
    ]


def test_a_secret_shared_by_two_keys_is_refused(tmp_path: Path) -> None:
    second = '[[keys]]\ntenant = "acme"\nsecret = "env:ACME_KEY"\nmodels = ["*"]\n'
    problem = only(problems(tmp_path, SAMPLE + second))
    assert (problem.key, problem.reason) == ("keys[1].secret", "env:ACME_KEY is the secret of another key too")


def test_no_provider_and_no_model_is_refused(tmp_path: Path) -> None:
    assert [each.key for each in problems(tmp_path, "")] == ["providers", "models"]
    assert [each.key for each in problems(tmp_path, "providers = []\nmodels = []")] == ["providers", "models"]


def test_no_tenant_and_no_key_is_allowed(tmp_path: Path) -> None:
    config = loaded(tmp_path, SAMPLE[: SAMPLE.index("[[tenants]]")]).config
    assert (config.tenants, config.keys) == ((), ())


def test_a_provider_without_an_address_or_limits_of_its_own_must_be_given_both(tmp_path: Path) -> None:
    text = SAMPLE + '[[providers]]\nid = "local"\nkind = "compatible"\n'
    found = problems(tmp_path, text)
    assert [each.key for each in found] == ["providers[1].base_url", "providers[1].limits"]
    assert {each.line for each in found} == {SAMPLE.count("\n") + 1}
    whole = text + 'base_url = "http://127.0.0.1:11434/v1"\nlimits = { requests_per_minute = 5 }\n'
    assert loaded(tmp_path, whole).warnings == ()


@pytest.mark.requirement("PR-8")
def test_the_mock_is_refused_in_production_and_answers_in_demo_and_test_mode(tmp_path: Path) -> None:
    text, line = changed('kind = "openai"', 'kind = "mock"')
    problem = only(problems(tmp_path, text))
    assert (problem.line, problem.key) == (line, "providers[0].kind")
    assert "demo and test mode only" in problem.reason
    explicit = only(problems(tmp_path, 'mode = "production"\n' + text))
    assert explicit.key == "providers[0].kind"
    for mode in ("demo", "test"):
        assert loaded(tmp_path, f'mode = "{mode}"\n{text}').config.mode == mode


@pytest.mark.parametrize(
    ("old", "new", "key", "reason"),
    [
        (
            'base_url = "https://api.openai.com/v1"',
            'base_url = "http://10.0.0.7/v1"',
            "providers[0].base_url",
            "without TLS",
        ),
        ('secret = "env:ACME_KEY"', 'secret = "env:MEDIUM_KEY"', "keys[0].secret", "fewer than 24 characters"),
        ('guard = "strict"', 'guard = "off"', "tenants[0].guard", "screened"),
        ('listen = "127.0.0.1:8080"', 'listen = "0.0.0.0:8080"\ninsecure = true', "server.listen", "without TLS"),
        (
            'price = { input_per_million = "0.15 USD", output_per_million = "0.60 USD" }',
            "",
            "tenants[0].budget",
            "unknown price",
        ),
    ],
)
def test_what_is_allowed_but_unwise_is_a_warning_with_its_line(
    tmp_path: Path, old: str, new: str, key: str, reason: str
) -> None:
    text, line = changed(old, new)
    text = text.replace('model = "gpt-4o-mini"', 'model = "own-model"')
    warning = only(loaded(tmp_path, text).warnings)
    assert warning.key == key
    assert reason in warning.reason
    assert warning.line == (line if new else line + 4)


def test_plain_http_to_this_machine_is_no_reason_to_warn(tmp_path: Path) -> None:
    for host in ("127.0.0.1:9", "localhost", "[::1]:9"):
        text, _ = changed('base_url = "https://api.openai.com/v1"', f'base_url = "http://{host}/v1"')
        assert loaded(tmp_path, text).warnings == ()


def test_a_key_for_a_model_its_tenant_may_not_use_is_a_warning(tmp_path: Path) -> None:
    text, _ = changed('id = "acme"', 'id = "acme"\nmodels = ["other"]')
    text += '[[models]]\nname = "other"\nroute = [{ provider = "openai", model = "gpt-4o" }]\n'
    assert only(loaded(tmp_path, text).warnings).key == "keys[0].models[0]"


def test_the_price_book_counts_where_the_file_gives_no_price(tmp_path: Path) -> None:
    text, _ = changed('price = { input_per_million = "0.15 USD", output_per_million = "0.60 USD" }', "")
    assert loaded(tmp_path, text).warnings == ()
    text = text.replace("200.00 USD", "200.00 BRL")
    assert "is priced in USD" in only(problems(tmp_path, text)).reason


def test_two_models_cannot_price_one_place_differently(tmp_path: Path) -> None:
    second = '[[models]]\nname = "alias"\nroute = [{ provider = "openai", model = "gpt-4o-mini" }]\n'
    assert loaded(tmp_path, SAMPLE + second).warnings == ()
    price = 'price = { input_per_million = "0.16 USD", output_per_million = "0.60 USD" }\n'
    problem = only(problems(tmp_path, SAMPLE + second + price))
    assert (problem.line, problem.key) == (SAMPLE.count("\n") + 4, "models[1].price")
    assert loaded(tmp_path, SAMPLE + second + price.replace("0.16", "0.15")).warnings == ()


def test_a_mistake_inside_a_table_has_no_consequences_elsewhere(tmp_path: Path) -> None:
    """What could not be read is reported once: not again by everything that depends on it."""
    for old, new in (
        ('id = "openai"', "id = 7"),
        ('name = "gpt-4o-mini"', 'name = "-"'),
        ('id = "acme"', "id = []"),
        ('budget = { month = "200.00 USD", hard = true }', "budget = { month = 200 }"),
        ('budget = { month = "200.00 USD", hard = true }', "budget = {}"),
        (
            'price = { input_per_million = "0.15 USD", output_per_million = "0.60 USD" }',
            'price = { inputper_million = "0.15 USD", output_per_million = "0.60 USD" }',
        ),
        ('secret = "env:ACME_KEY"', "secret = 7"),
        ('url = "sqlite:///var/securellm"', "url = 7"),
        ('kind = "openai"', "kind = 7"),
        ('admin_listen = "127.0.0.1:8081"', "admin_listen = 7"),
        ('admin_listen = "127.0.0.1:8081"', "tls = {}"),
    ):
        text, line = changed(old, new)
        found = problems(tmp_path, text)
        assert {each.line for each in found} == {line}, new
        assert len(found) == (2 if new == "tls = {}" else 1), new


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("sqlite:///var/securellm", "{base}/var/securellm"),
        ("sqlite:///../x", "{parent}/x"),
        ("sqlite:////var/lib/securellm", "/var/lib/securellm"),
    ],
)
def test_three_slashes_are_beside_the_file_and_four_absolute(tmp_path: Path, url: str, folder: str) -> None:
    text, _ = changed('url = "sqlite:///var/securellm"', f'url = "{url}"')
    expected = Path(folder.format(base=tmp_path, parent=tmp_path.parent))
    assert loaded(tmp_path, text).data_dir == expected
    assert data_dir_of(tmp_path / "securellm.toml") == expected


@pytest.mark.parametrize(
    "url", ["", "sqlite://x", "sqlite:///", "sqlite:////", "sqlite:///:memory:", "sqlite:///a?b", "x"]
)
def test_a_storage_address_that_names_no_folder_is_refused(tmp_path: Path, url: str) -> None:
    text, line = changed('url = "sqlite:///var/securellm"', f'url = "{url}"')
    problem = only(problems(tmp_path, text))
    assert (problem.line, problem.key) == (line, "storage.url")
    with pytest.raises(ConfigError):
        data_dir_of(tmp_path / "securellm.toml")


@pytest.mark.requirement("ST-1", "SC-1")
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://u:hunter2@db/x", "literal secret"),
        ("postgres://u@db/x?password=hunter2", "literal secret"),
        ("postgresql://u@db/x?passfile=hunter2", "literal secret"),
        ("postgresql://db/x", "name a role"),
        ("postgresql://u@db", "name a role"),
        ("postgresql://u@db/", "name a role"),
        ("postgresql://u@db:0/x", "name a role"),
        ("postgresql://u@db:port/x", "address"),
        ("postgresql://u@[db/x", "address"),
        ("postgresql://u@/x", "name a server"),
        ("postgresql://u@db/x#y", "name a role"),
    ],
)
def test_the_address_of_a_server_names_a_role_a_database_and_no_secret(tmp_path: Path, url: str, reason: str) -> None:
    text, line = changed('url = "sqlite:///var/securellm"', f'url = "{url}"')
    problem = only(problems(tmp_path, text))
    assert (problem.line, problem.key) == (line, "storage.url")
    assert reason in problem.reason
    assert "hunter2" not in str(problem)


def served(tmp_path: Path, url: str, *more: str) -> str:
    """A configuration whose control plane is on a server."""
    (tmp_path / "pepper").write_text("0f" * 32)
    lines = "\n".join([f'url = "{url}"', *more])
    text, _ = changed('url = "sqlite:///var/securellm"', f'{lines}\n\n[security]\npepper = "file:pepper"')
    return text


def test_beside_a_server_the_journal_has_a_folder_of_its_own(tmp_path: Path) -> None:
    url = "postgresql://gateway@127.0.0.1:5432/control"
    text = served(tmp_path, url)
    found = loaded(tmp_path, text)
    assert found.data_dir == data_dir_of(tmp_path / "securellm.toml") == tmp_path / "var" / "securellm"
    assert control_location(found) == (url, None)
    assert found.warnings == ()
    (tmp_path / "pg").write_text("its password\n")
    text = served(tmp_path, url, 'password = "file:pg"', 'data_dir = "/srv/journal"')
    found = loaded(tmp_path, text)
    assert found.data_dir == data_dir_of(tmp_path / "securellm.toml") == Path("/srv/journal")
    _, password = control_location(found)
    assert password is not None
    assert password() == "its password"
    (tmp_path / "pg").unlink()
    with pytest.raises(Fault) as fault:
        password()
    assert fault.value.code is Code.STORAGE_UNAVAILABLE


def test_a_folder_of_files_takes_neither_password_nor_data_dir(tmp_path: Path) -> None:
    for more in ('password = "env:HOME"', 'data_dir = "elsewhere"'):
        old = 'url = "sqlite:///var/securellm"'
        text, line = changed(old, f"{old}\n{more}")
        problem = only(problems(tmp_path, text))
        assert (problem.line, problem.key) == (line + 1, f"storage.{more.split()[0]}")


@pytest.mark.parametrize(
    ("address", "warned"),
    [
        ("gateway@db.example/x", True),
        ("gateway@db.example/x?sslmode=require", True),
        ("gateway@db.example/x?sslmode=verify-full&sslrootcert=/etc/ca.pem", False),
        ("gateway@localhost/x", False),
        ("gateway@[::1]/x", False),
        ("gateway@/x?host=/run/postgresql", False),
    ],
)
def test_a_server_that_is_not_proven_over_the_network_is_warned_about(
    tmp_path: Path, address: str, warned: bool
) -> None:
    text = served(tmp_path, f"postgresql://{address}")
    assert [problem.key for problem in loaded(tmp_path, text).warnings] == ["storage.url"] * warned


def test_the_data_folder_is_found_whatever_else_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[storage]\nurl = "sqlite:///d"\n[[providers]]\nkind = 1\n')
    assert data_dir_of(path) == tmp_path / "d"
    path.write_text("")
    assert data_dir_of(path) == tmp_path / "var" / "securellm"


@pytest.mark.requirement("SC-1")
def test_dotenv_beside_the_file_counts_unless_others_can_read_it(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text(f"OPENAI_API_KEY=sk-provider-credential\nACME_KEY={PLAIN}\n")
    dotenv.chmod(0o600)
    assert loaded(tmp_path, SAMPLE, environ={}).warnings == ()
    dotenv.chmod(0o644)
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, SAMPLE, environ={})
    problem = only(refused.value.problems)
    assert "others can read it" in problem.reason
    assert problem.remedy == f"run: chmod 600 {dotenv}"


@pytest.mark.parametrize(
    ("name", "value"),
    [("pepper", "short"), ("audit_key", "Z" * 64), ("admin_token", "short"), ("admin_token", "with a space " * 9)],
)
def test_a_key_of_the_gateway_that_cannot_serve_is_refused(tmp_path: Path, name: str, value: str) -> None:
    text = f'[security]\n{name} = "env:OWN"\n{SAMPLE}'
    path = tmp_path / "securellm.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load_config(path, environ={**ENVIRON, "OWN": value}, provider_kinds=TABLE)
    assert only(refused.value.problems).key == f"security.{name}"
    assert value not in str(refused.value)


def test_a_provider_credential_that_no_header_can_carry_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, SAMPLE, environ={**ENVIRON, "OPENAI_API_KEY": "sk-a\nX-Evil: 1"})
    assert only(refused.value.problems).key == "providers[0].credential"
    assert "sk-a" not in str(refused.value)


def test_certificate_and_key_must_exist_and_belong_together(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    text, _ = changed('listen = "127.0.0.1:8080"', 'listen = "0.0.0.0:8080"')
    tls = "[server.tls]\ncert = '{cert}'\nkey = '{key}'\n"
    assert loaded(tmp_path, text + tls.format(cert=cert, key=key)).warnings == ()
    start = text.count("\n")

    missing = problems(tmp_path, text + tls.format(cert="no.pem", key="no.key"))
    assert [(each.line, each.key) for each in missing] == [
        (start + 2, "server.tls.cert"),
        (start + 3, "server.tls.key"),
    ]
    swapped = only(problems(tmp_path, text + tls.format(cert=key, key=cert)))
    assert swapped.key == "server.tls.cert"
    assert only(problems(tmp_path, text + f"[server.tls]\ncert = '{cert}'\n")).key == "server.tls.key"


def test_a_client_key_without_its_certificate_is_refused(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    old = 'base_url = "https://api.openai.com/v1"'
    text, line = changed(old, f"client_key = '{key}'")
    problem = only(problems(tmp_path, text))
    assert (problem.line, problem.key) == (line, "providers[0].client_key")
    text, _ = changed(old, f"client_key = '{key}'\nclient_cert = '{cert}'\nca_file = '{cert}'")
    assert loaded(tmp_path, text).config.providers[0].ca_file == str(cert)


def test_every_route_has_four_timeouts_its_own_over_its_providers(tmp_path: Path) -> None:
    text, _ = changed(
        'route = [{ provider = "openai", model = "gpt-4o-mini" }]',
        'route = [{ provider = "openai", model = "a" },\n'
        '{ provider = "openai", model = "b", timeouts = { idle = "9s" } }]',
    )
    config = loaded(tmp_path, text).config
    first, second = (config.timeouts_of(route) for route in config.models[0].route)
    assert first == Timeouts(connect=Seconds(2.0), first_byte=Seconds(30.0), idle=Seconds(30.0), total=Seconds(600.0))
    assert second == Timeouts(connect=Seconds(2.0), first_byte=Seconds(30.0), idle=Seconds(9.0), total=Seconds(600.0))


def test_no_timeout_can_be_switched_off(tmp_path: Path) -> None:
    for name in ("connect", "first_byte", "idle", "total"):
        for value in ('"0s"', "false", "0", '"inf"'):
            text, line = changed(
                'timeouts = { connect = "2s", first_byte = "30s", idle = "30s", total = "10m" }',
                f"timeouts = {{ {name} = {value} }}",
            )
            problem = only(problems(tmp_path, text))
            assert (problem.line, problem.key) == (line, f"providers[0].timeouts.{name}")


def test_the_digest_is_of_what_is_in_force_and_of_no_secret(tmp_path: Path) -> None:
    first = loaded(tmp_path, SAMPLE)
    digest = config_digest(first.config)
    assert len(digest) == 64
    other_secret = loaded(tmp_path, SAMPLE, environ={**ENVIRON, "ACME_KEY": "z" * 40})
    assert config_digest(other_secret.config) == digest
    spelled_out, _ = changed('admin_listen = "127.0.0.1:8081"', 'admin_listen = "127.0.0.1:8081"\nmax_body = 10485760')
    assert config_digest(loaded(tmp_path, spelled_out).config) == digest
    other, _ = changed('guard = "strict"', 'guard = "standard"')
    assert config_digest(loaded(tmp_path, other).config) != digest


def test_limits_are_rates_whose_burst_is_a_minutes_unless_said_otherwise(tmp_path: Path) -> None:
    limits = loaded(tmp_path, SAMPLE).config.tenants[0].limits
    assert limits.rates() == TenantRates(
        requests=Rate(per_minute=600, burst=600), tokens=Rate(per_minute=200_000, burst=200_000), parallel=50
    )
    assert TenantLimits(requests_per_minute=600, burst=9).rates().requests == Rate(per_minute=600, burst=9)
    assert TenantLimits().rates() == TenantRates()
    assert ProviderLimits(requests_per_minute=60).rate() == Rate(per_minute=60, burst=60)
    assert ProviderLimits(requests_per_minute=60, burst=5).rate() == Rate(per_minute=60, burst=5)


def test_keys_take_surfaces_and_an_expiry(tmp_path: Path) -> None:
    text = SAMPLE + 'surfaces = ["chat", "messages"]\nexpires = 2027-01-31T00:00:00Z\nname = "batch"\n'
    key = loaded(tmp_path, text).config.keys[0]
    assert key.surfaces == (Surface.CHAT, Surface.MESSAGES)
    assert key.expires == 1_801_353_600_000_000


def test_a_file_that_cannot_be_read_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    def refusal(path: Path) -> Problem:
        with pytest.raises(ConfigError) as refused:
            load_config(path, environ={}, provider_kinds=TABLE)
        return only(refused.value.problems)

    assert "no such file" in refusal(tmp_path / "absent.toml").reason
    assert "is a directory" in refusal(tmp_path).reason
    path = tmp_path / "c.toml"
    path.write_bytes(b"a = 1\n# \xff\n")
    assert (refusal(path).line, refusal(path).reason) == (2, "is not UTF-8")


LINES = SAMPLE.split("\n")
EDITABLE = [index for index, line in enumerate(LINES) if not line.startswith(("id", "name"))]
"""All but the names an operator chose, which problems do show."""
VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [
        '"sk-hunter2-hunter2"',
        "7",
        "-1",
        "true",
        "[]",
        "{}",
        '""',
        '["*"]',
        '"env:ACME_KEY"',
        '"0.0.0.0:1"',
        "1979-05-27",
    ]
)


@given(st.lists(st.tuples(st.sampled_from(EDITABLE), st.none() | VALUES), max_size=4), st.booleans())
def test_a_mutilated_sample_starts_or_is_refused_and_shows_no_value(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, str | None]], demo: bool
) -> None:
    lines = list(LINES)
    for index, value in edits:
        name, equals, _ = lines[index].partition(" = ")
        lines[index] = f"{name} = {value}" if equals and value is not None else ""
    text = ('mode = "demo"\n' if demo else "") + "\n".join(lines)
    try:
        loaded(tmp_path_factory.mktemp("c"), text)
    except ConfigError as error:
        shown = str(error)
    else:
        return
    assert "hunter2" not in shown
    assert "sk-provider" not in shown


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate and its key, as PEM files."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    start = datetime(2026, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=36500))
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_file, key_file


@pytest.mark.requirement("RT-5")
def test_a_name_that_reads_as_a_pin_its_routes_do_not_keep_is_warned_about(tmp_path: Path) -> None:
    second = '[[providers]]\nid = "other"\nkind = "openai"\ncredential = "env:OPENAI_API_KEY"\n'

    def model(name: str, *providers: str) -> str:
        routes = ", ".join(f'{{ provider = "{provider}", model = "x" }}' for provider in providers)
        price = '{ input_per_million = "0 USD", output_per_million = "0 USD" }'
        return f'[[models]]\nname = "{name}"\nroute = [{routes}]\nprice = {price}\n'

    for name, providers in (("openai/x", ["openai"]), ("nobody/x", ["other"]), ("openai", ["other"])):
        assert loaded(tmp_path, SAMPLE + second + model(name, *providers)).warnings == ()
    for providers in (["other"], ["openai", "other"]):
        warning = only(loaded(tmp_path, SAMPLE + second + model("openai/x", *providers)).warnings)
        assert (warning.key, warning.reason) == (
            "models[1].name",
            'reads as a pin to provider "openai", yet a route leads to "other"',
        )


@pytest.mark.requirement("PR-6")
def test_a_route_speaks_only_what_its_provider_speaks(tmp_path: Path) -> None:
    row = 'route = [{ provider = "openai", model = "gpt-4o-mini" }]'
    text, line = changed(row, row.replace(" }", ', surfaces = ["responses", "messages"] }'))
    problem = only(problems(tmp_path, text))
    assert (problem.line, problem.key) == (line, "models[0].route[0].surfaces")
    assert problem.reason == '"openai" does not speak "messages"'
    text, _ = changed(row, row.replace(" }", ', surfaces = ["responses"] }'))
    assert loaded(tmp_path, text).warnings == ()


def test_a_capability_that_is_of_no_use_alone_is_warned_about(tmp_path: Path) -> None:
    text, line = changed('name = "gpt-4o-mini"', 'name = "gpt-4o-mini"\ncapabilities = ["parallel_tools"]')
    warning = only(loaded(tmp_path, text).warnings)
    assert (warning.line, warning.key) == (line + 1, "models[0].capabilities")
    assert warning.reason == '"parallel_tools" is of no use without "tools"'
    text, _ = changed('name = "gpt-4o-mini"', 'name = "gpt-4o-mini"\ncapabilities = ["strict_tools", "tools"]')
    assert loaded(tmp_path, text).warnings == ()
