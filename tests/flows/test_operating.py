"""A gateway as its operator handles it: keys, reload, stop, start, and what refuses to start."""

import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.harness import GatewayProcess, Reply, Site, UpstreamProcess, governed, request
from tests.unit.transport.peers import Authority
from tests.upstream import Behaviour

_REFUSED = 3


def until(met: Callable[[], bool], *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.02)


def admin(gateway: GatewayProcess, method: str, path: str, body: object = None) -> Reply:
    token = {"authorization": f"Bearer {gateway.admin_token}"}
    return request(gateway.admin_url, method, f"/admin/v1{path}", body=body, headers=token)


def test_keys_are_made_and_revoked_through_the_api_and_the_command_while_it_runs_or_not(tmp_path: Path) -> None:
    def works(token: str) -> bool:
        return gateway.chat("hi", key=token).status == 200

    with governed(tmp_path) as (gateway, _):
        made = admin(gateway, "POST", "/keys", {"tenant": "acme", "models": ["*"], "name": "app"})
        assert made.status == 201, made.body
        typed = gateway.create_key()
        names = {"api": made.json()["id"], "typed": typed["id"]}
        tokens = {"api": made.json()["token"], "typed": typed["token"]}
        for token in tokens.values():
            until(lambda token=token: works(token), seconds=3)  # type: ignore[misc]
        assert admin(gateway, "POST", f"/keys/{names['api']}/revoke").status == 200
        done = gateway.cli("key", "revoke", "--data-dir", str(gateway.data_dir), names["typed"])
        assert done.returncode == 0, done.stderr
        for token in tokens.values():
            until(lambda token=token: gateway.chat("hi", key=token).status == 401, seconds=3)  # type: ignore[misc]
        gateway.stop()
        resting = gateway.create_key()
        gateway.start()
        assert works(resting["token"])
        refused = gateway.chat("hi", key=tokens["typed"])
        assert refused.json()["error"]["code"] == "revoked_key"
        changes = [(record["action"], record["key_id"]) for record in gateway.records("KEY")]
        assert changes == [
            ("create", names["api"]),
            ("create", names["typed"]),
            ("revoke", names["api"]),
            ("revoke", names["typed"]),
            ("create", resting["id"]),
        ]
        everything = gateway.stderr.read_bytes() + (gateway.data_dir / "control.db").read_bytes()
        for token in (*tokens.values(), resting["token"]):
            assert token.encode() not in everything
        gateway.verify()


def test_a_reload_changes_models_limits_and_keys_and_a_wrong_file_changes_nothing(tmp_path: Path) -> None:
    keys: list[str] = []
    with governed(tmp_path, lambda site: keys.append(site.key())) as (gateway, _):
        assert gateway.chat("hi", key=keys[0]).status == 200
        assert gateway.chat("hi", key=keys[0], model="later").status == 404
        gateway.site.model("later", "openai")
        gateway.site.tenant("acme", limits={"requests_per_minute": 60, "burst": 30})
        gateway.site.server["heartbeat"] = "7s"
        # The environment of a running process stays as it is; a file can be new.
        place = tmp_path / "late-key"
        late = gateway.site.key(secret=f"file:{place}")
        place.write_text(late, encoding="utf-8")
        place.chmod(0o600)
        gateway.reload()
        until(lambda: gateway.chat("hi", key=keys[0], model="later").status == 200, seconds=20)
        limited = gateway.chat("hi", key=late)
        assert limited.status == 200
        assert limited.headers["x-ratelimit-limit-requests"] == "60"
        (told,) = [line for line in gateway.errors().splitlines() if "reloaded_but_not_all" in line]
        assert json.loads(told)["at_the_next_start"] == ["server.heartbeat"]
        gateway.site.extra = "nonsense = true"
        gateway.reload()
        until(lambda: "reload_refused" in gateway.errors(), seconds=20)
        assert gateway.chat("hi", key=late, model="later").status == 200
        assert len(gateway.records("CONFIG")) == 1


def test_what_stored_data_depends_on_must_be_there(tmp_path: Path) -> None:
    with governed(tmp_path) as (gateway, _):
        gateway.create_key()
        gateway.stop()
        pepper = gateway.data_dir / "keys" / "pepper"
        content = pepper.read_bytes()
        pepper.unlink()
        assert refused(gateway) == _REFUSED
        assert "pepper" in gateway.errors(size=2000)
        pepper.write_bytes(content)
        pepper.chmod(0o644)
        assert refused(gateway) == _REFUSED
        pepper.chmod(0o600)
        gateway.start()
        second = GatewayProcess(gateway.site, tmp_path / "second")
        second.data_dir = gateway.data_dir
        assert refused(second) == _REFUSED
        assert "uses the data directory" in second.errors()
        assert gateway.request("GET", "/readyz").status == 200


def refused(gateway: GatewayProcess) -> int:
    gateway.spawn()
    process = gateway._process
    assert process is not None
    status = process.wait(20)
    gateway._process = None
    assert "Traceback" not in gateway.errors()
    return status


