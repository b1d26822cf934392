"""The description of the data plane against a live gateway: whatever is sent, what comes back was announced."""

import asyncio
import copy
import json
import re
from collections.abc import Collection, Iterator, Mapping
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
from tests.flows.front import world
from tests.harness import GatewayProcess, Site, governed

from securellm import __version__
from securellm.core.errors import Code
from securellm.core.surfaces import KEPT, Surface
from securellm.ingress import openapi, personal
from securellm.ingress.app import HEALTH_PATHS
from securellm.ingress.kept import PATHS
from securellm.ingress.listings import LISTINGS
from securellm.ingress.routes import ROUTES
from securellm.ingress.schemas import KEPT_REQUESTS, REQUESTS

_EXAMPLES = 8
"""Of each operation, of each of the two kinds: what fits the description and what does not."""
_CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
_PROVIDERS = {
    Surface.MESSAGES: "anthropic",
    Surface.MESSAGE_TOKENS: "anthropic",
    Surface.RERANK: "compatible",
    Surface.GENERATE_CONTENT: "gemini",
    Surface.CONTENT_TOKENS: "gemini",
    Surface.EMBED_CONTENT: "gemini",
    Surface.BATCH_EMBED_CONTENTS: "gemini",
    Surface.OLLAMA_CHAT: "ollama",
    Surface.OLLAMA_GENERATE: "ollama",
    Surface.OLLAMA_EMBED: "ollama",
}


_TEXT = {"type": "string", "minLength": 1, "maxLength": 20}


