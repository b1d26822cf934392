"""The description of the admin API against a live gateway: whatever is sent, what comes back was announced."""

import copy
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.flows.administration import CEDAR, ENGINES
from tests.flows.test_replicas import replicas
from tests.harness import GatewayProcess, Reply, governed, request

_EXAMPLES = 6
"""Of each operation, of each of the two kinds: what fits the description and what does not."""
_EXAMPLES_ON_A_SERVER = 3
"""Of what fits: all else is refused before it could matter what the control plane stands on."""
_CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
_TENANT = "umbrella"
_HELD = {"delete_tenant", "delete_provider"}
"""Asked last, for what they take away others are about."""


@contextmanager
def standing_on(engine: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[GatewayProcess]:
    """A gateway on this engine, which has given every answer with its record."""
    with ExitStack() as stack:
        if engine == "postgres":
            (gateway,) = stack.enter_context(replicas(folder, request.getfixturevalue("postgres"), 1))
        else:
            gateway, _ = stack.enter_context(governed(folder))
        yield gateway
        gateway.verify()


def credential(gateway: GatewayProcess) -> dict[str, str]:
    token = gateway.site.environ.get("ADMIN_TOKEN") or gateway.admin_token
    return {"authorization": f"Bearer {token}"}


def admin(gateway: GatewayProcess, method: str, path: str, body: object = None) -> Reply:
    return request(gateway.admin_url, method, f"/admin/v1/{path}", body=body, headers=credential(gateway))


def furnished(gateway: GatewayProcess) -> dict[str, list[str]]:
    """What there is, by what the paths call it."""

    def made(path: str, body: object) -> Any:
        answer = admin(gateway, "POST", path, body)
        assert answer.status == 201, answer.body
        return answer.json()

    made("tenants", {"id": _TENANT})
    made("providers", {"id": "spare", "kind": "mock"})
    made(f"tenants/{_TENANT}/budgets", {"scope": "tenant", "target": _TENANT, "month": "5.00 USD"})
    made(f"tenants/{_TENANT}/limits", {"scope": "tenant", "target": _TENANT, "requests_per_minute": 60})
    service = made("services", {"tenant": _TENANT})
    token = made("tokens", {"principal": service["principal"]})
    policy = made("policies", {"bundle": {"policies": CEDAR}, "reason": "to try it"})
    key = made("keys", {"tenant": _TENANT, "models": ["*"]})
    return {
        "tenant": [_TENANT],
        "project_id": [made(f"tenants/{_TENANT}/projects", {"id": f"p{n}"})["id"] for n in range(_EXAMPLES)],
        "user_id": [made("users", {"tenant": _TENANT})["id"] for _ in range(_EXAMPLES)],
        "service_id": [service["id"]],
        "key_id": [key["id"]],
        "token_id": [token["id"]],
        "version_id": [policy["id"]],
        "grant_id": ["grt_nothing"],
        "proposal_id": ["prp_nothing"],
        "decision_id": ["req_0123456789abcdefghjkmnpqrs"],
    }


def names_of(path: str) -> list[str]:
    if path.startswith("/admin/v1/tenants/{tenant}/"):
        return [f"tenant:{_TENANT}"]
    return {"tenants": [_TENANT, "acme"], "providers": ["spare", "openai"], "models": ["chat"]}[path.split("/")[3]]


def narrowed(document: Any, ids: dict[str, list[str]]) -> Any:
    """The document, so that much of what fits it is about something that is there."""
    document = copy.deepcopy(document)
    # The credential is the test's own affair: one that is made up would be refused before much can happen.
    del document["security"], document["components"]["securitySchemes"]
    for path, item in document["paths"].items():
        for operation in item.values():
            operation.pop("security", None)
            for parameter in operation.get("parameters", []):
                name = parameter["name"]
                if parameter["in"] == "path":
                    parameter["schema"] = {"enum": names_of(path) if name == "name" else ids.get(name, ["key:nobody"])}
                elif name == "If-Match":
                    parameter["schema"] = {"enum": ["*"]}
                elif name == "tenant":
                    parameter["schema"] = {"enum": [_TENANT, "acme"]}
    for name in ("NewKey", "NewUser", "NewService", "NewGrant"):
        tenant = document["components"]["schemas"][name]["properties"]["tenant"]
        tenant.clear()
        tenant["enum"] = [_TENANT, "acme"]
    return document


def operations(document: Any) -> Iterator[Any]:
    found = []
    for result in schemathesis.openapi.from_dict(document).get_all_operations():
        assert isinstance(result, Ok), result
        found.append(result.ok())
    yield from sorted(found, key=lambda operation: operation.definition.raw["operationId"] in _HELD)


@pytest.mark.requirement("ID-1")
@pytest.mark.parametrize("engine", ENGINES)
def test_whatever_is_sent_the_answer_is_one_that_the_description_announces(
    engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    statuses: dict[int, int] = {}
    refused: set[str] = set()
    most = _EXAMPLES if engine == "sqlite" else _EXAMPLES_ON_A_SERVER
    with standing_on(engine, tmp_path, request) as gateway, requests.Session() as session:
        ids = furnished(gateway)
        schema = admin(gateway, "GET", "openapi.json").json()
        document = narrowed(schema, ids)
        for operation in operations(document):
            described = document["paths"][operation.path][operation.method]
            # Without anything to say there is nothing to say wrongly.
            spoilt = engine == "sqlite" and ("parameters" in described or "requestBody" in described)
            for mode in (GenerationMode.POSITIVE, *([GenerationMode.NEGATIVE] if spoilt else [])):
                for status, request_id in answers(operation, mode, gateway, session, most=most):
                    statuses[status] = statuses.get(status, 0) + 1
                    if status >= 400 and described["x-permission"] not in ("public", "one-time"):
                        refused.add(request_id)
        assert admin(gateway, "GET", "me").json()["principal"] == "service:host"
        recorded = {record["request_id"] for record in gateway.records("DENY") if "route" in record}
        assert refused == recorded, "each refusal has its record, and nothing else has"
    assert sum(count for status, count in statuses.items() if status < 300) > 16 * most, statuses
    assert len(refused) > 16 * most, statuses


def answers(
    operation: Any, mode: GenerationMode, gateway: GatewayProcess, session: requests.Session, *, most: int
) -> list[tuple[int, str]]:
    """The status and the request id of up to `most` answers."""
    seen: list[tuple[int, str]] = []
    headers = credential(gateway)

    @settings(
        max_examples=most,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def one(case: Case[Any]) -> None:
        answer = case.call(base_url=gateway.admin_url, session=session, headers=headers, allow_redirects=False)
        case.validate_response(answer, checks=_CHECKS)
        assert answer.headers["x-request-id"][0].startswith("req_")
        assert answer.status_code < 500, (case.method, case.path, answer.content)
        seen.append((answer.status_code, answer.headers["x-request-id"][0]))

    one()
    return seen


def test_the_document_is_whole(tmp_path: Path) -> None:
    with governed(tmp_path) as (gateway, _):
        schema = admin(gateway, "GET", "openapi.json").json()
    assert schema["openapi"] == "3.1.0"
    text = json.dumps(schema)
    for kind, name in re.findall(r'"#/components/(\w+)/(\w+)"', text):
        assert name in schema["components"][kind]
    listed = [operation for item in schema["paths"].values() for operation in item.values()]
    assert len({operation["operationId"] for operation in listed}) == len(listed)
    for path, item in schema["paths"].items():
        for operation in item.values():
            assert operation["description"], path
            assert "x-permission" in operation, path
            assert "default" not in operation["responses"], path
