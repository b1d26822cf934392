"""What broke our peers in front of the models, each class by the number it became known under."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from tests.harness import GatewayProcess, governed, request
from tests.upstream.behaviour import Behaviour

SOURCE = Path(__file__).parents[2] / "src"

TEMPLATES = (
    "{{7*7}} ${7*7} <%= 7*7 %> #{7*7} {% for x in ().__class__.__base__.__subclasses__() %}{{x}}{% endfor %}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "${T(java.lang.Runtime).getRuntime().exec('id')}",
)

REFUSED = (401, 429)
"""A guess, and a guess too many."""

PLACES = (
    "http://127.0.0.1:1@169.254.169.254/v1",
    "http://user:word@example.org/v1",
    "http://example.org\\@169.254.169.254/v1",
    "http://example.org#@169.254.169.254/",
    "http://[::ffff:169.254.169.254",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "//169.254.169.254/latest",
    "http://exa mple.org/v1",
    "http://example.org:99999/v1",
)


def admin(gateway: GatewayProcess, method: str, path: str, body: object = None, key: str | None = None) -> Any:
    token = gateway.admin_token if key is None else key
    return request(gateway.admin_url, method, f"/admin/v1/{path}", key=token, body=body)


def calls(tree: ast.AST) -> set[str]:
    """Every function that a module calls, as it is written."""
    return {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}


@pytest.mark.requirement("GW-14")
def test_ghsa_46cm_pfwv_cgf8_and_cve_2024_34359_a_template_in_a_text_is_text(tmp_path: Path) -> None:
    keys: list[str] = []
    with governed(tmp_path, lambda site: keys.append(site.key())) as (gateway, upstream):
        for text in TEMPLATES:
            answers = [
                gateway.chat(text, key=keys[0]),
                gateway.post("/process", {"text": text, "model": "chat"}, key=keys[0]),
            ]
            for answer in answers:
                assert answer.status == 200, answer.body
            sent = [json.loads(entry.body) for entry in upstream.requests()]
            said = [message["content"] for body in sent for message in body["messages"] if message["role"] == "user"]
            assert said[-2:] == [text, text]


def test_cve_2026_40217_and_cve_2025_68664_nothing_is_executed_or_unpickled() -> None:
    banned = {
        "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.loads", "pickle.load",
        "marshal.loads", "marshal.load", "yaml.load", "yaml.unsafe_load", "dill.loads", "shelve.open",
        "jinja2.Template", "Template",
    }  # fmt: skip
    for path in SOURCE.rglob("*.py"):
        assert not calls(ast.parse(path.read_text(encoding="utf-8"))) & banned, path


def test_cve_2026_42271_no_process_is_started_through_a_shell() -> None:
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                shell = [word.value for word in node.keywords if word.arg == "shell"]
                assert all(isinstance(value, ast.Constant) and value.value is False for value in shell), path
                assert ast.unparse(node.func) != "asyncio.create_subprocess_shell", path


@pytest.mark.requirement("ID-1")
def test_cve_2026_45400_an_address_that_two_readers_read_differently_is_no_provider(tmp_path: Path) -> None:
    with governed(tmp_path) as (gateway, _):
        for number, place in enumerate(PLACES):
            answer = admin(gateway, "POST", "providers", {"id": f"p{number}", "kind": "openai", "base_url": place})
            assert answer.status == 422, (place, answer.body)
            assert b"root:" not in answer.body
        names = {row["id"] for row in json.loads(admin(gateway, "GET", "providers?limit=200").body)["data"]}
        assert not names & {f"p{number}" for number in range(len(PLACES))}


@pytest.mark.requirement("GW-7")
def test_cve_2026_25528_nothing_that_a_caller_sends_says_where_to(tmp_path: Path) -> None:
    keys: list[str] = []
    elsewhere = "http://127.0.0.1:9/v1"
    with governed(tmp_path, lambda site: keys.append(site.key())) as (gateway, upstream):
        headers = {
            "baggage": f"langsmith-api-url={elsewhere}",
            "x-forwarded-host": "evil.example",
            "x-original-url": "/admin/v1/keys",
            "x-api-base": elsewhere,
            "forwarded": "host=evil.example",
        }
        body = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
        for member in ({}, {"api_base": elsewhere}, {"base_url": elsewhere}, {"metadata": {"endpoint": elsewhere}}):
            answer = gateway.post("/v1/chat/completions", {**body, **member}, key=keys[0], headers=headers)
            assert answer.status in (200, 400), answer.body
        seen = upstream.requests()
        assert seen
        assert all(entry.header("baggage") is None and entry.header("x-api-base") is None for entry in seen)


@pytest.mark.requirement("GW-9")
def test_cve_2026_45401_a_redirect_of_the_provider_is_never_followed(tmp_path: Path) -> None:
    keys: list[str] = []
    with governed(tmp_path, lambda site: keys.append(site.key())) as (gateway, upstream):
        for stream in (False, True):
            sent = len(upstream.requests())
            upstream.script(Behaviour(redirect=f"{gateway.admin_url}/livez"), times=5)
            answer = gateway.chat("hello", key=keys[0], stream=stream)
            assert answer.status == 502, answer.body
            assert gateway.admin_url.encode() not in answer.body
            assert len(upstream.requests()) > sent
            upstream.forget_scripts()


@pytest.mark.requirement("ZT-2")
def test_cve_2025_34291_no_other_origin_is_let_in(tmp_path: Path) -> None:
    keys: list[str] = []
    with governed(tmp_path, lambda site: keys.append(site.key())) as (gateway, _):
        asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
        for base, path in ((gateway.base_url, "/v1/chat/completions"), (gateway.admin_url, "/admin/v1/keys")):
            for method in ("OPTIONS", "GET", "POST"):
                answer = request(base, method, path, headers=asked, body=None if method != "POST" else {})
                assert not [name for name in answer.headers if name.startswith("access-control-")], (method, path)
                assert answer.status >= 400
        session = {"origin": "https://evil.example", "cookie": "slb_session=guess; __Host-slb_session=guess"}
        answer = request(gateway.admin_url, "POST", "/admin/v1/keys", headers=session, body={})
        assert answer.status in (401, 403)


@pytest.mark.requirement("ID-1")
def test_cve_2026_9198_a_fresh_installation_lets_nobody_in_by_a_word_that_is_known(tmp_path: Path) -> None:
    with governed(tmp_path) as (gateway, _):
        for word in ("admin", "sk-1234", "password", "changeme", "securellm", "slb_admin_", "slt_", "Bearer", "null"):
            for path in ("me", "keys", "setup"):
                method = "POST" if path == "setup" else "GET"
                assert admin(gateway, method, path, None if method == "GET" else {}, key=word).status in REFUSED, word
            assert gateway.chat("hello", key=word).status in REFUSED
        open_to_all = gateway.cli("config", "check", str(_reachable(gateway)))
        assert open_to_all.returncode == 2
        assert "TLS" in open_to_all.stdout


def _reachable(gateway: GatewayProcess) -> Path:
    text = gateway.config.read_text(encoding="utf-8").replace(
        f'admin_listen = "127.0.0.1:{gateway.admin_port}"', f'admin_listen = "0.0.0.0:{gateway.admin_port}"'
    )
    path = gateway.directory / "reachable.toml"
    path.write_text(text, encoding="utf-8")
    return path
