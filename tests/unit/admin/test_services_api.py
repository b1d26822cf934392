"""The resources /admin/v1/services and /admin/v1/users: what a change says is changed, and nothing else."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.admin.driver import RIGHT, Desk

SERVICES = "/admin/v1/services"
USERS = "/admin/v1/users"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    opened = Desk(tmp_path)
    yield opened
    opened.close()


def test_what_is_named_twice_counts_once(desk: Desk) -> None:
    asked = {"tenant": "acme", "models": ["a", "b", "a"], "surfaces": ["chat", "chat"]}
    made = desk.call("POST", SERVICES, asked).json
    assert (made["models"], made["surfaces"]) == (["a", "b"], ["chat"])


@pytest.mark.parametrize(
    ("path", "asked", "change"),
    [
        (SERVICES, {"tenant": "acme", "name": "batch", "models": ["a"], "ip_ranges": ["10.0.0.0/8"]}, {"models": []}),
        (SERVICES, {"tenant": "acme", "name": "batch", "models": ["a"]}, {"name": "", "disabled": True}),
        (USERS, {"tenant": "acme", "name": "Ana", "email": "ana@example.com"}, {"email": ""}),
        (USERS, {"tenant": None, "name": "Ana"}, {"disabled": True, "name": "Ana Maria"}),
    ],
)
def test_what_is_left_out_stays(desk: Desk, path: str, asked: dict[str, object], change: dict[str, object]) -> None:
    made = desk.call("POST", path, asked)
    one, based = f"{path}/{made.json['id']}", ("if-match", made.headers["etag"])
    changed = desk.call("PATCH", one, change, headers=[RIGHT, based])
    assert changed.status == 200
    assert changed.json == {**made.json, **change}
    assert changed.headers["etag"] != made.headers["etag"]
    assert desk.call("PATCH", one, {}, headers=[RIGHT, ("if-match", "*")]).status == 422
    assert desk.call("PATCH", one, change, headers=[RIGHT, based]).status == 412
    assert desk.call("DELETE", one, headers=[RIGHT, based]).status == 412
    assert desk.call("DELETE", one, headers=[RIGHT, ("if-match", changed.headers["etag"])]).status == 204
    assert desk.call("GET", one).status == 404
