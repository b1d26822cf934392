"""Two gateways over one PostgreSQL: what one is told holds at the other, and both outlive its death for a while."""

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
from tests.flows.front import CHAT, MESSAGES, RESPONSES
from tests.harness import GatewayProcess, Reply, Site, UpstreamProcess, request
from tests.postgres import ROLES, Database, Postgres, migrate

pytestmark = pytest.mark.postgres

FENCE = 4
"""Seconds, so that a test can wait for it; tenant `tight` has less."""
STREAMS: dict[str, dict[str, Any]] = {
    CHAT: {"model": "endless", "messages": [{"role": "user", "content": "hello"}], "stream": True},
    RESPONSES: {"model": "endless", "input": "hello", "stream": True},
    MESSAGES: {
        "model": "endless",
        "max_tokens": 50_000,
        "messages": [{"role": "user", "content": "hello"}],
        "stream": True,
    },
    "/api/chat": {"model": "endless", "messages": [{"role": "user", "content": "hello"}]},
}
"""Streams of one piece each 50 ms that last longer than any test."""


class Replicated(Site):
    """A site whose control plane is on a server."""

    def __init__(self, upstream: str, database: Database) -> None:
        super().__init__(upstream)
        self._database = database
        self.server["stale_policy_fence"] = f"{FENCE}s"
        self.environ |= {"CONTROL_PASSWORD": ROLES["gateway"], "PEPPER": "5a" * 32, "ADMIN_TOKEN": "t" * 40}
        self.model("endless", "openai", upstream="fake-small~words=2000~between=0.05")
        self.tenant("acme", budget="1000.00 USD")
        self.tenant("tight", stale_policy_fence="2s")

    def toml(self, *, data_dir: Path, port: int, admin_port: int) -> str:
        text = super().toml(data_dir=data_dir, port=port, admin_port=admin_port)
        local = json.dumps(f"sqlite:///{data_dir}")
        there = json.dumps(self._database.url())
        storage = f'{there}\npassword = "env:CONTROL_PASSWORD"\ndata_dir = {json.dumps(str(data_dir))}'
        security = '\n\n[security]\npepper = "env:PEPPER"\nadmin_token = "env:ADMIN_TOKEN"\n'
        assert local in text
        return text.replace(local, storage) + security


class Stream:
    """A streamed answer on a connection of its own, read as it comes."""

    def __init__(self, gateway: GatewayProcess, path: str, key: str) -> None:
        body = json.dumps(STREAMS[path]).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        self.received = b""
        self._socket = socket.create_connection(("127.0.0.1", gateway.port), timeout=30)
        self._socket.sendall(head.encode("ascii") + body)
        self._begun = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            while piece := self._socket.recv(65536):
                self.received += piece
                if self.received.count(b"\n") > 20:
                    self._begun.set()
                if self.received.endswith(b"0\r\n\r\n"):
                    break
        except OSError:
            pass
        self._ended.set()

    def begun(self) -> Self:
        assert self._begun.wait(20), self.received
        return self

    @property
    def running(self) -> bool:
        return not self._ended.is_set()

    def ended(self, *, seconds: float) -> bytes:
        """All of it, once it has ended."""
        assert self._ended.wait(seconds), f"not within {seconds:g} s: {self.received[-200:]!r}"
        self.close()
        return self.received

    def close(self) -> None:
        self._socket.close()


def until(met: Callable[[], object], *, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.02)


def admin(gateway: GatewayProcess, method: str, path: str, body: object = None) -> Any:
    token = {"authorization": f"Bearer {gateway.site.environ['ADMIN_TOKEN']}"}
    done = request(gateway.admin_url, method, f"/admin/v1{path}", body=body, headers=token)
    assert done.status < 300, done.body
    return done.json() if done.body else None


def make_key(gateway: GatewayProcess, tenant: str = "acme", **members: object) -> Any:
    return admin(gateway, "POST", "/keys", {"tenant": tenant, "models": ["*"], "name": "app", **members})


def works(gateway: GatewayProcess, key: str) -> bool:
    return gateway.chat("hi", key=key).status == 200


def code(reply: Reply) -> str:
    return str(reply.json()["error"]["code"])


@contextmanager
def replicas(folder: Path, database: Database, count: int = 2) -> Iterator[list[GatewayProcess]]:
    with ExitStack() as stack:
        upstream = stack.enter_context(UpstreamProcess(folder / "upstream.jsonl"))
        made = [GatewayProcess(Replicated(upstream.root, database), folder / str(number)) for number in range(count)]
        yield [stack.enter_context(gateway) for gateway in made]


