"""The admin listener's edge: the token before anything else, problems for every error, bounds on what is read."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.responses import JSONResponse, StreamingResponse
from tests.unit.admin.driver import RIGHT, TOKEN, WRONG, Answer, Desk, Header, exchange

from securellm.admin import Part
from securellm.admin import app as admin_app
from securellm.admin.app import behind_edge
from securellm.admin.calls import Guarded
from securellm.admin.permissions import ONE_TIME_PATHS, UndeclaredPermission, asks, asks_nothing
from securellm.core.errors import Code, Fault
from securellm.identity import Permission

PROBES = {
    "/livez", "/readyz", "/health", "/health/liveliness", "/health/liveness", "/health/readiness", "/metrics",
}  # fmt: skip
LOGIN = {"/admin/v1/login", "/admin/v1/login/callback"}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
UNKNOWN = ("/", "/admin", "/admin/v1", "/admin/v1/", "/admin/v1/nothing", "/docs", "/openapi.json", "/v1/models")
ODD = ("/livez/", "//livez", "/livez/../admin/v1/keys", "/LIVEZ", "/admin/v1/keys/", "/metrics?x", "/health/ready")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    opened = Desk(tmp_path)
    yield opened
    opened.close()


def assert_problem(answer: Answer, status: int, code: Code) -> Any:
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json
    assert problem["code"] == code.value
    assert problem["status"] == status
    assert problem["remedy"] == code.spec.remedy
    assert problem["type"] == f"urn:securellm-bridge:error:{code.value}"
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"]
    return problem


def routes(desk: Desk) -> dict[str, dict[str, bool]]:
    """Path -> method -> whether it is public, of every route that is really there."""
    found: dict[str, dict[str, bool]] = {}
    for route in desk.app.routes:
        path = re.sub(r"\{[^}]*\}", "key_1", getattr(route, "path", ""))
        public = (getattr(route, "openapi_extra", None) or {}).get("x-permission") == "public"
        for method in getattr(route, "methods", ()):
            found.setdefault(path, {})[method] = public
    return found


def test_every_route_and_method_asks_for_the_token_before_anything_else(desk: Desk) -> None:
    served = routes(desk)
    assert set(served) > PROBES
    assert {path for path, methods in served.items() if any(methods.values())} == {*PROBES, *LOGIN}
    for path, method in product([*served, *UNKNOWN, *ODD], METHODS):
        methods = served.get(path, {})
        public = any(methods.values())
        for headers in ((), (WRONG,)):
            answer = desk.call(method, path, headers=headers, raw=b"{not json")
            if path in LOGIN and method in methods:
                assert answer.status in {400, 401, 403, 422}
            elif public and method in methods:
                assert answer.status == 200
            elif public:
                assert answer.status == (405 if method in {"GET", "HEAD", "OPTIONS"} else 401)
            else:
                assert_problem(answer, 401, Code.ADMIN_REQUIRED)
                assert answer.headers["www-authenticate"] == 'Bearer realm="admin"'
        answer = desk.call(method, path, headers=[RIGHT])
        if path in ONE_TIME_PATHS:
            assert_problem(answer, 401, Code.ADMIN_REQUIRED)
        elif path in LOGIN and method in methods:
            assert answer.status in {400, 401, 403, 422}
        elif not methods:
            assert_problem(answer, 404, Code.NOT_FOUND)
        elif method not in methods:
            assert_problem(answer, 405, Code.METHOD_NOT_ALLOWED)
            assert answer.headers["allow"] == ", ".join(sorted(methods))
        else:
            assert answer.status not in {401, 405, 500}


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", TOKEN)],
        [("authorization", f"Basic {TOKEN}")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", f"Bearer {TOKEN}x")],
        [("authorization", f"Bearer {TOKEN} {TOKEN}")],
        [("authorization", f"Bearer {TOKEN}\u00ff")],
        [RIGHT, RIGHT],
        [RIGHT, WRONG],
        [("x-api-key", TOKEN)],
        [("cookie", f"token={TOKEN}")],
    ],
)
def test_nothing_but_one_bearer_token_is_a_credential(desk: Desk, headers: list[Header]) -> None:
    assert_problem(desk.call("GET", "/admin/v1/keys", headers=headers), 401, Code.ADMIN_REQUIRED)


def test_the_scheme_is_read_without_regard_to_case(desk: Desk) -> None:
    assert desk.call("GET", "/admin/v1/keys", headers=[("authorization", f"bEaReR {TOKEN}")]).status == 200


def test_an_empty_admin_token_opens_nothing(desk: Desk) -> None:
    desk.token = ""
    for headers in ([("authorization", "Bearer ")], [("authorization", "Bearer")]):
        assert desk.call("GET", "/admin/v1/keys", headers=headers).status == 401


def test_a_rotated_token_counts_from_the_next_request(desk: Desk) -> None:
    assert desk.call("GET", "/admin/v1/keys").status == 200
    desk.token = "another"
    assert desk.call("GET", "/admin/v1/keys").status == 401


def test_wrong_tokens_are_counted_by_address_and_then_slowed(desk: Desk) -> None:
    desk.call("GET", "/admin/v1/keys", headers=())
    assert desk.refused == []
    desk.call("GET", "/admin/v1/keys", headers=[WRONG])
    assert desk.refused == ["203.0.113.7"]
    desk.wait = 2.4
    answer = desk.call("GET", "/admin/v1/keys", headers=[WRONG])
    assert_problem(answer, 429, Code.RATE_LIMITED)
    assert answer.headers["retry-after"] == "3"
    assert desk.call("GET", "/admin/v1/keys").status == 200


def test_nothing_of_an_unauthenticated_body_is_read(desk: Desk) -> None:
    async def refuse_reading() -> Any:
        raise AssertionError("the body was read")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http", "method": "POST", "path": "/admin/v1/keys", "headers": [], "query_string": b"", "client": None,
    }  # fmt: skip
    asyncio.run(desk.app(scope, refuse_reading, send))
    assert sent[0]["status"] == 401


def test_a_websocket_is_turned_away(desk: Desk) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(desk.app({"type": "websocket", "path": "/livez", "headers": []}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", Code.MALFORMED_JSON),
        (b"{} {}", Code.MALFORMED_JSON),
        (b'{"tenant": NaN}', Code.MALFORMED_JSON),
        (b'{"tenant": "acme", "tenant": "globex"}', Code.DUPLICATE_KEY),
        (b'{"tenant": "\xff"}', Code.INVALID_UTF8),
        (b'{"tenant": "\\ud800"}', Code.INVALID_UTF8),
        (b"[" * 100 + b"]" * 100, Code.TOO_DEEP),
        (b"[" * 30_000, Code.TOO_DEEP),
    ],
)
def test_a_body_is_strict_json_or_a_problem(desk: Desk, body: bytes, code: Code) -> None:
    assert_problem(desk.call("POST", "/admin/v1/keys", raw=body), 400, code)


def test_a_body_is_capped_while_it_arrives(desk: Desk) -> None:
    answer = asyncio.run(exchange(desk.app, "POST", "/admin/v1/keys", headers=[RIGHT], chunks=[b" " * 65536] * 18))
    assert_problem(answer, 413, Code.BODY_TOO_LARGE)
    assert answer.headers["connection"] == "close"


def test_a_body_that_does_not_end_is_given_up(tmp_path: Path) -> None:
    desk = Desk(tmp_path, request_timeout=0.01)
    answer = asyncio.run(exchange(desk.app, "POST", "/admin/v1/keys", headers=[RIGHT], chunks=[b"{"], hang=True))
    assert_problem(answer, 408, Code.REQUEST_TIMEOUT)
    desk.close()


def test_a_body_that_is_no_json_object_is_a_problem(desk: Desk) -> None:
    for body in (b"", b"[]", b'"x"', b"null", b"3"):
        assert_problem(desk.call("POST", "/admin/v1/keys", raw=body), 422, Code.INVALID_REQUEST)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(body=st.binary(max_size=200) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_no_bytes_make_the_admin_api_fail(desk: Desk, body: bytes) -> None:
    assert desk.call("POST", "/admin/v1/keys", raw=body).status in {400, 422}


def test_health_tells_the_failing_part_to_the_authenticated_only(desk: Desk) -> None:
    for path in ("/readyz", "/health", "/health/readiness"):
        desk.parts[0] = Part(name="journal", well=True)
        assert desk.call("GET", path, headers=()).json == {"status": "ok"}
        desk.parts[0] = Part(name="journal", well=False, detail="the volume is full")
        for headers in ((), (WRONG,)):
            answer = desk.call("GET", path, headers=headers)
            assert (answer.status, answer.json) == (503, {"status": "unavailable"})
        answer = desk.call("GET", path)
        assert answer.status == 503
        assert answer.json["parts"]["journal"] == {"well": False, "detail": "the volume is full"}
        assert answer.json["parts"]["snapshot"]["well"] is True
    for path in ("/livez", "/health/liveliness", "/health/liveness"):
        assert desk.call("GET", path, headers=()).json == {"status": "ok"}


def test_metrics_are_prometheus_text_without_a_token(desk: Desk) -> None:
    answer = desk.call("GET", "/metrics", headers=())
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.body == b"# HELP up\n"


def test_no_answer_is_stored_by_anyone_on_the_way(desk: Desk) -> None:
    for path in ("/admin/v1/keys", "/readyz", "/nothing"):
        answer = desk.call("GET", path)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_schema_is_openapi_3_1_and_says_what_every_route_asks_for(desk: Desk) -> None:
    answer = desk.call("GET", "/admin/v1/openapi.json")
    schema = answer.json
    assert schema["openapi"].startswith("3.1.")
    assert schema["info"]["version"] == "1.2.3"
    assert set(schema["components"]["securitySchemes"]) == {"bearer", "one_time"}
    assert schema["security"] == [{"bearer": []}]
    served = {(path, method) for path, item in schema["paths"].items() for method in item}
    assert ("/admin/v1/keys", "post") in served
    assert ("/admin/v1/openapi.json", "get") in served
    for path, item in schema["paths"].items():
        for operation in item.values():
            assert (operation.get("security") == []) is (operation["x-permission"] == "public"), path
            assert "default" not in operation["responses"]
            for status, answer in operation["responses"].items():
                if status >= "4" and path not in PROBES:
                    assert answer == {"$ref": f"#/components/responses/Problem{status}"}, (path, status)
    for answer in schema["components"]["responses"].values():
        problem = answer["content"]["application/problem+json"]["schema"]
        assert problem == {"$ref": "#/components/schemas/Problem"}
    assert "FieldProblem" in schema["components"]["schemas"]
    assert "HTTPValidationError" not in schema["components"]["schemas"]
    operations = [operation["operationId"] for item in schema["paths"].values() for operation in item.values()]
    assert len(operations) == len(set(operations))


def test_a_failure_of_a_port_is_a_problem_with_its_own_code(tmp_path: Path) -> None:
    def fail() -> Any:
        raise Fault(Code.STORAGE_UNAVAILABLE, "the control database failed")

    desk = Desk(tmp_path, keyring=fail)
    answer = desk.call("POST", "/admin/v1/keys", {"tenant": "acme", "name": "app", "models": ["*"]})
    assert_problem(answer, 503, Code.STORAGE_UNAVAILABLE)
    desk.close()


@pytest.mark.requirement("AU-1")
def test_a_defect_is_a_recorded_problem_that_tells_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> Any:
        raise RuntimeError("sk-secret")

    desk = Desk(tmp_path, metrics=fail, keyring=fail)
    for headers, method, path in (((), "GET", "/metrics"), ((RIGHT,), "POST", "/admin/v1/keys")):
        body = {"tenant": "acme", "models": ["*"]} if method == "POST" else None
        answer = desk.call(method, path, body, headers=headers)
        assert_problem(answer, 500, Code.INTERNAL)
        assert answer.headers["connection"] == "close"
        assert answer.headers["cache-control"] == "no-store"
        assert b"sk-secret" not in answer.body
    # Of a stranger it is counted, as their other refusals are.
    assert desk.unknown == [(Code.INTERNAL, "203.0.113.7")]
    (record,) = desk.denials
    assert (record.code, record.principal, record.route) == (Code.INTERNAL, "service:host", "/admin/v1/keys")
    assert record.request_id == answer.headers["x-request-id"]
    logged = capsys.readouterr()
    assert "RuntimeError" in logged.out + logged.err
    assert "sk-secret" not in logged.out + logged.err
    desk.close()


@pytest.mark.requirement("AU-1")
def test_a_defect_while_it_is_asked_who_calls_lets_nobody_in(tmp_path: Path) -> None:
    class Broken:
        async def recognise(self, *_: object, **__: object) -> Any:
            raise RuntimeError("sk-secret")

    desk = Desk(tmp_path, callers=Broken())
    assert_problem(desk.call("GET", "/admin/v1/me"), 500, Code.INTERNAL)
    assert desk.unknown == [(Code.INTERNAL, "203.0.113.7")]
    desk.close()


@pytest.mark.requirement("AU-1")
def test_a_refusal_whose_record_meets_a_defect_is_no_answer(tmp_path: Path) -> None:
    async def fail(_: object) -> None:
        raise RuntimeError("sk-secret")

    desk = Desk(tmp_path, denied=fail)
    assert_problem(desk.call("GET", "/admin/v1/nothing"), 503, Code.AUDIT_UNAVAILABLE)
    desk.close()


@pytest.mark.requirement("AU-1")
def test_a_defect_after_half_an_answer_is_recorded_and_never_looks_like_a_whole_one(desk: Desk) -> None:
    async def half() -> StreamingResponse:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"half"
            raise RuntimeError("sk-secret")

        return StreamingResponse(pieces())

    app = admin_app.bare(desk.ports)
    app.add_api_route("/admin/v1/half", half, openapi_extra=asks(Permission.SELF, of="nobody"), response_model=None)
    behind_edge(app, desk.ports)
    with pytest.raises(Exception) as raised:  # noqa: PT011 - what the server closes the connection for
        asyncio.run(exchange(app, "GET", "/admin/v1/half", headers=[RIGHT]))
    assert "sk-secret" not in str(raised.value)
    assert [record.code for record in desk.denials] == [Code.INTERNAL]


def bare() -> FastAPI:
    return FastAPI(openapi_url=None, docs_url=None, redoc_url=None)


def test_a_route_without_a_plain_permission_refuses_to_be_served(desk: Desk) -> None:
    async def answer() -> JSONResponse:
        return JSONResponse({})

    silent, unknown, leaky, shared, mounted = (bare() for _ in range(5))
    writes = asks(Permission.KEYS_WRITE, of="tenant")
    silent.add_api_route("/admin/v1/secrets", answer, response_model=None)
    unknown.add_api_route("/x", answer, openapi_extra={"x-permission": "everything"}, response_model=None)
    leaky.add_api_route("/admin/v1/secrets", answer, openapi_extra=asks_nothing(), response_model=None)
    shared.add_api_route("/x", answer, openapi_extra=asks_nothing(), response_model=None)
    shared.add_api_route("/x", answer, methods=["POST"], openapi_extra=writes, response_model=None)
    mounted.mount("/console", bare())
    for app in (silent, unknown, leaky, shared, mounted):
        with pytest.raises(UndeclaredPermission):
            behind_edge(app, desk.ports)


def test_the_router_itself_takes_no_route_that_declares_nothing() -> None:
    async def answer() -> JSONResponse:
        return JSONResponse({})

    app = bare()
    app.router.route_class = Guarded
    with pytest.raises(UndeclaredPermission):
        app.add_api_route("/admin/v1/secrets", answer, response_model=None)


def test_an_answer_that_nobody_allowed_never_leaves(desk: Desk) -> None:
    async def forgetful() -> dict[str, str]:
        return {"secret": "of another tenant"}

    app = admin_app.bare(desk.ports)
    app.add_api_route("/admin/v1/forgetful", forgetful, openapi_extra=asks(Permission.KEYS_READ, of="tenant"))
    behind_edge(app, desk.ports)
    answer = asyncio.run(exchange(app, "GET", "/admin/v1/forgetful", headers=[RIGHT]))
    assert_problem(answer, 500, Code.INTERNAL)
    assert b"another tenant" not in answer.body
