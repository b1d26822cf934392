"""What was answered before a model moved is no answer of today's."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.flows.administration import OURS, Office, office
from tests.flows.inprocess import Asked, send

from securellm.core.surfaces import Surface


@pytest.fixture(params=["sqlite"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Office]:
    with office(tmp_path, request) as made:
        yield made


def asked_cold(opened: Office, token: str, model: str) -> dict[str, str]:
    """The headers of the answer to a request that may be answered from the cache."""
    body = {"model": model, "temperature": 0, "messages": [{"role": "user", "content": "hi"}]}
    asked = Asked(
        template="/v1/chat/completions",
        surface=Surface.CHAT,
        stream=False,
        path="/v1/chat/completions",
        query="",
        content_type="application/json",
        body=json.dumps(body).encode(),
    )
    answer = opened._loop.run_until_complete(send(opened.app, asked, key=token))
    assert answer.status == 200, answer
    return answer.headers


@pytest.mark.requirement("GW-9", "ID-1")
def test_an_answer_is_forgotten_once_its_model_or_a_provider_is_another(opened: Office) -> None:
    for name in ("spare", "other"):
        opened.made("providers", {"id": name, "kind": "mock"})
    opened.made("models", {"name": "roaming", "route": [{"provider": "spare", "model": "echo"}]})
    key = opened.made("keys", {"tenant": OURS, "models": ["*"]})
    before = [asked_cold(opened, key["token"], "roaming")["x-securellm-cache"] for _ in range(2)]
    assert before == ["miss", "hit"]
    opened.made("keys", {"tenant": OURS, "models": ["*"]})
    assert asked_cold(opened, key["token"], "roaming")["x-securellm-cache"] == "hit", "that is no concern of it"
    moved = {"name": "roaming", "route": [{"provider": "other", "model": "echo"}]}
    assert opened.call("PUT", "models/roaming", moved, headers=[("if-match", "*")]).status == 200
    headers = asked_cold(opened, key["token"], "roaming")
    assert (headers["x-securellm-cache"], headers["x-securellm-provider"]) == ("miss", "other")