@pytest.mark.requirement("ID-2", "ST-1")
def test_a_key_made_at_one_gateway_works_at_the_other_and_is_cut_there_when_it_is_revoked(
    tmp_path: Path, postgres: Database
) -> None:
    with replicas(tmp_path, postgres) as (one, other):
        made, kept = make_key(one), make_key(other)
        until(lambda: works(other, made["token"]), seconds=2)
        until(lambda: works(one, kept["token"]), seconds=2)
        streams = {path: Stream(other, path, made["token"]).begun() for path in STREAMS}
        bystander = Stream(other, CHAT, kept["token"]).begun()
        admin(one, "POST", f"/keys/{made['id']}/revoke")
        for path, stream in streams.items():
            whole = stream.ended(seconds=2)
            assert b"revoked_key" in whole, path
            assert b"[DONE]" not in whole
            assert b'"done":true' not in whole
        refused = other.chat("hi", key=made["token"])
        assert (refused.status, code(refused)) == (401, "revoked_key")
        assert bystander.running
        bystander.close()
        ended = [record for record in other.records("OUTCOME") if record.get("code") == "revoked_key"]
        assert len(ended) == len(streams)
        assert all(record["status"] == "refused" and record["settled"] + record["presumed"] > 0 for record in ended)
        one.verify()
        other.verify()


@pytest.mark.requirement("ID-2")
@pytest.mark.parametrize("silenced", [False, True])
def test_a_dead_or_frozen_database_is_outlived_up_to_the_fence_and_recovered_from_alone(
    tmp_path: Path, own_postgres: Postgres, silenced: bool
) -> None:
    with own_postgres.database() as database:
        migrate(database)
        with replicas(tmp_path, database, 1) as (gateway,):
            key, tight = (make_key(gateway, tenant)["token"] for tenant in ("acme", "tight"))
            until(lambda: works(gateway, key) and works(gateway, tight), seconds=3)
            stream = Stream(gateway, CHAT, key).begun()
            if silenced:
                own_postgres.send(signal.SIGSTOP)
            else:
                own_postgres.kill()
            assert works(gateway, key)
            until(lambda: gateway.chat("hi", key=tight).status == 503, seconds=4)
            assert code(gateway.chat("hi", key=tight)) == "stale_policy"
            assert works(gateway, key)
            until(lambda: gateway.chat("hi", key=key).status == 503, seconds=FENCE + 2)
            assert code(gateway.chat("hi", key=key)) == "stale_policy"
            assert gateway.request("GET", "/readyz").status == 503
            assert gateway.request("GET", "/livez").status == 200
            assert b"stale_policy" in stream.ended(seconds=3)
            if silenced:
                own_postgres.send(signal.SIGCONT)
            else:
                own_postgres.start()
            until(lambda: works(gateway, key) and works(gateway, tight), seconds=15)
            fresh = make_key(gateway)["token"]
            until(lambda: works(gateway, fresh), seconds=3)
            gateway.verify()


@pytest.mark.requirement("ID-2")
def test_a_gateway_starts_without_its_database_from_what_it_last_knew_or_not_at_all(
    tmp_path: Path, own_postgres: Postgres
) -> None:
    with own_postgres.database() as database:
        migrate(database)
        with replicas(tmp_path, database, 1) as (gateway,):
            gateway.site.server["stale_policy_fence"] = "30s"
            gateway.stop()
            gateway.start()
            kept, revoked = make_key(gateway), make_key(gateway)
            until(lambda: works(gateway, revoked["token"]), seconds=3)
            admin(gateway, "POST", f"/keys/{revoked['id']}/revoke")
            until(lambda: not works(gateway, revoked["token"]), seconds=3)
            gateway.kill9()
            own_postgres.kill()
            gateway.start()
            assert works(gateway, kept["token"])
            assert code(gateway.chat("hi", key=revoked["token"])) == "revoked_key"
            gateway.stop()
            path = gateway.data_dir / "last-known"
            whole = path.read_bytes()
            path.write_bytes(whole.replace(b"revoked_us", b"revoked_xs"))
            gateway.spawn()
            until(lambda: not gateway.running, seconds=20)
            assert "changed by somebody else" in gateway.errors()
            path.write_bytes(whole)
            own_postgres.start()
            gateway.start()
            assert works(gateway, kept["token"])