class Reading:
    """A client in a thread of its own that reads a stream to its end."""

    def __init__(self, gateway: GatewayProcess, key: str, model: str = "chat") -> None:
        self.body = b""
        self.error: Exception | None = None
        self.begun = threading.Event()
        self._connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
        self._asked = {"model": model, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        self._key = key
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        try:
            headers = {"authorization": f"Bearer {self._key}", "content-type": "application/json"}
            self._connection.request("POST", "/v1/chat/completions", json.dumps(self._asked), headers)
            answer = self._connection.getresponse()
            while piece := answer.read1(65536):
                self.body += piece
                self.begun.set()
        except Exception as error:  # noqa: BLE001 - judged by the test
            self.error = error
        finally:
            self.begun.set()
            self._connection.close()

    def end(self) -> bytes:
        self._thread.join(30)
        assert self.error is None, self.error
        return self.body


@pytest.mark.requirement("RS-4")
def test_a_stop_lets_streams_finish_or_tells_them_and_leaves_nothing_unrecorded(tmp_path: Path) -> None:
    keys: list[str] = []

    def prepare(site: Site) -> None:
        keys.append(site.key())
        site.tenant("acme", budget="10.00 USD")
        site.server["drain"] = "2s"
        site.model("slow", "openai", upstream="fake-slow")
        site.model("stuck", "openai", upstream="fake-stuck")

    with governed(tmp_path, prepare) as (gateway, upstream):
        upstream.script(Behaviour(words=8, between=0.1), model="fake-slow")
        upstream.script(Behaviour(hang_event=2), model="fake-stuck")
        streams = [Reading(gateway, keys[0], "slow"), Reading(gateway, keys[0], "stuck")]
        for stream in streams:
            assert stream.begun.wait(10)
        gateway.stop()
        finished, told = (stream.end() for stream in streams)
        assert finished.endswith(b"data: [DONE]\n\n")
        assert b"shutting_down" in told
        assert b"[DONE]" not in told
        assert not list(gateway.data_dir.glob("*-wal")) + list(gateway.data_dir.glob("*-shm"))
        outcomes = {record["status"]: record for record in gateway.records("OUTCOME")}
        assert set(outcomes) == {"ok", "refused"}
        assert outcomes["refused"]["code"] == "shutting_down"
        assert outcomes["refused"]["presumed"] > 0
        assert [row["held"] for row in gateway.budgets()] == [0]
        gateway.verify()
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", gateway.port), timeout=2)
        assert "Traceback" not in gateway.errors()


def test_tls_is_served_and_plain_http_on_it_is_not(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ca")
    certificate, secret = authority.issue("127.0.0.1", "llm.example.com")
    with UpstreamProcess(tmp_path / "upstream.jsonl") as upstream:
        site = Site(upstream.root)
        site.server["tls"] = {"cert": str(certificate), "key": str(secret)}
        key = site.key()
        gateway = GatewayProcess(site, tmp_path / "gateway")
        gateway.spawn()
        try:
            context = ssl.create_default_context(cafile=str(authority.file))
            until(lambda: secured(gateway.port, context, "GET", "/livez", "", b"") == 200, seconds=20)
            asked = json.dumps({"model": "chat", "messages": [{"role": "user", "content": "hi"}]}).encode()
            assert secured(gateway.port, context, "POST", "/v1/chat/completions", key, asked) == 200
            stranger = ssl.create_default_context()
            with pytest.raises(ssl.SSLCertVerificationError):
                ask_securely(gateway.port, stranger, "GET", "/livez", "", b"")
            old = ssl.create_default_context(cafile=str(authority.file))
            old.maximum_version = ssl.TLSVersion.TLSv1_2
            assert secured(gateway.port, old, "GET", "/livez", "", b"") == 200
            with pytest.raises((http.client.HTTPException, OSError)):
                request(gateway.base_url, "GET", "/livez", timeout=5)
            assert secured(gateway.port, context, "GET", "/livez", "", b"") == 200
            # On this host it is known by its certificate, whoever issued that and for whichever name.
            known = gateway.cli("whoami", "--data-dir", str(gateway.data_dir))
            assert known.stdout.startswith("service:host"), known.stderr
        finally:
            gateway.stop()


def secured(port: int, context: ssl.SSLContext, method: str, path: str, key: str, body: bytes) -> int:
    try:
        return ask_securely(port, context, method, path, key, body)
    except ConnectionRefusedError:
        return 0


def ask_securely(port: int, context: ssl.SSLContext, method: str, path: str, key: str, body: bytes) -> int:
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    try:
        headers: dict[str, Any] = {"authorization": f"Bearer {key}"} if key else {}
        connection.request(method, path, body or None, headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def test_a_client_that_closes_its_socket_cancels_the_upstream_and_leaves_no_hold(tmp_path: Path) -> None:
    keys: list[str] = []

    def prepare(site: Site) -> None:
        keys.append(site.key())
        site.tenant("acme", budget="10.00 USD")

    with governed(tmp_path, prepare) as (gateway, upstream):
        behaviours = (Behaviour(hang=True), Behaviour(hang_event=3), Behaviour(words=100_000))
        for index, behaviour in enumerate(behaviours):
            upstream.script(behaviour, times=1)
            asked = {
                "model": "chat",
                "stream": True,
                "max_tokens": 400_000,
                "messages": [{"role": "user", "content": "hi"}],
            }
            body = json.dumps(asked).encode()
            with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
                connection.sendall(
                    b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer %s\r\n"
                    b"content-length: %d\r\n\r\n%s" % (keys[0].encode(), len(body), body)
                )
                until(lambda index=index: len(upstream.requests()) > index, seconds=30)  # type: ignore[misc]
                if index:
                    assert b"200 OK" in connection.recv(65536)
            left = time.time_ns()
            until(lambda index=index: len(upstream.entries("answer")) > index, seconds=30)  # type: ignore[misc]
            answer = upstream.entries("answer")[-1]
            assert not answer.whole
            assert answer.at - left < 1_000_000_000, "within a second"
        until(lambda: len(gateway.records("OUTCOME")) == len(behaviours), seconds=30)
        assert {record["status"] for record in gateway.records("OUTCOME")} == {"client_disconnected"}
        assert [row["held"] for row in gateway.budgets()] == [0]
        gateway.verify()
