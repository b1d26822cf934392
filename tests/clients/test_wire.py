"""The clients' requests as they reach the provider, and its answers beside what another translator makes of them."""

import json

import pytest
from tests.clients.conftest import cell_of
from tests.clients.matrix import CELLS
from tests.clients.runs import Matrix

_BY_ID = {cell.id: cell for cell in CELLS}


@pytest.fixture
def whole(request: pytest.FixtureRequest) -> Matrix:
    """The matrix, when all of it was chosen and every client is there."""
    chosen = {cell.id for item in request.session.items if (cell := cell_of(item))}
    if {cell.id for cell in CELLS if cell.lacked is None} - chosen or not all(c.client.installed for c in CELLS):
        pytest.skip("only a part of the matrix was run")
    clients: Matrix = request.getfixturevalue("clients")
    clients.finish()
    return clients


_IN_VAIN = {("openai", "Cannot cancel a synchronous response.")}
"""What the programs ask for to see it refused."""


@pytest.mark.requirement("GW-7", "PR-3")
def test_a_strict_provider_refuses_nothing_the_gateway_sends(whole: Matrix) -> None:
    refused = {(entry.face, entry.refused) for entry in whole.upstream.entries("answer") if entry.refused}
    assert refused <= _IN_VAIN


@pytest.mark.requirement("SC-2")
def test_no_virtual_key_reaches_a_provider(whole: Matrix) -> None:
    for entry in whole.upstream.requests():
        assert "slb-test-key" not in json.dumps(entry.headers)
        assert b"slb-test-key" not in entry.body


@pytest.mark.requirement("AU-1")
def test_every_request_of_every_client_was_recorded_before_it_left(whole: Matrix) -> None:
    sent = {entry.header("x-client-request-id") for entry in whole.upstream.requests()}
    assert sent
    assert sent <= whole.recorded()


@pytest.mark.requirement("GW-3", "GW-7")
def test_the_query_and_the_betas_of_claude_code_survive(whole: Matrix) -> None:
    entries = whole.requests(_BY_ID["own-claude-code-print-stream"])
    assert entries
    for entry in entries:
        assert entry.path == "/anthropic/v1/messages?beta=true"
        assert "claude-code-20250219" in (entry.header("anthropic-beta") or "").split(",")
        assert {"context_management", "metadata", "output_config", "thinking"} <= set(entry.json())


@pytest.mark.requirement("GW-2", "GW-7")
def test_the_members_of_codex_survive(whole: Matrix) -> None:
    entries = whole.requests(_BY_ID["own-codex-exec-stream"])
    assert entries
    for entry in entries:
        body = entry.json()
        assert {"client_metadata", "include", "prompt_cache_key", "reasoning", "store"} <= set(body)
        assert isinstance(body["input"], list)
        assert {item.get("role") for item in body["input"]} >= {"developer", "user"}


_MADE_BY_OTHERS = {"anthropic": "messages", "gemini": "generate"}


@pytest.mark.requirement("GW-7", "PR-3")
@pytest.mark.parametrize("provider", _MADE_BY_OTHERS)
@pytest.mark.parametrize("feature", ["answer", "stream", "usage", "tools", "parallel_tools", "tool_stream"])
def test_our_translation_says_what_any_llm_says(whole: Matrix, provider: str, feature: str) -> None:
    """any-llm turns the provider's answer into chat in the client; the gateway does before the client sees it."""
    theirs = whole.saw(_BY_ID[f"own-any-llm-{_MADE_BY_OTHERS[provider]}-{feature}"])
    ours = whole.saw(_BY_ID[f"{provider}-openai-python-chat-{feature}"])
    # A stream of chat has no usage unless it is asked for, and any-llm always asks.
    shared = set(theirs) & set(ours) - {"pieces", "usage"}
    assert shared
    assert {name: theirs[name] for name in shared} == {name: ours[name] for name in shared}


def test_every_cell_has_a_name_of_its_own() -> None:
    assert len(_BY_ID) == len(CELLS)
