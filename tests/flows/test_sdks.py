"""The official SDKs, the newest majors and the ones before, against a gateway process before the fake provider."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.harness import SDKS_PREVIOUS, GatewayProcess, Site, UpstreamProcess, governed
from tests.upstream import marked

SCENARIOS = Path(__file__).with_name("sdk_scenarios.py")
SENTENCE = "Olá! The fake provider answers: ação ✓ 🎉."
FORECAST = {"city": "São Paulo", "days": 3}


class Seen(msgspec.Struct, frozen=True):
    """What one pair of SDKs saw, and what stood behind it."""

    results: dict[str, Any]
    gateway: GatewayProcess
    upstream: UpstreamProcess

    def __getitem__(self, scenario: str) -> dict[str, Any]:
        result: dict[str, Any] = self.results[scenario]
        assert "unexpected" not in result, result
        return result


def drive(gateway: GatewayProcess, key: str, *, sdks: Path | None) -> dict[str, Any]:
    """Run the scenarios in a process of their own, which sees only these SDKs."""
    environment = {"PATH": os.environ["PATH"]} | ({"PYTHONPATH": str(sdks)} if sdks is not None else {})
    done = subprocess.run(
        [
            *(sys.executable, str(SCENARIOS)),
            *("--openai-base", f"{gateway.base_url}/v1", "--openai-key", key),
            *("--anthropic-base", gateway.base_url, "--anthropic-key", key),
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(done.stdout)
    return results


@pytest.fixture(scope="module", params=["newest", "previous"])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    sdks = SDKS_PREVIOUS if request.param == "previous" else None
    if sdks is not None and not sdks.is_dir():
        pytest.skip("make setup-dev has not installed the previous SDK majors")
    keys: list[str] = []

    def prepare(site: Site) -> None:
        site.model("broken-chat", "openai", upstream=marked("fake", error_event=4))
        site.model("broken-messages", "anthropic", upstream=marked("fake", error_event=4))
        keys.append(site.key())

    with governed(tmp_path_factory.mktemp("sdks"), prepare) as (gateway, upstream):
        results = drive(gateway, keys[0], sdks=sdks)
        yield Seen(results, gateway, upstream)
        gateway.stop()
        gateway.verify()


def test_the_majors_are_the_two_newest(seen: Seen) -> None:
    majors = {name: int(version.split(".")[0]) for name, version in seen.results["versions"].items()}
    assert majors in ({"openai": 3, "anthropic": 2}, {"openai": 2, "anthropic": 1})


@pytest.mark.requirement("GW-1")
def test_chat_answers_whole_under_the_name_the_client_used(seen: Seen) -> None:
    chat = seen["chat"]
    assert (chat["text"], chat["finish"], chat["model"]) == (SENTENCE, "stop", "chat")
    assert chat["usage"]["total_tokens"] == chat["usage"]["prompt_tokens"] + chat["usage"]["completion_tokens"]
    assert chat["request_id"]


@pytest.mark.requirement("GW-1")
def test_several_choices_and_their_logprobs_pass(seen: Seen) -> None:
    assert seen["chat_choices"] == {"texts": [SENTENCE, SENTENCE], "logprobs": [True, True]}


@pytest.mark.requirement("GW-1")
def test_structured_outputs_pass(seen: Seen) -> None:
    assert seen["chat_structured"]["value"] == FORECAST


@pytest.mark.requirement("GW-1")
def test_an_image_in_the_message_passes(seen: Seen) -> None:
    assert seen["chat_image"]["text"] == SENTENCE
    assert any('"image_url"' in entry.text for entry in seen.upstream.requests())


@pytest.mark.requirement("GW-1", "GW-7")
def test_a_stream_holds_usage_only_for_those_who_asked(seen: Seen) -> None:
    plain, with_usage = seen["chat_stream"], seen["chat_stream_usage"]
    assert (plain["text"], plain["finish"], plain["usages"], plain["choiceless"]) == (SENTENCE, "stop", [], 0)
    assert (with_usage["text"], with_usage["finish"], with_usage["choiceless"]) == (SENTENCE, "stop", 1)
    assert with_usage["usages"] == [seen["chat"]["usage"]]


@pytest.mark.requirement("GW-1")
def test_tools_are_called_and_answered(seen: Seen) -> None:
    tools = seen["chat_tools"]
    assert (tools["finish"], tools["arguments"], tools["text"]) == ("tool_calls", [FORECAST], SENTENCE)


@pytest.mark.requirement("GW-1")
def test_parallel_tool_calls_stream_whole(seen: Seen) -> None:
    tools = seen["chat_tools_stream"]
    assert tools["finish"] == "tool_calls"
    assert tools["names"] == ["forecast", "climate"]
    assert tools["arguments"] == [FORECAST, FORECAST]


@pytest.mark.requirement("GW-2")
def test_responses_answer_whole(seen: Seen) -> None:
    whole = seen["responses"]
    assert (whole["text"], whole["status"], whole["model"]) == (SENTENCE, "completed", "chat")
    assert whole["usage"]["output_tokens"] == seen["chat"]["usage"]["completion_tokens"]


@pytest.mark.requirement("GW-2")
def test_responses_stream_with_rising_numbers_to_their_end(seen: Seen) -> None:
    stream = seen["responses_stream"]
    assert (stream["text"], stream["final"], stream["model"]) == (SENTENCE, SENTENCE, "chat")
    assert stream["numbers"] == sorted(set(stream["numbers"]))
    assert stream["kinds"][0] == "response.created"
    assert stream["kinds"][-1] == "response.completed"


@pytest.mark.requirement("GW-2")
def test_responses_call_functions(seen: Seen) -> None:
    assert seen["responses_tools"] == {"arguments": [FORECAST], "text": SENTENCE}


@pytest.mark.requirement("GW-2", "GW-6", "GW-9")
def test_a_stored_response_is_shown_until_it_is_deleted(seen: Seen) -> None:
    stored = seen["stored"]
    assert stored["same"] is True
    assert stored["request_id"].startswith("req_")
    assert [item["role"] for item in stored["said"]] == ["user"]
    assert "BadRequestError" in stored["cancelled"]["classes"], "it did not run in the background"
    for ended in ("gone", "streamed"):
        assert ("NotFoundError" if ended == "gone" else "BadRequestError") in stored[ended]["classes"]
    assert stored["gone"]["code"] == "not_found"
    assert stored["streamed"]["code"] == "unsupported_field"


@pytest.mark.requirement("GW-2")
def test_a_response_in_the_background_is_looked_at_until_it_is_there(seen: Seen) -> None:
    assert seen["background"] == {
        "statuses": ["queued", "in_progress", "completed"],
        "text": SENTENCE,
        "stopped": "cancelled",
    }


@pytest.mark.requirement("GW-6", "GW-9")
def test_a_conversation_is_carried_on_until_it_is_deleted(seen: Seen) -> None:
    talk = seen["conversation"]
    assert [told["about"] for told in talk["metadata"]] == ["weather", "nothing"]
    assert (talk["text"], talk["listed"], talk["last"], talk["role"]) == (SENTENCE, 4, True, "user")
    assert talk["deleted"] is True
    for ended in ("no_item", "gone"):
        assert "NotFoundError" in talk[ended]["classes"]
        assert talk[ended]["code"] == "not_found"


@pytest.mark.requirement("GW-4")
def test_embeddings_come_in_base64_and_in_numbers(seen: Seen) -> None:
    embeddings = seen["embeddings"]
    assert (embeddings["vectors"], embeddings["same"]) == (2, True)
    assert embeddings["usage"]["prompt_tokens"] == 2


@pytest.mark.requirement("GW-4")
def test_models_are_listed_in_the_callers_shape(seen: Seen) -> None:
    expected = {"chat", "messages", "embed", "broken-chat", "broken-messages"}
    assert set(seen["models"]["openai"]) == expected
    assert set(seen["models_anthropic"]["anthropic"]) == expected


@pytest.mark.requirement("GW-3")
def test_messages_answer_whole_and_streamed(seen: Seen) -> None:
    whole, stream = seen["messages"], seen["messages_stream"]
    assert (whole["text"], whole["stop"], whole["model"]) == (SENTENCE, "end_turn", "messages")
    assert (stream["text"], stream["stop"], stream["model"]) == (SENTENCE, "end_turn", "messages")
    assert whole["request_id"]
    assert stream["usage"]["output_tokens"] == whole["usage"]["output_tokens"]


@pytest.mark.requirement("GW-3")
def test_messages_use_tools_whole_and_streamed(seen: Seen) -> None:
    whole, stream = seen["messages_tools"], seen["messages_tools_stream"]
    assert (whole["stop"], whole["arguments"], whole["text"]) == ("tool_use", [FORECAST], SENTENCE)
    assert (stream["stop"], stream["arguments"]) == ("tool_use", [FORECAST])


@pytest.mark.requirement("GW-9")
@pytest.mark.parametrize("scenario", ["bad_key_openai", "bad_key_anthropic"])
def test_a_bad_key_is_an_authentication_error(seen: Seen, scenario: str) -> None:
    error = seen[scenario]
    assert error["classes"][0] == "AuthenticationError"
    assert error["status"] == 401
    assert error["headers"]["x-should-retry"] == "false"
    assert "no-such-key" not in error["message"]


@pytest.mark.requirement("GW-9")
@pytest.mark.parametrize("scenario", ["unknown_model_openai", "unknown_model_anthropic"])
def test_an_unknown_model_is_not_found(seen: Seen, scenario: str) -> None:
    error = seen[scenario]
    assert error["classes"][0] == "NotFoundError"
    assert error["headers"]["x-securellm-decision-id"]


@pytest.mark.requirement("GW-8", "GW-9")
@pytest.mark.parametrize("scenario", ["broken_chat_stream", "broken_messages_stream", "broken_responses_stream"])
def test_an_error_in_the_middle_of_a_stream_is_an_error_of_the_sdk(seen: Seen, scenario: str) -> None:
    error = seen[scenario]
    assert "APIError" in error["classes"], error


@pytest.mark.requirement("PR-4", "SC-2")
def test_only_the_providers_own_credential_reaches_it(seen: Seen) -> None:
    for entry in seen.upstream.requests():
        assert entry.refused is None, (entry.path, entry.refused)
        assert "slb-test-key" not in json.dumps(entry.headers)
        assert entry.header("accept-encoding") == "identity"


@pytest.mark.requirement("AU-1")
def test_every_request_of_the_sdks_is_recorded(seen: Seen) -> None:
    intents = {record["request_id"] for record in seen.gateway.records("INTENT")}
    outcomes = {record["request_id"] for record in seen.gateway.records("OUTCOME")}
    assert {entry.header("x-client-request-id") for entry in seen.upstream.requests()} == intents
    assert outcomes == intents
