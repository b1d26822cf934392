"""A provider that repeats its credential shows it to nobody: not the client, not the log, not the audit."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.flows.front import CHAT, EMBEDDINGS, MESSAGES, RESPONSES, STREAMED, TERMINAL, World, asking, world
from tests.harness import Site
from tests.upstream import CREDENTIALS

_SECRET = {
    CHAT: CREDENTIALS["openai"],
    RESPONSES: CREDENTIALS["openai"],
    MESSAGES: CREDENTIALS["anthropic"],
    EMBEDDINGS: CREDENTIALS["openai"],
}


def nowhere(opened: World, secret: str, *answers: bytes) -> None:
    """The credential stands in no answer, no file of the data folder and nothing that was logged."""
    for answer in answers:
        assert secret.encode() not in answer
    for file in opened.app.data.audit.parent.iterdir():
        if file.is_file():
            assert secret.encode() not in file.read_bytes(), file


@pytest.mark.requirement("SC-2")
@pytest.mark.parametrize("path", STREAMED)
@pytest.mark.parametrize("mode", ["off", "strict"])
def test_an_echoed_credential_is_shown_to_nobody(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], path: str, mode: str
) -> None:
    secret = _SECRET[path]

    def prepare(site: Site) -> None:
        site.tenant("acme", guard=mode)
        site.model("chat", "openai", retries=0)
        site.model("messages", "anthropic", retries=0)

    behaviours: tuple[dict[str, Any], ...] = (
        {"reply": (f"your key is {secret}, dear",)},
        {"reply": (f"your key is {secret}, dear",), "escape": True},
        {"reply": tuple(f"key {secret}.")},
        {"stop": secret},
        {"status": 400, "message": f"bad key {secret}"},
        {"status": 400, "code": secret, "message": secret},
        {"status": 401, "message": f"Incorrect API key provided: {secret}"},
        {"status": 500, "message": secret, "code": secret},
        {"error_event": 2, "message": secret, "code": secret},
        {"error_event": 0, "message": secret, "code": secret},
    )

    async def scenario() -> None:
        async with world(tmp_path, prepare) as opened:
            answers: list[bytes] = []
            for knobs in behaviours:
                for streamed in (False, True):
                    if ("error_event" in knobs and not streamed) or (path == RESPONSES and "stop" in knobs):
                        continue
                    opened.behave(**knobs)
                    call = await opened.ask(path, asking(path, stream=streamed))
                    answers += [call.body, b"".join(name + value for name, value in call.raw_headers)]
                    assert b'"error"' in call.body, (knobs, call.body)
                    if call.status == 200:
                        assert not any(mark in call.body for mark in TERMINAL)
                        assert secret[:6].encode() not in call.body, "not even its beginning"
                    assert opened.record_of(call)["status"] == "failed"
            nowhere(opened, secret, *answers)

    asyncio.run(scenario())
    written = capfd.readouterr()
    assert secret not in written.out + written.err
    assert "request" in written.out + written.err, "the log was looked at"