def object_of(properties: dict[str, Any], *, optional: Collection[str] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def array_of(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": object_of(properties), "minItems": 1, "maxItems": 2}


CONTENT = object_of({"parts": array_of({"text": _TEXT})})


def model_of(surface: Surface) -> str:
    # Whoever writes paths after a description encodes the slash of a name, as Google's SDKs do not.
    return f"{_PROVIDERS.get(surface, 'openai')}-{surface.value}"


def prepare(site: Site) -> None:
    site.key()
    for surface in Surface:
        site.model(model_of(surface), _PROVIDERS.get(surface, "openai"))


def narrowed(kept: Mapping[str, list[str]]) -> Any:
    """The document, so that much of what fits it is a whole request to a model that is served, or to what is `kept`."""
    document = copy.deepcopy(openapi.document())
    # The key is the test's own affair: one that is made up beside it would be refused before much can happen.
    del document["security"], document["components"]["securitySchemes"]
    asked = document["components"]["parameters"]
    asked["Provider"]["schema"] = {"enum": sorted({*_PROVIDERS.values(), "openai"})}
    asked["Deadline"]["schema"] = {"enum": ["9", "9.5"]}
    for template, item in document["paths"].items():
        route = ROUTES.get(template)
        names = [model_of(surface) for surface in ([route.surface] if route else Surface)]
        for operation in item.values():
            for parameter in operation.get("parameters", []):
                if parameter.get("name") == "model":
                    parameter["schema"] = {"enum": names}
                elif parameter.get("in") == "path":
                    parameter["schema"] = {"enum": [*kept.get(parameter["name"], ()), "never_given"]}
            for content in operation.get("requestBody", {}).get("content", {}).values():
                content["schema"] = whole(content["schema"], document["components"]["schemas"], names)
    return document


def whole(schema: Any, schemas: Any, names: list[str]) -> Any:
    """A schema of requests, of which an instance is as good as one that a client writes."""
    if "$ref" in schema:
        schema = copy.deepcopy(schemas[schema["$ref"].rpartition("/")[2]])
    said = {
        "model": {"enum": names},
        "messages": array_of({"role": {"const": "user"}, "content": _TEXT}),
        "max_tokens": {"type": "integer", "minimum": 1, "maximum": 100},
        "input": _TEXT,
        "text": _TEXT,
        "consent": {"const": True},
        "prompt": _TEXT,
        "voice": {"const": "alloy"},
        "query": _TEXT,
        "documents": {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 2},
        "contents": {"type": "array", "items": CONTENT, "minItems": 1, "maxItems": 2},
        "content": CONTENT,
        "requests": array_of({"content": CONTENT}),
        "items": array_of({"role": {"const": "user"}, "content": _TEXT}),
        "metadata": object_of({"about": _TEXT}),
    }
    known = {name: said[name] for name in schema["properties"] if name in said}
    known |= {name: schema["properties"][name] for name in ("stream", "file", "image") if name in schema["properties"]}
    if "stream_format" in schema["properties"]:
        known["voice"] = said["voice"]
    return object_of(known, optional={"stream", "max_tokens"})


def operations(document: Any) -> Iterator[Any]:
    for result in schemathesis.openapi.from_dict(document).get_all_operations():
        assert isinstance(result, Ok), result
        yield result.ok()


def test_the_document_describes_every_path_and_nothing_else() -> None:
    paths = openapi.document()["paths"]
    assert set(paths) == {*ROUTES, *PATHS, *LISTINGS, *personal.PATHS, *HEALTH_PATHS, "/", openapi.PATH}
    assert {path: {method.upper() for method in paths[path]} for path in PATHS} == {
        path: set(rows) for path, rows in PATHS.items()
    }
    operations = [operation for item in paths.values() for operation in item.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert set(REQUESTS) == set(Surface) - KEPT
    assert set(KEPT_REQUESTS) == {
        row.errand.name for rows in PATHS.values() for row in rows.values() if row.errand.takes != "nothing"
    }


def test_every_code_that_can_be_answered_is_announced_with_its_status() -> None:
    components = openapi.document()["components"]
    announced = set(components["schemas"]["Code"]["enum"])
    for code in announced:
        for family in ("Openai", "Anthropic", "Google", "Ollama", "Plain", "Any"):
            assert f"`{code}`" in components["responses"][f"{family}{Code(code).spec.status}"]["description"]
    silent = {code.value for code in Code} - announced
    assert silent == {
        "client_disconnected",
        "unknown_outcome",
        "headers_too_large",
        "admin_required",
        "managed_by_file",
    }


def test_every_reference_leads_to_a_component() -> None:
    document = openapi.document()
    for kind, name in re.findall(r'"#/components/(\w+)/(\w+)"', json.dumps(document)):
        assert name in document["components"][kind]


@pytest.mark.requirement("DC-1")
def test_the_document_is_served_to_whoever_asks_and_names_nothing_of_the_installation(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with world(tmp_path) as opened:
            call = await opened.ask(openapi.PATH, b"", method="GET", key="")
            assert call.status == 200
            assert call.json() == openapi.document()
            assert __version__ not in call.body.decode()
            assert (await opened.ask(openapi.PATH, b"{}")).status == 405

    asyncio.run(scenario())


@pytest.mark.requirement("GW-9", "GW-12")
def test_whatever_is_sent_the_answer_is_one_that_the_description_announces(tmp_path: Path) -> None:
    statuses: dict[int, int] = {}
    with governed(tmp_path, prepare) as (gateway, upstream), requests.Session() as session:
        key = gateway.site.environ["TEST_KEY_0"]
        looked = gateway.request("HEAD", "/")
        assert (looked.status, looked.body) == (200, b""), "as a client looks before its first request"
        document = narrowed(things(gateway, key))
        for operation in operations(document):
            described = document["paths"][operation.path][operation.method]
            # Without anything to say there is nothing to say wrongly.
            wrongly = [GenerationMode.NEGATIVE] if described.get("parameters") or "requestBody" in described else []
            for mode in (GenerationMode.POSITIVE, *wrongly):
                for status in answers(operation, mode, gateway, session, key):
                    statuses[status] = statuses.get(status, 0) + 1
        reached = len(upstream.requests())
    assert statuses[200] > 100, statuses
    assert statuses[400] > 100, statuses
    assert reached > 50


def things(gateway: GatewayProcess, key: str) -> dict[str, list[str]]:
    """What there is to be asked for, by what the paths call it. It gets less as it is asked to."""
    kept: dict[str, list[str]] = {"response_id": [], "conversation_id": [], "item_id": []}
    for _ in range(_EXAMPLES):
        body = {"model": model_of(Surface.RESPONSES), "input": "hello"}
        kept["response_id"].append(gateway.post("/v1/responses", body, key=key).json()["id"])
        talk = gateway.post("/v1/conversations", {}, key=key).json()["id"]
        kept["conversation_id"].append(talk)
        items = {"items": [{"role": "user", "content": "hello"}]}
        added = gateway.post(f"/v1/conversations/{talk}/items", items, key=key)
        kept["item_id"].append(added.json()["data"][0]["id"])
    return kept


def answers(
    operation: Any, mode: GenerationMode, gateway: GatewayProcess, session: requests.Session, key: str
) -> list[int]:
    seen: list[int] = []

    @settings(
        max_examples=_EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def one(case: Case[Any]) -> None:
        answer = case.call(base_url=gateway.base_url, session=session, headers={"authorization": f"Bearer {key}"})
        case.validate_response(answer, checks=_CHECKS)
        assert answer.headers["x-request-id"][0].startswith("req_")
        assert answer.status_code < 500, "nothing is broken, so nobody but the caller is to blame"
        seen.append(answer.status_code)

    one()
    return seen
